// How the connections of a service are spread, as its object says. Values only.

/// Which endpoints a kind of traffic may use.
///
/// - Source: core/v1 ServiceInternalTrafficPolicy, ServiceExternalTrafficPolicy.
public enum TrafficPolicy: String, Sendable, Hashable {
    case cluster = "Cluster"
    /// Only endpoints on the node that the connection meets first.
    case local = "Local"
}

/// Which endpoints are to be preferred, while there are some.
///
/// - Source: core/v1 ServiceSpec.trafficDistribution; `PreferClose` is the older name of
///   `PreferSameZone`.
public enum TrafficDistribution: String, Sendable, Hashable {
    case sameZone = "PreferSameZone"
    case sameNode = "PreferSameNode"
}

/// What a service asks for besides addresses and ports.
public struct ServiceTraffic: Hashable, Sendable {
    /// For connections to its ClusterIPs.
    public var internalPolicy: TrafficPolicy
    /// For connections from outside to node ports, external and load balancer addresses.
    public var externalPolicy: TrafficPolicy
    public var distribution: TrafficDistribution?
    /// `sessionAffinity: ClientIP`: how long a client keeps its endpoint after its last connection,
    /// in seconds; `nil`: not at all.
    public var affinitySeconds: UInt32?
    /// Who may use the load balancer's addresses; empty: everybody.
    public var sourceRanges: [AddressRange]
    /// Where a load balancer asks whether this node has endpoints; with `externalPolicy` local.
    public var healthCheckNodePort: UInt16?

    public init(
        internalPolicy: TrafficPolicy = .cluster, externalPolicy: TrafficPolicy = .cluster,
        distribution: TrafficDistribution? = nil, affinitySeconds: UInt32? = nil,
        sourceRanges: [AddressRange] = [], healthCheckNodePort: UInt16? = nil
    ) {
        self.internalPolicy = internalPolicy
        self.externalPolicy = externalPolicy
        self.distribution = distribution
        self.affinitySeconds = affinitySeconds
        self.sourceRanges = sourceRanges
        self.healthCheckNodePort = healthCheckNodePort
    }
}
