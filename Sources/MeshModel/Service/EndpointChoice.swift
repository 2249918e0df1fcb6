// Which of a service port's endpoints get traffic on one node, and why the others do not. Receives
// the endpoints as configured; what it hands on goes into the kernel's rows, the engine's snapshot
// and `malla services`.

/// Why an endpoint gets new connections from here, or none.
public enum EndpointUse: String, Sendable, Hashable {
    case used
    /// Used, because no endpoint is ready: it serves while it ends.
    case usedWhileTerminating = "used while terminating"
    /// It ends; what is open goes on, nothing new comes.
    case draining
    case notReady = "not ready"
    /// Its pod asks for no new connections: annotation `malla.io/weight: "0"`.
    case weightless = "weight 0"
    /// There are endpoints whose hints name this node, or this zone.
    case otherNode = "another node is preferred"
    case otherZone = "another zone is preferred"
}

/// The endpoints of one service port as one node uses them.
///
/// - Source: CategorizeEndpoints of kube-proxy (Kubernetes 1.34), with two differences: where a
///   policy leaves no endpoint, a connection is refused at once and not left to time out; one of
///   weight 0 counts as not ready.
public struct EndpointChoice: Sendable {
    /// Indices into the endpoints: for policy Cluster, hints applied.
    public let cluster: [Int]
    /// For policy Local: those on this node, hints ignored.
    public let local: [Int]
    private let endpoints: [Endpoint]
    private let mode: Mode
    private let node: String
    private let zone: String

    private enum Mode { case all, node, zone }

    /// - Parameters:
    ///   - node: whose connections are to be spread; `zone`: its zone, empty if not known.
    public init(
        _ endpoints: [Endpoint], distribution: TrafficDistribution? = nil, node: String,
        zone: String
    ) {
        self.endpoints = endpoints
        self.node = node
        self.zone = zone
        let hasHints =
            distribution != nil
            || endpoints.contains { !$0.hintNodes.isEmpty || !$0.hintZones.isEmpty }
        let hints = hasHints ? endpoints.map { Hints($0, distribution) } : []
        let mode = hasHints ? Self.mode(endpoints, hints, node: node, zone: zone) : .all
        self.mode = mode
        let ready = endpoints.indices.filter { index in
            guard endpoints[index].takesNew else { return false }
            switch mode {
            case .all: return true
            case .node: return hints[index].nodes.contains(node)
            case .zone: return hints[index].zones.contains(zone)
            }
        }
        let ending = endpoints.indices.filter {
            endpoints[$0].isServing && endpoints[$0].isTerminating && endpoints[$0].weight > 0
        }
        cluster = ready.isEmpty ? ending : ready
        let readyHere = endpoints.indices.filter {
            endpoints[$0].takesNew && endpoints[$0].node == node
        }
        local = readyHere.isEmpty ? ending.filter { endpoints[$0].node == node } : readyHere
    }

    /// For a listing: what becomes of the endpoint where policy Cluster holds.
    public func use(_ index: Int) -> EndpointUse {
        let endpoint = endpoints[index]
        if cluster.contains(index) { return endpoint.isReady ? .used : .usedWhileTerminating }
        if endpoint.isTerminating, !endpoint.isReady { return .draining }
        if !endpoint.isReady { return .notReady }
        if endpoint.weight == 0 { return .weightless }
        return mode == .node ? .otherNode : .otherZone
    }

    /// What an EndpointSlice controller writes for `trafficDistribution`, where none wrote it.
    private struct Hints {
        var nodes: [String]
        var zones: [String]

        init(_ endpoint: Endpoint, _ distribution: TrafficDistribution?) {
            nodes = endpoint.hintNodes
            zones = endpoint.hintZones
            guard let distribution, nodes.isEmpty, zones.isEmpty else { return }
            if distribution == .sameNode, !endpoint.node.isEmpty { nodes = [endpoint.node] }
            if !endpoint.zone.isEmpty { zones = [endpoint.zone] }
        }
    }

    /// Hints count only where every ready endpoint has some and one of them names us.
    private static func mode(
        _ endpoints: [Endpoint], _ hints: [Hints], node: String, zone: String
    ) -> Mode {
        let ready = endpoints.indices.filter { endpoints[$0].takesNew }
        guard !ready.isEmpty else { return .all }
        if ready.allSatisfy({ !hints[$0].nodes.isEmpty }),
            ready.contains(where: { hints[$0].nodes.contains(node) })
        {
            return .node
        }
        if !zone.isEmpty, ready.allSatisfy({ !hints[$0].zones.isEmpty }),
            ready.contains(where: { hints[$0].zones.contains(zone) })
        {
            return .zone
        }
        return .all
    }
}
