// What `malla services` shows: one service port a line, and where its connections go.

/// One port of a service. Source: `GET /v1/services`, kind `ServiceList`.
public struct ServiceItem: Codable, Sendable, Equatable {
    public var namespace: String
    public var name: String
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    public var type: String
    /// Where clients find it; empty: headless.
    public var addresses: [String]
    public var port: Int
    public var portName: String
    /// `TCP` or `UDP`.
    public var `protocol`: String
    /// `http`, `http2`, `grpc`, `tls`, `tcp` or `undeclared`.
    public var appProtocol: String
    /// Whether its connections go through the engine.
    public var l7: Bool
    /// The routes attached to this port, `namespace/name`.
    public var routes: [String]
    /// Why it is not served as it was declared, empty if it is.
    public var note: String
    public var endpoints: [Endpoint]

    public init(
        namespace: String, name: String, type: String, addresses: [String] = [], port: Int,
        portName: String = "", protocol: String, appProtocol: String, l7: Bool,
        routes: [String] = [], note: String = "", endpoints: [Endpoint] = []
    ) {
        self.namespace = namespace
        self.name = name
        self.type = type
        self.addresses = addresses
        self.port = port
        self.portName = portName
        self.protocol = `protocol`
        self.appProtocol = appProtocol
        self.l7 = l7
        self.routes = routes
        self.note = note
        self.endpoints = endpoints
    }

    /// One address and port behind it, whatever its conditions.
    public struct Endpoint: Codable, Sendable, Equatable {
        public var address: String
        public var port: Int
        public var node: String
        public var ready: Bool
        public var serving: Bool
        public var terminating: Bool

        public init(
            address: String, port: Int, node: String = "", ready: Bool, serving: Bool,
            terminating: Bool
        ) {
            self.address = address
            self.port = port
            self.node = node
            self.ready = ready
            self.serving = serving
            self.terminating = terminating
        }
    }
}
