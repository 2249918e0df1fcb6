// The server's node: tunnels that come to port 15008 of a local pod, and each CONNECT on them. A
// CONNECT leads to that pod only, and is answered when the pod has taken the connection: a client's
// node learns in time to try another.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    /// Whether a connection just captured is a tunnel to a pod of ours.
    func takesTunnels(_ link: Link) -> Bool {
        guard link.it.isCaptured, current >= 0, let peers = configs[current].config?.peers else {
            return false
        }
        return peers.serves(link.it.target.address)
    }

    /// `link` was counted as a connection and is not watched yet.
    func acceptCarrier(_ carrier: Link) {
        carrier.it.role = .carrier
        carrier.it.isServer = true
        carrier.it.phase = .connecting
        guard
            let contexts = configs[current].config?.peers?.contexts(at: carrier.it.target.address),
            isValid(contexts)
        else {
            turnAway(carrier, .noContext, .noCredential)
            return
        }
        makeRoomForHandshake(of: carrier)
        guard secure(carrier, as: contexts), watchCarrier(carrier) else {
            endCarrier(carrier, .memory)
            return
        }
        carrier.it.phase = .handshaking
        handshakeBegins(carrier)
        timers.arm(carrier, at: now + limits.handshakeNanosecondsMax)
    }

    /// A CONNECT has come.
    func serveStream(_ carrier: Link, _ stream: HBONEStream) {
        tally.count(.streams(.downstream))
        if let status = objection(carrier, stream) {
            tally.count(.refused(status))
            noteRefused(carrier, status, stream.target)
            logRefused(carrier, status.code)
            stream.refuse(status.rawValue, isWaste: isWaste(status, carrier, stream))
            soil(carrier)
            return
        }
        tally.count(.connections)
        connectionsOpen += 1
        if carrier.it.account < AccountNumbers.outsideCount { outsideOpen += 1 }
        let link = makeConnection(-1, .downstream)
        link.it.session = stream.session
        link.it.carrier = carrier
        link.it.isStream = true
        link.it.isDirect = true
        link.it.isCaptured = true
        link.it.account = carrier.it.account
        accounts[link.it.account].connections &+= 1
        link.it.peer = carrier.it.peer
        if let client = client(of: carrier, stream) {
            link.it.peer = SocketAddress(client, 0)
            link.it.isOfGateway = true
        }
        link.it.target = stream.target ?? carrier.it.target
        link.it.canRead = true
        stream.own(link)
        link.it.exchange = Exchange(attemptsMax: limits.attemptsMax)
        // The pod first, whatever is spoken.
        link.it.isOpaque = true
        if streamSpeech(link) == .opaque {
            link.it.phase = .waiting
        } else {
            link.it.phase = .sensing
            link.it.search = .begun
        }
        timers.arm(link, at: now + limits.silenceNanosecondsMax)
        beginConnection(link)
    }

    /// For whom a Gateway of another node asks; `nil`: whoever has dialled asks for itself. Only
    /// Gateways are believed, and only where no pod is: nobody else comes between a client and us.
    private func client(of carrier: Link, _ stream: HBONEStream) -> IPAddress? {
        guard let client = stream.client, let peers = configs[current].config?.peers,
            peers.id(at: carrier.it.peer.address) == nil,
            let id = peerID(of: carrier), peers.isGateway(id)
        else { return nil }
        return client
    }

    /// The client of a stream that ends may never come again: what was dialled from its address and
    /// waits for its next request ends too.
    func endKept(_ link: Link) {
        let (source, endpoint) = (link.it.peer.address, link.it.upstreamPeer)
        guard endpoint.port != 0, source.isIPv4 == endpoint.address.isIPv4 else { return }
        let pool = pools.pool(source: source, isNode: false, endpoint: endpoint, identity: 0)
        pool.it.count += 1
        while !pool.it.idle.isNone { close(pool.it.idle) }
        pool.it.count -= 1
        pools.retire(pool)
    }

    private func objection(_ carrier: Link, _ stream: HBONEStream) -> TunnelRefusal? {
        if let objection = stream.objection { return objection }
        guard let target = stream.target else { return .badAuthority }
        guard target.address == carrier.it.target.address else { return .foreign }
        // A tunnel in a tunnel would lead past every check.
        guard target.port != Self.tunnelPort else { return .foreign }
        // The pod may have left the mesh, and its peer may not have heard.
        guard !hasRunOut(carrier), takesTunnels(carrier) else {
            drainCarrier(carrier)
            return .unavailable
        }
        guard let reason = excess(carrier.it.account) else { return nil }
        shed(carrier.it.account, reason)
        return .unavailable
    }

    /// Whether no peer should ask for what is refused so.
    private func isWaste(
        _ status: TunnelRefusal, _ carrier: Link, _ stream: HBONEStream
    ) -> Bool {
        switch status {
        // A pod that takes no connection is nobody's fault, and whose client policies deny cannot
        // know it.
        case .denied, .unavailable: false
        // What a pod itself dials at the port of tunnels comes beside all else that it has open.
        case .foreign:
            stream.target != SocketAddress(carrier.it.target.address, Self.tunnelPort)
        case .badAuthority, .notConnect, .tooLong, .extended: true
        }
    }

    /// What is spoken on a stream, by the service that its pod stands behind.
    private func streamSpeech(_ link: Link) -> Speech {
        guard let config = configs[current].config,
            let port = config.peers?.inbound(link.it.target)
        else { return .opaque }
        return config.snapshot.ports[port.value].speech
    }

    /// The pod has taken the connection: the stream is open.
    func admit(_ link: Link) {
        guard link.it.role == .downstream else { return }
        HBONEStream(link.it.session).accept(link)
        soil(link.it.carrier)
    }

    /// Behind `admit`, where HTTP is spoken or may be.
    func hearStream(_ link: Link) {
        if streamSpeech(link) == .http { becomeHTTP(link) }
        makeReady(link)
    }

    /// A stream that is given up before it was answered.
    func refuseUnanswered(_ link: Link) {
        guard link.it.role == .downstream else { return }
        let stream = HBONEStream(link.it.session)
        guard !link.it.carrier.isNone, stream.status == 0 else { return }
        let isDenied = link.it.failure == Failure.deniedByPolicy.code
        let status = isDenied ? TunnelRefusal.denied : .unavailable
        tally.count(.refused(status))
        noteUnanswered(link)
        stream.refuse(status.rawValue)
        link.it.session = .none
    }
}
