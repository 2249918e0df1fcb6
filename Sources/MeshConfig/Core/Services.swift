// Service objects -> Service, without endpoints yet.

internal import MeshModel

extension Service {
    init(_ object: ConfigObject) {
        let spec = object.root["spec"]
        var type = spec?["type"]?.text ?? ""
        if type.isEmpty { type = "ClusterIP" }
        var addresses = (spec?["clusterIPs"]?.list ?? []).compactMap(\.text)
        if addresses.isEmpty, let single = spec?["clusterIP"]?.text { addresses = [single] }
        var external = (spec?["externalIPs"]?.list ?? []).compactMap(\.text)
        var ports = (spec?["ports"]?.list ?? []).map(ServicePort.init)
        // A name in DNS, whatever is left of what it was before. Source: kube-proxy, which skips
        // both kinds.
        let isName = type == "ExternalName" || addresses.first == "None"
        if isName {
            addresses = []
            external = []
            for index in ports.indices { ports[index].nodePort = nil }
        }
        self.init(
            name: object.name, type: type, addresses: addresses.compactMap { IPAddress($0) },
            externalAddresses: external.compactMap { IPAddress($0) },
            loadBalancerAddresses: type == "LoadBalancer" && !isName
                ? Self.ingress(object.root) : [],
            traffic: ServiceTraffic(spec, type: isName ? "ClusterIP" : type), ports: ports)
    }
}

extension Service {
    /// Addresses of ipMode Proxy are the load balancer's to answer at: they must reach it.
    private static func ingress(_ root: Value) -> [IPAddress] {
        (root["status"]?["loadBalancer"]?["ingress"]?.list ?? []).compactMap { entry in
            guard entry["ipMode"]?.text != "Proxy" else { return nil }
            return entry["ip"]?.text.flatMap { IPAddress(unmapped: $0) }
        }
        .filter { $0.specialKind == nil }
    }
}

extension IPAddress {
    /// Why nobody outside can be served at it; `nil`: it can be.
    var specialKind: String? {
        let kinds = [
            ("unspecified", isUnspecified), ("loopback", isLoopback), ("link-local", isLinkLocal),
            ("multicast", isMulticast),
        ]
        return kinds.first(where: \.1)?.0
    }
}

extension ServiceTraffic {
    /// Three hours, where the object says none. Source: core/v1 ClientIPConfig.
    static let affinitySecondsDefault: UInt32 = 10800

    init(_ spec: Value?, type: String) {
        let isOutside = type == "NodePort" || type == "LoadBalancer"
        let hasExternal = isOutside || !(spec?["externalIPs"]?.list.isEmpty ?? true)
        self.init(
            internalPolicy: TrafficPolicy(rawValue: spec?["internalTrafficPolicy"]?.text ?? "")
                ?? .cluster,
            externalPolicy: hasExternal
                ? TrafficPolicy(rawValue: spec?["externalTrafficPolicy"]?.text ?? "") ?? .cluster
                : .cluster)
        switch spec?["trafficDistribution"]?.text {
        case "PreferSameNode"?: distribution = .sameNode
        case "PreferSameZone"?, "PreferClose"?: distribution = .sameZone
        default: break
        }
        if spec?["sessionAffinity"]?.text == "ClientIP" {
            let seconds = spec?["sessionAffinityConfig"]?["clientIP"]?["timeoutSeconds"]?.integer
            affinitySeconds = seconds.map { UInt32(clamping: $0) } ?? Self.affinitySecondsDefault
        }
        guard type == "LoadBalancer" else { return }
        sourceRanges = (spec?["loadBalancerSourceRanges"]?.list ?? []).compactMap {
            $0.text.flatMap { AddressRange($0.filter { $0 != " " }) }
        }
        let health = UInt16(clamping: spec?["healthCheckNodePort"]?.integer ?? 0)
        if externalPolicy == .local, health != 0 { healthCheckNodePort = health }
    }
}

extension ServicePort {
    init(_ value: Value) {
        let name = value["name"]?.text ?? ""
        let nodePort = UInt16(clamping: value["nodePort"]?.integer ?? 0)
        let transport = TransportProtocol(rawValue: value["protocol"]?.text ?? "TCP") ?? .tcp
        self.init(
            name: name, port: UInt16(clamping: value["port"]?.integer ?? 0),
            transport: transport,
            application: transport == .tcp
                ? ApplicationProtocol(
                    appProtocol: value["appProtocol"]?.text, portName: name) : .undeclared,
            nodePort: nodePort == 0 ? nil : nodePort)
    }
}

extension ApplicationProtocol {
    /// - Source: KEP-3726 (`kubernetes.io/h2c`, `…/ws`), Istio's protocol selection by port name.
    init(appProtocol: String?, portName: String) {
        if let appProtocol, !appProtocol.isEmpty {
            switch appProtocol.lowercased() {
            case "http", "kubernetes.io/ws": self = .http
            case "http2", "kubernetes.io/h2c": self = .http2
            case "grpc": self = .grpc
            case "https", "tls", "kubernetes.io/wss": self = .tls
            case "tcp": self = .tcp
            default: self = .undeclared
            }
            return
        }
        let prefix = portName.split(separator: "-", maxSplits: 1).first.map(String.init) ?? ""
        switch prefix.lowercased() {
        case "http": self = .http
        case "http2", "h2c": self = .http2
        case "grpc": self = .grpc
        case "https", "tls": self = .tls
        case "tcp": self = .tcp
        default: self = .undeclared
        }
    }
}
