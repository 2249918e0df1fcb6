internal import AdminAPI
internal import BPFLoader
internal import MeshModel

// Rows of the kernel's maps as the items of AdminAPI, with the names of pods.

extension Agent {
    /// No listing of flows is longer.
    private static let flowsListedMax = 100_000

    func flowItems() -> [FlowItem] {
        guard let loaded = datapath.datapath else { return [] }
        let pods = podNames()
        func name(_ address: IPAddress) -> String { pods[address] ?? unmanaged(address) ?? "" }
        func item(_ flow: FlowEntry, at end: IPAddress) -> FlowItem {
            FlowItem(
                protocol: Self.protocolName(flow.protocolNumber), source: "\(flow.source)",
                target: "\(flow.target)", sourcePod: name(flow.source.address),
                targetPod: name(end), kind: flow.kind, state: flow.state,
                packetsSent: flow.packets.0, packetsReceived: flow.packets.1,
                bytesSent: flow.bytes.0, bytesReceived: flow.bytes.1,
                idleSeconds: Int(flow.idle.components.seconds),
                remainingSeconds: Int(flow.remaining.components.seconds),
                other: flow.other.map { "\($0)" } ?? "", rule: flow.rule, cut: flow.isCut,
                audited: flow.isAudited)
        }
        let known = loaded.flowEntries(countMax: Self.flowsListedMax)
        // Of these no other row names the endpoint.
        let others = loaded.translatedEntries(countMax: Self.flowsListedMax - known.count)
        return known.map { item($0, at: $0.target.address) }
            + others.map { item($0, at: $0.other?.address ?? $0.target.address) }
    }

    /// - Parameter text: an address, or `all`.
    /// - Returns: `nil` for what is neither, or with the datapath off.
    func flushFlows(_ text: some StringProtocol) -> FlowFlushItem? {
        guard let loaded = datapath.datapath else { return nil }
        if text == "all" { return FlowFlushItem(flows: loaded.flushFlows()) }
        guard let address = IPAddress(text) else { return nil }
        return FlowFlushItem(flows: loaded.flushFlows(of: address))
    }

    func ipcacheItems() -> [IPCacheItem] {
        guard let loaded = datapath.datapath else { return [] }
        let pods = podNames()
        let identities = Dictionary(
            (snapshot?.policy.identities ?? []).map { ($0.number, $0) },
            uniquingKeysWith: { first, _ in first })
        var unmanaged = Set(snapshot?.podBlocks.all ?? [])
        var items = loaded.identityEntries().map { row in
            let identity = identities[row.identity]
            if identity?.kind == .world, snapshot?.podBlocks.contain(row.block) == true {
                unmanaged.remove(row.block)
                return unmanagedItem("\(row.block)", row.identity, identity)
            }
            return IPCacheItem(
                prefix: "\(row.block)", identity: row.identity,
                name: Self.reserved[row.identity].map { "reserved:" + $0 } ?? pods[row.address]
                    ?? "", labels: identity?.words ?? [])
        }
        // Blocks without a row: they have that of what is around them.
        items += unmanaged.map { block in
            let number = snapshot?.policy.identity(of: block.address) ?? 0
            return unmanagedItem("\(block)", number, identities[number])
        }
        return items.sorted { $0.prefix < $1.prefix }
    }

    private func unmanagedItem(
        _ prefix: String, _ number: UInt32, _ identity: PolicyIdentity?
    ) -> IPCacheItem {
        IPCacheItem(
            prefix: prefix, identity: number, name: Self.unmanagedName,
            labels: identity.map(Self.unmanagedWords) ?? [])
    }

    func policyRowItems() -> [PolicyRowItem] {
        guard let loaded = datapath.datapath else { return [] }
        let pods = podNames()
        var selected: [UInt32: Set<String>] = [:]
        for (address, set) in loaded.podSets() {
            selected[set, default: []].insert(pods[address] ?? "\(address)")
        }
        let closed = Set(loaded.closedPods().map { pods[$0] ?? "\($0)" }).sorted()
        let ofClosed =
            closed.isEmpty
            ? []
            : ["egress", "ingress"].map { direction in
                PolicyRowItem(
                    set: UInt32.max, pods: closed, direction: direction, identity: 0,
                    protocol: "any",
                    ports: "any", verdict: "deny", audited: false, rule: 0, byDefault: true)
            }
        let ofRows = loaded.policyEntries().map { row in
            PolicyRowItem(
                set: row.set, pods: (selected[row.set] ?? []).sorted(), direction: row.direction,
                identity: row.identity,
                protocol: row.protocolNumber.map { Self.protocolName($0) } ?? "any",
                ports: Self.ports(row.ports), verdict: row.verdict, audited: row.isAudited,
                rule: row.rule, byDefault: row.isDefault)
        }
        return (ofRows + ofClosed).sorted { left, right in
            (left.set, left.direction, left.byDefault ? 1 : 0, left.identity, left.protocol)
                < (
                    right.set, right.direction, right.byDefault ? 1 : 0, right.identity,
                    right.protocol
                )
        }
    }

    /// Flows that had to make room for others of their own pod, by pod.
    func flowEvictions() -> [(pod: String, evicted: UInt64)] {
        guard let loaded = datapath.datapath else { return [] }
        let pods = podNames()
        var byPod: [String: UInt64] = [:]
        // A pod's addresses share one count.
        for share in loaded.flowShares() {
            byPod[pods[share.address] ?? "\(share.address)"] = share.evicted
        }
        return byPod.sorted { $0.key < $1.key }.map { (pod: $0.key, evicted: $0.value) }
    }

    private func podNames() -> [IPAddress: String] {
        var names: [IPAddress: String] = [:]
        for workload in snapshot?.mesh.workloads ?? [] {
            for address in workload.addresses { names[address] = workload.name.description }
        }
        return names
    }

    private static func ports(_ range: ClosedRange<UInt16>?) -> String {
        guard let range else { return "any" }
        return range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
    }

    static func protocolName(_ number: UInt8) -> String {
        switch number {
        case 1: "ICMP"
        case 6: "TCP"
        case 17: "UDP"
        case 58: "ICMPv6"
        default: "\(number)"
        }
    }

    private func unmanaged(_ address: IPAddress) -> String? {
        snapshot?.isUnmanaged(address) == true ? Self.unmanagedName : nil
    }

    /// Of an address of the nodes' blocks that no Pod is known to have: policies know it by its
    /// address, as the world.
    static let unmanagedName = "reserved:unmanaged"

    static func unmanagedWords(_ identity: PolicyIdentity) -> [String] {
        ["unmanaged"] + identity.words.dropFirst()
    }

    /// Source: enum malla_reserved_identity. `unmanaged` is told by the address and no row bears
    /// its number; `health` and `remote-node` are names only: the agent's probes are the node's
    /// own, and another node is an address like others.
    private static let reserved: [UInt32: String] = [
        1: "host", 2: "world", 3: "unmanaged", 4: "health", 6: "remote-node", 9: "world-ipv4",
        10: "world-ipv6",
    ]

    static func reservedName(_ identity: UInt32) -> String? { reserved[identity] }
}
