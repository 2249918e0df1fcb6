// NetworkPolicy and ClusterNetworkPolicy objects -> NetworkPolicy values. Checked before, so that
// what is missing here has its default.

internal import MeshModel

extension NetworkPolicy {
    /// A NetworkPolicy.
    init(namespaced object: ConfigObject) {
        let spec = object.root["spec"]
        let space = object.name.namespace
        let types = (spec?["policyTypes"]?.list ?? []).compactMap(\.text)
        let egress = spec?["egress"]?.list ?? []
        // Without policyTypes: ingress always, egress where there are rules for it.
        let hasIngress = types.isEmpty || types.contains("Ingress")
        let hasEgress = types.isEmpty ? !egress.isEmpty : types.contains("Egress")
        let ingress = spec?["ingress"]?.list ?? []
        self.init(
            name: object.name,
            subject: PodSelection(.named(space), LabelSelector(spec?["podSelector"])),
            ingress: hasIngress ? ingress.map { PolicyRule($0, peers: "from", in: space) } : nil,
            egress: hasEgress ? egress.map { PolicyRule($0, peers: "to", in: space) } : nil,
            isAudited: object.isAudited)
    }

    /// A ClusterNetworkPolicy. A direction without rules is one that it says nothing of.
    init(clusterWide object: ConfigObject) {
        let spec = object.root["spec"]
        func rules(_ name: String, _ peers: String) -> [PolicyRule]? {
            let list = spec?[name]?.list ?? []
            return list.isEmpty ? nil : list.map { PolicyRule(clusterWide: $0, peers: peers) }
        }
        self.init(
            name: object.name, tier: spec?["tier"]?.text == "Admin" ? .admin : .baseline,
            priority: spec?["priority"]?.integer ?? 0,
            subject: PodSelection(clusterWide: spec?["subject"])
                // Never without a check's error.
                ?? PodSelection(.selected(.everything)),
            ingress: rules("ingress", "from"), egress: rules("egress", "to"),
            isAudited: object.isAudited)
    }
}

extension ConfigObject {
    fileprivate var isAudited: Bool { annotations[Annotation.policyMode] == "audit" }
}

extension PolicyRule {
    fileprivate init(_ value: Value, peers: String, in namespace: String) {
        let given = value[peers]?.list ?? []
        let ports = value["ports"]?.list ?? []
        self.init(
            peers: given.isEmpty ? nil : given.map { PolicyPeer($0, in: namespace) },
            ports: ports.isEmpty ? nil : ports.map(PolicyPort.init(namespaced:)))
    }

    fileprivate init(clusterWide value: Value, peers: String) {
        let protocols = value["protocols"]?.list ?? []
        self.init(
            name: value["name"]?.text ?? "",
            action: value["action"]?.text.flatMap(PolicyRule.Action.init) ?? .deny,
            peers: (value[peers]?.list ?? []).flatMap { PolicyPeer.peers(clusterWide: $0) },
            ports: protocols.isEmpty ? nil : protocols.map(PolicyPort.init(clusterWide:)))
    }
}

extension PolicyPeer {
    fileprivate init(_ value: Value, in namespace: String) {
        if let block = value["ipBlock"] {
            let holes = (block["except"]?.list ?? []).compactMap {
                $0.text.flatMap { IPPrefix($0) }
            }
            let whole = block["cidr"]?.text.flatMap { IPPrefix($0) }
            self = whole.map { .network($0, except: holes) } ?? .unsupported
            return
        }
        self = .pods(
            PodSelection(
                value["namespaceSelector"].map { .selected(LabelSelector($0)) }
                    ?? .named(namespace), LabelSelector(value["podSelector"])))
    }

    /// `networks` is several peers in one.
    fileprivate static func peers(clusterWide value: Value) -> [PolicyPeer] {
        if let pods = PodSelection(clusterWide: value) { return [.pods(pods)] }
        if let nodes = value["nodes"] { return [.nodes(LabelSelector(nodes))] }
        let blocks = (value["networks"]?.list ?? []).compactMap { $0.text.flatMap { IPPrefix($0) } }
        return blocks.isEmpty ? [.unsupported] : blocks.map { .network($0, except: []) }
    }
}

extension PodSelection {
    /// `subject`, or a peer that is of pods.
    fileprivate init?(clusterWide value: Value?) {
        if let namespaces = value?["namespaces"] {
            self.init(.selected(LabelSelector(namespaces)))
        } else if let pods = value?["pods"] {
            self.init(
                .selected(LabelSelector(pods["namespaceSelector"])),
                LabelSelector(pods["podSelector"]))
        } else {
            return nil
        }
    }
}

extension PolicyPort {
    fileprivate init(namespaced value: Value) {
        let transport = TransportProtocol(rawValue: value["protocol"]?.text ?? "TCP") ?? .tcp
        guard let port = value["port"] else {
            self.init(transport, .any)
            return
        }
        if let name = port.text {
            self.init(transport, .named(name))
        } else {
            let first = UInt16(clamping: port.integer ?? 0)
            let last = value["endPort"]?.integer.map { UInt16(clamping: $0) } ?? first
            self.init(transport, .range(first...max(first, last)))
        }
    }

    fileprivate init(clusterWide value: Value) {
        if let name = value["destinationNamedPort"]?.text {
            self.init(nil, .named(name))
            return
        }
        let transports: [(String, TransportProtocol)] = [
            ("tcp", .tcp), ("udp", .udp), ("sctp", .sctp),
        ]
        let found = transports.first { value[$0.0] != nil } ?? ("tcp", .tcp)
        let port = value[found.0]?["destinationPort"]
        let first = port?["number"]?.integer ?? port?["range"]?["start"]?.integer ?? 0
        let last = port?["range"]?["end"]?.integer ?? first
        self.init(found.1, .range(UInt16(clamping: first)...UInt16(clamping: max(first, last))))
    }
}
