// Addresses and ports that several services ask for: one has them, whatever else comes later, and
// an agent that starts anew says the same. What the others lose is theirs no more for anybody: the
// kernel, the engine and `malla policy trace` see the mesh without it.

internal import MeshModel

/// The oldest service by `creationTimestamp` has it, then the first by name, as Gateway API has it
/// of routes; a ClusterIP goes before external addresses, whoever is older.
struct ServiceClaims {
    /// What a service does not get.
    struct Loss {
        /// Into the services, as the owner is.
        var service: Int
        var owner: Int
        /// `address 10.96.0.1`, `node port 30080/TCP`.
        var what: String
        var field: String
        /// The port whose node port it is.
        var port: Int?
        /// The whole service is refused.
        var isWhole = false
    }

    /// Where somebody is served; `address` is `nil` for a node port.
    private struct Place: Hashable {
        var address: IPAddress?
        var isIPv4: Bool
        var port: UInt16
        var transport: TransportProtocol
    }

    private(set) var services: [Service]
    private(set) var losses: [Loss] = []
    private var owners: [IPAddress: Int] = [:]
    private var holders: [Place: Int] = [:]

    /// - Parameters:
    ///   - services: in the order of their names.
    ///   - created: when each was, seconds.
    init(_ services: [Service], created: [Int64]) {
        self.services = services
        let order = services.indices.sorted { (created[$0], $0) < (created[$1], $1) }
        var refused: Set<Int> = []
        for index in order where !claimClusterIPs(index) { refused.insert(index) }
        for index in order where !refused.contains(index) {
            claim(index, \.externalAddresses, "spec.externalIPs")
            claim(index, \.loadBalancerAddresses, "status.loadBalancer.ingress")
            claimNodePorts(index)
        }
    }

    private mutating func claimClusterIPs(_ index: Int) -> Bool {
        let addresses = services[index].addresses
        if let taken = addresses.first(where: { owners[$0] != nil }), let owner = owners[taken] {
            losses.append(
                Loss(
                    service: index, owner: owner, what: "address \(taken)",
                    field: "spec.clusterIPs", isWhole: true))
            return false
        }
        for address in addresses { owners[address] = index }
        return true
    }

    /// Addresses that may be shared, port by port.
    private mutating func claim(
        _ index: Int, _ list: WritableKeyPath<Service, [IPAddress]>, _ field: String
    ) {
        for address in services[index][keyPath: list] {
            let places = services[index].ports.map {
                Place(
                    address: address, isIPv4: address.isIPv4, port: $0.port,
                    transport: $0.transport)
            }
            guard let (place, owner) = taken(places, by: index) else {
                for place in places { holders[place] = index }
                continue
            }
            services[index][keyPath: list].removeAll { $0 == address }
            losses.append(
                Loss(
                    service: index, owner: owner,
                    what: "\(SocketAddress(address, place.port))/\(place.transport.rawValue)",
                    field: field))
        }
    }

    private mutating func claimNodePorts(_ index: Int) {
        let addresses = services[index].addresses
        let families = [true, false].filter { isIPv4 in
            addresses.isEmpty || addresses.contains { $0.isIPv4 == isIPv4 }
        }
        for (number, port) in services[index].ports.enumerated() {
            guard let nodePort = port.nodePort else { continue }
            let places = families.map {
                Place(address: nil, isIPv4: $0, port: nodePort, transport: port.transport)
            }
            guard let (_, owner) = taken(places, by: index) else {
                for place in places { holders[place] = index }
                continue
            }
            services[index].ports[number].nodePort = nil
            losses.append(
                Loss(
                    service: index, owner: owner,
                    what: "node port \(nodePort)/\(port.transport.rawValue)",
                    field: "spec.ports[\(number)].nodePort", port: number))
        }
    }

    /// The first of these places that is another's.
    private func taken(_ places: [Place], by index: Int) -> (Place, owner: Int)? {
        for place in places {
            if let holder = holders[place], holder != index { return (place, holder) }
            guard let address = place.address, let owner = owners[address], owner != index else {
                continue
            }
            let isServed = services[owner].ports.contains {
                $0.port == place.port && $0.transport == place.transport
            }
            if isServed { return (place, owner) }
        }
        return nil
    }
}
