// Snapshot -> the rows that the kernel shall hold. Pure: the interfaces' indices are an argument,
// and so are the rows before, because a service keeps its number from one snapshot to the next.

internal import CMallaABI
internal import MeshModel

struct MapRows {
    var services: [malla_end: malla_service] = [:]
    var endpoints: [malla_endpoint_key: malla_end] = [:]
    var pods: [malla_address: malla_pod] = [:]
    var identities: [malla_prefix: malla_identity] = [:]
    var policies: [malla_policy_key: malla_policy] = [:]
    var sets: [UInt32: malla_set] = [:]
    /// What of the snapshot could not be said in rows.
    var problems: [ApplyProblem] = []

    init() {}

    /// - Parameter interfaces: index by name, of the local pods' interfaces that exist.
    /// - Complexity: linear in services, endpoints and pods.
    init(_ snapshot: Snapshot, interfaces: [String: UInt32], after previous: MapRows) {
        var numbers = ServiceNumbers(previous)
        var podNumbers = PodNumbers(previous)
        for port in snapshot.ports where port.transport != .sctp {
            for isIPv4 in [true, false] {
                append(port, snapshot, isIPv4: isIPv4, &numbers)
            }
        }
        for workload in snapshot.mesh.workloads where snapshot.isLocal(workload) {
            guard let name = workload.interface, let index = interfaces[name] else { continue }
            var row = malla_pod()
            row.interface = index
            row.flags = workload.isMeshed ? UInt32(MALLA_POD_MESHED) : 0
            row.endpoint = podNumbers.number(for: workload.addresses.map { malla_address($0) })
            for address in workload.addresses { pods[malla_address(address)] = row }
        }
    }

    /// One port and family: an endpoint serves only addresses of its own family.
    private mutating func append(
        _ port: SnapshotPort, _ snapshot: Snapshot, isIPv4: Bool, _ numbers: inout ServiceNumbers
    ) {
        var keys: [malla_end] = []
        for address in port.addresses where address.isIPv4 == isIPv4 {
            let key = malla_end(SocketAddress(address, port.number), port.transport)
            if services[key] == nil, !keys.contains(key) {
                keys.append(key)
            } else {
                problems.append(
                    ApplyProblem(
                        subject: "service \(port.service)",
                        message: "\(SocketAddress(address, port.number)) belongs to another "
                            + "service already; it stays with that one"))
            }
        }
        guard !keys.isEmpty else { return }
        let id = numbers.number(for: keys)
        let ends = snapshot.endpoints[port.endpoints].filter { $0.address.address.isIPv4 == isIPv4 }
        for (slot, end) in ends.enumerated() {
            let key = malla_endpoint_key(service: id, slot: UInt32(slot))
            endpoints[key] = malla_end(end.address, port.transport)
        }
        let row = malla_service(
            id: id, endpoints: UInt32(ends.count),
            flags: port.isCaptured ? UInt32(MALLA_SERVICE_CAPTURED) : 0, pad: 0)
        for key in keys { services[key] = row }
    }
}

/// Gives each service port and family the number that it had, or one that nothing had: a number
/// in use must never come to mean another service while rows of both are in the kernel.
private struct ServiceNumbers {
    private let before: [malla_end: malla_service]
    private var taken: Set<UInt32> = []
    private var next: UInt32

    init(_ previous: MapRows) {
        before = previous.services
        next = (previous.services.values.map(\.id).max() ?? 0) &+ 1
    }

    mutating func number(for keys: [malla_end]) -> UInt32 {
        for key in keys {
            if let id = before[key]?.id, taken.insert(id).inserted { return id }
        }
        defer { next &+= 1 }
        taken.insert(next)
        return next
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
