// What an agent of an older ABI left in bpffs, as far as this one can read it: an upgrade goes on
// with its rows, so that no flow is forgotten.
//
// Where all of its maps but the flows' are as ours, they simply become ours, and its links run our
// programs from one packet to the next, as in a restart. Else its programs serve beside ours until
// all is in force here, and the flows that we can read are copied.

internal import CBPF
internal import CMallaABI
internal import Glibc

/// - Threads: one at a time.
struct OlderPins {
    /// Versions whose flows can be read: 3 had no counters in malla_snat, which was an LRU hash
    /// in 2.
    private static let known: Set<UInt32> = [2, 3]
    /// Their rows are flows, which come one by one and name no row of another map but by an
    /// endpoint's number: they can be copied.
    private static let flows: Set<String> = ["malla_flow", "malla_snat", "malla_dialled"]

    let path: String
    var links: String { path + "/link" }
    /// Maps that become ours; empty: its programs serve beside ours.
    private(set) var shared: Set<String> = []
    var isAdopted: Bool { !shared.isEmpty }

    /// The newest one that can be read.
    ///
    /// - Parameter maps: ours, by name.
    init?(bpffsPath: String, maps: [String: MapShape]) throws(BPFError) {
        let versions = PinDirectory.versions(in: bpffsPath).compactMap { path in
            path.split(separator: "/").last.flatMap { UInt32($0.dropFirst()) }
        }
        let readable = versions.filter { Self.known.contains($0) && $0 < UInt32(MALLA_ABI_VERSION) }
        guard let newest = readable.max() else { return nil }
        path = "\(bpffsPath)/malla/v\(newest)"
        var same: Set<String> = []
        for (name, ours) in maps {
            guard let theirs = try shape(name) else { continue }
            if theirs.isSame(as: ours) {
                same.insert(name)
            } else if !Self.flows.contains(name) {
                return
            }
        }
        shared = same
    }

    /// A descriptor of a map that becomes ours.
    func take(_ name: String) throws(BPFError) -> Descriptor? {
        shared.contains(name) ? try open(name) : nil
    }

    private func open(_ name: String) throws(BPFError) -> Descriptor? {
        try PinDirectory.open("\(path)/\(name)").map { Descriptor(adopting: $0) }
    }

    private func shape(_ name: String) throws(BPFError) -> MapShape? {
        guard let map = try open(name) else { return nil }
        return try MapShape(of: map.number, name: name)
    }

    /// Copies the flows whose maps have not become ours. What our programs alone have written
    /// meanwhile stays; what they wrote behind others, who had translated it, does not.
    ///
    /// - Parameter owners: the endpoint of each local pod's interface.
    /// - Returns: to whom flows that are new here are charged, one element a flow.
    /// - Complexity: a system call a row.
    func copyFlows(
        to object: borrowing BPFObject, owners: [UInt32: UInt32]
    ) throws(BPFError) -> [UInt32] {
        try copyTranslations(to: object)
        let dialled = malla_dialled()
        try copy("malla_dialled", malla_dialled_key(), dialled, dialled, to: object) { _, row, _ in
            row
        }
        var charged: [UInt32] = []
        let flow = malla_flow()
        try copy("malla_flow", malla_flow_key(), flow, flow, to: object) { _, row, known in
            var row = row
            // Judged anew: it has no generation of ours.
            row.generation = 0
            row.owner =
                known?.owner ?? owners[row.interfaces.0] ?? owners[row.interfaces.1] ?? 0
            return row
        } written: { row, known in
            if known == nil { charged.append(row.owner) }
        }
        return charged
    }

    private func copyTranslations(to object: borrowing BPFObject) throws(BPFError) {
        let (name, key, row) = ("malla_snat", malla_flow_key(), malla_snat())
        guard let theirs = try shape(name) else { return }
        if Int(theirs.valueBytes) == MemoryLayout<UncountedTranslation>.size {
            try copy(name, key, UncountedTranslation(), row, to: object) { key, old, _ in
                old.row(at: key)
            }
        } else {
            try copy(name, key, row, row, to: object) { _, row, _ in row }
        }
    }

    /// - Parameters:
    ///   - change: makes ours of a key and theirs, and of what we have by that key.
    ///   - written: is told what has become ours, and what we had.
    private func copy<Key: BitwiseCopyable, Old: BitwiseCopyable, Value: BitwiseCopyable>(
        _ name: String, _ key: Key, _ old: Old, _ value: Value, to object: borrowing BPFObject,
        _ change: (Key, Old, Value?) -> Value,
        written: (Value, Value?) -> Void = { _, _ in }
    ) throws(BPFError) {
        guard !shared.contains(name), let theirs = try open(name) else { return }
        let from = try BPFMap<Key, Old>(adopting: theirs, name: name)
        let to = try BPFMap<Key, Value>(adopting: object.map(name), name: name)
        from.walk { key, row in
            let known = to.value(of: key, placeholder: value)
            if isAdopted, known != nil { return }
            let ours = change(key, row, known)
            // A map that is full takes no more, and loses nothing.
            do { try to.set(key, to: ours) } catch { return }
            written(ours, known)
        }
    }
}

/// A row of malla_snat as versions before 4 had it.
struct UncountedTranslation {
    var becomes = malla_flow_key()
    var seenNanoseconds: UInt64 = 0
    var kind: UInt32 = 0
    var state: UInt32 = 0

    /// Counted from now on.
    func row(at key: malla_flow_key) -> malla_snat {
        let isBack = kind == MALLA_NAT_HOME.rawValue ? isOfAnswers(key) : isAnswers
        return malla_snat(
            becomes: becomes, packets: 0, bytes: 0, seen_ns: seenNanoseconds, kind: kind,
            state: isBack ? state | TranslationTable.ofAnswers : state)
    }

    private var isAnswers: Bool {
        kind != MALLA_NAT_FROM_FABRIC.rawValue && kind != MALLA_NAT_FROM_POD.rawValue
    }

    /// Of a pod that reaches itself either row is of one kind. What it dials changes the port that
    /// it dials, an answer the port that it comes from; where the service's port is the pod's own,
    /// who dials does it from a port beyond.
    private func isOfAnswers(_ key: malla_flow_key) -> Bool {
        if key.source_port_be != becomes.source_port_be { return true }
        if key.target_port_be != becomes.target_port_be { return false }
        return UInt16(bigEndian: key.source_port_be) < UInt16(bigEndian: key.target_port_be)
    }
}
