// Snapshot -> what each service port shall be in the kernel, one value a port and family. Pure.
// Made only for ports whose inputs changed; ServiceRows brings it about.

internal import CMallaABI
internal import MeshModel

/// What is to be found at some addresses: a service port in one family, or a host port of a pod.
struct FrontName: Hashable {
    var owner: ObjectName
    /// A pod's; else a service's.
    var isHostPort: Bool
    var port: UInt16
    var transport: TransportProtocol
    var isIPv4: Bool
    /// Of a host port that is served at one only, and of a node port at another node's. There may
    /// be the same port at several.
    var address: IPAddress? = nil

    /// The front that lists every endpoint: at another node's address, or by a policy `Local`, a
    /// node port leads to some.
    var whole: FrontName {
        var name = self
        if !isHostPort { name.address = nil }
        return name
    }

    /// A host port is its pod's, and connections by it end with that (`StaleEndpoints`).
    var drainsWithPod: Bool { isHostPort && transport == .tcp }
}

/// One endpoint as the kernel's rows know it.
struct PlannedEnd: Hashable {
    var address: SocketAddress
    var weight: UInt16
}

/// All rows of one front, without their numbers.
struct ServicePlan {
    /// Which of its groups a row leads to.
    enum Group { case none, cluster, local }

    struct Row {
        var key: malla_end
        var inside: Group
        var outside: Group
        var flags: UInt32
    }

    var rows: [Row] = []
    var cluster: [PlannedEnd] = []
    var local: [PlannedEnd] = []
    var transport: TransportProtocol
    var affinitySeconds: UInt32 = 0
    var sourceRanges: [AddressRange] = []
    /// Endpoints that may still be spoken with: used ones, and those that drain.
    var alive: [PlannedEnd] = []
    /// The other endpoints of the port.
    var resting: [PlannedEnd] = []

    /// With whom an open connection may go on. UDP goes elsewhere as soon as an endpoint is out of
    /// use; TCP stays with what is listed, ready or not.
    var staying: [PlannedEnd] { transport == .udp ? alive : alive + resting }

    func ends(_ group: Group) -> [PlannedEnd] {
        switch group {
        case .none: []
        case .cluster: cluster
        case .local: local
        }
    }

    func uses(_ group: Group) -> Bool {
        rows.contains { $0.inside == group || $0.outside == group }
    }

    var isWeighted: Bool {
        let weights = (cluster + local).map(\.weight)
        return weights.contains { $0 != weights[0] }
    }
}

/// Everything of the snapshot that a service port's plan depends on.
struct ServiceInput: Equatable {
    var service: Service
    var portIndex: Int
    var isCaptured: Bool
    var node: String
    var zone: String

    func plan(isIPv4: Bool) -> ServicePlan {
        let port = service.ports[portIndex]
        let traffic = service.traffic
        let ends = port.endpoints.filter { $0.address.address.isIPv4 == isIPv4 }
        let choice = EndpointChoice(
            ends, distribution: traffic.distribution, node: node, zone: zone)
        var plan = ServicePlan(transport: port.transport)
        plan.affinitySeconds = traffic.affinitySeconds ?? 0
        plan.cluster = choice.cluster.map { PlannedEnd(ends[$0]) }
        plan.local = choice.local.map { PlannedEnd(ends[$0]) }
        plan.alive = ends.filter(\.isAlive).map { PlannedEnd($0) }
        plan.resting = ends.filter { !$0.isAlive }.map { PlannedEnd($0) }
        // Mostly the same; ten thousand services need not say it twice.
        if plan.alive == plan.cluster { plan.alive = plan.cluster }
        plan.sourceRanges = traffic.sourceRanges.filter { $0.address.isIPv4 == isIPv4 }

        let flags: UInt32 = isCaptured ? UInt32(MALLA_SERVICE_CAPTURED) : 0
        let within: ServicePlan.Group = traffic.internalPolicy == .local ? .local : .cluster
        let outside: ServicePlan.Group = traffic.externalPolicy == .local ? .local : .cluster
        func add(_ address: IPAddress, _ number: UInt16, _ row: ServicePlan.Row) {
            var row = row
            row.key = malla_end(SocketAddress(address, number), port.transport)
            plan.rows.append(row)
        }
        let inner = ServicePlan.Row(
            key: malla_end(), inside: within, outside: .none, flags: flags)
        let outer = ServicePlan.Row(
            key: malla_end(), inside: .cluster, outside: outside, flags: flags)
        for address in service.addresses where address.isIPv4 == isIPv4 {
            add(address, port.port, inner)
        }
        for address in service.externalAddresses where address.isIPv4 == isIPv4 {
            add(address, port.port, outer)
        }
        var ranged = outer
        // Ranges of the other family alone admit nobody of this one.
        if !traffic.sourceRanges.isEmpty { ranged.flags |= UInt32(MALLA_SERVICE_RANGED) }
        for address in service.loadBalancerAddresses where address.isIPv4 == isIPv4 {
            add(address, port.port, ranged)
        }
        if let number = port.nodePort, service.hasNodePorts(isIPv4: isIPv4) {
            var row = outer
            if outside == .local { row.flags |= UInt32(MALLA_SERVICE_THIS_NODE) }
            add(isIPv4 ? .anyV4 : .anyV6, number, row)
        }
        return plan
    }
}

extension ServiceInput {
    /// - Parameter index: into `snapshot.ports`.
    init(_ snapshot: Snapshot, port index: Int) {
        let port = snapshot.ports[index]
        self.init(
            service: snapshot.mesh.services[port.serviceIndex], portIndex: port.portIndex,
            isCaptured: port.isCaptured, node: snapshot.node, zone: snapshot.zone)
    }
}

/// The same of a host port.
struct HostPortInput: Equatable {
    var port: HostPort
    var addresses: [IPAddress]
    /// Of another node's pod, at one address of that node: for those who dial it from here.
    var isFar = false

    func plan(isIPv4: Bool) -> ServicePlan {
        var plan = ServicePlan(transport: port.transport)
        let own = addresses.filter { $0.isIPv4 == isIPv4 }.map { SocketAddress($0, port.target) }
        if let address = port.address, address.isIPv4 != isIPv4 { return plan }
        guard !own.isEmpty else { return plan }
        plan.cluster = own.map { PlannedEnd(address: $0, weight: 1) }
        plan.alive = plan.cluster
        let address = port.address ?? (isIPv4 ? .anyV4 : .anyV6)
        plan.rows = [
            ServicePlan.Row(
                key: malla_end(SocketAddress(address, port.port), port.transport),
                inside: .cluster, outside: isFar || address.isLoopback ? .none : .cluster,
                flags: isFar ? 0 : UInt32(MALLA_SERVICE_THIS_NODE))
        ]
        return plan
    }
}
