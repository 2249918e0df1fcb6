internal import CMallaABI
internal import Testing

@testable internal import BPFLoader

@Suite("A flow of the kernel's table as people read it")
struct FlowEntryTests {
    /// Ticks since its last packet, and what is left of it, in ticks.
    static let ages: [(age: UInt32, left: Int)] = [(0, 10), (4, 6), (10, 0), (12, 0)]

    @Test(arguments: ages)
    func `what is over has nothing left, and never less`(_ row: (age: UInt32, left: Int)) {
        var flow = malla_flow()
        flow.seen_ticks = 100
        flow.timeout_ticks = 10
        let entry = FlowEntry(malla_flow_key(), flow, now: 100 + row.age)
        let tick = Duration.nanoseconds(Int64(1) << Int64(MALLA_TICK_SHIFT))

        #expect(entry.remaining == tick * row.left)
        #expect(entry.idle == tick * Int(row.age))
    }
}
