// malla_known: addresses of local pods without a row of malla_pod, because their interface is not
// known. They are in the configuration, so they are not held (bpf/hooks/hold.h).

internal import CMallaABI
internal import MeshModel

/// - Owns: the map, and a copy of what it holds.
struct KnownAddresses: ~Copyable {
    private let map: BPFMap<malla_address, UInt32>
    private var held: [malla_address: UInt32] = [:]

    init(_ object: borrowing BPFObject) throws(BPFError) {
        let map = try BPFMap<malla_address, UInt32>(
            adopting: object.map("malla_known"), name: "malla_known")
        var held: [malla_address: UInt32] = [:]
        map.forEach(key: malla_address(), value: 0) { held[$0] = $1 }
        self.map = map
        self.held = held
    }

    var count: UInt64 { UInt64(held.count) }
    var entriesMax: UInt32 { map.entriesMax }

    /// - Parameter pods: addresses that have a row of their own.
    mutating func apply(
        _ snapshot: Snapshot, pods: Dictionary<malla_address, malla_pod>.Keys
    ) throws(BPFError) {
        var wanted: [malla_address: UInt32] = [:]
        for workload in snapshot.mesh.workloads where snapshot.isLocal(workload) {
            for address in workload.addresses {
                let key = malla_address(address)
                if !pods.contains(key) { wanted[key] = 1 }
            }
        }
        let change = MapChange(from: held, to: wanted)
        for row in change.writes {
            try map.set(row.key, to: row.value)
            held[row.key] = row.value
        }
        for key in change.removals {
            try map.remove(key)
            held[key] = nil
        }
    }
}
