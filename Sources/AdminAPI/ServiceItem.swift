// What `malla services` shows: one service port a line, and where its connections go.

/// One port of a service. Source: `GET /v1/services`, kind `ServiceList`.
public struct ServiceItem: Codable, Sendable, Equatable {
    public var namespace: String
    public var name: String
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    public var type: String
    /// Where clients find it: ClusterIPs, external and load balancer's; empty: headless.
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
    /// Of every node; 0: none.
    public var nodePort: Int
    /// `Cluster` or `Local`.
    public var internalTrafficPolicy: String
    public var externalTrafficPolicy: String
    /// `PreferSameZone`, `PreferSameNode`; empty: none.
    public var trafficDistribution: String
    /// How long a client keeps its endpoint, in seconds; 0: no affinity.
    public var affinitySeconds: Int
    /// Who may use the load balancer's addresses; empty: everybody.
    public var sourceRanges: [String]
    /// 0: none.
    public var healthCheckNodePort: Int

    public init(
        namespace: String, name: String, type: String, addresses: [String] = [], port: Int,
        portName: String = "", protocol: String, appProtocol: String, l7: Bool,
        routes: [String] = [], note: String = "", endpoints: [Endpoint] = [], nodePort: Int = 0,
        internalTrafficPolicy: String = "Cluster", externalTrafficPolicy: String = "Cluster",
        trafficDistribution: String = "", affinitySeconds: Int = 0, sourceRanges: [String] = [],
        healthCheckNodePort: Int = 0
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
        self.nodePort = nodePort
        self.internalTrafficPolicy = internalTrafficPolicy
        self.externalTrafficPolicy = externalTrafficPolicy
        self.trafficDistribution = trafficDistribution
        self.affinitySeconds = affinitySeconds
        self.sourceRanges = sourceRanges
        self.healthCheckNodePort = healthCheckNodePort
    }

    /// One address and port behind it, whatever its conditions.
    public struct Endpoint: Codable, Sendable, Equatable {
        public var address: String
        public var port: Int
        public var node: String
        public var ready: Bool
        public var serving: Bool
        public var terminating: Bool
        /// Empty if not known.
        public var zone: String
        /// `used`, or why it is not: `not ready`, `draining`, `another zone is preferred`, …
        public var use: String

        public init(
            address: String, port: Int, node: String = "", ready: Bool, serving: Bool,
            terminating: Bool, zone: String = "", use: String = "used"
        ) {
            self.address = address
            self.port = port
            self.node = node
            self.ready = ready
            self.serving = serving
            self.terminating = terminating
            self.zone = zone
            self.use = use
        }
    }
}
