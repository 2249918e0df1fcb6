// Pod and Node objects -> Workload and Node.

internal import MeshModel

extension Node {
    init(_ object: ConfigObject) {
        let listed = object.root["status"]?["addresses"]?.list ?? []
        func addresses(_ type: String) -> [IPAddress] {
            listed.compactMap { entry in
                guard entry["type"]?.text == type else { return nil }
                return entry["address"]?.text.flatMap { IPAddress($0) }
            }
        }
        self.init(
            name: object.name.name, addresses: addresses("InternalIP"),
            externalAddresses: addresses("ExternalIP"), zone: object.labels[Annotation.zone] ?? "",
            labels: object.labels,
            podBlocks: Self.podBlocks(object.root["spec"]))
    }

    private static func podBlocks(_ spec: Value?) -> [IPPrefix] {
        let listed = (spec?["podCIDRs"]?.list ?? []).compactMap(\.text)
        return (listed.isEmpty ? [spec?["podCIDR"]?.text].compactMap(\.self) : listed)
            .compactMap { IPPrefix($0) }
    }
}

extension Workload {
    /// `nil` for a pod that no traffic can reach by an address of its own.
    init?(_ object: ConfigObject, _ objects: ObjectSet) {
        guard Self.absence(object) == nil else { return nil }
        let spec = object.root["spec"]
        let labels = object.labels
        let isMeshed =
            Annotation.isMeshed(labels)
            ?? Annotation.isMeshed(objects.labels(ofNamespace: object.name.namespace)) ?? true
        var account = spec?["serviceAccountName"]?.text ?? spec?["serviceAccount"]?.text ?? ""
        if account.isEmpty { account = "default" }
        self.init(
            name: object.name, serviceAccount: account, node: spec?["nodeName"]?.text ?? "",
            labels: labels, addresses: Self.addresses(object),
            interface: object.annotations[Annotation.interface], isMeshed: isMeshed,
            workloadName: labels["app.kubernetes.io/name"] ?? labels["app"] ?? object.name.name,
            hostPorts: Self.hostPorts(spec), ports: Self.ports(spec),
            exclusions: Exclusions.read(object.annotations, .outbound).exclusions,
            inboundExclusions: Exclusions.read(object.annotations, .inbound).exclusions,
            engineUse: EngineUse.read(object.annotations).use,
            isRedirected: object.annotations[Annotation.redirection] == "enabled",
            created: object.created)
    }

    private static func hostPorts(_ spec: Value?) -> [HostPort] {
        (spec?["containers"]?.list ?? []).flatMap { $0["ports"]?.list ?? [] }.compactMap { entry in
            guard let port = entry["hostPort"]?.integer, port > 0,
                let target = entry["containerPort"]?.integer
            else { return nil }
            let address = entry["hostIP"]?.text.flatMap { IPAddress($0) }
            return HostPort(
                address: address?.isUnspecified == true ? nil : address,
                port: UInt16(clamping: port),
                transport: TransportProtocol(rawValue: entry["protocol"]?.text ?? "TCP") ?? .tcp,
                target: UInt16(clamping: target))
        }
    }

    /// Ports of its containers that have a name.
    private static func ports(_ spec: Value?) -> [NamedPort] {
        let containers = (spec?["containers"]?.list ?? []) + (spec?["initContainers"]?.list ?? [])
        return containers.flatMap { $0["ports"]?.list ?? [] }.compactMap { port in
            guard let name = port["name"]?.text, !name.isEmpty,
                let number = port["containerPort"]?.integer
            else { return nil }
            let transport = TransportProtocol(rawValue: port["protocol"]?.text ?? "TCP") ?? .tcp
            return NamedPort(name, transport, UInt16(clamping: number))
        }
    }

    /// Why a pod is no workload; `nil` if it is one.
    static func absence(_ object: ConfigObject) -> String? {
        let spec = object.root["spec"]
        if spec?["hostNetwork"]?.boolean == true {
            return "it uses the node's own network (hostNetwork)"
        }
        switch object.root["status"]?["phase"]?.text {
        case "Succeeded"?: return "it has ended (phase Succeeded)"
        case "Failed"?: return "it has ended (phase Failed)"
        default: break
        }
        return addresses(object).isEmpty ? "it has no address yet (status.podIPs)" : nil
    }

    static func addresses(_ object: ConfigObject) -> [IPAddress] {
        let status = object.root["status"]
        let listed = (status?["podIPs"]?.list ?? []).compactMap {
            $0["ip"]?.text.flatMap { IPAddress($0) }
        }
        if !listed.isEmpty { return listed }
        return [status?["podIP"]?.text.flatMap { IPAddress($0) }].compactMap(\.self)
    }
}
