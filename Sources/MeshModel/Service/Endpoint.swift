// What stands behind a service port. Values: MeshConfig makes them, EndpointChoice picks some.

/// One address and port of a pod (or of something outside) behind a service port.
///
/// - Source: discovery.k8s.io/v1 EndpointSlice; conditions with their documented defaults.
public struct Endpoint: Hashable, Sendable {
    public var address: SocketAddress
    /// `nodeName`, empty if not known.
    public var node: String
    /// Traffic may be sent: `ready`, or `publishNotReadyAddresses`.
    public var isReady: Bool
    public var isServing: Bool
    public var isTerminating: Bool
    /// `zone`, else that of its node; empty if not known.
    public var zone: String
    /// `hints.forZones` and `hints.forNodes`.
    public var hintZones: [String]
    public var hintNodes: [String]
    /// Its share of the connections, against those beside it; Kubernetes' are all 1. 0: new ones go
    /// elsewhere.
    public var weight: UInt16

    public init(
        address: SocketAddress, node: String = "", isReady: Bool = true, isServing: Bool = true,
        isTerminating: Bool = false, zone: String = "", hintZones: [String] = [],
        hintNodes: [String] = [], weight: UInt16 = 1
    ) {
        self.address = address
        self.node = node
        self.isReady = isReady
        self.isServing = isServing
        self.isTerminating = isTerminating
        self.zone = zone
        self.hintZones = hintZones
        self.hintNodes = hintNodes
        self.weight = weight
    }

    /// New connections may be sent to it.
    var takesNew: Bool { isReady && weight > 0 }

    /// What is open to it may go on.
    public var isAlive: Bool { isReady || (isServing && isTerminating) }

    static func areWeighted(_ ends: ArraySlice<Endpoint>) -> Bool {
        ends.contains { $0.weight != ends[ends.startIndex].weight }
    }
}

/// A port of the node that leads to one pod on it.
///
/// - Source: core/v1 ContainerPort.hostPort, hostIP.
public struct HostPort: Hashable, Sendable {
    /// `nil`: every address of the node.
    public var address: IPAddress?
    public var port: UInt16
    public var transport: TransportProtocol
    /// `containerPort`.
    public var target: UInt16

    public init(
        address: IPAddress? = nil, port: UInt16, transport: TransportProtocol = .tcp,
        target: UInt16
    ) {
        self.address = address
        self.port = port
        self.transport = transport
        self.target = target
    }
}
