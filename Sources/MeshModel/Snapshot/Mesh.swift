/// All that the mesh shall do, as the configuration says it: what MeshConfig answers and
/// SnapshotCompiler takes. Indices in routes point into `services` and `listeners` of the same
/// value.
public struct Mesh: Sendable, Hashable {
    public var nodes: [Node]
    public var workloads: [Workload]
    public var services: [Service]
    public var listeners: [Listener]
    public var routes: [HTTPRoute]
    public var policies: [NetworkPolicy]
    public var certificates: [Certificate]
    public var peerAuthentications: [PeerAuthentication]
    /// Where PeerAuthentication without a selector is mesh-wide.
    public var rootNamespace: String
    /// Labels of the namespaces that have an object.
    public var namespaces: [String: [String: String]]
    /// Addresses of this machine's interfaces, sorted: what it dials its pods from, besides those
    /// of its Node. Not of the configuration: the agent fills them in.
    public var hostAddresses: [IPAddress] = []

    public init(
        nodes: [Node] = [], workloads: [Workload] = [], services: [Service] = [],
        listeners: [Listener] = [], routes: [HTTPRoute] = [], policies: [NetworkPolicy] = [],
        namespaces: [String: [String: String]] = [:], certificates: [Certificate] = [],
        peerAuthentications: [PeerAuthentication] = [], rootNamespace: String = "istio-system"
    ) {
        self.nodes = nodes
        self.workloads = workloads
        self.services = services
        self.listeners = listeners
        self.routes = routes
        self.policies = policies
        self.namespaces = namespaces
        self.certificates = certificates
        self.peerAuthentications = peerAuthentications
        self.rootNamespace = rootNamespace
    }
}
