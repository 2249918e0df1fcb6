// What the snapshot asks the services' rows for: every port of a service, every host port of a pod
// of this node, as far as it is at addresses that are the node's to serve, and what other nodes
// serve at theirs, which is dialled from here as the pods themselves.

internal import CMallaABI
internal import MeshModel

/// One port of a service, or one host port, with all that its rows depend on.
enum FrontInput: Equatable {
    case service(ServiceInput)
    case hostPort(ObjectName, HostPortInput)
    case farNodePort(FarNodePort)

    init(far: FarHostPort) {
        self = .hostPort(
            far.pod.name,
            HostPortInput(port: far.port, addresses: far.pod.addresses, isFar: true))
    }

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
        case .farNodePort(let port):
            var name = port.name
            name.isIPv4 = isIPv4
            return name
        }
    }

    func plan(_ isIPv4: Bool) -> ServicePlan {
        switch self {
        case .service(let input): input.plan(isIPv4: isIPv4)
        case .hostPort(_, let input): input.plan(isIPv4: isIPv4)
        case .farNodePort(let port): port.plan(isIPv4: isIPv4)
        }
    }
}

/// Who goes before whom: host ports before services, but for those at all addresses of another
/// node, and its node ports. The row of such a one bears an address, and services that bear the
/// same go before it on its own node too.
struct FrontRanks {
    fileprivate var hosts: [FrontName: Int] = [:]
    /// Of every service.
    fileprivate var services = 0

    func precedes(_ name: FrontName, _ other: FrontName) -> Bool {
        hosts[name] ?? services < hosts[other] ?? services
    }
}

/// What the snapshot asks for, in the order in which it is served: of those that ask for the same,
/// the first has it. A host port goes before a node port, as with CNI's portmap beside kube-proxy.
struct FrontInputs {
    private(set) var all: [FrontInput] = []
    /// Ports that are not served here, and why.
    private(set) var problems: [ApplyProblem] = []
    /// By port of the snapshot: other nodes' addresses at which it has rows of its own.
    private(set) var farPlaces: [Int: [FarNodePort.Place]] = [:]
    /// Where services begin and end in `all`.
    private var services = 0..<0

    /// - Parameter farMax: how many host ports and node ports of other nodes there is room for.
    init(_ snapshot: Snapshot, farMax: Int) {
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
        let far = snapshot.farHostPorts(from: snapshot.node).filter { $0.port.transport != .sctp }
        let unclaimed = Self.unclaimed(far, snapshot)
        let served = (far.filter(\.isNamed) + unclaimed).prefix(farMax)
        all += served.filter(\.isNamed).map(FrontInput.init(far:))
        let first = all.count
        for (index, port) in snapshot.ports.enumerated()
        where port.transport != .sctp && !port.isInbound {
            all.append(.service(ServiceInput(snapshot, port: index)))
        }
        services = first..<all.count
        all += served.filter { !$0.isNamed }.map(FrontInput.init(far:))
        let asked = FarNodePort.all(snapshot, far)
        let count = asked.reduce(0) { $0 + $1.places.count }
        var room = farMax - served.count
        for (port, places) in asked where room > 0 {
            let some = Array(places.prefix(room))
            room -= some.count
            farPlaces[port] = some
            all += FarNodePort.make(snapshot, port: port, at: some).map(FrontInput.farNodePort)
        }
        let hostPorts = far.count { $0.isNamed } + unclaimed.count
        if hostPorts + count > farMax {
            problems.append(Self.problem(hostPorts, count, farMax))
        }
    }

    /// Those at all addresses of another node, of which nothing that goes before them bears the
    /// same: an ingress controller has its load balancer's address and port on each node. There it
    /// is that node's own row that decides, and is told of.
    private static func unclaimed(
        _ far: [FarHostPort], _ snapshot: Snapshot
    ) -> [FarHostPort] {
        guard far.contains(where: { !$0.isNamed }) else { return [] }
        let places = Set(far.compactMap(\.port.address))
        var claimed = Set(far.filter(\.isNamed).flatMap(\.keys))
        for service in snapshot.mesh.services {
            let addresses = (service.externalAddresses + service.loadBalancerAddresses).filter(
                places.contains)
            for (address, port) in addresses.flatMap({ a in service.ports.map { (a, $0) } }) {
                claimed.insert(malla_end(SocketAddress(address, port.port), port.transport))
            }
        }
        return far.filter { one in
            guard !one.isNamed else { return false }
            return one.keys.contains { claimed.insert($0).inserted }
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

    private static func problem(
        _ hostPorts: Int, _ nodePorts: Int, _ most: Int
    ) -> ApplyProblem {
        ApplyProblem(
            subject: "map malla_service",
            message: "other nodes have \(hostPorts) host ports, and \(nodePorts) node ports with "
                + "rows of their own, and a quarter of the map, \(most), is for them; what is "
                + "dialled at the others goes to their nodes, in plain text", isWaiting: true)
    }

    var ranks: FrontRanks {
        var ranks = FrontRanks(services: services.lowerBound)
        for part in [0..<services.lowerBound, services.upperBound..<all.count] {
            for rank in part {
                for isIPv4 in [true, false] { ranks.hosts[all[rank].name(isIPv4)] = rank }
            }
        }
        return ranks
    }

    /// Whether both are of the same fronts, whatever is asked of them.
    func isSame(as other: FrontInputs) -> Bool {
        all.count == other.all.count
            && zip(all, other.all).allSatisfy { $0.name(true) == $1.name(true) }
    }
}

extension FarHostPort {
    /// The row that it asks for; none where the pod has no address of the family.
    var keys: [malla_end] {
        guard let address = port.address,
            pod.addresses.contains(where: { $0.isIPv4 == address.isIPv4 })
        else { return [] }
        return [malla_end(SocketAddress(address, port.port), port.transport)]
    }
}
