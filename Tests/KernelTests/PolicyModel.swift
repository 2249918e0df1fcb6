// An independent judge of network policies: reads the policies as they are written, one packet at a
// time, and knows nothing of identities, sets or rows. It shares values with the compiler, never
// code: labels, blocks and ports are matched here once more.

internal import MeshModel

/// One packet that would open a flow.
struct PolicyPacket: CustomStringConvertible {
    var source: IPAddress
    var target: IPAddress
    /// TCP, UDP, SCTP, or another protocol without ports.
    var transport: UInt8
    var port: UInt16

    var description: String { "\(source) -> \(target) protocol \(transport) port \(port)" }

    /// Neither ports nor an echo's identifier.
    var hasNoIdentifier: Bool { ![1, 6, 17, 58, 132].contains(transport) }

    /// The generator's own node has one of its ends.
    var isOfNode: Bool {
        [source, target].contains { ["10.76.0.1", "fd00:76::1"].contains($0.description) }
    }
}

struct PolicyModel {
    let mesh: Mesh
    /// Whether a node reaches its own pods whatever their policies say.
    var isHostAllowed = false

    /// Whether both ends' policies let the packet pass. Only pods of `nodes` are judged.
    func allows(_ packet: PolicyPacket, nodes: Set<String>) -> Bool {
        let source = pod(packet.source)
        let target = pod(packet.target)
        if let source, let target, source.name == target.name { return true }
        if let source, nodes.contains(source.node),
            !allows(packet, subject: source, .egress)
        {
            return false
        }
        if let target, nodes.contains(target.node) {
            if isHostAllowed, isOwn(packet.source, of: nodes) { return true }
            return allows(packet, subject: target, .ingress)
        }
        return true
    }

    /// Whether one of the nodes has the address.
    private func isOwn(_ address: IPAddress, of nodes: Set<String>) -> Bool {
        mesh.nodes.contains { nodes.contains($0.name) && $0.addresses.contains(address) }
    }

    func pod(_ address: IPAddress) -> Workload? {
        mesh.workloads.first { $0.addresses.contains(address) }
    }

    // MARK: Tiers

    func allows(
        _ packet: PolicyPacket, subject: Workload, _ direction: PolicyDirection
    ) -> Bool {
        let selecting = mesh.policies.filter {
            selects($0.subject, subject) && $0.rules(direction) != nil && !$0.isAudited
        }
        if let word = firstWord(packet, selecting.filter { $0.tier == .admin }, direction) {
            return word
        }
        let namespaced = selecting.filter { $0.tier == .namespaced }
        guard namespaced.isEmpty else {
            return namespaced.contains { policy in
                (policy.rules(direction) ?? []).contains { matches($0, packet, direction) }
            }
        }
        return firstWord(packet, selecting.filter { $0.tier == .baseline }, direction) ?? true
    }

    /// What one tier of ClusterNetworkPolicies says; `nil`: nothing, or Pass.
    private func firstWord(
        _ packet: PolicyPacket, _ tier: [NetworkPolicy], _ direction: PolicyDirection
    ) -> Bool? {
        let ordered = tier.sorted { ($0.priority, $0.name.name) < ($1.priority, $1.name.name) }
        for policy in ordered {
            for rule in policy.rules(direction) ?? [] {
                let isOpaque = (rule.peers ?? []).contains { $0 == .unsupported }
                if isOpaque, rule.action != .accept { return false }
                guard matches(rule, packet, direction) else { continue }
                switch rule.action {
                case .accept: return true
                case .deny: return false
                case .pass: return nil
                }
            }
        }
        return nil
    }

    // MARK: One rule

    private func matches(
        _ rule: PolicyRule, _ packet: PolicyPacket, _ direction: PolicyDirection
    ) -> Bool {
        let other = direction == .ingress ? packet.source : packet.target
        let isPeer = rule.peers.map { $0.contains { matches($0, other) } } ?? true
        guard isPeer else { return false }
        guard let ports = rule.ports else { return true }
        return ports.contains { port in
            if let transport = port.transport {
                guard Self.number(transport) == packet.transport else { return false }
            } else if ![6, 17, 132].contains(packet.transport) {
                return false
            }
            switch port.number {
            case .any: return true
            case .range(let range):
                return range.lowerBound <= packet.port && packet.port <= range.upperBound
            case .named(let name):
                return (pod(packet.target)?.ports ?? []).contains {
                    $0.name == name && $0.number == packet.port
                        && Self.number($0.transport) == packet.transport
                }
            }
        }
    }

    private static func number(_ transport: TransportProtocol) -> UInt8 {
        switch transport {
        case .tcp: 6
        case .udp: 17
        case .sctp: 132
        }
    }

    private func matches(_ peer: PolicyPeer, _ address: IPAddress) -> Bool {
        switch peer {
        case .pods(let selection): pod(address).map { selects(selection, $0) } ?? false
        case .network(let block, let holes):
            inside(block, address) && !holes.contains { inside($0, address) }
        case .nodes(let selector):
            mesh.nodes.contains { fits(selector, $0.labels) && $0.addresses.contains(address) }
        case .unsupported: false
        }
    }

    /// Bit by bit, on sixteen bytes.
    private func inside(_ block: IPPrefix, _ address: IPAddress) -> Bool {
        let text = block.description.split(separator: "/")
        guard let first = IPAddress(text[0]), var bits = Int(text[1]) else { return false }
        guard first.isIPv4 == address.isIPv4 else { return false }
        if first.isIPv4 { bits += 96 }
        for bit in 0..<bits {
            let mask = UInt8(0x80) >> UInt8(bit % 8)
            if first.byte(bit / 8) & mask != address.byte(bit / 8) & mask { return false }
        }
        return true
    }

    private func selects(_ selection: PodSelection, _ pod: Workload) -> Bool {
        switch selection.namespaces {
        case .named(let name):
            guard pod.name.namespace == name else { return false }
        case .selected(let selector):
            var labels = mesh.namespaces[pod.name.namespace] ?? [:]
            labels["kubernetes.io/metadata.name"] = pod.name.namespace
            guard fits(selector, labels) else { return false }
        }
        return fits(selection.pods, pod.labels)
    }

    private func fits(_ selector: LabelSelector, _ labels: [String: String]) -> Bool {
        for each in selector.requirements {
            let isThere = labels.keys.contains(each.key)
            let isAmong = each.values.contains { labels[each.key] == $0 }
            switch each.operation {
            case .isIn where !isAmong: return false
            case .isNotIn where isAmong: return false
            case .exists where !isThere: return false
            case .doesNotExist where isThere: return false
            default: continue
            }
        }
        return true
    }
}
