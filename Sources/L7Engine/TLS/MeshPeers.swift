// A snapshot and the node's credentials -> who shows which certificate, and who is reached by a
// tunnel. Made on the agent's thread; workers ask it once a request.

internal import MeshModel

/// - Threads: any; immutable.
final class MeshPeers: Sendable {
    /// How a client's connection goes to an endpoint.
    enum Way {
        case plain
        case tunnel(MeshContexts)
        /// Only by a tunnel, and the client has no certificate.
        case unavailable
    }

    private enum Reach: UInt8, Sendable { case plain, tunnel, byPort }

    let table: MeshTable
    private let snapshot: Snapshot
    /// By workload: what it shows; `nil` for those of other nodes, and where there is none.
    private let own: [MeshContexts?]
    /// By `Snapshot.gatewaySockets`, then by scope of its route table (listeners of one hostname
    /// are one scope): what its Gateway shows.
    private let gateways: [[MeshContexts?]]
    /// Whom Gateways show themselves as, on whatever node.
    private let gatewayIDs: Set<String>
    /// Whether pods are in the Nodes' blocks, and nowhere else.
    private let isConfined: (v4: Bool, v6: Bool)
    /// Whom pods show themselves as, on whatever node; empty where they may be anywhere.
    private let podIDs: Set<String>
    /// By workload.
    private let reaches: [Reach]
    /// Of local pods: the service port that an address and port are an endpoint of.
    private let inbounds: [SocketAddress: PortIndex]

    /// - Complexity: linear in workloads and in endpoints that the engine dials; after `previous`,
    ///   what changed: certificates (linear in workloads), endpoints (linear in theirs).
    init(_ table: MeshTable, _ snapshot: Snapshot, after previous: MeshPeers? = nil) {
        self.table = table
        self.snapshot = snapshot
        let previous = previous?.snapshot.shape === snapshot.shape ? previous : nil
        let workloads = snapshot.mesh.workloads
        reaches =
            previous?.reaches
            ?? workloads.map { workload in
                let isReached =
                    !snapshot.isLocal(workload) && snapshot.tunnelPeers.speaksHBONE(workload)
                return isReached ? Self.reach(snapshot.peerModes.modes(of: workload)) : .plain
            }
        if let previous, previous.table === table {
            own = previous.own
            gateways = previous.gateways
            gatewayIDs = previous.gatewayIDs
            isConfined = previous.isConfined
            podIDs = previous.podIDs
        } else {
            own = workloads.map {
                snapshot.isLocal($0) ? Self.contexts(of: $0, table) : nil
            }
            gateways = snapshot.gatewaySockets.map { Self.contexts(of: $0, snapshot, table) }
            gatewayIDs = Set(
                snapshot.mesh.listeners.compactMap { Self.id(of: $0, table)?.description })
            let v4 = snapshot.confinesPods(isIPv4: true)
            let v6 = snapshot.confinesPods(isIPv4: false)
            isConfined = (v4, v6)
            podIDs = v4 || v6 ? Self.podIDs(snapshot, table) : []
        }
        if let previous, previous.hasInbounds(of: snapshot) {
            inbounds = previous.inbounds
        } else {
            inbounds = Self.inbounds(snapshot)
        }
    }

    private static func inbounds(_ snapshot: Snapshot) -> [SocketAddress: PortIndex] {
        let local = Set(
            snapshot.mesh.workloads.lazy.filter(snapshot.isLocal).flatMap(\.addresses))
        var inbounds: [SocketAddress: PortIndex] = [:]
        for (index, port) in snapshot.ports.enumerated() where !port.isInbound {
            for endpoint in snapshot.endpoints[port.endpoints]
            where local.contains(endpoint.address.address) {
                // Of several services the one that the engine serves, then the first.
                let isBetter = inbounds[endpoint.address].map {
                    snapshot.ports[$0.value].plainTable == nil && port.plainTable != nil
                }
                if isBetter ?? true { inbounds[endpoint.address] = PortIndex(index) }
            }
        }
        return inbounds
    }

    /// Whether the local pods stand behind the same ports in the snapshot, which is of this shape.
    private func hasInbounds(of other: Snapshot) -> Bool {
        if other === snapshot { return true }
        guard let delta = other.delta, other.follows(snapshot) else { return false }
        func isRemote(_ endpoint: Endpoint) -> Bool { !isLocal(endpoint.address.address) }
        return delta.ports.allSatisfy { port in
            snapshot.endpoints[snapshot.ports[port].endpoints].allSatisfy(isRemote)
                && other.endpoints[other.ports[port].endpoints].allSatisfy(isRemote)
        }
    }

    private func isLocal(_ address: IPAddress) -> Bool {
        guard let index = snapshot.workloadsByAddress[address] else { return false }
        return snapshot.isLocal(snapshot.mesh.workloads[index])
    }

    private static func reach(_ modes: WorkloadModes) -> Reach {
        if modes.ports.isEmpty { return modes.mode == .disable ? .plain : .tunnel }
        return .byPort
    }

    private static func contexts(of workload: Workload, _ table: MeshTable) -> MeshContexts? {
        guard workload.isMeshed, let id = id(of: workload, table) else { return nil }
        return table.contexts[id]
    }

    private static func contexts(
        of socket: GatewaySocket, _ snapshot: Snapshot, _ table: MeshTable
    ) -> [MeshContexts?] {
        var seen: Set<String> = []
        let listeners = socket.listeners.map { snapshot.mesh.listeners[$0] }
        // In the order in which RouteCompiler numbers scopes.
        let scopes = listeners.filter { seen.insert($0.hostname ?? "*").inserted }
        return scopes.map { id(of: $0, table).flatMap { table.contexts[$0] } }
    }

    private static func podIDs(_ snapshot: Snapshot, _ table: MeshTable) -> Set<String> {
        guard let domain = table.trustDomain else { return [] }
        // Of many pods of an account its name is written once.
        let accounts = Set(
            snapshot.mesh.workloads.lazy.map { ObjectName($0.name.namespace, $0.serviceAccount) })
        return Set(
            accounts.compactMap { account in
                let id = try? SPIFFEID(
                    domain, namespace: account.namespace, serviceAccount: account.name)
                return id?.description
            })
    }

    private static func id(of listener: Listener, _ table: MeshTable) -> SPIFFEID? {
        guard let domain = table.trustDomain else { return nil }
        return try? SPIFFEID(
            domain, namespace: listener.account.namespace,
            serviceAccount: listener.account.name)
    }

    private static func id(of workload: Workload, _ table: MeshTable) -> SPIFFEID? {
        guard let domain = table.trustDomain else { return nil }
        return try? SPIFFEID(
            domain, namespace: workload.name.namespace, serviceAccount: workload.serviceAccount)
    }

    /// The local pod at an address shows this; `nil`: there is no such pod, or no certificate.
    func contexts(at address: IPAddress) -> MeshContexts? {
        snapshot.workloadsByAddress[address].flatMap { own[$0] }
    }

    /// Whether a pod of this node takes tunnels at the address.
    func serves(_ address: IPAddress) -> Bool {
        guard let index = snapshot.workloadsByAddress[address] else { return false }
        let workload = snapshot.mesh.workloads[index]
        return workload.isMeshed && snapshot.isLocal(workload)
    }

    /// Whether a pod of this node has the address, in the mesh or not.
    func hosts(_ address: IPAddress) -> Bool { isLocal(address) }

    /// Who the pod at an address must prove to be; `nil`: it is no pod.
    func id(at address: IPAddress) -> String? {
        guard let index = snapshot.workloadsByAddress[address] else { return nil }
        // A pod whose name cannot be said is never believed.
        return Self.id(of: snapshot.mesh.workloads[index], table)?.description ?? ""
    }

    /// Whether this is the identity of a Gateway's.
    func isGateway(_ id: String) -> Bool { gatewayIDs.contains(id) }

    /// Whether who dials from an address may be who its certificate names: exactly the pod that is
    /// there; where no known one is, anybody but a pod that cannot be there.
    func believes(_ id: String, at address: IPAddress) -> Bool {
        if let known = self.id(at: address) { return known == id }
        let knowsBlocks = address.isIPv4 ? isConfined.v4 : isConfined.v6
        // In a block it may be a pod that is not known yet.
        return !knowsBlocks || !podIDs.contains(id) || isGateway(id)
            || snapshot.podBlocks.contain(IPPrefix(address))
    }

    /// Whether tunnels lead to an endpoint.
    func isReached(_ endpoint: SocketAddress) -> Bool {
        isReached(workload(at: endpoint.address), port: endpoint.port)
    }

    /// Into `Mesh.workloads`; -1: no pod has the address.
    func workload(at address: IPAddress) -> Int32 {
        snapshot.workloadsByAddress[address].map { Int32($0) } ?? -1
    }

    /// Whether tunnels lead to a port of a pod.
    ///
    /// - Parameter workload: into `Mesh.workloads`; -1: it is no pod.
    @inline(__always)
    func isReached(_ workload: Int32, port: UInt16) -> Bool {
        guard workload >= 0 else { return false }
        let index = Int(workload)
        switch reaches[index] {
        case .plain: return false
        case .tunnel: return true
        case .byPort:
            let workload = snapshot.mesh.workloads[index]
            return snapshot.peerModes.mode(of: workload, port: port) != .disable
        }
    }

    /// From a client of a Gateway.
    ///
    /// - Parameter scope: of the socket's route table; -1: it has only one.
    func way(fromGateway socket: Int32, scope: Int32, to workload: Int32, port: UInt16) -> Way {
        guard isReached(workload, port: port) else { return .plain }
        guard gateways.indices.contains(Int(socket)) else { return .unavailable }
        let contexts = gateways[Int(socket)]
        let index = max(0, Int(scope))
        return index < contexts.count
            ? contexts[index].map(Way.tunnel) ?? .unavailable : .unavailable
    }

    /// - Parameter client: into `Mesh.workloads`, or -1.
    func way(from client: Int32, to endpoint: Int32, port: UInt16) -> Way {
        guard client >= 0, isReached(endpoint, port: port) else { return .plain }
        if let contexts = own[Int(client)] { return .tunnel(contexts) }
        // Others than this node's pods come through us where a service is reached from outside.
        let workload = snapshot.mesh.workloads[Int(client)]
        return workload.isMeshed && snapshot.isLocal(workload) ? .unavailable : .plain
    }

    /// What a stream to a local pod is for, if it is for a service.
    func inbound(_ target: SocketAddress) -> PortIndex? { inbounds[target] }
}
