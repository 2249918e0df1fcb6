/// Index of a service port in `Snapshot.ports`.
public struct PortIndex: Hashable, Sendable {
    public let value: Int
    public init(_ value: Int) { self.value = value }
}

/// One service port, flat; or what others dial of a local pod that needs the engine for it,
/// whatever the port. The endpoints that its ClusterIPs lead to on this node are
/// `Snapshot.endpoints[endpoints]`, if the engine may be asked to dial them.
public struct SnapshotPort: Sendable {
    /// The pod's workload where it is no service.
    public let service: ObjectName
    /// Indices into `Snapshot.mesh`; -1 where it is no service.
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
    /// Those that EndpointChoice picks; empty unless `isDialled`.
    public internal(set) var endpoints: Range<Int>
    /// They differ in weight.
    public internal(set) var isWeighted = false
    /// The engine dials its endpoints: it is captured, or was, or a route names it.
    public let isDialled: Bool
    /// L7: a route or policy names it, or it is declared as HTTP. Its connections go to the engine.
    public let isCaptured: Bool
    /// Into `Snapshot.routeTables`; for ports that are captured, or were.
    public let routeTable: Int?
    /// Into `Snapshot.routeTables`: HTTP without any rule, for requests whose rules were applied on
    /// another node.
    public internal(set) var plainTable: Int?
    /// `routeTable` is a TCPRoute's.
    public let isTCPRouted: Bool
    /// `sessionAffinity: ClientIP`: how long a client keeps its endpoint; 0: not at all.
    public let affinitySeconds: UInt32

    /// A local pod's; its one endpoint has port 0, which stands for the port that was dialled.
    public var isInbound: Bool { serviceIndex < 0 }
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

/// Tells the snapshots of one shape from all others.
public final class SnapshotShape: Sendable {
    init() {}
}

/// All that a snapshot changes of the one that it was made after: who stands behind some ports.
public struct SnapshotDelta: Sendable, Equatable {
    /// `version` of the one before.
    public let base: UInt64
    /// Into `Snapshot.ports`, of both.
    public let ports: [Int]
    /// Whether the engine dials the endpoints of one of them.
    public let isEngines: Bool
}

/// The configuration in force: immutable, compiled, shared by all threads.
///
/// - Threads: any; never changes after `init`.
public final class Snapshot: Sendable {
    public let version: UInt64
    /// `nil`: anything may differ from the one before. What does not is shared with it.
    public let delta: SnapshotDelta?
    /// Of the last one that was compiled as a whole: where it is the same object, all is the same
    /// but endpoints, and indices mean the same.
    public let shape: SnapshotShape
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
    /// The same of local pods, whatever the port.
    public let inbounds: [IPAddress: PortIndex]
    /// The network policies, for this node's pods.
    public let policy: CompiledPolicy
    /// Who insists on mutual TLS, by workload and port.
    public let peerModes: PeerModes
    /// Who can be reached by HBONE.
    public let tunnelPeers: TunnelPeers
    /// Pods elsewhere that insist on mutual TLS at some port and cannot have it: nobody there
    /// refuses plain text for them, so this node does of what its pods open.
    public let unserved: [IPAddress: WorkloadModes]
    /// Pod address to index into `mesh.workloads`.
    public let workloadsByAddress: [IPAddress: Int]
    public let podBlocks: PodBlocks
    /// Where the ports of each service begin in `ports`.
    let firstPorts: [Int]

    /// The one after `previous` in which nothing but endpoints is new.
    init(
        version: UInt64, mesh: Mesh, ports: [SnapshotPort], endpoints: [Endpoint],
        delta: SnapshotDelta, after previous: Snapshot
    ) {
        self.version = version
        self.delta = delta
        shape = previous.shape
        self.mesh = mesh
        self.ports = ports
        self.endpoints = endpoints
        node = previous.node
        nodeAddresses = previous.nodeAddresses
        zone = previous.zone
        routeTables = previous.routeTables
        gatewaySockets = previous.gatewaySockets
        captures = previous.captures
        inbounds = previous.inbounds
        policy = previous.policy
        peerModes = previous.peerModes
        tunnelPeers = previous.tunnelPeers
        podBlocks = previous.podBlocks
        unserved = previous.unserved
        workloadsByAddress = previous.workloadsByAddress
        firstPorts = previous.firstPorts
    }

    init(
        version: UInt64, node: String, mesh: Mesh, ports: [SnapshotPort], endpoints: [Endpoint],
        firstPorts: [Int], routeTables: [RouteTable], gatewaySockets: [GatewaySocket],
        policy: CompiledPolicy
    ) {
        self.version = version
        delta = nil
        shape = SnapshotShape()
        self.firstPorts = firstPorts
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
        peerModes = PeerModes(mesh.peerAuthentications, rootNamespace: mesh.rootNamespace)
        tunnelPeers = TunnelPeers(mesh.nodes)
        podBlocks = PodBlocks(mesh.nodes)
        unserved = Self.unserved(mesh, node: node, peerModes, tunnelPeers)
        var captures: [SocketAddress: PortIndex] = [:]
        var inbounds: [IPAddress: PortIndex] = [:]
        for (index, port) in ports.enumerated() where port.isInbound {
            for address in port.addresses { inbounds[address] = PortIndex(index) }
        }
        self.inbounds = inbounds
        for (index, port) in ports.enumerated() where port.routeTable != nil && !port.isInbound {
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

    private static func unserved(
        _ mesh: Mesh, node: String, _ modes: PeerModes, _ peers: TunnelPeers
    ) -> [IPAddress: WorkloadModes] {
        var unserved: [IPAddress: WorkloadModes] = [:]
        if mesh.peerAuthentications.isEmpty { return unserved }
        for pod in mesh.workloads
        where pod.isMeshed && pod.node != node && !peers.speaksHBONE(pod) {
            let modes = modes.modes(of: pod)
            guard modes.insists else { continue }
            for address in pod.addresses { unserved[address] = modes }
        }
        return unserved
    }

    /// Whether plain text to this port of a pod elsewhere is refused at its client's node.
    public func isUnserved(_ target: SocketAddress) -> Bool {
        unserved[target.address]?.mode(ofPort: target.port) == .strict
    }

    /// What the engine answers for at the address that a client dialled.
    public func capture(at target: SocketAddress) -> PortIndex? {
        captures[target] ?? inbounds[target.address]
    }

    /// Whether `delta` is all that differs from `other`.
    public func follows(_ other: Snapshot?) -> Bool {
        guard let other, let delta else { return false }
        return other.version == delta.base && other.shape === shape
    }

    /// Listeners of Gateways that this node serves: all but those at other machines' addresses, as
    /// far as this one's are known.
    public var ownListeners: [Listener] {
        let own = Set(nodeAddresses + mesh.hostAddresses)
        return mesh.listeners.filter { listener in
            listener.addresses.isEmpty || own.isEmpty || !own.isDisjoint(with: listener.addresses)
        }
    }

    /// Every address that is known to be this node's: those of its Node object and of its
    /// interfaces; not loopback.
    public var ownAddresses: Set<IPAddress> {
        let own = mesh.nodes.first { $0.name == node }
        return Set(nodeAddresses + (own?.externalAddresses ?? []) + mesh.hostAddresses)
    }

    /// Whether a pod of this node has the address.
    public func isLocalPod(_ address: IPAddress) -> Bool {
        workloadsByAddress[address].map { isLocal(mesh.workloads[$0]) } ?? false
    }

    /// Whether the pod runs on this node.
    public func isLocal(_ workload: Workload) -> Bool { workload.node == node }
}
