// Mesh -> Snapshot: indices instead of names, ready endpoints only, one route table for each
// captured service port and each socket of a Gateway. Pure; never fails on a Mesh that MeshConfig
// made, because MeshConfig refuses what cannot be compiled.

/// Compiles what the configuration says into what the data plane walks.
public enum SnapshotCompiler {
    /// - Parameters:
    ///   - previous: the snapshot in force: its policies' numbers stay what they are, and where a
    ///     port that it captured still exists the engine goes on knowing it, so that no connection
    ///     on its way meets an engine that does not.
    ///   - avoiding: numbers of policies that the kernel holds from an agent before this one.
    /// - Complexity: linear in services, endpoints and routes; where nothing but endpoints has
    ///   changed, a comparison of each service and then linear in what changed.
    public static func compile(
        _ mesh: Mesh, node: String, version: UInt64, after previous: Snapshot? = nil,
        avoiding: PolicyNumbersInUse = PolicyNumbersInUse()
    ) -> Snapshot {
        if let previous, let next = successor(of: previous, mesh, node: node, version: version) {
            return next
        }
        var routesOfPort: [[Int]: [Int]] = [:]
        var routesOfListener: [Int: [RouteTable.Source]] = [:]
        for (index, route) in mesh.routes.enumerated() {
            for attachment in route.attachments {
                switch attachment {
                case .service(let service, let port):
                    routesOfPort[[service, port], default: []].append(index)
                case .listener(let listener, let hostnames):
                    routesOfListener[listener, default: []].append(
                        RouteTable.Source(route: index, hostnames: hostnames))
                }
            }
        }

        let captured = previous.map { Set($0.captures.keys) } ?? []
        var flat = Flat(mesh: mesh, node: node, captured: captured)
        for service in mesh.services.indices {
            flat.append(service: service, routes: routesOfPort)
        }
        for pod in mesh.workloads where pod.node == node {
            // As with services: what was captured stays known.
            let was = previous.map { old in pod.addresses.contains { old.inbounds[$0] != nil } }
            if pod.engineUse.isInbound || was == true { flat.append(inbound: pod) }
        }
        let sockets = flat.appendSockets(routesOfListener)
        return Snapshot(
            version: version, node: node, mesh: mesh, ports: flat.ports, endpoints: flat.endpoints,
            firstPorts: flat.firstPort, routeTables: flat.tables, gatewaySockets: sockets,
            policy: policy(mesh, node, previous, avoiding))
    }

    /// The one before, while nothing that it is made of has changed.
    private static func policy(
        _ mesh: Mesh, _ node: String, _ previous: Snapshot?, _ avoiding: PolicyNumbersInUse
    ) -> CompiledPolicy {
        if let previous, previous.node == node, previous.mesh.policies == mesh.policies,
            previous.mesh.workloads == mesh.workloads,
            previous.mesh.namespaces == mesh.namespaces, previous.mesh.nodes == mesh.nodes,
            previous.mesh.hostAddresses == mesh.hostAddresses
        {
            return previous.policy
        }
        return PolicyCompiler.compile(
            mesh, node: node, after: previous?.policy, avoiding: avoiding)
    }

    private struct Flat {
        let mesh: Mesh
        let node: String
        let zone: String
        let captured: Set<SocketAddress>
        /// Where the ports of each service begin in `ports`.
        let firstPort: [Int]
        /// Ports that routes lead to, by their index.
        let named: Set<Int>
        var ports: [SnapshotPort] = []
        var endpoints: [Endpoint] = []
        var tables: [RouteTable] = []

        init(mesh: Mesh, node: String, captured: Set<SocketAddress>) {
            self.mesh = mesh
            self.node = node
            self.captured = captured
            zone = mesh.nodes.first { $0.name == node }?.zone ?? ""
            var next = 0
            let first = mesh.services.map { service in
                defer { next += service.ports.count }
                return next
            }
            firstPort = first
            var named: Set<Int> = []
            for backend in mesh.routes.lazy.flatMap(\.rules).flatMap(\.backends) {
                if case .service(let service, let port) = backend.target {
                    named.insert(first[service] + port)
                }
            }
            self.named = named
        }

        func portIndex(_ service: Int, _ port: Int) -> PortIndex {
            PortIndex(firstPort[service] + port)
        }

        mutating func append(service index: Int, routes: [[Int]: [Int]]) {
            let service = mesh.services[index]
            for (portIndex, port) in service.ports.enumerated() {
                let first = endpoints.count
                let attached = inForce(routes[[index, portIndex]] ?? [])
                let isCaptured =
                    port.transport == .tcp && (!attached.isEmpty || port.application.isSpoken)
                let addresses =
                    service.addresses + service.externalAddresses + service.loadBalancerAddresses
                let isServed =
                    isCaptured
                    || port.transport == .tcp && !captured.isEmpty
                        && addresses.contains { captured.contains(SocketAddress($0, port.port)) }
                if isServed { tables.append(table(ofService: index, portIndex, attached)) }
                let routeTable = isServed ? tables.count - 1 : nil
                let isTCPRouted = attached.contains { mesh.routes[$0].isTCP }
                if isServed, !attached.isEmpty, !isTCPRouted {
                    tables.append(RouteTable(toPort: self.portIndex(index, portIndex)))
                }
                let plainTable = isServed && !isTCPRouted ? tables.count - 1 : nil
                let isDialled = isServed || named.contains(ports.count)
                if isDialled { endpoints += service.dialled(portIndex, node: node, zone: zone) }
                ports.append(
                    SnapshotPort(
                        service: service.name, serviceIndex: index, portIndex: portIndex,
                        number: port.port, transport: port.transport,
                        application: port.application,
                        addresses: addresses, nodePort: port.nodePort,
                        endpoints: first..<endpoints.count,
                        isWeighted: Endpoint.areWeighted(endpoints[first...]),
                        isDialled: isDialled, isCaptured: isCaptured,
                        routeTable: routeTable, plainTable: plainTable, isTCPRouted: isTCPRouted,
                        affinitySeconds: service.traffic.affinitySeconds ?? 0))
            }
        }

        /// Served only where the kernel captures it.
        mutating func append(inbound pod: Workload) {
            for address in pod.addresses {
                endpoints.append(Endpoint(address: SocketAddress(address, 0), node: node))
                tables.append(RouteTable(toPort: PortIndex(ports.count)))
                ports.append(
                    SnapshotPort(
                        service: ObjectName(pod.name.namespace, pod.workloadName),
                        serviceIndex: -1, portIndex: 0, number: 0, transport: .tcp,
                        application: .tcp, addresses: [address], nodePort: nil,
                        endpoints: endpoints.count - 1..<endpoints.count, isDialled: true,
                        isCaptured: true,
                        routeTable: tables.count - 1, isTCPRouted: false, affinitySeconds: 0))
            }
        }

        /// Of the routes of one parent those that count: HTTPRoutes if there are any, being the
        /// more specific (GEP-1294), else the oldest TCPRoute.
        func inForce(_ attached: [Int]) -> [Int] {
            let http = attached.filter { !mesh.routes[$0].isTCP }
            guard http.isEmpty else { return http }
            return Array(
                attached.sorted {
                    let (one, other) = (mesh.routes[$0], mesh.routes[$1])
                    return (one.created, one.name) < (other.created, other.name)
                }.prefix(1))
        }

        /// GAMMA: with routes, only they decide (no match: 404); without, the service itself.
        func table(ofService service: Int, _ port: Int, _ attached: [Int]) -> RouteTable {
            guard attached.isEmpty else {
                let sources = attached.map { RouteTable.Source(route: $0, hostnames: ["*"]) }
                return RouteTable(
                    [.init(hostname: nil, sources: sources)], routes: mesh.routes,
                    portIndex: portIndex)
            }
            return RouteTable(toPort: portIndex(service, port))
        }

        mutating func appendSockets(_ routes: [Int: [RouteTable.Source]]) -> [GatewaySocket] {
            var groups: [(address: IPAddress?, port: UInt16, listeners: [Int])] = []
            for (index, listener) in mesh.listeners.enumerated() {
                let addresses: [IPAddress?] =
                    listener.addresses.isEmpty ? [nil] : listener.addresses
                for address in addresses {
                    let found = groups.firstIndex {
                        $0.address == address && $0.port == listener.port
                    }
                    if let found {
                        groups[found].listeners.append(index)
                    } else {
                        groups.append((address, listener.port, [index]))
                    }
                }
            }
            return groups.map { group in
                let isTCP = group.listeners.allSatisfy { mesh.listeners[$0].isTCP }
                if isTCP { return appendSocket(group, routes) }
                let scopes = group.listeners.map { index in
                    RouteTable.Scope(
                        hostname: mesh.listeners[index].hostname, sources: routes[index] ?? [])
                }
                tables.append(RouteTable(scopes, routes: mesh.routes, portIndex: portIndex))
                return GatewaySocket(
                    address: group.address, port: group.port, routeTable: tables.count - 1,
                    listeners: group.listeners, isTCP: false)
            }
        }

        /// A socket for TCP: one route, for every connection.
        private mutating func appendSocket(
            _ group: (address: IPAddress?, port: UInt16, listeners: [Int]),
            _ routes: [Int: [RouteTable.Source]]
        ) -> GatewaySocket {
            let attached = inForce(group.listeners.flatMap { routes[$0] ?? [] }.map(\.route))
            let sources = attached.map { RouteTable.Source(route: $0, hostnames: ["*"]) }
            tables.append(
                RouteTable(
                    [.init(hostname: nil, sources: sources)], routes: mesh.routes,
                    portIndex: portIndex))
            return GatewaySocket(
                address: group.address, port: group.port, routeTable: tables.count - 1,
                listeners: group.listeners, isTCP: true)
        }
    }
}
