// The flow table as the agent sees it: quotas are written, what is over is taken out a part at a
// time, and for people it is listed and flushed. Everything else is the programs' (bpf/lib).

internal import CMallaABI

/// - Owns: the maps of flows, shares and quotas.
/// - Threads: one at a time.
struct FlowTable: ~Copyable {
    /// Rows looked at in one turn of `collect`: some ten milliseconds.
    static let rowsPerTurnMax = 65536
    private static let rowsPerBatch = 4096
    /// Rows taken out before their owners are told.
    private static let rowsPerCharge = 64

    typealias Row = (key: malla_flow_key, owner: UInt32)

    let flows: BPFMap<malla_flow_key, malla_flow>
    private let shares: BPFMap<UInt32, malla_share>
    private let quotas: BPFMap<UInt32, malla_quota>
    private var position = BatchPosition()
    private var silent = SilentFlows()
    /// Rows that were over and are gone, since this agent started.
    private(set) var collected: UInt64 = 0

    /// Opens the maps and gives every endpoint its quota.
    ///
    /// - Parameter quotaMax: flows that one endpoint may hold; never more than an eighth of the
    ///   table.
    init(_ object: borrowing BPFObject, quotaMax: UInt32) throws(BPFError) {
        let flows = try BPFMap<malla_flow_key, malla_flow>(
            adopting: object.map("malla_flow"), name: "malla_flow")
        let shares = try BPFMap<UInt32, malla_share>(
            adopting: object.map("malla_share"), name: "malla_share")
        let quotas = try BPFMap<UInt32, malla_quota>(
            adopting: object.map("malla_quota"), name: "malla_quota")
        let quota = min(quotaMax, max(1, flows.entriesMax / 8))
        for endpoint in 0..<quotas.entriesMax {
            // What was collected stays: the endpoint's flows are counted from it.
            var row = quotas.value(of: endpoint, placeholder: malla_quota()) ?? malla_quota()
            guard row.flows != quota else { continue }
            row.flows = quota
            try quotas.set(endpoint, to: row)
        }
        self.flows = flows
        self.shares = shares
        self.quotas = quotas
    }

    static func isOver(_ flow: malla_flow, at now: UInt32) -> Bool {
        Int32(bitPattern: now &- flow.seen_ticks) > Int32(bitPattern: flow.timeout_ticks)
    }

    /// Takes out flows that are over, as far as one turn goes; the next goes on from there.
    ///
    /// - Parameter ask: asks the ends of a connection that is silent for long whether they live.
    mutating func collect(_ ask: (malla_flow_key) -> Void = { _ in }) {
        let now = FlowClock.now()
        let found = next(at: now)
        for key in found.silent { ask(key) }
        take(found.over, at: now)
    }

    /// What the rows of one turn hold.
    struct Found {
        var over: [Row] = []
        var silent: [malla_flow_key] = []
    }

    /// Those of the next turn that are over, and those whose ends are to be asked.
    mutating func next(at now: UInt32) -> Found {
        if position.isAtStart { silent.beginPass(at: now) }
        let asks = silent
        var found = Found()
        var rows = 0
        while rows < Self.rowsPerTurnMax, found.silent.count < SilentFlows.askedPerTurnMax {
            rows += flows.forEachInBatch(Self.rowsPerBatch, at: &position) { key, flow in
                if Self.isOver(flow, at: now) {
                    found.over.append((key, flow.owner))
                } else if asks.areDue(key, flow) {
                    found.silent.append(key)
                }
            }
            if position.isAtEnd {
                position = BatchPosition()
                break
            }
        }
        return found
    }

    /// Takes them out; those that a packet has revived since they were found stay.
    mutating func take(_ over: [Row], at now: UInt32) {
        collected += UInt64(takeOut(over) { _, flow in Self.isOver(flow, at: now) })
    }

    /// Takes out every flow for which `matches` says so; answers how many those were.
    func flush(_ matches: (malla_flow_key, malla_flow) -> Bool) -> Int {
        var found: [Row] = []
        forEach { key, flow in
            if matches(key, flow) { found.append((key, flow.owner)) }
        }
        // Those that have become another flow meanwhile stay.
        return takeOut(found) { row, flow in
            flow.owner == row.owner && matches(row.key, flow)
        }
    }

    /// Takes out those of which `isMeant` says so, and answers how many. Their owners are told in
    /// between: what is gone untold still fills a pod's quota.
    private func takeOut(_ rows: [Row], _ isMeant: (Row, malla_flow) -> Bool) -> Int {
        var count = 0
        for start in stride(from: 0, to: rows.count, by: Self.rowsPerCharge) {
            let part = rows[start..<min(start + Self.rowsPerCharge, rows.count)]
            let gone = part.filter { row in
                guard let flow = flows.value(of: row.key, placeholder: malla_flow()) else {
                    return false
                }
                return isMeant(row, flow) && flows.take(row.key)
            }
            charge(gone.map(\.owner))
            count += gone.count
        }
        return count
    }

    /// Marks every flow for which `matches` says so as cut. A packet that is counted meanwhile
    /// may be forgotten.
    func cut(_ matches: (malla_flow_key, malla_flow) -> Bool) {
        var found: [malla_flow_key] = []
        forEach { key, flow in
            if matches(key, flow) { found.append(key) }
        }
        for key in found {
            guard var flow = flows.value(of: key, placeholder: malla_flow()), matches(key, flow)
            else { continue }
            flow.flags |= UInt16(MALLA_FLOW_CUT)
            flows.replace(key, with: flow)
        }
    }

    /// Every flow, those that are over included.
    func forEach(_ body: (malla_flow_key, malla_flow) -> Void) {
        var position = BatchPosition()
        var rows = 0
        repeat {
            rows += flows.forEachInBatch(Self.rowsPerBatch, at: &position, body)
        } while !position.isAtEnd && rows <= Int(flows.entriesMax)
    }

    /// What the endpoint holds now and how many of its flows had to make room so far.
    func share(of endpoint: UInt32) -> (held: UInt64, max: UInt32, evicted: UInt64) {
        let share = shares.value(of: endpoint, placeholder: malla_share()) ?? malla_share()
        let quota = quotas.value(of: endpoint, placeholder: malla_quota()) ?? malla_quota()
        let held = Int64(bitPattern: share.opened &- share.closed &- quota.collected)
        return (UInt64(max(0, held)), quota.flows, share.evicted)
    }

    /// Tells the programs that these owners hold a flow more, an element each.
    func admit(_ owners: [UInt32]) {
        for (owner, rows) in Dictionary(owners.map { ($0, 1 as UInt64) }, uniquingKeysWith: +) {
            guard var row = quotas.value(of: owner, placeholder: malla_quota()) else { continue }
            row.collected &-= rows
            // An array's row can always be written.
            try? quotas.set(owner, to: row)
        }
    }

    /// Tells the programs that their owners hold so many fewer.
    private func charge(_ owners: [UInt32]) {
        for (owner, rows) in Dictionary(owners.map { ($0, 1 as UInt64) }, uniquingKeysWith: +) {
            guard var row = quotas.value(of: owner, placeholder: malla_quota()) else { continue }
            row.collected &+= rows
            // An array's row can always be written.
            try? quotas.set(owner, to: row)
        }
    }
}
