// The kernel's side of the policies: identities by address, sets, rows. Each packet meets the old
// or the new verdict while they change, never a third: of a peer's rows the longer prefixes are
// written first and the shorter ones removed first, those of named peers are written before, and
// removed after, those of any other peer; an address gets a new identity when its rows are there.

internal import CLinux
internal import CMallaABI
internal import MeshModel

/// - Owns: three maps, and a copy of what they hold.
/// - Limits: a set whose rows do not fit keeps those that it had; a new one is not in force, and
///   its pods are closed until there is room.
struct PolicyMaps: ~Copyable {
    private(set) var identities: BPFMap<malla_prefix, malla_identity>
    private(set) var policies: BPFMap<malla_policy_key, malla_policy>
    private(set) var sets: BPFMap<UInt32, malla_set>
    private(set) var heldIdentities: [malla_prefix: malla_identity] = [:]
    private(set) var heldRows: [UInt32: [malla_policy_key: malla_policy]] = [:]
    private(set) var heldSets: [UInt32: malla_set] = [:]
    private(set) var rowCount = 0
    /// What is in force of the last generation, complete.
    private var inForce: [UInt32: PolicySet] = [:]
    private var last: CompiledPolicy?
    /// What no longer counts, found by `write`, taken out by `remove`.
    private var staleRows: [malla_policy_key] = []
    private var staleSets: [UInt32] = []
    private var staleIdentities: [malla_prefix] = []
    /// Sets that have no rows for want of room.
    private(set) var missing: Set<UInt32> = []
    private var rowRound = RowRound<malla_policy_key>()
    private var setRound = RowRound<UInt32>()
    private var identityRound = RowRound<malla_prefix>()

    /// No set has this number: the kernel denies all to and from pods that name it.
    static let closedSet = UInt32.max

    init(_ object: borrowing BPFObject) throws(BPFError) {
        let identities = try BPFMap<malla_prefix, malla_identity>(
            adopting: object.map("malla_ipcache"), name: "malla_ipcache")
        let policies = try BPFMap<malla_policy_key, malla_policy>(
            adopting: object.map("malla_policy"), name: "malla_policy")
        let sets = try BPFMap<UInt32, malla_set>(
            adopting: object.map("malla_set"), name: "malla_set")
        var heldIdentities: [malla_prefix: malla_identity] = [:]
        var heldRows: [UInt32: [malla_policy_key: malla_policy]] = [:]
        var heldSets: [UInt32: malla_set] = [:]
        var rowCount = 0
        identities.forEach(key: malla_prefix(), value: malla_identity()) { heldIdentities[$0] = $1 }
        policies.forEach(key: malla_policy_key(), value: malla_policy()) {
            heldRows[UInt32(bigEndian: $0.set_be), default: [:]][$0] = $1
            rowCount += 1
        }
        sets.forEach(key: 0, value: malla_set()) { heldSets[$0] = $1 }
        self.identities = identities
        self.policies = policies
        self.sets = sets
        self.heldIdentities = heldIdentities
        self.heldRows = heldRows
        self.heldSets = heldSets
        self.rowCount = rowCount
    }

    mutating func count(_ refused: FullMaps) {
        identities.refused += refused.rows(of: identities.name)
        policies.refused += refused.rows(of: policies.name)
        sets.refused += refused.rows(of: sets.name)
    }

    var identityCount: Int { heldIdentities.count }
    var setCount: Int { heldSets.count }

    /// Numbers with a meaning that only the agent before this one knew.
    var numbersInUse: PolicyNumbersInUse {
        PolicyNumbersInUse(
            addresses: Dictionary(
                heldIdentities.map { (IPPrefix($0), $1.identity) },
                uniquingKeysWith: { first, _ in first }),
            sets: Set(heldRows.keys).union(heldSets.keys))
    }

    /// After a `write` without its `remove`: what was stale then may be wanted by now.
    mutating func startOver() {
        (staleRows, staleSets, staleIdentities) = ([], [], [])
        inForce = [:]
        last = nil
    }

    /// Writes what is new. Answers whether anything was to be done.
    mutating func write(
        _ policy: CompiledPolicy, _ refused: inout FullMaps
    ) throws(BPFError) -> Bool {
        if let last, last === policy { return false }
        last = nil
        missing = []
        var isChanged = false
        var isWhole = true
        var wanted: Set<UInt32> = []
        for set in policy.sets {
            wanted.insert(set.number)
            if let known = inForce[set.number], known === set { continue }
            isChanged = true
            if try !write(set, &refused) { isWhole = false }
        }
        for number in Set(heldRows.keys).union(heldSets.keys) where !wanted.contains(number) {
            isChanged = true
            staleSets.append(number)
            staleRows += (heldRows[number] ?? [:]).keys
            inForce[number] = nil
        }
        if try write(policy.addresses, &refused, &isWhole) { isChanged = true }
        if isWhole { last = policy }
        return isChanged
    }

    /// Takes out what `write` found to be stale, once no pod names it any more, and no program runs
    /// that has read such a pod.
    mutating func remove() throws(BPFError) {
        if !staleSets.isEmpty || !staleRows.isEmpty { malla_grace_wait() }
        staleIdentities.sort { $0.prefix_bits < $1.prefix_bits }
        for key in staleIdentities {
            try identities.remove(key)
            heldIdentities[key] = nil
        }
        staleIdentities = []
        for number in staleSets {
            try sets.remove(number)
            heldSets[number] = nil
        }
        staleSets = []
        staleRows.sort { left, right in
            let isShared = (left.identity_be == 0, right.identity_be == 0)
            return isShared.0 != isShared.1
                ? isShared.0 : left.prefix_bits < right.prefix_bits
        }
        for key in staleRows {
            try policies.remove(key)
            let number = UInt32(bigEndian: key.set_be)
            if heldRows[number]?.removeValue(forKey: key) != nil { rowCount -= 1 }
            if heldRows[number]?.isEmpty ?? false { heldRows[number] = nil }
        }
        staleRows = []
    }

    /// See `KernelRows.mend`.
    mutating func mend(_ count: Int) -> [String] {
        var mended: [String] = []
        for key in rowRound.take(count, of: { heldRows.values.flatMap(\.keys) }) {
            guard let row = heldRows[UInt32(bigEndian: key.set_be)]?[key] else { continue }
            if BPFLoader.mend(policies, key, row, placeholder: malla_policy()) {
                mended.append(policies.name)
            }
        }
        for key in setRound.take(count, of: { Array(heldSets.keys) }) {
            guard let set = heldSets[key] else { continue }
            if BPFLoader.mend(sets, key, set, placeholder: malla_set()) { mended.append(sets.name) }
        }
        for key in identityRound.take(count, of: { Array(heldIdentities.keys) }) {
            guard let identity = heldIdentities[key] else { continue }
            if BPFLoader.mend(identities, key, identity, placeholder: malla_identity()) {
                mended.append(identities.name)
            }
        }
        return mended
    }

    // MARK: Parts

    /// One set, or nothing of it where its rows do not fit.
    private mutating func write(
        _ set: PolicySet, _ refused: inout FullMaps
    ) throws(BPFError) -> Bool {
        var rows: [malla_policy_key: malla_policy] = [:]
        rows.reserveCapacity(set.rows.count)
        for row in set.rows { rows[malla_policy_key(row.key)] = malla_policy(row.decision) }
        let held = heldRows[set.number] ?? [:]
        let change = MapChange(from: held, to: rows)
        let added = change.writes.count { held[$0.key] == nil }
        guard rowCount + added <= Int(policies.entriesMax) else {
            refused.add(added, map: policies.name, entriesMax: policies.entriesMax)
            if held.isEmpty { missing.insert(set.number) }
            return false
        }
        let writes = change.writes.sorted { left, right in
            let isShared = (left.key.identity_be == 0, right.key.identity_be == 0)
            return isShared.0 != isShared.1
                ? isShared.1 : left.key.prefix_bits > right.key.prefix_bits
        }
        for row in writes {
            do throws(BPFError) {
                try policies.set(row.key, to: row.value)
            } catch {
                // What is written so far is known: whatever comes next takes it out again.
                try refused.take(error, map: policies.name, entriesMax: policies.entriesMax)
                if held.isEmpty { missing.insert(set.number) }
                return false
            }
            let before = heldRows[set.number, default: [:]].updateValue(row.value, forKey: row.key)
            if before == nil { rowCount += 1 }
        }
        staleRows += change.removals
        let record = malla_set(set)
        if heldSets[set.number] != record {
            do throws(BPFError) {
                try sets.set(set.number, to: record)
                heldSets[set.number] = record
            } catch {
                // Without its record a set denies what no row allows.
                try refused.take(error, map: sets.name, entriesMax: sets.entriesMax)
                return false
            }
        }
        inForce[set.number] = set
        return true
    }

    private mutating func write(
        _ addresses: [IPPrefix: UInt32], _ refused: inout FullMaps, _ isWhole: inout Bool
    ) throws(BPFError) -> Bool {
        var writes: [(key: malla_prefix, value: malla_identity)] = []
        var kept = 0
        for (prefix, number) in addresses {
            let key = malla_prefix(prefix)
            let held = heldIdentities[key]
            if held != nil { kept += 1 }
            if held?.identity != number {
                writes.append((key, malla_identity(identity: number, flags: 0)))
            }
        }
        if kept < heldIdentities.count {
            staleIdentities = heldIdentities.keys.filter { addresses[IPPrefix($0)] == nil }
        }
        writes.sort { $0.key.prefix_bits > $1.key.prefix_bits }
        for row in writes {
            do throws(BPFError) {
                try identities.set(row.key, to: row.value)
                heldIdentities[row.key] = row.value
            } catch {
                isWhole = false
                try refused.take(error, map: identities.name, entriesMax: identities.entriesMax)
            }
        }
        return !writes.isEmpty || !staleIdentities.isEmpty
    }
}

extension malla_policy_key {
    init(_ key: PolicyRowKey) {
        self.init(
            prefix_bits: UInt32(key.bits), set_be: key.set.bigEndian,
            identity_be: key.identity.bigEndian, direction: key.direction.number,
            protocol: key.transport, port_be: key.port.bigEndian)
    }
}

extension malla_policy {
    init(_ decision: PolicyDecision) {
        self.init(
            rule: decision.rule,
            verdict: UInt8(
                (decision.isAllowed ? MALLA_POLICY_ALLOW : MALLA_POLICY_DENY).rawValue),
            flags: decision.isAudited ? UInt8(MALLA_POLICY_AUDIT) : 0, pad: 0)
    }
}

extension malla_set {
    init(_ set: PolicySet) {
        let verdicts = set.defaults.map { malla_policy($0).verdict }
        self.init(
            verdicts: (verdicts[0], verdicts[1]), flags: 0, pad: 0,
            policies: UInt32(set.policies.count))
    }
}

extension malla_prefix {
    init(_ prefix: IPPrefix) {
        self.init(prefix_bits: UInt32(prefix.length), address: malla_address(prefix.address))
    }
}

extension IPPrefix {
    init(_ key: malla_prefix) {
        func half(_ first: UInt32, _ second: UInt32) -> UInt64 {
            UInt64(UInt32(bigEndian: first)) << 32 | UInt64(UInt32(bigEndian: second))
        }
        let words = key.address.words_be
        self.init(
            IPAddress(high: half(words.0, words.1), low: half(words.2, words.3)),
            length: UInt8(truncatingIfNeeded: key.prefix_bits))
    }
}
