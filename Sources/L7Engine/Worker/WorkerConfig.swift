internal import MeshModel

/// What a worker gets of one configuration: the snapshot, the numbers under which the metrics know
/// its workloads and ports, and the sockets to accept from.
final class WorkerConfig: Sendable {
    let snapshot: Snapshot
    /// By `Mesh.workloads`' index; 0 is "unknown".
    let sources: [UInt32]
    /// By `Snapshot.endpoints`' index: the endpoint's workload, as `sources`.
    let destinations: [UInt32]
    /// By `Snapshot.ports`' index.
    let ports: [UInt32]
    /// Each worker's own descriptor of `snapshot.gatewaySockets[i]`; -1: not open.
    let listeners: [[Int32]]

    /// Accounts that are not served.
    let quarantined: [Int32]

    init(
        snapshot: Snapshot, sources: [UInt32], ports: [UInt32], listeners: [[Int32]],
        quarantined: [Int32]
    ) {
        self.snapshot = snapshot
        self.sources = sources
        destinations = snapshot.endpoints.map { endpoint in
            snapshot.workloadsByAddress[endpoint.address.address].map { sources[$0] } ?? 0
        }
        self.ports = ports
        self.listeners = listeners
        self.quarantined = quarantined
    }
}
