/// Which workloads can be reached by HBONE.
///
/// - Source: a node that has an agent serves port 15008 of its meshed pods; elsewhere, Istio's
///   `ambient.istio.io/redirection: enabled`, which its CNI agent sets on pods that ztunnel serves.
/// - Threads: any; immutable.
public struct TunnelPeers: Hashable, Sendable {
    /// Label of a Node that runs no agent of Malla's.
    public static let agentLabel = "malla.io/agent"
    public static let agentAbsent = "absent"

    private let nodes: Set<String>

    public init(_ nodes: [Node] = []) {
        self.nodes = Set(
            nodes.filter { $0.labels[Self.agentLabel] != Self.agentAbsent }.map(\.name))
    }

    /// Whether an agent of Malla's serves the node's pods.
    public func hasAgent(_ node: String) -> Bool { nodes.contains(node) }

    public func speaksHBONE(_ workload: Workload) -> Bool {
        if workload.isRedirected { return true }
        return workload.isMeshed && nodes.contains(workload.node)
    }
}
