internal import MeshModel

/// What a worker gets of one configuration: the snapshot, the numbers under which the metrics know
/// its workloads and ports, and the sockets to accept from.
final class WorkerConfig: Sendable {
    let snapshot: Snapshot
    /// By `Mesh.workloads`' index; 0 is "unknown".
    let sources: [UInt32]
    /// The same of accounts (`AccountNumbers`); 0: none of its own.
    let accounts: [Int32]
    /// By `Snapshot.endpoints`' index: the endpoint's workload, into `Mesh.workloads`; -1: it is
    /// none of them.
    let endpointWorkloads: [Int32]
    /// The same, as `sources`.
    let destinations: [UInt32]
    /// By `Snapshot.ports`' index.
    let ports: [UInt32]
    /// Each worker's own descriptor of `snapshot.gatewaySockets[i]`; -1: not open.
    let listeners: [[Int32]]
    let tls: TLSTable
    /// Whom the node may dial for others.
    let gate: PolicyGate
    /// `nil`: the node has no identities, and nothing goes by tunnels.
    let peers: MeshPeers?
    var hasMesh: Bool { peers != nil }
    /// Some endpoint may be `Snapshot.isUnserved`.
    let hasUnserved: Bool

    /// Whether an endpoint is dialled by tunnels only, or not at all: not in plain text, by those
    /// of the mesh.
    func shunsPlain(_ endpoint: SocketAddress) -> Bool {
        peers?.isReached(endpoint) == true || (hasUnserved && snapshot.isUnserved(endpoint))
    }

    /// Whether it is a pod's of another node that takes no plain text.
    func refusesPlain(_ endpoint: SocketAddress) -> Bool {
        guard let index = snapshot.workloadsByAddress[endpoint.address] else { return false }
        let workload = snapshot.mesh.workloads[index]
        return workload.isMeshed && !snapshot.isLocal(workload)
            && snapshot.peerModes.mode(of: workload, port: endpoint.port) == .strict
    }

    /// What clients of services with affinity keep; `nil`: there are no such services.
    let affinities: AffinityTable?
    /// Accounts that are not served.
    let quarantined: [Int32]

    init(
        snapshot: Snapshot, sources: [UInt32], accounts: [Int32], ports: [UInt32],
        listeners: [[Int32]], tls: TLSTable, gate: PolicyGate, peers: MeshPeers?,
        affinities: AffinityTable?, quarantined: [Int32]
    ) {
        self.snapshot = snapshot
        self.sources = sources
        self.accounts = accounts
        endpointWorkloads = snapshot.endpoints.map { endpoint in
            snapshot.workloadsByAddress[endpoint.address.address].map { Int32($0) } ?? -1
        }
        destinations = endpointWorkloads.map { $0 >= 0 ? sources[Int($0)] : 0 }
        self.ports = ports
        self.listeners = listeners
        self.tls = tls
        self.gate = gate
        self.peers = peers
        hasUnserved = !snapshot.unserved.isEmpty
        self.affinities = affinities
        self.quarantined = quarantined
    }
}

/// What one configuration leaves for the next.
struct Adoption {
    /// All that is the same for every snapshot of one shape.
    struct Base {
        let shape: SnapshotShape
        let sources: [UInt32]
        let ports: [UInt32]
        let accounts: [Int32]
        /// By the number of an account.
        let accountNames: [String]
        let tls: TLSTable
        let gate: PolicyGate
    }

    var store = TLSStore()
    var mesh = MeshStore()
    /// Of the last configuration.
    var peers: MeshPeers?
    var base: Base?
    /// From the first service with affinity on.
    var affinities: AffinityTable?
    /// Of the mail by which each worker got it.
    var numbers: [UInt64] = []
    /// What is in force, for credentials that change.
    var last: (snapshot: Snapshot, sockets: [[Int32]])?

    mutating func followAffinity(of snapshot: Snapshot, _ limits: Limits) {
        guard affinities == nil, snapshot.ports.contains(where: { $0.affinitySeconds > 0 }) else {
            return
        }
        affinities = AffinityTable(entriesMax: limits.affinitiesMax)
    }
}
