// The services' rows as the kernel holds them. A change costs what changed: a port whose inputs are
// the same is not looked at again. Endpoints and tables are written before the rows that count
// them, rows before endpoints are removed, so that no moment is without an answer.

internal import CMallaABI
internal import MeshModel

/// - Owns: the maps of services, and what they hold.
/// - Threads: one at a time.
struct ServiceRows: ~Copyable {
    private(set) var maps: ServiceMaps
    /// By key: the row, and whose it is (`nil`: an agent's before this one).
    private(set) var rows: [malla_end: (row: malla_service, owner: FrontName?)] = [:]
    /// Groups of which nobody has claimed the number yet: left by an agent before this one.
    private var adopted: [UInt32: GroupRows] = [:]
    private var fronts: [FrontName: Front] = [:]
    /// Those that are not in force as a whole.
    private(set) var shortFronts: Set<FrontName> = []
    /// Those that serve somebody outside.
    private var outerFronts: Set<FrontName> = []
    /// Those of them that lead where this node has no address to dial from.
    private var sourceless: Set<FrontName> = []
    /// The order of host ports and services.
    private var ranks = FrontRanks()
    private var farPlaces: [Int: [FarNodePort.Place]] = [:]
    /// Of host ports, by the last snapshot that was looked at as a whole.
    private var hostProblems: [ApplyProblem] = []
    private var nextGroup: UInt32 = 1
    private(set) var ends = ListedEnds()
    /// What the last `apply` brought about, as far as there was room.
    private var last: Snapshot?
    /// What an `apply` that was broken off has found gone: the next one tells of it.
    private var owed = Outcome()
    private var round = RowRound<FrontName>()
    private var near: [malla_address: UInt32] = [:]
    private var node = malla_node()

    /// What is in force of one front. A class, because a table of ten thousand is half empty.
    private final class Front {
        let input: FrontInput
        let plan: ServicePlan
        var cluster: GroupRows?
        var local: GroupRows?
        /// Keys that are this front's.
        var keys: [malla_end] = []
        /// Something did not fit, or belongs to another: tried again at each change.
        var isShort = false

        init(input: FrontInput, plan: ServicePlan) {
            self.input = input
            self.plan = plan
        }
    }

    /// What `apply` did besides.
    struct Outcome {
        /// All that there are, whether they are new or not.
        var problems: [ApplyProblem] = []
        /// Ports that are not in force as a whole, by the full map.
        fileprivate var short: [String: Set<String>] = [:]
        /// Keys that somebody else has, who may give them away yet.
        fileprivate var conflicts: [FrontName: [Conflict]] = [:]
        /// Endpoints that stand behind nothing any more, or only listed.
        var gone: [malla_end] = []
        /// Endpoints that stand behind one port less, whatever else they stand behind.
        var left = LeftEnds()
        /// Rows written or removed, in all maps.
        var writes = 0
    }

    /// A key that somebody wants and `owner` has.
    fileprivate struct Conflict {
        let key: malla_end
        let owner: FrontName
        let problem: ApplyProblem
    }

    /// Opens the maps and reads what an agent before this one left in them.
    init(_ object: borrowing BPFObject) throws(BPFError) {
        maps = try ServiceMaps(object)
        var slots: [UInt32: [UInt32: PlannedEnd]] = [:]
        maps.endpoints.forEach(key: malla_endpoint_key(), value: malla_end()) { key, end in
            slots[key.group, default: [:]][key.slot] = PlannedEnd(address: end.socket, weight: 1)
        }
        for (id, ends) in slots {
            // Only what is without a gap can have been counted by a row.
            let dense = (0..<UInt32(ends.count)).compactMap { ends[$0] }
            adopted[id] = GroupRows(id: id, slots: dense)
            nextGroup = max(nextGroup, id &+ 1)
        }
        var found: [malla_end: malla_service] = [:]
        maps.services.forEach(key: malla_end(), value: malla_service()) { found[$0] = $1 }
        for (key, row) in found {
            rows[key] = (row, nil)
            nextGroup = max(nextGroup, row.inside.id &+ 1, row.outside.id &+ 1)
        }
        var addresses: [malla_address: UInt32] = [:]
        maps.near.forEach(key: malla_address(), value: 0) { addresses[$0] = $1 }
        near = addresses
    }

    /// Whether a node has the address, this one or another.
    func isNodes(_ address: malla_address) -> Bool { near[address] != nil }

    func plan(of name: FrontName) -> ServicePlan? { fronts[name]?.plan }

    /// Those whose endpoints differ in weight, by number.
    var weightedGroups: [UInt32: GroupRows] {
        let groups = fronts.values.filter(\.plan.isWeighted).flatMap { [$0.cluster, $0.local] }
        return Dictionary(groups.compactMap { $0.map { ($0.id, $0) } }, uniquingKeysWith: { $1 })
    }

    /// Rows of the maps, for the agent's metrics.
    func usage() -> [MapUsage] {
        let ranges = fronts.values.reduce(0) { $0 + $1.plan.sourceRanges.count }
        return maps.usage(services: rows.count, endpoints: endpointCount, ranges: ranges)
    }

    private var endpointCount: Int {
        fronts.values.reduce(0) {
            $0 + ($1.cluster?.slots.count ?? 0) + ($1.local?.slots.count ?? 0)
        }
    }

    /// Makes the kernel hold the snapshot's services and its host ports.
    ///
    /// - Complexity: after the snapshot that this one was made from, linear in what changed; else
    ///   a comparison of each port with what it was.
    mutating func apply(_ snapshot: Snapshot) throws(BPFError) -> Outcome {
        var outcome = Outcome()
        (outcome.gone, outcome.left) = (owed.gone, owed.left)
        do throws(BPFError) {
            try apply(snapshot, &outcome)
        } catch {
            owed = outcome
            // Nothing that stands half way is taken for placed.
            last = nil
            for (name, front) in fronts {
                front.isShort = true
                shortFronts.insert(name)
            }
            throw error
        }
        owed = Outcome()
        outcome.gone.removeAll { ends.isAlive($0) }
        // Somebody else may have what led to them, and lead there too.
        outcome.left = LeftEnds(left(outcome.left.pairs, orGone: true))
        return outcome
    }

    private mutating func apply(
        _ snapshot: Snapshot, _ outcome: inout Outcome
    ) throws(BPFError) {
        let missing = MissingSources(snapshot)
        if let delta = snapshot.delta, snapshot.follows(last), shortFronts.isEmpty {
            let ports = delta.ports.filter { snapshot.ports[$0].transport != .sctp }
            let inputs =
                ports.map { FrontInput.service(ServiceInput(snapshot, port: $0)) }
                + ports.flatMap { port in
                    FarNodePort.make(snapshot, port: port, at: farPlaces[port] ?? [])
                        .map(FrontInput.farNodePort)
                }
            for input in inputs { try place(input, &outcome, isLast: true) }
            try askAgain(inputs, &outcome)
            for input in inputs {
                for isIPv4 in [true, false] { note(input.name(isIPv4), missing) }
            }
        } else {
            try applyAny(snapshot, &outcome)
            sourceless = []
            for name in outerFronts { note(name, missing) }
        }
        last = snapshot
        outcome.problems += hostProblems + missing.problems(sourceless)
        for (map, ports) in outcome.short.sorted(by: { $0.key < $1.key }) {
            outcome.problems.append(full(map, ports.sorted()))
        }
        try placeNode(snapshot)
    }

    private mutating func applyAny(
        _ snapshot: Snapshot, _ outcome: inout Outcome
    ) throws(BPFError) {
        try placeAddresses(snapshot, &outcome)
        // A quarter: those of many nodes shall leave services their room.
        let farMax = Int(maps.services.entriesMax / 4)
        let wanted = FrontInputs(snapshot, farMax: farMax)
        hostProblems = wanted.problems
        ranks = wanted.ranks
        farPlaces = wanted.farPlaces
        let had = last.map { FrontInputs($0, farMax: farMax) }
        if let had, had.isSame(as: wanted) {
            for index in wanted.all.indices where mayDiffer(wanted.all[index], had.all[index]) {
                try place(wanted.all[index], &outcome, isLast: true)
            }
        } else {
            try applyAll(wanted, &outcome)
        }
        try askAgain(wanted.all, &outcome)
    }

    /// Who met a holder that has given its keys away behind it, in the same change, gets them now.
    private mutating func askAgain(
        _ inputs: [FrontInput], _ outcome: inout Outcome
    ) throws(BPFError) {
        let names = Set(
            outcome.conflicts.filter { met in
                met.value.contains { rows[$0.key]?.owner != $0.owner }
            }.keys)
        for input in inputs
        where names.contains(input.name(true)) || names.contains(input.name(false)) {
            try place(input, &outcome, isLast: true)
        }
        outcome.problems += outcome.conflicts.values.joined().map(\.problem).sorted {
            ($0.subject, $0.message) < ($1.subject, $1.message)
        }
        outcome.conflicts = [:]
    }

    private mutating func note(_ name: FrontName, _ missing: MissingSources) {
        if outerFronts.contains(name), let plan = fronts[name]?.plan, missing.concern(name, plan) {
            sourceless.insert(name)
        } else {
            sourceless.remove(name)
        }
    }

    private func mayDiffer(_ new: FrontInput, _ old: FrontInput) -> Bool {
        if new != old { return true }
        guard !shortFronts.isEmpty else { return false }
        return [true, false].contains { shortFronts.contains(new.name($0)) }
    }

    private mutating func applyAll(
        _ wanted: FrontInputs, _ outcome: inout Outcome
    ) throws(BPFError) {
        var names: Set<FrontName> = []
        for input in wanted.all {
            names.insert(input.name(true))
            names.insert(input.name(false))
        }
        // Who is gone gives his keys free before others ask for them.
        let leaving = fronts.keys.filter { !names.contains($0) }
        for name in leaving { release(name) }
        var short: [FrontInput] = []
        for input in wanted.all where try !place(input, &outcome) { short.append(input) }
        for name in leaving { try takeOut(name, &outcome) }
        try takeOutUnowned(&outcome)
        // What had no room may have some now.
        for input in short { try place(input, &outcome, isLast: true) }
    }
}

extension ServiceRows {
    /// Brings both families of a port about. `false`: a map had no room for all of it.
    @discardableResult
    private mutating func place(
        _ input: FrontInput, _ outcome: inout Outcome, isLast: Bool = false
    ) throws(BPFError) -> Bool {
        var isWhole = true
        for isIPv4 in [true, false] {
            let name = input.name(isIPv4)
            if let front = fronts[name], front.input == input, !front.isShort { continue }
            if try !place(name, input, input.plan(isIPv4), &outcome, isLast: isLast) {
                isWhole = false
            }
        }
        return isWhole
    }

    private mutating func place(
        _ name: FrontName, _ input: FrontInput, _ plan: ServicePlan, _ outcome: inout Outcome,
        isLast: Bool
    ) throws(BPFError) -> Bool {
        let old = fronts[name]
        if plan.rows.isEmpty, old == nil { return true }
        let front = Front(input: input, plan: plan)
        outcome.gone += ends.count(old?.plan, plan)
        if !name.drainsWithPod { outcome.left.note(old?.plan, plan, keys: old?.keys ?? []) }
        let claimed = claim(plan, name, &outcome)
        front.keys = claimed.map(\.key)
        front.isShort = claimed.count < Set(plan.rows.map(\.key)).count
        defer {
            fronts[name] = front
            if front.isShort { shortFronts.insert(name) } else { shortFronts.remove(name) }
            let isOuter = plan.rows.contains { $0.outside != .none }
            if isOuter { outerFronts.insert(name) } else { outerFronts.remove(name) }
        }
        do throws(BPFError) {
            try placeGroups(front, old, claimed, &outcome)
            try placeRows(front, claimed, name, &outcome)
        } catch {
            front.isShort = true
            guard error.isMapFull else { throw error }
            if isLast {
                let map = maps.refused.count(error)
                outcome.short[map, default: []].insert("\(name.owner):\(name.port)")
            }
            return false
        }
        try clear(old, front, &outcome)
        return true
    }

    /// The rows of the plan whose keys nobody has who goes before it. Of others it takes them, who
    /// come later in the order and are told then.
    private mutating func claim(
        _ plan: ServicePlan, _ name: FrontName, _ outcome: inout Outcome
    ) -> [ServicePlan.Row] {
        outcome.conflicts[name] = nil
        var own: [ServicePlan.Row] = []
        for row in plan.rows where !own.contains(where: { $0.key == row.key }) {
            if let owner = rows[row.key]?.owner, owner != name {
                guard ranks.precedes(name, owner) else {
                    let problem = conflict(row.key, name, owner)
                    outcome.conflicts[name, default: []].append(
                        Conflict(key: row.key, owner: owner, problem: problem))
                    continue
                }
                fronts[owner]?.keys.removeAll { $0 == row.key }
                fronts[owner]?.isShort = true
                shortFronts.insert(owner)
            }
            own.append(row)
        }
        return own
    }

    /// The number that a group of this front had before this agent, or a fresh one.
    private mutating func number(
        _ group: ServicePlan.Group, _ claimed: [ServicePlan.Row]
    ) -> GroupRows {
        for row in claimed {
            guard let found = rows[row.key], found.owner == nil else { continue }
            for (kind, id) in [
                (row.inside, found.row.inside.id), (row.outside, found.row.outside.id),
            ]
            where kind == group && id != 0 {
                if let rows = adopted.removeValue(forKey: id) { return rows }
            }
        }
        defer { nextGroup &+= 1 }
        return GroupRows(id: nextGroup)
    }

    private mutating func placeGroups(
        _ front: Front, _ old: Front?, _ claimed: [ServicePlan.Row], _ outcome: inout Outcome
    ) throws(BPFError) {
        guard !claimed.isEmpty else { return }
        let plan = front.plan
        if plan.uses(.cluster) {
            let before = old?.cluster ?? number(.cluster, claimed)
            let isKnown = old?.cluster != nil && old?.isShort == false
            let now = before.with(plan.cluster)
            front.cluster = now
            try write(now, over: before, isKnown: isKnown, plan, old?.plan, &outcome)
        }
        if plan.uses(.local) {
            let before = old?.local ?? number(.local, claimed)
            let isKnown = old?.local != nil && old?.isShort == false
            let now = before.with(plan.local)
            front.local = now
            try write(now, over: before, isKnown: isKnown, plan, old?.plan, &outcome)
        }
    }

    /// A group's endpoints, members and table. `isKnown`: the kernel holds `before` for certain;
    /// else only endpoints that were read from it are.
    private func write(
        _ now: GroupRows, over before: GroupRows, isKnown: Bool, _ plan: ServicePlan,
        _ oldPlan: ServicePlan?, _ outcome: inout Outcome
    ) throws(BPFError) {
        for (slot, end) in now.slots.enumerated() {
            let had = slot < before.slots.count ? before.slots[slot].address : nil
            if had == end.address, isKnown || oldPlan == nil { continue }
            let key = malla_endpoint_key(group: now.id, slot: UInt32(slot))
            try maps.endpoints.set(key, to: malla_end(end.address, plan.transport))
            outcome.writes += 1
        }
        if plan.affinitySeconds > 0 {
            let knew = isKnown && (oldPlan?.affinitySeconds ?? 0) > 0
            let had = knew ? Set(before.slots.map(\.address)) : []
            for (slot, end) in now.slots.enumerated() where !had.contains(end.address) {
                let member = malla_member(
                    endpoint: malla_end(end.address, plan.transport), group: now.id)
                try maps.members.set(member, to: UInt32(slot))
                outcome.writes += 1
            }
        }
        if isKnown, now == before { return }
        for (index, piece) in now.pieces().enumerated() {
            try maps.pieces.set(malla_maglev_key(group: now.id, piece: UInt32(index)), to: piece)
            outcome.writes += 1
        }
    }

    private mutating func placeRows(
        _ front: Front, _ claimed: [ServicePlan.Row], _ name: FrontName, _ outcome: inout Outcome
    ) throws(BPFError) {
        let plan = front.plan
        func group(_ kind: ServicePlan.Group) -> malla_group {
            switch kind {
            case .none: malla_group()
            case .cluster: front.cluster?.group ?? malla_group()
            case .local: front.local?.group ?? malla_group()
            }
        }
        if claimed.contains(where: { $0.flags & UInt32(MALLA_SERVICE_RANGED) != 0 }),
            let id = front.cluster?.id
        {
            for range in plan.sourceRanges {
                try maps.ranges.set(malla_range(range, service: id), to: 1)
                outcome.writes += 1
            }
        }
        for row in claimed {
            let weighted = plan.isWeighted ? UInt32(MALLA_SERVICE_WEIGHTED) : 0
            let value = malla_service(
                inside: group(row.inside), outside: group(row.outside),
                flags: row.flags | weighted, affinity_seconds: plan.affinitySeconds)
            if rows[row.key]?.row != value {
                try maps.services.set(row.key, to: value)
                outcome.writes += 1
            }
            rows[row.key] = (value, name)
        }
    }
}

extension ServiceRows {
    /// The same as `KernelRows.mend` of services and their endpoints; tables are not looked at.
    ///
    /// - Parameter count: fronts, each with some endpoints.
    mutating func mend(_ count: Int) -> [String] {
        var mended: [String] = []
        for name in round.take(count, of: { Array(fronts.keys) }) {
            guard let front = fronts[name], !front.isShort else { continue }
            for key in front.keys {
                guard let row = rows[key]?.row else { continue }
                if BPFLoader.mend(maps.services, key, row, placeholder: malla_service()) {
                    mended.append(maps.services.name)
                }
            }
            for group in [front.cluster, front.local] {
                for (slot, end) in (group?.slots ?? []).enumerated() {
                    let key = malla_endpoint_key(group: group?.id ?? 0, slot: UInt32(slot))
                    let end = malla_end(end.address, front.plan.transport)
                    if BPFLoader.mend(maps.endpoints, key, end, placeholder: malla_end()) {
                        mended.append(maps.endpoints.name)
                    }
                }
            }
        }
        return mended
    }

    // MARK: Removal

    /// The front's keys are free for others; the kernel still has them.
    private mutating func release(_ name: FrontName) {
        for key in fronts[name]?.keys ?? [] where rows[key]?.owner == name {
            rows[key]?.owner = nil
        }
    }

    private mutating func takeOut(
        _ name: FrontName, _ outcome: inout Outcome
    ) throws(BPFError) {
        guard let front = fronts.removeValue(forKey: name) else { return }
        shortFronts.remove(name)
        outerFronts.remove(name)
        outcome.gone += ends.count(front.plan, nil)
        if !name.drainsWithPod { outcome.left.note(front.plan, nil, keys: front.keys) }
        for key in front.keys where rows[key]?.owner == nil { try remove(key, &outcome) }
        for group in [front.cluster, front.local] {
            guard let group else { continue }
            try remove(group, from: 0, transport: front.plan.transport, &outcome)
        }
        for range in front.plan.sourceRanges {
            guard let id = front.cluster?.id else { break }
            try maps.ranges.remove(malla_range(range, service: id))
        }
    }

    /// Removes what `new` no longer has of `old`.
    private mutating func clear(
        _ old: Front?, _ new: Front, _ outcome: inout Outcome
    ) throws(BPFError) {
        guard let old else { return }
        for key in old.keys where !new.keys.contains(key) { try remove(key, &outcome) }
        for (before, now) in [(old.cluster, new.cluster), (old.local, new.local)] {
            guard let before else { continue }
            let kept = now?.slots.count ?? 0
            let pieces = now?.pieceCount ?? 0
            try remove(
                before, from: kept, pieces: pieces, transport: old.plan.transport, &outcome)
            guard old.plan.affinitySeconds > 0 else { continue }
            let stay = new.plan.affinitySeconds > 0 ? Set(now?.slots.map(\.address) ?? []) : []
            for end in before.slots where !stay.contains(end.address) {
                try maps.members.remove(
                    malla_member(
                        endpoint: malla_end(end.address, old.plan.transport), group: before.id))
            }
        }
        guard let id = old.cluster?.id else { return }
        for range in old.plan.sourceRanges where !new.plan.sourceRanges.contains(range) {
            try maps.ranges.remove(malla_range(range, service: id))
        }
    }

    private func remove(
        _ group: GroupRows, from slot: Int, pieces: Int = 0, transport: TransportProtocol,
        _ outcome: inout Outcome
    ) throws(BPFError) {
        for index in slot..<max(slot, group.slots.count) {
            try maps.endpoints.remove(malla_endpoint_key(group: group.id, slot: UInt32(index)))
            outcome.writes += 1
        }
        for index in pieces..<max(pieces, group.pieceCount) {
            try maps.pieces.remove(malla_maglev_key(group: group.id, piece: UInt32(index)))
            outcome.writes += 1
        }
        guard slot == 0, pieces == 0 else { return }
        for end in group.slots {
            try maps.members.remove(
                malla_member(endpoint: malla_end(end.address, transport), group: group.id))
        }
    }

    private mutating func remove(_ key: malla_end, _ outcome: inout Outcome) throws(BPFError) {
        try maps.services.remove(key)
        rows[key] = nil
        outcome.writes += 1
    }

    /// Rows and groups of an agent before this one that nothing wants.
    private mutating func takeOutUnowned(_ outcome: inout Outcome) throws(BPFError) {
        guard !adopted.isEmpty || rows.values.contains(where: { $0.owner == nil }) else { return }
        for key in rows.filter({ $0.value.owner == nil }).keys { try remove(key, &outcome) }
        for group in adopted.values {
            try remove(group, from: 0, transport: .tcp, &outcome)
        }
        adopted = [:]
    }

    // MARK: Nodes

    private mutating func placeAddresses(
        _ snapshot: Snapshot, _ outcome: inout Outcome
    ) throws(BPFError) {
        var wanted: [malla_address: UInt32] = [:]
        for each in snapshot.mesh.nodes {
            let kind = each.name == snapshot.node ? MALLA_NEAR_OWN : MALLA_NEAR_OTHER
            for address in each.addresses { wanted[malla_address(address)] = UInt32(kind) }
        }
        let change = MapChange(from: near, to: wanted)
        for row in change.writes { try maps.near.set(row.key, to: row.value) }
        for key in change.removals { try maps.near.remove(key) }
        near = wanted
        outcome.writes += change.writes.count + change.removals.count
    }

    private mutating func placeNode(_ snapshot: Snapshot) throws(BPFError) {
        var own = malla_node()
        if let v4 = snapshot.nodeAddresses.first(where: \.isIPv4) {
            own.source4 = malla_address(v4)
        }
        if let v6 = snapshot.nodeAddresses.first(where: { !$0.isIPv4 }) {
            own.source6 = malla_address(v6)
        }
        own.flags = isIdleOutside ? 0 : UInt32(MALLA_NODE_SERVES)
        if own != node {
            try maps.node.set(0, to: own)
            node = own
        }
    }

    /// What is left of connections from outside is served, though nothing new may come.
    private var isIdleOutside: Bool { outerFronts.isEmpty && maps.translations.isEmpty }

    /// Once the last connection from outside is over, its packets are not looked at any more; to be
    /// called every few seconds.
    mutating func rest() {
        guard node.flags & UInt32(MALLA_NODE_SERVES) != 0, isIdleOutside else { return }
        var idle = node
        idle.flags = 0
        // An array's row can always be written.
        guard (try? maps.node.set(0, to: idle)) != nil else { return }
        node = idle
    }
}
