// Snapshot -> the rows that the kernel shall hold of pods and policies. Pure: the interfaces'
// indices are an argument, and so are the rows before, because a pod keeps its number from one
// snapshot to the next. (Services: ServicePlan.)

internal import CMallaABI
internal import MeshModel

struct MapRows {
    var pods: [malla_address: malla_pod] = [:]
    /// What pods keep from the engine.
    var exclusions: [malla_exclude: UInt32] = [:]
    /// Ports that take other than what their pod's flags say.
    var modes: [malla_mode_key: UInt32] = [:]
    /// Pods of other nodes, whether tunnels lead to them, and where plain text must not.
    var peers: [malla_address: UInt32] = [:]
    /// Addresses of nodes, which are no pods' however many pods are around them.
    var nodes: Set<malla_address> = []
    /// Its rows are made by PolicyMaps, set by set; `nil` in what was read from the kernel.
    var policy: CompiledPolicy?
    /// What of the snapshot could not be said in rows.
    var problems: [ApplyProblem] = []

    init() {}

    /// - Parameters:
    ///   - interfaces: index by name, of the local pods' interfaces that exist.
    ///   - namespaces: see `NetworkLink.namespaces`; without it no socket is asked whether it knows
    ///     a packet.
    ///   - hasTunnels: whether the engine opens tunnels for pods in the mesh.
    /// - Complexity: linear in pods.
    init(
        _ snapshot: Snapshot, interfaces: [String: UInt32], namespaces: [UInt32: UInt32] = [:],
        after previous: MapRows, hasTunnels: Bool = false
    ) {
        var podNumbers = PodNumbers(previous)
        let policy = snapshot.policy
        self.policy = policy
        for (place, workload) in snapshot.mesh.workloads.enumerated()
        where snapshot.isLocal(workload) {
            guard let name = workload.interface, let index = interfaces[name] else { continue }
            var row = malla_pod()
            row.interface = index
            row.netns = namespaces[index] ?? 0
            row.flags = workload.isMeshed ? UInt32(MALLA_POD_MESHED) : 0
            if workload.engineUse.isInbound { row.flags |= UInt32(MALLA_POD_INBOUND) }
            if workload.engineUse.failsClosed { row.flags |= UInt32(MALLA_POD_FAILS_CLOSED) }
            row.endpoint = podNumbers.number(for: workload.addresses.map { malla_address($0) })
            exclude(workload.exclusions, MALLA_POD_EXCLUDES, &row)
            if workload.engineUse.isInbound {
                exclude(workload.inboundExclusions, MALLA_POD_EXCLUDES_INBOUND, &row)
            }
            if workload.isMeshed { insist(snapshot.peerModes.modes(of: workload), &row) }
            if hasTunnels, workload.isMeshed { row.flags |= UInt32(MALLA_POD_TUNNELS) }
            row.set = policy.setOfWorkload[place].map { policy.sets[$0].number } ?? 0
            for address in workload.addresses {
                row.identity = policy.identity(of: address)
                pods[malla_address(address)] = row
            }
        }
        reach(snapshot, hasTunnels: hasTunnels)
    }
}

extension MapRows {
    private mutating func insist(_ modes: WorkloadModes, _ row: inout malla_pod) {
        let isStrict = modes.mode == .strict
        if isStrict { row.flags |= UInt32(MALLA_POD_STRICT) }
        for (port, mode) in modes.ports where (mode == .strict) != isStrict {
            row.flags |= UInt32(MALLA_POD_MODES)
            let key = malla_mode_key(endpoint: row.endpoint, port_be: port.bigEndian, pad: 0)
            self.modes[key] = UInt32(mode == .strict ? MALLA_MODE_STRICT : MALLA_MODE_OPEN)
        }
    }

    /// What wants plain text at all its ports is none of the tunnels'; single ports are the
    /// engine's to know.
    private func isTunnelled(_ workload: Workload, _ snapshot: Snapshot) -> Bool {
        guard snapshot.tunnelPeers.speaksHBONE(workload) else { return false }
        let modes = snapshot.peerModes.modes(of: workload)
        return modes.mode != .disable || modes.ports.values.contains { $0 != .disable }
    }

    private mutating func reach(_ snapshot: Snapshot, hasTunnels: Bool) {
        var profiles = PortProfiles()
        let ofNodes = snapshot.mesh.nodes.flatMap { $0.addresses + $0.externalAddresses }
        nodes = Set(ofNodes.map { malla_address($0) })
        for workload in snapshot.mesh.workloads where !snapshot.isLocal(workload) {
            var flags = UInt32(MALLA_PEER_POD)
            if hasTunnels, isTunnelled(workload, snapshot) { flags |= UInt32(MALLA_PEER_HBONE) }
            let modes = workload.addresses.first.flatMap { snapshot.unserved[$0] }
            if let modes { flags |= insist(modes, &profiles) }
            for address in workload.addresses { peers[malla_address(address)] = flags }
        }
    }

    /// Of a pod elsewhere that cannot have what it insists on.
    private mutating func insist(_ modes: WorkloadModes, _ profiles: inout PortProfiles) -> UInt32 {
        let isStrict = modes.mode == .strict
        let flags = UInt32(isStrict ? MALLA_PEER_STRICT : 0)
        let differing = modes.ports.filter { ($0.value == .strict) != isStrict }
        if differing.isEmpty { return flags }
        let ports = differing.keys.sorted()
        let number = profiles.number(of: ports, isStrict: !isStrict)
        for port in ports {
            let key = malla_mode_key(
                endpoint: UInt32(MALLA_MODE_FAR) | number, port_be: port.bigEndian, pad: 0)
            self.modes[key] = UInt32(isStrict ? MALLA_MODE_OPEN : MALLA_MODE_STRICT)
        }
        return flags | UInt32(MALLA_PEER_MODES) | number << UInt32(MALLA_PEER_SHIFT)
    }

    private mutating func exclude(_ excluded: Exclusions, _ flag: Int32, _ row: inout malla_pod) {
        guard !excluded.isEmpty else { return }
        row.flags |= UInt32(flag)
        var common = malla_exclude()
        common.endpoint = row.endpoint
        common.is_inbound = flag == MALLA_POD_EXCLUDES_INBOUND ? 1 : 0
        for port in excluded.ports {
            var key = common
            key.prefix_bits = 64
            key.port_be = port.bigEndian
            exclusions[key] = UInt32(MALLA_EXCLUDE_ANY)
        }
        for block in excluded.blocks {
            var key = common
            key.prefix_bits = 64 + UInt32(block.length)
            key.address = malla_address(block.address)
            exclusions[key] = UInt32(block.isIPv4 ? MALLA_EXCLUDE_ANY : MALLA_EXCLUDE_IP6)
        }
    }
}

/// Gives each pod the endpoint number that its addresses had, or the least that is free: it is an
/// index into malla_share and malla_quota.
private struct PodNumbers {
    private let before: [malla_address: malla_pod]
    private var taken: Set<UInt32>
    private var given: Set<UInt32> = []
    private var next: UInt32 = 1

    init(_ previous: MapRows) {
        before = previous.pods
        taken = Set(previous.pods.values.map(\.endpoint))
    }

    mutating func number(for addresses: [malla_address]) -> UInt32 {
        for address in addresses {
            if let number = before[address]?.endpoint, number != 0, given.insert(number).inserted {
                return number
            }
        }
        while taken.contains(next) { next += 1 }
        taken.insert(next)
        given.insert(next)
        return next
    }
}

/// Numbers of 24 bits for ports that differ from their pods. They follow from the ports, so that a
/// row in the kernel does not come to mean others.
private struct PortProfiles {
    private struct Profile: Hashable {
        var ports: [UInt16]
        var isStrict: Bool
    }
    private var numbers: [Profile: UInt32] = [:]
    private var taken: Set<UInt32> = []

    mutating func number(of ports: [UInt16], isStrict: Bool) -> UInt32 {
        let profile = Profile(ports: ports, isStrict: isStrict)
        if let known = numbers[profile] { return known }
        // FNV-1a.
        var hash: UInt32 = 2_166_136_261
        for word in ports + [isStrict ? 1 : 0] {
            for byte in [word >> 8, word & 255] { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
        }
        var number = (hash >> 24 ^ hash) & 0xff_ffff
        while !taken.insert(number).inserted { number = (number + 1) & 0xff_ffff }
        numbers[profile] = number
        return number
    }
}
