internal import CMallaABI
internal import Testing

@testable internal import BPFLoader

/// What the agent does at each tick, in maps that nobody else writes to.
@Suite("The collector of flows", .enabled(if: isRoot, "needs root"), .serialized)
struct FlowCollectorTests {
    /// What a turn may look at beyond its bound: it ends between two calls of the kernel.
    private static let rowsPerBatch: UInt64 = 4096
    /// Ticks: more than a day, so that nothing is over by itself while a test runs.
    private static let timeout: UInt32 = 100_000

    private static func key(_ number: UInt32) -> malla_flow_key {
        malla_flow_key(
            source: malla_address(words_be: (0, 0, UInt32(0xffff).bigEndian, number)),
            target: malla_address(words_be: (0, 0, UInt32(0xffff).bigEndian, 1)),
            source_port_be: 1, target_port_be: 2, protocol: 6, pad: (0, 0, 0))
    }

    private static func flow(of owner: UInt32, seen: UInt32) -> malla_flow {
        var flow = malla_flow()
        flow.kind = MALLA_FLOW_OWN.rawValue
        flow.owner = owner
        flow.seen_ticks = seen
        flow.timeout_ticks = timeout
        return flow
    }

    private static func put(
        _ table: borrowing FlowTable, _ numbers: Range<UInt32>, of owner: UInt32, isOver: Bool,
        isSilent: Bool = false
    ) throws {
        let now = FlowClock.now()
        var row = flow(of: owner, seen: isOver ? now &- timeout &- 1 : now)
        if isSilent {
            row.state = UInt8(MALLA_FLOW_OPEN.rawValue)
            row.seen_ticks = now &- timeout &+ 1000
        }
        for number in numbers {
            // The kernel makes each row when it comes, and may have no memory at hand.
            for attempt in 1...100 {
                do {
                    try table.flows.set(key(number), to: row)
                    break
                } catch {
                    if attempt == 100 { throw error }
                }
            }
        }
    }

    /// Which of them there still are.
    private static func left(
        _ table: borrowing FlowTable, _ numbers: Range<UInt32>
    ) -> [UInt32] {
        var left: [UInt32] = []
        for number in numbers {
            let row = table.flows.value(of: key(number), placeholder: malla_flow())
            if row != nil { left.append(number) }
        }
        return left
    }

    /// As the programs count: three of the pod's flows had to make room, so many are left.
    private static func count(
        _ held: UInt64, of owner: UInt32, _ object: borrowing BPFObject
    ) throws {
        let shares = try BPFMap<UInt32, malla_share>(
            adopting: object.map("malla_share"), name: "malla_share")
        var share = malla_share()
        share.opened = held + 3
        share.closed = 3
        share.evicted = 3
        try shares.set(owner, to: share)
    }

    /// Ticks after a flow's last packet; the last one: another processor's clock is ahead.
    static let silences: [(ticks: UInt32, isOver: Bool)] = [
        (0, false), (timeout, false), (timeout + 1, true), (UInt32.max, false),
    ]

    @Test(arguments: silences)
    func `a flow is over once it is silent for longer than it may be`(
        _ row: (ticks: UInt32, isOver: Bool)
    ) {
        // The count of ticks begins anew meanwhile.
        let seen = UInt32.max - 4
        let isOver = FlowTable.isOver(Self.flow(of: 1, seen: seen), at: seen &+ row.ticks)
        #expect(isOver == row.isOver)
    }

    @Test func `what is over leaves and is counted, what lives stays`() throws {
        let place = try BPFMount()
        var table = try FlowTable(place.load(), quotaMax: 100)
        try Self.put(table, 0..<10, of: 1, isOver: true)
        try Self.put(table, 10..<15, of: 1, isOver: false)
        let living = Array(UInt32(10)..<15)
        for turn in 1...2 {
            table.collect()
            let left = Self.left(table, 0..<15)
            let collected = table.collected
            #expect(left == living, "turn \(turn)")
            #expect(collected == 10, "turn \(turn)")
        }
    }

    @Test func `each pod has its own part of the quota back, also with the next agent`() throws {
        let place = try BPFMount()
        let object = try place.load()
        var table = try FlowTable(object, quotaMax: 100)
        try Self.count(20, of: 1, object)
        try Self.count(5, of: 2, object)
        try Self.put(table, 0..<12, of: 1, isOver: true)
        try Self.put(table, 12..<20, of: 1, isOver: false)
        try Self.put(table, 20..<22, of: 2, isOver: true)
        try Self.put(table, 22..<25, of: 2, isOver: false)
        let before = (table.share(of: 1), table.share(of: 2))
        #expect(before.0.held == 20)
        #expect(before.1.held == 5)

        table.collect()
        let after = (table.share(of: 1), table.share(of: 2))
        let collected = table.collected
        #expect(after.0.held == 8)
        #expect(after.1.held == 3)
        #expect(collected == 14)
        #expect(after.0.max == 100, "the quota itself stays")
        #expect(after.0.evicted == 3, "nobody had to make room")

        let next = try FlowTable(place.load(), quotaMax: 50)
        let found = next.share(of: 1)
        let collectedByNext = next.collected
        #expect(found.held == 8)
        #expect(found.max == 50)
        #expect(collectedByNext == 0)
    }

    @Test func `what a packet revives or a program takes meanwhile is neither taken nor counted`()
        throws
    {
        let place = try BPFMount()
        let object = try place.load()
        var table = try FlowTable(object, quotaMax: 100)
        try Self.count(4, of: 1, object)
        try Self.put(table, 0..<4, of: 1, isOver: true)
        let now = FlowClock.now()
        let over = table.next(at: now).over
        #expect(over.count == 4)
        try Self.put(table, 0..<1, of: 1, isOver: false)
        try table.flows.remove(Self.key(1))
        // Another pod's, of the same ends.
        try Self.put(table, 2..<3, of: 2, isOver: false)

        table.take(over, at: now)
        let left = Self.left(table, 0..<4)
        let living: [UInt32] = [0, 2]
        let collected = table.collected
        let held = table.share(of: 1).held
        #expect(left == living)
        #expect(collected == 1)
        #expect(held == 3, "one was taken here; the others are the programs' to count")
    }

    @Test func `one turn ends at its bound of rows, and the next takes the rest`() throws {
        let place = try BPFMount()
        var table = try FlowTable(place.load(["malla_flow": 131_072]), quotaMax: 100)
        // All are over: what a turn takes is what it looks at.
        try Self.put(table, 0..<80_000, of: 1, isOver: true)
        table.collect()
        let first = table.collected
        let bound = UInt64(FlowTable.rowsPerTurnMax)
        #expect((bound..<bound + Self.rowsPerBatch).contains(first), "\(first)")

        table.collect()
        let all = table.collected
        let isEmpty = table.flows.isEmpty
        #expect(all == 80_000)
        #expect(isEmpty)
    }

    @Test func `open connections that run out soon are asked about, once, and no more in a turn`()
        throws
    {
        let place = try BPFMount()
        var table = try FlowTable(place.load(["malla_flow": 131_072]), quotaMax: 100)
        try Self.put(table, 0..<20_000, of: 1, isOver: false, isSilent: true)
        var asked = 0
        table.collect { _ in asked += 1 }
        let bound = SilentFlows.askedPerTurnMax
        #expect((bound..<bound + Int(Self.rowsPerBatch)).contains(asked), "\(asked)")

        for _ in 0..<4 { table.collect { _ in asked += 1 } }
        #expect(asked == 20_000)
        let collected = table.collected
        #expect(collected == 0)
    }

    @Test func `flows that live do not keep a turn from what is behind them`() throws {
        let place = try BPFMount()
        var table = try FlowTable(place.load(["malla_flow": 131_072]), quotaMax: 100)
        try Self.put(table, 0..<80_000, of: 1, isOver: false)
        // Each pass through the table takes two turns.
        for pass in UInt32(1)...2 {
            let first = 80_000 + 100 * pass
            try Self.put(table, first..<first + 100, of: 1, isOver: true)
            table.collect()
            table.collect()
            let collected = table.collected
            #expect(collected == UInt64(100 * pass), "pass \(pass)")
        }
        let living = table.flows.count()
        #expect(living == 80_000)
    }
}
