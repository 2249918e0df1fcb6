// The address of a service, a node port or a host port is never judged itself: this finds whom a
// connection to it is for, as whichever node would balance it does.

extension Snapshot {
    /// What an address and port come to.
    enum Dialled: Equatable {
        /// Itself: it is no service's, or the service has no such port.
        case itself(note: String)
        /// Pods' own addresses and ports.
        case endpoints([DialledEnd], note: String)
        /// Nobody is reached, whatever policies say.
        case refused(note: String)
        /// Whoever sends it receives it: no policy is asked.
        case within(note: String)
    }

    /// One endpoint of what was dialled.
    struct DialledEnd: Equatable {
        var address: SocketAddress
        /// Whom the policies of the endpoint are asked about, if not who sends: a node that dials
        /// it in his stead.
        var seenAs: IPAddress?
    }

    func dialled(from source: IPAddress, to target: SocketAddress, transport: UInt8) -> Dialled {
        Dial(snapshot: self, source: source, target: target, transport: transport).outcome
    }
}

/// Source: bpf/lib/service.h, bpf/hooks/socket.h, from_pod.h and outside.h.
private struct Dial {
    let snapshot: Snapshot
    let source: IPAddress
    let target: SocketAddress
    let transport: UInt8

    var outcome: Snapshot.Dialled {
        let address = target.address
        if address.isLoopback || address.isUnspecified,
            snapshot.workloadsByAddress[source] != nil
        {
            return .within(note: "it never leaves the pod")
        }
        let far = farHostPorts
        if let named = far.first(where: \.isNamed) { return reach(named.port, of: named.pod) }
        // Several may share it, port by port.
        let holding = snapshot.mesh.services.filter { $0.holds(address) }
        if let service = holding.first(where: { port(of: $0) != nil }) { return reach(service) }
        if let first = far.first { return reach(first.port, of: first.pod) }
        if let service = holding.first { return reach(service) }
        guard let owner = address.isLoopback ? clientNode : node(of: address) else {
            return reachOwn() ?? .itself(note: "")
        }
        if clientNode == nil || clientNode == owner,
            let (port, pod) = hostPort(on: owner, at: address)
        {
            return reach(port, of: pod)
        }
        guard let (port, service) = nodePort else { return .itself(note: "") }
        return reach(port, of: service, at: owner)
    }

    private var nodePort: (port: ServicePort, service: Service)? {
        for service in snapshot.mesh.services
        where service.hasNodePorts(isIPv4: target.address.isIPv4) {
            for port in service.ports where port.nodePort == target.port && isMeant(port.transport)
            {
                return (port, service)
            }
        }
        return nil
    }

    /// What the client's node has there of other nodes' pods.
    private var farHostPorts: [FarHostPort] {
        guard let client = clientNode else { return [] }
        return snapshot.farHostPorts(from: client).filter {
            $0.port.address == target.address && $0.port.port == target.port
                && isMeant($0.port.transport)
                && $0.pod.addresses.contains { $0.isIPv4 == target.address.isIPv4 }
        }
    }

    private func hostPort(on node: String, at address: IPAddress) -> (HostPort, Workload)? {
        for pod in snapshot.hostPortPods(on: node) {
            for port in pod.hostPorts where port.port == target.port && isMeant(port.transport) {
                if let only = port.address, only != address { continue }
                return (port, pod)
            }
        }
        return nil
    }

    private func port(of service: Service) -> ServicePort? {
        service.ports.first { $0.port == target.port && isMeant($0.transport) }
    }

    /// A host port at an address of this node that no Node names as its InternalIP.
    private func reachOwn() -> Snapshot.Dialled? {
        guard snapshot.ownAddresses.contains(target.address) else { return nil }
        for pod in snapshot.hostPortPods(on: snapshot.node) {
            let port = pod.hostPorts.first {
                $0.address == target.address && $0.port == target.port && isMeant($0.transport)
            }
            if let port { return reach(port, of: pod) }
        }
        return nil
    }

    private func isMeant(_ other: TransportProtocol) -> Bool { other.number == transport }

    /// On which whoever dials is; `nil`: outside of the mesh.
    private var clientNode: String? {
        if let index = snapshot.workloadsByAddress[source] {
            return snapshot.mesh.workloads[index].node
        }
        return node(of: source) ?? (snapshot.policy.kind(of: source) == .host ? snapshot.node : nil)
    }

    private func node(of address: IPAddress) -> String? {
        snapshot.mesh.nodes.first { $0.addresses.contains(address) }?.name
    }

    // MARK: Services

    private func reach(_ service: Service) -> Snapshot.Dialled {
        let address = target.address
        guard let port = port(of: service) else {
            return .itself(
                note: "an address of Service \(service.name), which does not serve this port")
        }
        let traffic = service.traffic
        if service.loadBalancerAddresses.contains(address), !traffic.sourceRanges.isEmpty,
            !traffic.sourceRanges.contains(where: { $0.contains(source) })
        {
            return .refused(
                note: "source_refused: loadBalancerSourceRanges of Service \(service.name) do not "
                    + "hold \(source)")
        }
        let isInner = service.addresses.contains(address)
        guard let client = clientNode else {
            // Nodes serve those outside at the other addresses only.
            if isInner {
                return .itself(
                    note: "a ClusterIP of Service \(service.name), which is not served to those "
                        + "outside")
            }
            return relayed(by: snapshot.node, port, of: service)
        }
        let isLocal = isInner && traffic.internalPolicy == .local
        return named(
            ends(port, of: service, on: client, isLocal: isLocal)
                .map { Snapshot.DialledEnd(address: $0.address) }, service)
    }

    /// A node port of `owner`. With policy Local the client's node has the endpoints of `owner`
    /// there.
    private func reach(
        _ port: ServicePort, of service: Service, at owner: String
    ) -> Snapshot.Dialled {
        guard let client = clientNode else { return relayed(by: owner, port, of: service) }
        let isLocal = service.traffic.externalPolicy == .local && client != owner
        return named(
            ends(port, of: service, on: isLocal ? owner : client, isLocal: isLocal)
                .map { Snapshot.DialledEnd(address: $0.address) }, service)
    }

    private func reach(_ port: HostPort, of pod: Workload) -> Snapshot.Dialled {
        let ends = pod.addresses.filter { $0.isIPv4 == target.address.isIPv4 }.map {
            Snapshot.DialledEnd(address: SocketAddress($0, port.target))
        }
        return ends.isEmpty
            ? .itself(note: "") : .endpoints(ends, note: "a host port of Pod \(pod.name)")
    }

    /// The packet comes to the node `owner` by an uplink: a pod of its own sees who sends, others
    /// see `owner`.
    private func relayed(
        by owner: String, _ port: ServicePort, of service: Service
    ) -> Snapshot.Dialled {
        let isLocal = service.traffic.externalPolicy == .local
        let own = snapshot.mesh.nodes.first { $0.name == owner }?.addresses
            .first { $0.isIPv4 == target.address.isIPv4 }
        let found = ends(port, of: service, on: owner, isLocal: isLocal).map { end in
            let index = snapshot.workloadsByAddress[end.address.address]
            let home = index.map { snapshot.mesh.workloads[$0].node } ?? end.node
            return Snapshot.DialledEnd(
                address: end.address, seenAs: home == owner ? nil : own)
        }
        return named(found, service)
    }

    /// As the node `place` chooses among them.
    private func ends(
        _ port: ServicePort, of service: Service, on place: String, isLocal: Bool
    ) -> [Endpoint] {
        let zone =
            place == snapshot.node
            ? snapshot.zone : snapshot.mesh.nodes.first { $0.name == place }?.zone ?? ""
        let choice = EndpointChoice(
            port.endpoints, distribution: service.traffic.distribution, node: place, zone: zone)
        return (isLocal ? choice.local : choice.cluster).map { port.endpoints[$0] }
            .filter { $0.address.address.isIPv4 == target.address.isIPv4 }
    }

    private func named(_ ends: [Snapshot.DialledEnd], _ service: Service) -> Snapshot.Dialled {
        guard !ends.isEmpty else {
            return .refused(
                note: "no_endpoint: Service \(service.name) has no ready endpoint of this family")
        }
        return .endpoints(ends, note: "an endpoint of Service \(service.name)")
    }
}

extension Service {
    fileprivate func holds(_ address: IPAddress) -> Bool {
        addresses.contains(address) || externalAddresses.contains(address)
            || loadBalancerAddresses.contains(address)
    }
}
