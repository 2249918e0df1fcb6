// A snapshot from the one before it, where nothing has changed but who stands behind services: what
// pods that come and go do all day. Everything else is shared, so that the cost is the change's.

extension SnapshotCompiler {
    /// `nil`: more has changed than endpoints.
    static func successor(
        of previous: Snapshot, _ mesh: Mesh, node: String, version: UInt64
    ) -> Snapshot? {
        guard previous.node == node, let changed = mesh.refilled(since: previous.mesh) else {
            return nil
        }
        var indices: [Int] = []
        for service in changed {
            let (now, before) = (mesh.services[service], previous.mesh.services[service])
            for port in now.ports.indices where now.ports[port] != before.ports[port] {
                indices.append(previous.firstPorts[service] + port)
            }
        }
        let isEngines = indices.contains { previous.ports[$0].isDialled }
        let delta = SnapshotDelta(base: previous.version, ports: indices, isEngines: isEngines)
        guard isEngines else {
            return Snapshot(
                version: version, mesh: mesh, ports: previous.ports,
                endpoints: previous.endpoints, delta: delta, after: previous)
        }
        var ports = previous.ports
        var endpoints: [Endpoint] = []
        endpoints.reserveCapacity(previous.endpoints.count + indices.count)
        let renewed = Set(indices)
        for index in ports.indices where ports[index].isDialled {
            let first = endpoints.count
            if renewed.contains(index) {
                endpoints += mesh.services[ports[index].serviceIndex].dialled(
                    ports[index].portIndex, node: node, zone: previous.zone)
            } else {
                endpoints += previous.endpoints[ports[index].endpoints]
            }
            ports[index].endpoints = first..<endpoints.count
            ports[index].isWeighted = Endpoint.areWeighted(endpoints[first...])
        }
        return Snapshot(
            version: version, mesh: mesh, ports: ports, endpoints: endpoints, delta: delta,
            after: previous)
    }
}

extension Mesh {
    /// The services that are not what they were, if they differ in nothing but endpoints and
    /// nothing else has changed at all.
    ///
    /// - Complexity: what is shared by both is seen to be equal at once.
    fileprivate func refilled(since before: Mesh) -> [Int]? {
        guard services.count == before.services.count, nodes == before.nodes,
            workloads == before.workloads, listeners == before.listeners,
            routes == before.routes, policies == before.policies,
            certificates == before.certificates, namespaces == before.namespaces,
            peerAuthentications == before.peerAuthentications,
            rootNamespace == before.rootNamespace,
            hostAddresses == before.hostAddresses
        else { return nil }
        var changed: [Int] = []
        for index in services.indices where services[index] != before.services[index] {
            guard services[index].isRefilled(before.services[index]) else { return nil }
            changed.append(index)
        }
        return changed
    }
}

extension Service {
    fileprivate func isRefilled(_ before: Service) -> Bool {
        guard ports.count == before.ports.count else { return false }
        var emptied = self
        for index in ports.indices {
            emptied.ports[index].endpoints = before.ports[index].endpoints
        }
        return emptied == before
    }

    /// Who gets what the engine sends to a port from this node.
    func dialled(_ port: Int, node: String, zone: String) -> [Endpoint] {
        let all = ports[port].endpoints
        let choice = EndpointChoice(
            all, distribution: traffic.distribution, node: node, zone: zone)
        return (traffic.internalPolicy == .local ? choice.local : choice.cluster).map { all[$0] }
    }
}
