// When the next child is started.

import Testing

@testable import Supervisor

@Suite("Restarts (the first at once, then more slowly while children die young)")
struct RestartsTests {
    @Test func `the first death is answered at once`() {
        var restarts = Restarts()

        #expect(restarts.died(afterMilliseconds: 10) == 0)
        #expect(restarts.count == 1)
    }

    @Test func `young deaths in a row wait longer, five seconds at most`() {
        var restarts = Restarts()
        let waits = (0..<10).map { _ in restarts.died(afterMilliseconds: 10) }

        #expect(waits == [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000])
    }

    @Test func `a child that lived a second ends the row`() {
        var restarts = Restarts()
        for _ in 0..<5 { _ = restarts.died(afterMilliseconds: 10) }

        #expect(restarts.died(afterMilliseconds: 1_000) == 0)
        #expect(restarts.died(afterMilliseconds: 10) == 0)
        #expect(restarts.count == 7)
    }
}
