/// All that the mesh shall do, as the configuration says it: what MeshConfig answers and
/// SnapshotCompiler takes. Indices in routes point into `services` and `listeners` of the same
/// value.
public struct Mesh: Sendable, Hashable {
    public var nodes: [Node]
    public var workloads: [Workload]
    public var services: [Service]
    public var listeners: [Listener]
    public var routes: [HTTPRoute]

    public init(
        nodes: [Node] = [], workloads: [Workload] = [], services: [Service] = [],
        listeners: [Listener] = [], routes: [HTTPRoute] = []
    ) {
        self.nodes = nodes
        self.workloads = workloads
        self.services = services
        self.listeners = listeners
        self.routes = routes
    }
}
