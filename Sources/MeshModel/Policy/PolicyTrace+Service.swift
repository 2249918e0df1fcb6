// A service's address is never judged itself: this finds whom a connection to it is for.

extension Snapshot {
    /// What an address and port come to.
    enum Dialled: Equatable {
        /// Itself: it is no service's, or the service has no such port.
        case itself(note: String)
        /// Pods' own addresses and ports.
        case endpoints([SocketAddress], note: String)
        /// Nobody is reached, whatever policies say.
        case refused(note: String)
    }

    /// Source: bpf/hooks/socket.h and from_pod.h.
    func dialled(from source: IPAddress, to target: SocketAddress, transport: UInt8) -> Dialled {
        let address = target.address
        guard let service = mesh.services.first(where: { $0.holds(address) }) else {
            return .itself(note: "")
        }
        guard
            let port = service.ports.first(where: {
                $0.port == target.port && $0.transport.number == transport
            })
        else {
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
        let choice = EndpointChoice(
            port.endpoints, distribution: traffic.distribution, node: node, zone: zone)
        let isLocal = service.addresses.contains(address) && traffic.internalPolicy == .local
        let endpoints = (isLocal ? choice.local : choice.cluster)
            .map { port.endpoints[$0].address }
            .filter { $0.address.isIPv4 == address.isIPv4 }
        guard !endpoints.isEmpty else {
            return .refused(
                note: "no_endpoint: Service \(service.name) has no ready endpoint of this family")
        }
        return .endpoints(endpoints, note: "an endpoint of Service \(service.name)")
    }
}

extension Service {
    fileprivate func holds(_ address: IPAddress) -> Bool {
        addresses.contains(address) || externalAddresses.contains(address)
            || loadBalancerAddresses.contains(address)
    }
}
