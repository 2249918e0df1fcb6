// The kernel's side of mutual TLS: which ports of local pods insist on it, and who the pods of
// other nodes are, with those to which tunnels lead. Rows come before the pods that need them, and
// go after. Whom tunnels lead to and who has no room is within a block that is the engine's.

internal import CMallaABI

/// - Owns: three maps, and a copy of what they hold.
/// - Limits: a pod whose modes do not fit insists on mutual TLS at all its ports; pods elsewhere
///   that do not fit are reached by the engine only.
struct TunnelMaps: ~Copyable {
    private(set) var modes: BPFMap<malla_mode_key, UInt32>
    private(set) var peers: BPFMap<malla_address, UInt32>
    let unlisted: BPFMap<malla_prefix, UInt32>
    private(set) var heldModes: [malla_mode_key: UInt32] = [:]
    private(set) var heldPeers: [malla_address: UInt32] = [:]
    private(set) var heldUnlisted: [malla_prefix: UInt32] = [:]
    private(set) var room = PeerRoom()
    // Of which the rows that are gone are in force until `remove`.
    private var modeChange = MapChange<malla_mode_key, UInt32>(from: [:], to: [:])
    private var peerChange = MapChange<malla_address, UInt32>(from: [:], to: [:])
    private var unlistedChange = MapChange<malla_prefix, UInt32>(from: [:], to: [:])
    private var modeRound = RowRound<malla_mode_key>()
    private var peerRound = RowRound<malla_address>()

    init(_ object: borrowing BPFObject) throws(BPFError) {
        let modes = try BPFMap<malla_mode_key, UInt32>(
            adopting: object.map("malla_mode"), name: "malla_mode")
        let peers = try BPFMap<malla_address, UInt32>(
            adopting: object.map("malla_peer"), name: "malla_peer")
        let unlisted = try BPFMap<malla_prefix, UInt32>(
            adopting: object.map("malla_unlisted"), name: "malla_unlisted")
        var heldModes: [malla_mode_key: UInt32] = [:]
        var heldPeers: [malla_address: UInt32] = [:]
        var heldUnlisted: [malla_prefix: UInt32] = [:]
        modes.forEach(key: malla_mode_key(), value: 0) { heldModes[$0] = $1 }
        peers.forEach(key: malla_address(), value: 0) { heldPeers[$0] = $1 }
        unlisted.forEach(key: malla_prefix(), value: 0) { heldUnlisted[$0] = $1 }
        self.modes = modes
        self.peers = peers
        self.unlisted = unlisted
        self.heldModes = heldModes
        self.heldPeers = heldPeers
        self.heldUnlisted = heldUnlisted
    }

    /// Writes what is new, and closes those of `pods` whose modes did not fit.
    ///
    /// - Returns: whether a mode has changed, by which flows were judged.
    mutating func write(
        _ rows: MapRows, _ pods: inout [malla_address: malla_pod], _ refused: inout FullMaps
    ) throws(BPFError) -> Bool {
        modeChange = MapChange(from: heldModes, to: rows.modes)
        let isModeNew = !modeChange.isEmpty
        let closed = Set(try modeChange.add(to: modes, &heldModes, &refused).map(\.endpoint))
        if !closed.isEmpty {
            for (address, pod) in pods where closed.contains(pod.endpoint) {
                pods[address]?.flags &= ~UInt32(MALLA_POD_MODES)
                pods[address]?.flags |= UInt32(MALLA_POD_STRICT)
            }
        }
        let isReachNew = try reach(closing(rows.peers, closed), rows.nodes, &refused)
        return isReachNew || isModeNew
    }

    /// Those elsewhere whose modes did not fit insist at all their ports, too.
    private func closing(
        _ wanted: [malla_address: UInt32], _ closed: Set<UInt32>
    ) -> [malla_address: UInt32] {
        guard closed.contains(where: { $0 & UInt32(MALLA_MODE_FAR) != 0 }) else { return wanted }
        return wanted.mapValues { flags in
            let number = UInt32(MALLA_MODE_FAR) | flags >> UInt32(MALLA_PEER_SHIFT)
            guard flags & UInt32(MALLA_PEER_MODES) != 0, closed.contains(number) else {
                return flags
            }
            return UInt32(MALLA_PEER_POD | MALLA_PEER_STRICT)
        }
    }

    /// - Returns: whether somebody insists on mutual TLS who did not, or the reverse.
    private mutating func reach(
        _ wanted: [malla_address: UInt32], _ nodes: Set<malla_address>, _ refused: inout FullMaps
    ) throws(BPFError) -> Bool {
        let plan = room.plan(wanted, nodes: nodes, room: Int(peers.entriesMax), held: heldPeers)
        if plan.leftOut > 0 {
            refused.leave(plan.leftOut, map: peers.name, entriesMax: peers.entriesMax)
        }
        peerChange = MapChange(from: heldPeers, to: plan.rows)
        let strict = UInt32(MALLA_PEER_STRICT | MALLA_PEER_MODES)
        let isStrictNew = peerChange.writes.contains { row in
            let flags = row.value | (heldPeers[row.key] ?? 0)
            return flags & strict != 0
        }
        let isWhole = try peerChange.add(to: peers, &heldPeers, &refused).isEmpty
        let missing =
            isWhole && plan.leftOut == 0
            ? []
            : wanted.filter { key, flags in
                PeerRoom.matters(flags) && (plan.rows[key] == nil || heldPeers[key] != flags)
            }.map(\.key)
        let blocks = isWhole ? plan.blocks : PeerRoom.blocks(holding: missing)
        unlistedChange = MapChange(
            from: heldUnlisted, to: Dictionary(uniqueKeysWithValues: blocks.map { ($0, 1) }))
        for row in unlistedChange.writes {
            try unlisted.set(row.key, to: row.value)
            heldUnlisted[row.key] = row.value
        }
        // An old row that could not be replaced would speak for them.
        for key in missing where heldPeers[key] != nil {
            try peers.remove(key)
            heldPeers[key] = nil
        }
        return isStrictNew
    }

    /// Takes out what `write` found to be gone.
    mutating func remove() throws(BPFError) {
        try modeChange.takeOut(of: modes, &heldModes)
        try peerChange.takeOut(of: peers, &heldPeers)
        try unlistedChange.takeOut(of: unlisted, &heldUnlisted)
    }

    mutating func count(_ refused: FullMaps) {
        modes.refused += refused.rows(of: modes.name)
        peers.refused += refused.rows(of: peers.name)
    }

    /// See `KernelRows.mend`.
    mutating func mend(_ count: Int) -> [String] {
        var mended: [String] = []
        for key in modeRound.take(count, of: { Array(heldModes.keys) }) {
            guard let mode = heldModes[key] else { continue }
            if BPFLoader.mend(modes, key, mode, placeholder: 0) { mended.append(modes.name) }
        }
        for key in peerRound.take(count, of: { Array(heldPeers.keys) }) {
            guard let peer = heldPeers[key] else { continue }
            if BPFLoader.mend(peers, key, peer, placeholder: 0) { mended.append(peers.name) }
        }
        for (key, block) in heldUnlisted
        where BPFLoader.mend(unlisted, key, block, placeholder: 0) {
            mended.append(unlisted.name)
        }
        return mended
    }
}
