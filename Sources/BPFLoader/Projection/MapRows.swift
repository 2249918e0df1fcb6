// Snapshot -> the rows that the kernel shall hold of pods and policies. Pure: the interfaces'
// indices are an argument, and so are the rows before, because a pod keeps its number from one
// snapshot to the next. (Services: ServicePlan.)

internal import CMallaABI
internal import MeshModel

struct MapRows {
    var pods: [malla_address: malla_pod] = [:]
    /// Its rows are made by PolicyMaps, set by set; `nil` in what was read from the kernel.
    var policy: CompiledPolicy?
    /// What of the snapshot could not be said in rows.
    var problems: [ApplyProblem] = []

    init() {}

    /// - Parameter interfaces: index by name, of the local pods' interfaces that exist.
    /// - Complexity: linear in pods.
    init(_ snapshot: Snapshot, interfaces: [String: UInt32], after previous: MapRows) {
        var podNumbers = PodNumbers(previous)
        let policy = snapshot.policy
        self.policy = policy
        for (place, workload) in snapshot.mesh.workloads.enumerated()
        where snapshot.isLocal(workload) {
            guard let name = workload.interface, let index = interfaces[name] else { continue }
            var row = malla_pod()
            row.interface = index
            row.flags = workload.isMeshed ? UInt32(MALLA_POD_MESHED) : 0
            row.endpoint = podNumbers.number(for: workload.addresses.map { malla_address($0) })
            row.set = policy.setOfWorkload[place].map { policy.sets[$0].number } ?? 0
            for address in workload.addresses {
                row.identity = policy.identity(of: address)
                pods[malla_address(address)] = row
            }
        }
    }
}

/// Gives each pod the endpoint number that its addresses had, or the least that is free: it is an
/// index into malla_share and malla_quota.
private struct PodNumbers {
    private let before: [malla_address: malla_pod]
    private var taken: Set<UInt32>
    private var given: Set<UInt32> = []
    private var next: UInt32 = 1

    init(_ previous: MapRows) {
        before = previous.pods
        taken = Set(previous.pods.values.map(\.endpoint))
    }

    mutating func number(for addresses: [malla_address]) -> UInt32 {
        for address in addresses {
            if let number = before[address]?.endpoint, number != 0, given.insert(number).inserted {
                return number
            }
        }
        while taken.contains(next) { next += 1 }
        taken.insert(next)
        given.insert(next)
        return next
    }
}
