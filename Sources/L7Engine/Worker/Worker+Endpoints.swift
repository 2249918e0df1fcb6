// Endpoints that services have lost. Who was given one, and is not served request by request, would
// stay with it for ever: a reset makes him ask again. What its service still lists, ready or not,
// drains, as it does in the kernel (docs/configuration.md, When an endpoint goes). Requests end
// with their answers, and what waits for one is never given the next.

internal import MeshModel

/// What a service has given a connection.
private struct GivenEndpoint {
    var address: SocketAddress
    /// The service port's number in the metrics, which outlives snapshots.
    var port: UInt32
    /// By whom a captured client has asked for it.
    var dialled: SocketAddress?
}

extension Worker {
    /// To be called when a configuration is adopted.
    ///
    /// - Complexity: where service ports list less than before, or may do so, linear in
    ///   connections, and a walk through the ports for each that some of them were given by.
    func recheckEndpoints(since before: WorkerConfig?) {
        guard current >= 0, let config = configs[current].config, let before,
            config.snapshot.mayListLess(than: before.snapshot)
        else { return }
        endpointsLostAt = now
        var listed = ListedEndpoints(config)
        for link in timers.all() where link.it.role == .downstream && hasJoined(link) {
            guard let given = given(link), !listed.contains(given) else { continue }
            charge(link.it.account)
            perform(link.it.exchange.on(.failed(.endpointRemoved)), link)
            // Neither side has spoken: another endpoint may as well.
            if link.it.phase == .sensing {
                link.it.search = .none
                makeReady(link)
            }
        }
    }

    /// Whether its service has lost the endpoint since the exchange began: to be asked before both
    /// ends are joined, as nobody looked at it meanwhile.
    func isJoinedTooLate(_ link: Link) -> Bool {
        guard link.it.startedAt <= endpointsLostAt, current >= 0,
            let config = configs[current].config, let given = given(link)
        else { return false }
        var listed = ListedEndpoints(config)
        return !listed.contains(given)
    }

    /// Its upstream is its own for as long as it lasts.
    private func hasJoined(_ link: Link) -> Bool {
        if link.it.phase == .tunnel { return true }
        let upstream = link.it.partner
        return link.it.phase == .sensing && !upstream.isNone && upstream.it.phase == .sensing
    }

    /// `nil`: what it has was its own choice.
    private func given(_ link: Link) -> GivenEndpoint? {
        let upstream = link.it.partner
        guard link.it.exchange.isActive, !link.it.isDirect, !upstream.isNone,
            !upstream.it.pool.isNone
        else { return nil }
        let address = upstream.it.pool.it.endpoint
        let isKnown = link.it.isOpaque || link.it.configSlot < 0
        let port = isKnown ? link.it.metricPort : metricPort(link)
        // A pod that needs the engine is dialled itself.
        guard port > 0, address != link.it.target else { return nil }
        return GivenEndpoint(
            address: address, port: port, dialled: link.it.isCaptured ? link.it.target : nil)
    }
}

/// Whom service ports list, looked up once for each port.
private struct ListedEndpoints {
    private let config: WorkerConfig
    /// By the port's number; `nil`: there is no such port any more.
    private var known: [UInt32: Set<SocketAddress>?] = [:]

    init(_ config: WorkerConfig) { self.config = config }

    mutating func contains(_ given: GivenEndpoint) -> Bool {
        if let listed = addresses(behind: given.port) { return listed.contains(given.address) }
        // Another service may have the address of one that was deleted.
        guard let dialled = given.dialled, let port = config.snapshot.captures[dialled] else {
            return false
        }
        return config.snapshot.listed(behind: port.value).contains { $0.address == given.address }
    }

    private mutating func addresses(behind number: UInt32) -> Set<SocketAddress>? {
        if let found = known[number] { return found }
        let snapshot = config.snapshot
        let index = config.ports.indices.first { index in
            config.ports[index] == number && snapshot.ports[index].transport == .tcp
                && !snapshot.ports[index].isInbound
        }
        let found = index.map { Set(snapshot.listed(behind: $0).map(\.address)) }
        known.updateValue(found, forKey: number)
        return found
    }
}

extension Snapshot {
    /// All that stands behind a service port, whatever its conditions.
    ///
    /// - Parameter index: into `ports`.
    fileprivate func listed(behind index: Int) -> [Endpoint] {
        let port = ports[index]
        guard !port.isInbound else { return [] }
        return mesh.services[port.serviceIndex].ports[port.portIndex].endpoints
    }

    /// Whether a service port may have lost an endpoint since `before`. Where nothing but endpoints
    /// has changed, it is known.
    fileprivate func mayListLess(than before: Snapshot) -> Bool {
        guard self !== before else { return false }
        guard let delta, follows(before) else { return true }
        return delta.ports.contains { index in
            guard ports[index].transport == .tcp else { return false }
            let kept = Set(listed(behind: index).map(\.address))
            return before.listed(behind: index).contains { !kept.contains($0.address) }
        }
    }
}
