// Service objects -> Service, without endpoints yet.

internal import MeshModel

extension Service {
    init(_ object: ConfigObject) {
        let spec = object.root["spec"]
        var type = spec?["type"]?.text ?? ""
        if type.isEmpty { type = "ClusterIP" }
        var addresses = (spec?["clusterIPs"]?.list ?? []).compactMap(\.text)
        if addresses.isEmpty, let single = spec?["clusterIP"]?.text { addresses = [single] }
        self.init(
            name: object.name, type: type,
            addresses: type == "ExternalName" ? [] : addresses.compactMap { IPAddress($0) },
            externalAddresses: (spec?["externalIPs"]?.list ?? []).compactMap {
                $0.text.flatMap { IPAddress($0) }
            },
            ports: (spec?["ports"]?.list ?? []).map(ServicePort.init))
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
