// What the snapshot asks the services' rows for: every port of a service, and every host port of a
// pod of this node, as far as it is at addresses that are the node's to serve.

internal import MeshModel

/// One port of a service, or one host port, with all that its rows depend on.
enum FrontInput: Equatable {
    case service(ServiceInput)
    case hostPort(ObjectName, HostPortInput)

    func name(_ isIPv4: Bool) -> FrontName {
        switch self {
        case .service(let input):
            let port = input.service.ports[input.portIndex]
            return FrontName(
                owner: input.service.name, isHostPort: false, port: port.port,
                transport: port.transport, isIPv4: isIPv4)
        case .hostPort(let pod, let input):
            return FrontName(
                owner: pod, isHostPort: true, port: input.port.port,
                transport: input.port.transport, isIPv4: isIPv4, address: input.port.address)
        }
    }

    func plan(_ isIPv4: Bool) -> ServicePlan {
        switch self {
        case .service(let input): input.plan(isIPv4: isIPv4)
        case .hostPort(_, let input): input.plan(isIPv4: isIPv4)
        }
    }
}

/// What the snapshot asks for, in the order in which it is served: of those that ask for the same,
/// the first has it. A host port goes before a node port, as with CNI's portmap beside kube-proxy.
struct FrontInputs {
    private(set) var all: [FrontInput] = []
    /// Host ports at addresses that are not this node's to serve.
    private(set) var problems: [ApplyProblem] = []

    init(_ snapshot: Snapshot) {
        all.reserveCapacity(snapshot.ports.count)
        // Beside kube-proxy's IPVS an interface bears every service's address.
        lazy var own = snapshot.ownAddresses.subtracting(
            snapshot.mesh.services.flatMap(\.addresses))
        for pod in snapshot.hostPortPods(on: snapshot.node) {
            for port in pod.hostPorts where port.transport != .sctp {
                // Whoever may make a pod names any address; he shall not have that of others.
                if let address = port.address, !address.isLoopback, !own.contains(address) {
                    problems.append(Self.problem(pod.name, port, address))
                    continue
                }
                all.append(
                    .hostPort(pod.name, HostPortInput(port: port, addresses: pod.addresses)))
            }
        }
        for (index, port) in snapshot.ports.enumerated()
        where port.transport != .sctp && !port.isInbound {
            all.append(.service(ServiceInput(snapshot, port: index)))
        }
    }

    private static func problem(
        _ pod: ObjectName, _ port: HostPort, _ address: IPAddress
    ) -> ApplyProblem {
        ApplyProblem(
            subject: "pod \(pod)",
            message: "hostPort \(port.port): hostIP \(address) is no address of this node; nothing "
                + "is served there", isWaiting: true)
    }

    /// Where each host port stands in the order.
    var hostRanks: [FrontName: Int] {
        var ranks: [FrontName: Int] = [:]
        for (rank, input) in all.enumerated() {
            guard case .hostPort = input else { break }
            for isIPv4 in [true, false] { ranks[input.name(isIPv4)] = rank }
        }
        return ranks
    }

    /// Whether both are of the same fronts, whatever is asked of them.
    func isSame(as other: FrontInputs) -> Bool {
        all.count == other.all.count
            && zip(all, other.all).allSatisfy { $0.name(true) == $1.name(true) }
    }
}
