// What is open, held against what is in force now. Of tunnels: who was believed when a tunnel began
// may have been revoked since, and pods come and go. What would not be opened any more ends, and
// nothing else: a certificate that runs out, or is followed by another, has its tunnel drained, and
// so has a pod that leaves the mesh and stays where it is. Of plain text: `recheckPlain`.

internal import MeshModel

extension Worker {
    /// To be called when a configuration is adopted.
    ///
    /// - Complexity: linear in tunnels, and a signature each where bundles have changed.
    func recheckCarriers(since before: WorkerConfig?) {
        guard current >= 0, let config = configs[current].config, let peers = config.peers,
            let before, let old = before.peers
        else { return }
        let isTrustNew = old.table.trust !== peers.table.trust
        guard
            old.table !== peers.table || before.snapshot.shape !== config.snapshot.shape
        else { return }
        for link in timers.all() where link.it.role == .carrier && link.it.phase == .tunnel {
            if !isAllowed(link, peers) || isRenamed(link, old, peers) || isGone(link, old, peers)
                || isTrustNew && peers.table.trust.judge(link.it.session) != .none
            {
                endCarrier(link, .revoked)
            } else if link.it.shown != shown(link, peers) {
                drainCarrier(link)
            }
        }
    }

    /// What is open in plain text to pods of other nodes. Where tunnels lead from now on nothing
    /// waits for another request; and what a pod serves that takes no plain text any more ends: its
    /// own node resets it at its next packet, if anybody does. A request that can be sent again
    /// goes to another endpoint.
    ///
    /// - Complexity: linear in connections.
    func recheckPlain(since before: WorkerConfig?) {
        guard current >= 0, let config = configs[current].config, let before,
            before.snapshot.shape !== config.snapshot.shape
                || (before.peers == nil) != (config.peers == nil)
        else { return }
        for link in timers.all() {
            nameServer(of: link)
            nameServer(of: link.it.partner)
            if link.it.role == .upstream, link.it.phase == .idle {
                guard let endpoint = plainEndpoint(of: link) else { continue }
                if config.shunsPlain(endpoint), !before.shunsPlain(endpoint) { close(link) }
                continue
            }
            guard link.it.role == .downstream, link.it.exchange.isActive else { continue }
            func isOver(_ upstream: Link) -> Bool {
                guard let endpoint = plainEndpoint(of: upstream) else { return false }
                return config.refusesPlain(endpoint) && !before.refusesPlain(endpoint)
            }
            let other = otherDial(of: link)
            if isOver(other) { close(other) }
            guard isOver(link.it.partner) else { continue }
            charge(link.it.account)
            // By the configuration that it keeps the next one is dialled in plain text, too.
            while link.it.exchange.isActive, isOver(link.it.partner) {
                let goesOn = canSendAgain(link) && hasOtherEndpoints(link)
                if link.it.exchange.isDialing { dropUpstream(link) }
                dialFailed(
                    link,
                    goesOn ? .denied(hasOthers: true, as: .plainRefused) : .failed(.plainRefused))
            }
        }
    }

    /// Who is gone leaves a number that is another's later.
    private func nameServer(of link: Link) {
        guard !link.isNone, !link.it.pool.isNone else { return }
        link.it.server = ownAccount(of: link.it.pool.it.endpoint.address)
    }

    /// Where a connection leads that is neither in TLS of its own nor in a tunnel.
    private func plainEndpoint(of upstream: Link) -> SocketAddress? {
        guard !upstream.isNone, !upstream.it.pool.isNone, !upstream.it.isStream,
            upstream.it.pool.it.identity == 0
        else { return nil }
        return upstream.it.pool.it.endpoint
    }

    /// Behind a handshake: the peer must be whom we want, or be who it says where we know whose its
    /// address is; and what was revoked, or what pods went, while the handshake lasted counts, too.
    func isStillBelieved(_ carrier: Link) -> Bool {
        guard current >= 0, let peers = configs[current].config?.peers,
            isAllowed(carrier, peers), isMeshed(carrier, peers)
        else {
            turnAway(carrier, .nameMismatch, .wrongPeer)
            return false
        }
        let why = peers.table.trust.judge(carrier.it.session)
        if why == .none { return true }
        turnAway(carrier, why, .revoked)
        return false
    }

    /// Our certificate was replaced while the handshake lasted.
    func showsOld(_ carrier: Link) -> Bool {
        guard current >= 0, let peers = configs[current].config?.peers else { return false }
        return carrier.it.shown != shown(carrier, peers)
    }

    /// What a new carrier in its place would show.
    private func shown(_ carrier: Link, _ peers: MeshPeers) -> UInt32? {
        if carrier.it.isServer { return peers.contexts(at: carrier.it.target.address)?.number }
        let pool = carrier.it.pool
        guard pool.it.isNode else { return peers.contexts(at: pool.it.source)?.number }
        // A Gateway's: what it shows is in force, or it is not.
        let isShown = peers.table.contexts.values.contains { $0.number == carrier.it.shown }
        return isShown ? carrier.it.shown : nil
    }

    /// Both ends are there, and who they have proved to be.
    private func isAllowed(_ carrier: Link, _ peers: MeshPeers) -> Bool {
        guard let id = peerID(of: carrier) else { return false }
        let address = carrier.it.peer.address
        let isPeer =
            carrier.it.isServer
            ? peers.believes(id, at: address) : peers.id(at: address) == id
        guard isPeer else { return false }
        return ownPod(of: carrier).map(peers.hosts) ?? true
    }

    /// The pod of this node at its end is in the mesh: only then it begins anything.
    private func isMeshed(_ carrier: Link, _ peers: MeshPeers) -> Bool {
        ownPod(of: carrier).map(peers.serves) ?? true
    }

    /// The pod of this node at its end; `nil`: a Gateway.
    private func ownPod(of carrier: Link) -> IPAddress? {
        if carrier.it.isServer { return carrier.it.target.address }
        return carrier.it.pool.it.isNode ? nil : carrier.it.pool.it.source
    }

    /// The source of the series that it is counted in: what a Gateway sends by a tunnel is its own.
    func metricSource(_ link: Link) -> UInt32 {
        link.it.isTunnelled && link.it.dialler > 0 ? link.it.dialler : link.it.source
    }

    /// The pod that opened it is there no more: who is no pod may be believed, not in its place.
    private func isGone(_ carrier: Link, _ old: MeshPeers, _ peers: MeshPeers) -> Bool {
        let address = carrier.it.peer.address
        return carrier.it.isServer && old.id(at: address) != nil && peers.id(at: address) == nil
    }

    /// The pod of this node at its end has another account now: what it has proved to be is over.
    private func isRenamed(_ carrier: Link, _ old: MeshPeers, _ peers: MeshPeers) -> Bool {
        ownPod(of: carrier).map { old.id(at: $0) != peers.id(at: $0) } ?? false
    }

    /// For the series that it is counted in.
    func tunnelUse(_ link: Link) -> Tally.Tunnel {
        link.it.isStream ? .into : link.it.isTunnelled ? .out : .none
    }
}
