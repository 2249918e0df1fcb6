// Node ports at other nodes' addresses, where the row of all nodes' addresses does not lead to what
// they serve there: with `externalTrafficPolicy: Local`, and where a host port of this node has
// that row. Receives the snapshot; FrontInputs puts them in order.

internal import CMallaABI
internal import MeshModel

/// A node port at one address of another node: for those who dial it from here, and by endpoints
/// themselves, whatever routes the service has.
struct FarNodePort: Equatable {
    var service: ObjectName
    /// The service's.
    var port: UInt16
    var transport: TransportProtocol
    /// The node's address, and the node port.
    var dialled: SocketAddress
    var ends: [PlannedEnd]
    /// Of them and others: those that may still be spoken with.
    var alive: [PlannedEnd]
    /// The others.
    var resting: [PlannedEnd]
    var affinitySeconds: UInt32

    /// An address of another node, and whose.
    struct Place: Equatable {
        var node: String
        var address: IPAddress
    }

    /// - Parameter places: where the port is to be found, of `Place`s that `all` gave for it.
    static func make(_ snapshot: Snapshot, port index: Int, at places: [Place]) -> [FarNodePort] {
        guard !places.isEmpty else { return [] }
        let service = snapshot.mesh.services[snapshot.ports[index].serviceIndex]
        let port = service.ports[snapshot.ports[index].portIndex]
        let isLocal = service.traffic.externalPolicy == .local
        let byNode = isLocal ? Dictionary(grouping: port.endpoints, by: \.node) : [:]
        return places.compactMap { place in
            guard let number = port.nodePort else { return nil }
            let ends = (isLocal ? byNode[place.node] ?? [] : port.endpoints).filter {
                $0.address.address.isIPv4 == place.address.isIPv4
            }
            let choice = EndpointChoice(
                ends, distribution: service.traffic.distribution,
                node: isLocal ? place.node : snapshot.node, zone: snapshot.zone)
            return FarNodePort(
                service: service.name, port: port.port, transport: port.transport,
                dialled: SocketAddress(place.address, number),
                ends: (isLocal ? choice.local : choice.cluster).map { PlannedEnd(ends[$0]) },
                alive: ends.filter(\.isAlive).map { PlannedEnd($0) },
                resting: ends.filter { !$0.isAlive }.map { PlannedEnd($0) },
                affinitySeconds: service.traffic.affinitySeconds ?? 0)
        }
    }

    /// Ports of `snapshot.ports`, and the addresses at which they need rows of their own. Where a
    /// host port of that node is, that one has it.
    static func all(
        _ snapshot: Snapshot, _ hostPorts: [FarHostPort]
    ) -> [(port: Int, places: [Place])] {
        let own = snapshot.ownAddresses
        var seen: Set<IPAddress> = []
        let places = snapshot.mesh.nodes.filter { $0.name != snapshot.node }.flatMap { node in
            node.addresses.filter {
                !own.contains($0) && !$0.isUnspecified && !$0.isLoopback
                    && seen.insert($0).inserted
            }.map { Place(node: node.name, address: $0) }
        }
        guard !places.isEmpty else { return [] }
        let taken = Set(hostPorts.flatMap(\.keys))
        // Of each family: the row of a host port has the address zero.
        let ownPorts = Set(
            snapshot.hostPortPods(on: snapshot.node).flatMap { pod in
                pod.hostPorts.filter { $0.address == nil }.flatMap { port in
                    pod.addresses.map {
                        malla_end(
                            SocketAddress($0.isIPv4 ? .anyV4 : .anyV6, port.port), port.transport)
                    }
                }
            })
        var found: [(port: Int, places: [Place])] = []
        for (index, port) in snapshot.ports.enumerated()
        where port.transport != .sctp && !port.isInbound {
            guard let number = port.nodePort else { continue }
            let service = snapshot.mesh.services[port.serviceIndex]
            let isLocal = service.traffic.externalPolicy == .local
            let families = [true, false].filter { isIPv4 in
                guard service.hasNodePorts(isIPv4: isIPv4) else { return false }
                let any = SocketAddress(isIPv4 ? .anyV4 : .anyV6, number)
                return isLocal || ownPorts.contains(malla_end(any, port.transport))
            }
            if families.isEmpty { continue }
            let some = places.filter { place in
                let end = malla_end(SocketAddress(place.address, number), port.transport)
                return families.contains(place.address.isIPv4) && !taken.contains(end)
            }
            if !some.isEmpty { found.append((index, some)) }
        }
        return found
    }

    var name: FrontName {
        FrontName(
            owner: service, isHostPort: false, port: port, transport: transport,
            isIPv4: dialled.address.isIPv4, address: dialled.address)
    }

    func plan(isIPv4: Bool) -> ServicePlan {
        var plan = ServicePlan(transport: transport)
        guard dialled.address.isIPv4 == isIPv4 else { return plan }
        plan.affinitySeconds = affinitySeconds
        plan.cluster = ends
        (plan.alive, plan.resting) = (alive, resting)
        plan.rows = [
            ServicePlan.Row(
                key: malla_end(dialled, transport), inside: .cluster, outside: .none, flags: 0)
        ]
        return plan
    }
}

extension PlannedEnd {
    init(_ end: Endpoint) { self.init(address: end.address, weight: end.weight) }
}
