// The rows as the kernel holds them, and the one order in which they are changed: policies, sets,
// identities, pods; then removals the other way round. A pod's row never names policies that are
// not there. (Services: ServiceRows.)

internal import CMallaABI

/// - Owns: the maps that follow the configuration, and a copy of what they hold.
struct KernelRows: ~Copyable {
    private(set) var pods: BPFMap<malla_address, malla_pod>
    private(set) var identities: BPFMap<malla_prefix, malla_identity>
    private(set) var policies: BPFMap<malla_policy_key, malla_policy>
    private(set) var sets: BPFMap<UInt32, malla_set>
    /// What the kernel holds now; without `problems`.
    private(set) var current = MapRows()

    /// Opens the maps and reads what an agent before this one left in them.
    init(_ object: borrowing BPFObject) throws(BPFError) {
        let pods = try BPFMap<malla_address, malla_pod>(
            adopting: object.map("malla_pod"), name: "malla_pod")
        let identities = try BPFMap<malla_prefix, malla_identity>(
            adopting: object.map("malla_ipcache"), name: "malla_ipcache")
        let policies = try BPFMap<malla_policy_key, malla_policy>(
            adopting: object.map("malla_policy"), name: "malla_policy")
        let sets = try BPFMap<UInt32, malla_set>(
            adopting: object.map("malla_set"), name: "malla_set")
        var rows = MapRows()
        identities.forEach(key: malla_prefix(), value: malla_identity()) {
            rows.identities[$0] = $1
        }
        policies.forEach(key: malla_policy_key(), value: malla_policy()) { rows.policies[$0] = $1 }
        sets.forEach(key: 0, value: malla_set()) { rows.sets[$0] = $1 }
        pods.forEach(key: malla_address(), value: malla_pod()) { rows.pods[$0] = $1 }
        self.pods = pods
        self.identities = identities
        self.policies = policies
        self.sets = sets
        current = rows
    }

    /// Makes the kernel hold `rows`. Rows for which a map has no room are left out and named; what
    /// was there before goes on working.
    mutating func apply(_ rows: MapRows) throws(BPFError) -> [ApplyProblem] {
        var refused = Refused()
        let identityChange = MapChange(from: current.identities, to: rows.identities)
        let policyChange = MapChange(from: current.policies, to: rows.policies)
        let setChange = MapChange(from: current.sets, to: rows.sets)
        let podChange = MapChange(from: current.pods, to: rows.pods)
        try Self.write(policyChange.writes, &policies, &current.policies, &refused)
        try Self.write(setChange.writes, &sets, &current.sets, &refused)
        try Self.write(identityChange.writes, &identities, &current.identities, &refused)
        try Self.write(podChange.writes, &pods, &current.pods, &refused)
        try Self.remove(podChange.removals, &pods, &current.pods)
        try Self.remove(identityChange.removals, &identities, &current.identities)
        try Self.remove(setChange.removals, &sets, &current.sets)
        try Self.remove(policyChange.removals, &policies, &current.policies)
        // A full map may have room now that what is gone is taken out.
        return refused.isEmpty ? [] : try secondPass(rows)
    }

    private mutating func secondPass(_ rows: MapRows) throws(BPFError) -> [ApplyProblem] {
        var refused = Refused()
        let policyWrites = MapChange(from: current.policies, to: rows.policies).writes
        let setWrites = MapChange(from: current.sets, to: rows.sets).writes
        let identityWrites = MapChange(from: current.identities, to: rows.identities).writes
        let podWrites = MapChange(from: current.pods, to: rows.pods).writes
        try Self.write(policyWrites, &policies, &current.policies, &refused)
        try Self.write(setWrites, &sets, &current.sets, &refused)
        try Self.write(identityWrites, &identities, &current.identities, &refused)
        try Self.write(podWrites, &pods, &current.pods, &refused)
        identities.refused += refused.rows(of: identities.name)
        policies.refused += refused.rows(of: policies.name)
        sets.refused += refused.rows(of: sets.name)
        pods.refused += refused.rows(of: pods.name)
        return refused.problems
    }

    private static func write<Key: Hashable & BitwiseCopyable, Value: BitwiseCopyable>(
        _ writes: [(key: Key, value: Value)], _ map: inout BPFMap<Key, Value>,
        _ held: inout [Key: Value], _ refused: inout Refused
    ) throws(BPFError) {
        for row in writes {
            do throws(BPFError) {
                try map.set(row.key, to: row.value)
                held[row.key] = row.value
            } catch { try refused.take(error, map: map.name, entriesMax: map.entriesMax) }
        }
    }

    private static func remove<Key: Hashable & BitwiseCopyable, Value: BitwiseCopyable>(
        _ keys: [Key], _ map: inout BPFMap<Key, Value>, _ held: inout [Key: Value]
    ) throws(BPFError) {
        for key in keys {
            try map.remove(key)
            held[key] = nil
        }
    }
}

/// Rows that a full map did not take, by map.
private struct Refused {
    private var counts: [String: (rows: Int, entriesMax: UInt32)] = [:]

    var isEmpty: Bool { counts.isEmpty }

    mutating func take(_ error: BPFError, map: String, entriesMax: UInt32) throws(BPFError) {
        guard error.isMapFull else { throw error }
        counts[map, default: (0, entriesMax)].rows += 1
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
