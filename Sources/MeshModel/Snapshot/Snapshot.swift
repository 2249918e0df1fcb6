/// Index of a service port in `Snapshot.ports`.
public struct PortIndex: Hashable, Sendable {
    public let value: Int
    public init(_ value: Int) { self.value = value }
}

/// One service port, flat. The endpoints that its ClusterIPs lead to on this node are
/// `Snapshot.endpoints[endpoints]`.
public struct SnapshotPort: Sendable {
    public let service: ObjectName
    /// Indices into `Snapshot.mesh`.
    public let serviceIndex: Int
    public let portIndex: Int
    public let number: UInt16
    public let transport: TransportProtocol
    public let application: ApplicationProtocol
    /// The addresses at which clients find it (ClusterIPs, then external ones and the load
    /// balancer's).
    public let addresses: [IPAddress]
    /// And on every address of every node.
    public let nodePort: UInt16?
    /// Those that EndpointChoice picks.
    public let endpoints: Range<Int>
    /// L7: a route or policy names it, or it is declared as HTTP. Its connections go to the engine.
    public let isCaptured: Bool
    /// Into `Snapshot.routeTables`; for ports that are captured, or were.
    public let routeTable: Int?
    /// `routeTable` is a TCPRoute's.
    public let isTCPRouted: Bool
}

/// What the engine expects on a connection to a port that is captured, or was.
public enum Speech: Sendable, Equatable {
    /// HTTP, as declared.
    case http
    /// A route of HTTP names the port, and nobody declared what it speaks: the first bytes say it.
    case detected
    /// TCP as it comes.
    case opaque
}

extension SnapshotPort {
    public var speech: Speech {
        if isTCPRouted { return .opaque }
        return application.isSpoken ? .http : isCaptured ? .detected : .opaque
    }
}

/// One address and port that a Gateway listens on in the node's namespace: listeners that differ
/// by hostname only share it.
public struct GatewaySocket: Sendable, Hashable {
    /// `nil`: all addresses of both families.
    public let address: IPAddress?
    public let port: UInt16
    /// Into `Snapshot.routeTables`.
    public let routeTable: Int
    /// Into `Snapshot.mesh.listeners`.
    public let listeners: [Int]
    /// Its connections are passed on as they are.
    public let isTCP: Bool
}

/// The configuration in force: immutable, compiled, shared by all threads.
///
/// - Threads: any; never changes after `init`.
public final class Snapshot: Sendable {
    public let version: UInt64
    /// The node that this agent serves, and its InternalIPs.
    public let node: String
    public let nodeAddresses: [IPAddress]
    /// The zone of this node, empty if not known.
    public let zone: String
    public let mesh: Mesh

    public let ports: [SnapshotPort]
    public let endpoints: [Endpoint]
    public let routeTables: [RouteTable]
    public let gatewaySockets: [GatewaySocket]
    /// Where clients dial (service address and port, TCP) to the port that is captured, or was:
    /// what the engine answers for.
    public let captures: [SocketAddress: PortIndex]
    /// The network policies, for this node's pods.
    public let policy: CompiledPolicy
    /// Pod address to index into `mesh.workloads`.
    public let workloadsByAddress: [IPAddress: Int]

    init(
        version: UInt64, node: String, mesh: Mesh, ports: [SnapshotPort], endpoints: [Endpoint],
        routeTables: [RouteTable], gatewaySockets: [GatewaySocket], policy: CompiledPolicy
    ) {
        self.version = version
        self.node = node
        let own = mesh.nodes.first { $0.name == node }
        nodeAddresses = own?.addresses ?? []
        zone = own?.zone ?? ""
        self.mesh = mesh
        self.ports = ports
        self.endpoints = endpoints
        self.routeTables = routeTables
        self.gatewaySockets = gatewaySockets
        self.policy = policy
        var captures: [SocketAddress: PortIndex] = [:]
        for (index, port) in ports.enumerated() where port.routeTable != nil {
            for address in port.addresses {
                captures[SocketAddress(address, port.number)] = PortIndex(index)
            }
            guard let number = port.nodePort else { continue }
            for address in mesh.nodes.flatMap(\.addresses) {
                captures[SocketAddress(address, number)] = PortIndex(index)
            }
        }
        self.captures = captures
        var byAddress: [IPAddress: Int] = [:]
        for (index, workload) in mesh.workloads.enumerated() {
            for address in workload.addresses { byAddress[address] = index }
        }
        self.workloadsByAddress = byAddress
    }

    /// Whether the pod runs on this node.
    public func isLocal(_ workload: Workload) -> Bool { workload.node == node }
}
