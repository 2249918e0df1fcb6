import BPFLoader
import Foundation
import Supervisor
import Testing

@testable import NodeAgent

@Suite("What was repaired is counted once, what was not is said until it is")
struct RepairsTests {
    private let time = Date(timeIntervalSince1970: 1_000)

    @Test func `a repair is a count, a last one, and a line`() {
        var repairs = Repairs()
        let lines = repairs.note([Repair(.link, "pod shop/cart", "it was detached")], at: time)
        #expect(lines == ["repaired: pod shop/cart: it was detached"])
        #expect(repairs.counts == ["link": 1] && repairs.pods == ["shop/cart": 1])
        #expect(repairs.last["link"]?.time == time && repairs.open.isEmpty)
        #expect(repairs.note([], at: time).isEmpty && repairs.counts == ["link": 1])
    }

    @Test func `what cannot be repaired is open until it is, and logged once`() {
        var repairs = Repairs()
        let broken = Repair(.link, "pod shop/cart", "refused", isDone: false)
        #expect(repairs.note([broken], at: time).count == 1)
        #expect(repairs.note([broken], at: time).isEmpty)
        #expect(repairs.open == [broken] && repairs.counts.isEmpty)
        _ = repairs.note([Repair(.link, "pod shop/cart", "it was detached")], at: time)
        #expect(repairs.open.isEmpty && repairs.counts == ["link": 1])
    }

    @Test func `what the supervisor put right is counted by kind`() {
        var repairs = Repairs()
        #expect(repairs.note([.veth, .routes], errno: 0, at: time).count == 2)
        #expect(repairs.counts == ["engine_veth": 1, "engine_routes": 1])
        #expect(repairs.note([], errno: 1, at: time).count == 1)
    }

    @Test func `every kind has a name of its own`() {
        #expect(Set(Repairs.whats).count == Repairs.whats.count)
    }
}
