// The rows as the kernel holds them, and the one order in which they are changed: policies, sets,
// identities, modes, peers, exclusions, pods, their places; then removals the other way round. A
// pod's row never names policies that are not there. (Services: ServiceRows.)

internal import CMallaABI

/// - Owns: the maps that follow the configuration, and a copy of what they hold.
struct KernelRows: ~Copyable {
    private(set) var pods: BPFMap<malla_address, malla_pod>
    private(set) var exclusions: BPFMap<malla_exclude, UInt32>
    /// Endpoint by interface, of pods of which every row is there.
    let places: BPFMap<UInt32, UInt32>
    private(set) var placed: [UInt32: UInt32] = [:]
    var policies: PolicyMaps
    var tunnels: TunnelMaps
    /// What the kernel holds now; without `problems`.
    private(set) var current = MapRows()
    /// How often pods or policies have changed: flows judged before are judged anew.
    private(set) var changes: UInt32 = 0
    /// The last `apply` was broken off: some of its rows are in force.
    private var isBroken = false
    var podRound = RowRound<malla_address>()

    /// Opens the maps and reads what an agent before this one left in them.
    init(_ object: borrowing BPFObject) throws(BPFError) {
        let pods = try BPFMap<malla_address, malla_pod>(
            adopting: object.map("malla_pod"), name: "malla_pod")
        let exclusions = try BPFMap<malla_exclude, UInt32>(
            adopting: object.map("malla_exclude"), name: "malla_exclude")
        let places = try BPFMap<UInt32, UInt32>(
            adopting: object.map("malla_place"), name: "malla_place")
        let policies = try PolicyMaps(object)
        let tunnels = try TunnelMaps(object)
        var rows = MapRows()
        var placed: [UInt32: UInt32] = [:]
        places.forEach(key: 0, value: 0) { placed[$0] = $1 }
        pods.forEach(key: malla_address(), value: malla_pod()) { rows.pods[$0] = $1 }
        exclusions.forEach(key: malla_exclude(), value: 0) { rows.exclusions[$0] = $1 }
        self.exclusions = exclusions
        self.pods = pods
        self.policies = policies
        self.places = places
        self.placed = placed
        self.tunnels = tunnels
        current = rows
    }

    /// Of all pods of the mesh that the kernel's rows know, this node's and others'.
    var podAddresses: Set<malla_address> {
        let pods = UInt32(MALLA_IDENTITY_LABELS.rawValue)..<UInt32(MALLA_IDENTITY_LOCAL.rawValue)
        let named = policies.heldIdentities.filter {
            $0.key.prefix_bits == 128 && pods.contains($0.value.identity)
        }
        return Set(current.pods.keys).union(named.keys.map(\.address))
    }

    /// Makes the kernel hold `rows`. Rows for which a map has no room are left out and named; what
    /// was there before goes on working.
    ///
    /// - Throws: what the kernel said of anything else. What is in force by then counts as a
    ///   change, and so does the next one that comes to its end, however little it writes.
    mutating func apply(_ rows: MapRows) throws(BPFError) -> [ApplyProblem] {
        if isBroken {
            policies.startOver()
            changes &+= 1
        }
        isBroken = true
        defer { if isBroken { changes &+= 1 } }
        let refused = try passes(rows)
        isBroken = false
        return refused.problems
    }

    private mutating func passes(_ rows: MapRows) throws(BPFError) -> FullMaps {
        var refused = try pass(rows)
        // A full map may have room now that what is gone is taken out.
        if refused.mayFit { refused = try pass(rows) }
        if refused.isEmpty { return refused }
        policies.count(refused)
        tunnels.count(refused)
        pods.refused += refused.rows(of: pods.name)
        exclusions.refused += refused.rows(of: exclusions.name)
        return refused
    }

    private mutating func pass(_ rows: MapRows) throws(BPFError) -> FullMaps {
        var refused = FullMaps()
        var wanted = rows.pods
        var hasNewPolicies = false
        if let policy = rows.policy { hasNewPolicies = try policies.write(policy, &refused) }
        if !policies.missing.isEmpty {
            for (key, pod) in rows.pods where policies.missing.contains(pod.set) {
                wanted[key]?.set = PolicyMaps.closedSet
            }
        }
        if try tunnels.write(rows, &wanted, &refused) { hasNewPolicies = true }
        // Before the pods that they are of: what a pod excludes is never captured.
        let excluded = MapChange(from: current.exclusions, to: rows.exclusions)
        _ = try excluded.add(to: exclusions, &current.exclusions, &refused)
        let change = MapChange(from: current.pods, to: wanted)
        _ = try change.add(to: pods, &current.pods, &refused)
        try change.takeOut(of: pods, &current.pods)
        try place(wanted)
        try excluded.takeOut(of: exclusions, &current.exclusions)
        try tunnels.remove()
        try policies.remove()
        if hasNewPolicies || !change.isEmpty { changes &+= 1 }
        return refused
    }
}

extension KernelRows {
    /// An interface is a pod's once all of the pod's rows are held; the map has room for each.
    private mutating func place(_ wanted: [malla_address: malla_pod]) throws(BPFError) {
        var ready: [UInt32: UInt32] = [:]
        for pod in wanted.values { ready[pod.interface] = pod.endpoint }
        for (key, pod) in wanted where current.pods[key] == nil { ready[pod.interface] = nil }
        try MapChange(from: placed, to: ready).write(to: places, &placed)
    }
}

/// Rows that a full map did not take, by map.
struct FullMaps {
    private var counts: [String: (rows: Int, entriesMax: UInt32)] = [:]
    /// Some may find room once what is gone is taken out.
    private(set) var mayFit = false

    var isEmpty: Bool { counts.isEmpty }

    mutating func take(_ error: BPFError, map: String, entriesMax: UInt32) throws(BPFError) {
        guard error.isMapFull else { throw error }
        add(1, map: map, entriesMax: entriesMax)
    }

    mutating func add(_ rows: Int, map: String, entriesMax: UInt32) {
        leave(rows, map: map, entriesMax: entriesMax)
        mayFit = true
    }

    /// More than the map holds, whatever is taken out.
    mutating func leave(_ rows: Int, map: String, entriesMax: UInt32) {
        counts[map, default: (0, entriesMax)].rows += rows
    }

    func rows(of map: String) -> UInt64 { UInt64(counts[map]?.rows ?? 0) }

    var problems: [ApplyProblem] {
        counts.sorted { $0.key < $1.key }.map { map, count in
            ApplyProblem(
                subject: "map \(map)",
                message: "full at \(count.entriesMax) entries; \(count.rows) new "
                    + "entries are not in force, what was there before goes on working")
        }
    }
}
