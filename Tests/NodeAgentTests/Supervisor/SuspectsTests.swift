// Who is quarantined, as a value.

import Testing

@testable import Supervisor

@Suite("Suspects (two crashes of an hour that name a workload)")
struct SuspectsTests {
    @Test func `two crashes name it, one does not`() {
        var suspects = Suspects()

        suspects.crashed(["shop/cart", "shop/web"], at: 1_000)
        #expect(suspects.quarantined(at: 1_000) == [])
        suspects.crashed(["shop/cart"], at: 2_000)

        #expect(suspects.quarantined(at: 2_000) == ["shop/cart"])
    }

    @Test func `a crash is forgotten after an hour`() {
        var suspects = Suspects()
        suspects.crashed(["shop/cart"], at: 0)
        suspects.crashed(["shop/cart"], at: 3_000_000)

        #expect(suspects.quarantined(at: 3_600_000) == ["shop/cart"])
        #expect(suspects.quarantined(at: 3_600_001) == [])
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
        guard let page = BlackBoxPage(suspects: ["shop/cart"]) else {
            Issue.record("there is a page")
            return
        }
        let served = page.served()

        #expect(served == [])
    }
}
