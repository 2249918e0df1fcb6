// The client's node: a stream in place of a socket, to a pod that speaks HBONE, on a carrier from
// the same pod to the same peer, or on a new one where those have no room. A tunnel that cannot be
// had is a failed connection, never plain text.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    /// `Pool.identity` of the connections that may take a client to an endpoint: 0 for plain ones,
    /// `TLSTable.unavailable` where there must be a tunnel and can be none.
    func carriage(_ link: Link, _ endpoint: SocketAddress) -> UInt32 {
        let config = self.config(link)
        guard !link.it.isStream, let peers = config.peers else { return 0 }
        switch way(link, config, peers, to: endpoint) {
        case .plain: return 0
        case .unavailable: return TLSTable.unavailable
        case .tunnel(let contexts):
            return isValid(contexts) ? TLSTable.tunnelMark | contexts.number : TLSTable.unavailable
        }
    }

    private func way(
        _ link: Link, _ config: WorkerConfig, _ peers: MeshPeers, to endpoint: SocketAddress
    ) -> MeshPeers.Way {
        // Who stands behind a service is known without a look for his address.
        let isKnown = link.it.endpoint >= 0
        let workload =
            isKnown
            ? config.endpointWorkloads[Int(link.it.endpoint)] : peers.workload(at: endpoint.address)
        return link.it.isCaptured
            ? peers.way(from: link.it.workload, to: workload, port: endpoint.port)
            : peers.way(
                fromGateway: link.it.socket, scope: link.it.scope, to: workload,
                port: endpoint.port)
    }

    /// Nothing new begins with a certificate that has run out.
    func isValid(_ contexts: MeshContexts) -> Bool {
        Int64((now &+ wallOffset) / 1_000_000_000) < contexts.notAfter
    }

    /// Opens a stream for a request of `link`, whose pool says by `carriage` that it needs one.
    func dialTunnel(_ link: Link, _ pool: PoolLink) {
        guard let carrier = carrier(link, pool) else {
            failTunnel(link, pool)
            return
        }
        let upstream = makeConnection(-1, .upstream)
        guard
            let stream = carrier.it.tunnel.open(
                pool.it.endpoint.description, forwarded: forwarded(for: link, pool),
                baggage: baggage(of: link), owner: upstream)
        else {
            upstream.it.phase = .dead
            gone.append(upstream)
            failTunnel(link, pool)
            return
        }
        tally.count(.streams(.upstream))
        upstream.it.session = stream.session
        upstream.it.carrier = carrier
        upstream.it.isStream = true
        upstream.it.source = carrier.it.source
        enter(upstream, pool, for: link, .handshaking)
        timers.arm(upstream, at: now + limits.handshakeNanosecondsMax)
        soil(carrier)
    }

    private func failTunnel(_ link: Link, _ pool: PoolLink) {
        pools.retire(pool)
        tally.count(.dialFailures)
        connectFailed(of: link, isLate: false)
    }

    /// Of a Gateway's stream that is not one client's: nothing.
    private func forwarded(for link: Link, _ pool: PoolLink) -> String? {
        guard link.it.isCaptured || pool.it.source != .anyV6 else { return nil }
        return ForwardedElement.text(link.it.peer.address)
    }

    /// Who asks, in the words of Istio's ambient mode.
    private func baggage(of link: Link) -> String? {
        let mesh = config(link).snapshot.mesh
        if !link.it.isCaptured {
            let account = dialling(link)?.id.account
            return account.map {
                "k8s.namespace.name=\($0.namespace),k8s.deployment.name=\($0.name),"
                    + "service.name=\($0.name),service.version=latest"
            }
        }
        guard link.it.workload >= 0, mesh.workloads.indices.contains(Int(link.it.workload)) else {
            return nil
        }
        let pod = mesh.workloads[Int(link.it.workload)]
        let name = pod.labels["service.istio.io/canonical-name"] ?? pod.labels["app"]
        let revision =
            pod.labels["service.istio.io/canonical-revision"] ?? pod.labels["version"] ?? "latest"
        return "k8s.namespace.name=\(pod.name.namespace),k8s.deployment.name=\(pod.workloadName)"
            + ",service.name=\(name ?? pod.workloadName),service.version=\(revision)"
    }

    /// One that has room, else a new one; `nil`: neither.
    private func carrier(_ link: Link, _ pool: PoolLink) -> Link? {
        // A Gateway's clients share its tunnels.
        let group = carriers.pool(
            source: pool.it.isNode ? .anyV6 : pool.it.source, isNode: pool.it.isNode,
            endpoint: SocketAddress(pool.it.endpoint.address, Self.tunnelPort),
            identity: pool.it.identity)
        var carrier = group.it.idle
        var (best, choked, open) = (Link.none, Link.none, 0)
        while !carrier.isNone {
            // Several for a busy peer: a connection has one window and one core.
            let tunnel = carrier.it.tunnel
            if !takesNothingNew(carrier) { open += 1 }
            let isSuitable =
                tunnel.streams < limits.carrierStreamsMax && tunnel.room > 0
                && !carrier.it.isEnding && !hasRunOut(carrier)
            if isSuitable {
                // Streams that nobody reads at the other end may have used the window up.
                let isChoked =
                    tunnel.isChoked
                    || tunnel.isBusy(
                        now: now, bytesPerSecondMax: limits.carrierBytesPerSecondMax)
                let other = isChoked ? choked : best
                let isBetter = other.isNone || tunnel.streams < other.it.tunnel.streams
                if isBetter, isChoked { choked = carrier }
                if isBetter, !isChoked { best = carrier }
            }
            carrier = carrier.it.idleNext
        }
        if !best.isNone,
            open >= limits.carriersSpread
                || best.it.tunnel.streams < limits.carrierStreamsSpread
        {
            return best
        }
        // One that drains lives as long as its streams, and its place is another's meanwhile.
        guard open < limits.carriersMax,
            Int(group.it.count) < limits.carriersMax + limits.drainingCarriersMax
        else {
            if !best.isNone { return best }
            if !choked.isNone { return choked }
            // All are full of what this source does there already.
            shed(link, .carriers)
            return nil
        }
        let made = dialCarrier(link, group)
        if made == nil, !best.isNone { return best }
        if made == nil { carriers.retire(group) }
        return made
    }

    /// As whom an endpoint is dialled for `link`, if by a tunnel.
    private func dialling(_ link: Link) -> MeshContexts? {
        let config = self.config(link)
        guard let peers = config.peers,
            case .tunnel(let contexts) = way(link, config, peers, to: link.it.upstreamPeer)
        else { return nil }
        return contexts
    }

    /// The part of our ports from which the fewest of the group's tunnels are dialled, of those
    /// that take anything new: one core of the peer's node each. Other workers begin with another
    /// one.
    private func freestPart(_ group: PoolLink) -> Int {
        var used = SIMD4<Int32>()
        var carrier = group.it.idle
        while !carrier.isNone {
            if !takesNothingNew(carrier) { used[Int(carrier.it.part)] += 1 }
            carrier = carrier.it.idleNext
        }
        return Self.freestPart(used, from: number)
    }

    /// The first of those that are used least.
    static func freestPart(_ used: SIMD4<Int32>, from first: Int) -> Int {
        var best = first % 4
        for step in 1..<4 where used[(first + step) % 4] < used[best] {
            best = (first + step) % 4
        }
        return best
    }

    private func dialCarrier(_ link: Link, _ group: PoolLink) -> Link? {
        let to = group.it.endpoint
        guard let id = config(link).peers?.id(at: to.address), let contexts = dialling(link)
        else { return nil }
        let part = freestPart(group)
        let descriptor = upstreamSocket(group, part: part)
        guard descriptor >= 0 else { return nil }
        let result = engine_connect(
            descriptor, engine_address(high: to.address.high, low: to.address.low, port: to.port))
        guard result == 0 || result == -EINPROGRESS else {
            Glibc.close(descriptor)
            if result != -ECONNREFUSED { noteBroken(link, to.address) }
            return nil
        }
        let carrier = makeConnection(descriptor, .carrier)
        carrier.it.phase = .connecting
        carrier.it.openedAt = now
        // A Gateway's is shared by clients: it is nobody's of them.
        carrier.it.account = link.it.isCaptured ? link.it.account : 0
        carrier.it.peer = to
        carrier.it.server = ownAccount(of: to.address)
        carrier.it.part = UInt8(part)
        if !link.it.isCaptured { carrier.it.source = names.number(of: contexts.id) }
        carrier.it.pool = group
        group.it.count += 1
        carriers.putIdle(carrier)
        timers.arm(carrier, at: now + limits.connectNanosecondsMax)
        // The group outlives a carrier that ends here: its caller retires it.
        group.it.count += 1
        defer { group.it.count -= 1 }
        guard secure(carrier, as: contexts, expecting: id) else {
            endCarrier(carrier, .memory)
            return nil
        }
        // A Gateway's stream serves one client after another: who gets the next one may stall.
        let windowMax =
            link.it.isCaptured ? limits.tunnelWindowBytesMax : limits.tunnelWindowBytes
        carrier.it.tunnel = HBONETunnel(
            over: carrier.it.session, descriptor, isServer: false, windowMax: windowMax, limits)
        guard !carrier.it.tunnel.isNone, watchCarrier(carrier) else {
            endCarrier(carrier, .memory)
            return nil
        }
        countBytes(of: carrier)
        chargeReceived(carrier, to: carrier.it.account)
        return carrier
    }

    func carrierConnected(_ carrier: Link) {
        let error = engine_socket_error(carrier.it.descriptor)
        guard error == 0 else {
            endCarrier(carrier, .connect, wasRefused: error == -ECONNREFUSED)
            return
        }
        carrier.it.phase = .handshaking
        timers.arm(carrier, at: now + limits.handshakeNanosecondsMax)
        pumpCarrier(carrier)
    }
}
