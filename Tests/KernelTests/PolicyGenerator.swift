// Random meshes, policies and packets, the same for the same seed. Vocabularies are small, so that
// rules overlap, contradict and hide each other as often as possible.

internal import MeshModel

/// - Source: SplitMix64 (Steele, Lea, Flood 2014).
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

struct PolicyGenerator {
    static let node = "n1"
    private static let keys = ["app", "tier", "rev"]
    private static let values = ["a", "b", "c"]
    private static let spaces = ["red", "green", "blue"]
    private static let names = ["web", "dns", "alt"]
    /// IP in IP, GRE and ESP.
    private static let others: [UInt8] = [4, 47, 50]
    private static let ports: [UInt16] = [80, 81, 443, 1000, 1001, 1024, 8080, 65535]
    private var random: SeededRandom

    init(seed: UInt64) { random = SeededRandom(seed: seed) }

    mutating func chance(_ share: Double) -> Bool {
        Double.random(in: 0..<1, using: &random) < share
    }

    mutating func pick<Element>(_ choices: [Element]) -> Element {
        choices[Int.random(in: 0..<choices.count, using: &random)]
    }

    private mutating func count(_ range: ClosedRange<Int>) -> Int {
        Int.random(in: range, using: &random)
    }

    // MARK: Meshes

    mutating func mesh() -> Mesh {
        var mesh = Mesh(
            nodes: [
                Node(name: "n1", addresses: [v4("10.76.0.1"), v4("fd00:76::1")], labels: labels()),
                Node(name: "n2", addresses: [v4("10.76.0.2"), v4("fd00:76::2")], labels: labels()),
            ])
        for space in Self.spaces where chance(0.8) { mesh.namespaces[space] = labels() }
        for index in 0..<count(3...12) {
            mesh.workloads.append(pod(index))
        }
        for index in 0..<count(0...5) { mesh.policies.append(namespaced(index)) }
        for index in 0..<count(0...4) { mesh.policies.append(clusterWide(index)) }
        return mesh
    }

    /// The same mesh with one thing changed: what incremental updates meet.
    mutating func changed(_ mesh: Mesh) -> Mesh {
        var mesh = mesh
        switch count(0...5) {
        case 0: mesh.workloads[count(0...mesh.workloads.count - 1)].labels = labels()
        case 1: mesh.namespaces[pick(Self.spaces)] = labels()
        case 2 where !mesh.policies.isEmpty:
            mesh.policies.remove(at: count(0...mesh.policies.count - 1))
        case 3: mesh.policies.append(namespaced(100 + mesh.policies.count))
        case 4: mesh.policies.append(clusterWide(200 + mesh.policies.count))
        default:
            let index = (mesh.workloads.last?.addresses.first.map { Int($0.v4 & 0xff) } ?? 0) + 1
            mesh.workloads.append(pod(index))
        }
        return mesh
    }

    private mutating func pod(_ index: Int) -> Workload {
        let node = chance(0.8) ? "n1" : "n2"
        let third = chance(0.5) ? 1 : 2
        var ports: [NamedPort] = []
        for name in Self.names where chance(0.5) {
            let transport: TransportProtocol = chance(0.7) ? .tcp : chance(0.7) ? .udp : .sctp
            ports.append(NamedPort(name, transport, pick(Self.ports)))
        }
        return Workload(
            name: ObjectName(pick(Self.spaces), "p\(index)"), serviceAccount: "s", node: node,
            labels: labels(),
            addresses: [v4("10.77.\(third).\(index)"), v4("fd00:77:\(third)::\(index)")],
            interface: "lo", isMeshed: false, workloadName: "w", ports: ports)
    }

    private func v4(_ text: String) -> IPAddress {
        guard let address = IPAddress(text) else { preconditionFailure("no address: \(text)") }
        return address
    }

    private mutating func labels() -> [String: String] {
        var labels: [String: String] = [:]
        for key in Self.keys where chance(0.6) { labels[key] = pick(Self.values) }
        return labels
    }

    // MARK: Policies

    private mutating func namespaced(_ index: Int) -> NetworkPolicy {
        let space = pick(Self.spaces)
        let kind = count(0...3)
        return NetworkPolicy(
            name: ObjectName(space, "np\(index)"),
            subject: PodSelection(.named(space), selector()),
            ingress: kind == 1 ? nil : rules(space, .ingress, isClusterWide: false),
            egress: kind == 0 ? nil : rules(space, .egress, isClusterWide: false),
            isAudited: chance(0.1))
    }

    private mutating func clusterWide(_ index: Int) -> NetworkPolicy {
        let ingress = rules("", .ingress, isClusterWide: true)
        let egress = rules("", .egress, isClusterWide: true)
        return NetworkPolicy(
            name: ObjectName("", "cnp\(index)"), tier: chance(0.6) ? .admin : .baseline,
            priority: count(0...3), subject: PodSelection(.selected(selector()), selector()),
            ingress: ingress.isEmpty ? nil : ingress, egress: egress.isEmpty ? nil : egress,
            isAudited: chance(0.1))
    }

    private mutating func rules(
        _ space: String, _ direction: PolicyDirection, isClusterWide: Bool
    ) -> [PolicyRule] {
        (0..<count(0...3)).map { _ in
            var peers: [PolicyPeer]? = (0..<count(1...3)).map { _ in
                peer(space, direction, isClusterWide: isClusterWide)
            }
            if !isClusterWide, chance(0.2) { peers = nil }
            return PolicyRule(
                action: isClusterWide ? pick([.accept, .deny, .pass]) : .accept, peers: peers,
                ports: chance(0.4) ? nil : (0..<count(1...3)).map { _ in port(isClusterWide) })
        }
    }

    private mutating func peer(
        _ space: String, _ direction: PolicyDirection, isClusterWide: Bool
    ) -> PolicyPeer {
        switch count(0...9) {
        case 0...3:
            return .pods(
                PodSelection(
                    isClusterWide || chance(0.5) ? .selected(selector()) : .named(space),
                    selector()))
        case 4 where isClusterWide: return .nodes(selector())
        case 5 where isClusterWide && chance(0.3): return .unsupported
        case 5...6: return .pods(PodSelection(.selected(selector())))
        default:
            let block = pick(Self.blocks)
            let holes = Self.blocks.filter { block.contains($0) && $0 != block && !isClusterWide }
            return .network(block, except: holes.isEmpty || chance(0.5) ? [] : [pick(holes)])
        }
    }

    private static let blocks = [
        "0.0.0.0/0", "10.0.0.0/8", "10.77.0.0/16", "10.77.1.0/24", "10.77.1.4/31", "10.76.0.0/24",
        "10.76.0.1/32", "10.76.0.2/32", "192.0.2.0/24", "192.0.2.128/25", "::/0", "fd00::/8",
        "fd00:76::/64", "fd00:76::1/128", "fd00:77:1::/48", "2001:db8::/32", "2001:db8::1/128",
    ].compactMap { IPPrefix($0) }

    private mutating func selector() -> LabelSelector {
        if chance(0.3) { return .everything }
        var labels: [String: String] = [:]
        var expressions: [LabelSelector.Requirement] = []
        if chance(0.6) { labels[pick(Self.keys)] = pick(Self.values) }
        if chance(0.5) {
            let values = Self.values.filter { _ in chance(0.5) }
            switch count(0...3) {
            case 0: expressions.append(.init(pick(Self.keys), .isIn, values + ["a"]))
            case 1: expressions.append(.init(pick(Self.keys), .isNotIn, values + ["b"]))
            case 2: expressions.append(.init(pick(Self.keys), .exists))
            default: expressions.append(.init(pick(Self.keys), .doesNotExist))
            }
        }
        return LabelSelector(labels, expressions)
    }

    private mutating func port(_ isClusterWide: Bool) -> PolicyPort {
        let transport: TransportProtocol = chance(0.5) ? .tcp : chance(0.6) ? .udp : .sctp
        switch count(0...4) {
        case 0: return PolicyPort(isClusterWide ? nil : transport, .named(pick(Self.names)))
        case 1 where !isClusterWide: return PolicyPort(transport, .any)
        case 2:
            let first = pick(Self.ports)
            let last = pick(Self.ports)
            return PolicyPort(transport, .range(min(first, last)...max(first, last)))
        default:
            let port = pick(Self.ports)
            return PolicyPort(transport, .range(port...port))
        }
    }

    // MARK: Packets

    /// Between two ends of one family, at least one of which is a pod of the node.
    mutating func packet(_ mesh: Mesh) -> PolicyPacket? {
        let isIPv4 = chance(0.5)
        let local = mesh.workloads.filter { $0.node == Self.node }
        guard !local.isEmpty else { return nil }
        let own = address(pick(local), isIPv4)
        let other: IPAddress
        switch count(0...10) {
        case 0...5: other = address(pick(mesh.workloads), isIPv4)
        case 10: other = v4(isIPv4 ? "10.76.0.1" : "fd00:76::1")
        case 6: other = v4(isIPv4 ? "10.76.0.2" : "fd00:76::2")
        case 7: other = v4(isIPv4 ? "192.0.2.\(count(1...254))" : "2001:db8::\(count(1...9))")
        case 8: other = v4(isIPv4 ? "10.77.\(count(1...3)).\(count(100...200))" : "fd00:77:9::1")
        default: other = v4(isIPv4 ? "198.51.100.7" : "2620::7")
        }
        let transport: UInt8 =
            chance(0.55)
            ? 6
            : chance(0.7)
                ? 17 : chance(0.3) ? 132 : chance(0.4) ? pick(Self.others) : isIPv4 ? 1 : 58
        let hasPort = transport == 6 || transport == 17 || transport == 132
        let port = chance(0.8) ? pick(Self.ports) : UInt16.random(in: 1...65535, using: &random)
        let isOut = chance(0.5)
        return PolicyPacket(
            source: isOut ? own : other, target: isOut ? other : own, transport: transport,
            port: hasPort ? port : 0)
    }

    private func address(_ pod: Workload, _ isIPv4: Bool) -> IPAddress {
        pod.addresses[isIPv4 ? 0 : 1]
    }
}
