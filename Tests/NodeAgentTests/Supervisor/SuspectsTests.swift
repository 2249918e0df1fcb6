// Who is quarantined, as a value.

import Testing

@testable import L7Engine
@testable import Supervisor

@Suite("Suspects (two crashes of an hour that name a workload)")
struct SuspectsTests {
    @Test func `two crashes name it, one does not`() {
        var suspects = Suspects()

        suspects.crashed(["shop/cart", "shop/web"], at: 1_000)
        #expect(suspects.quarantined(at: 1_000) == [])
        suspects.crashed(["shop/cart"], at: 2_000)

        #expect(suspects.quarantined(at: 2_000).map(\.name) == ["shop/cart"])
    }

    @Test func `a crash is forgotten after an hour`() {
        var suspects = Suspects()
        suspects.crashed(["shop/cart"], at: 0)
        suspects.crashed(["shop/cart"], at: 3_000_000)

        #expect(suspects.quarantined(at: 3_600_000).map(\.name) == ["shop/cart"])
        #expect(suspects.quarantined(at: 3_600_001) == [])
    }

    @Test func `its end is an hour after the crash before its last`() {
        var suspects = Suspects()
        for time: Int64 in [0, 1_000_000, 3_000_000] {
            suspects.crashed(["shop/cart"], at: time)
        }

        let until = suspects.quarantined(at: 3_000_000).map(\.until)
        #expect(until == [4_600_000])
        for time in until {
            #expect(suspects.quarantined(at: time).map(\.until) == until)
            #expect(suspects.quarantined(at: time + 1) == [])
        }
    }

    @Test func `nobody is named by a crash of nobody, and no more than a thousand are kept`() {
        var suspects = Suspects()
        suspects.crashed(["", ""], at: 0)
        suspects.crashed([""], at: 1)
        #expect(suspects.quarantined(at: 1) == [])

        for number in 0..<3_000 { suspects.crashed(["w\(number)"], at: 2) }
        suspects.crashed(["w0"], at: 3)
        #expect(suspects.quarantined(at: 3) == [])
    }

    @Test func `the page of a child that served nobody names nobody`() {
        guard let page = BlackBoxPage(suspects: [Suspect(name: "shop/cart", until: 1)]) else {
            Issue.record("there is a page")
            return
        }
        let served = page.served()

        #expect(served == [])
    }

    @Test func `a trap is the doing of whose bytes were read, want of memory of who was served`()
        throws
    {
        guard let page = BlackBoxPage(suspects: []) else {
            Issue.record("there is a page")
            return
        }
        let box = try #require(BlackBox(descriptor: page.descriptor.number))
        box.name(["", "shop/web", "shop/db"])
        let slot = box.slot(3)

        slot.serve(1)
        slot.reads(2)
        let (byTrap, byHang) = (page.served(), page.served(by: [3]))
        let byMemory = page.served(isForMemory: true)
        slot.serve(1)
        let next = page.served()
        slot.reads(2)
        slot.rest()
        let resting = page.served()

        #expect(byTrap == ["shop/db"] && byHang == byTrap)
        #expect(byMemory == ["shop/web"])
        #expect(next == ["shop/web"])
        #expect(resting == [])
    }

    @Test func `the engine reads who is quarantined, and until when`() throws {
        let suspects = [
            Suspect(name: "shop/cart", until: 3_600_000),
            Suspect(name: "outside/group-7", until: 9),
        ]
        guard let page = BlackBoxPage(suspects: suspects) else {
            Issue.record("there is a page")
            return
        }
        let box = try #require(BlackBox(descriptor: page.descriptor.number))

        #expect(
            box.suspects == [
                Quarantine(name: "shop/cart", untilMilliseconds: 3_600_000),
                Quarantine(name: "outside/group-7", untilMilliseconds: 9),
            ])
    }

    @Test func `a name that is longer than its place is known again`() throws {
        let long = "shop/" + String(repeating: "l", count: 200)
        guard let page = BlackBoxPage(suspects: [Suspect(name: long, until: 1)]) else {
            Issue.record("there is a page")
            return
        }
        let box = try #require(BlackBox(descriptor: page.descriptor.number))

        #expect(box.suspects.map(\.name) == [BlackBox.kept(long)])
        #expect(BlackBox.kept(long).utf8.count == 127)
    }
}
