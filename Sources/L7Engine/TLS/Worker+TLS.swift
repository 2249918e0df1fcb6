// Where sessions begin, and how handshakes are counted. Worker+Transport does what is between.

internal import CLinux
internal import COpenSSL
internal import Glibc
internal import MeshModel

/// What the sessions of one worker share.
///
/// - Owns: the wire, which lives as long as the process.
@safe struct TLSWire: BitwiseCopyable {
    let pointer: UnsafeMutablePointer<tls_wire>?

    /// `capacity`: bytes of records that one call may make.
    init(capacity: Int) { unsafe pointer = tls_wire_new(capacity) }

    /// Where answers to messages of the protocol's own are counted that a peer does not take: those
    /// of the account that is served from here on, and all. Both words live as long as the worker.
    @inline(__always)
    func charge(_ account: UnsafeMutablePointer<UInt64>, _ total: UnsafeMutablePointer<UInt64>) {
        guard let wire = unsafe pointer else { return }
        unsafe wire.pointee.account = account
        unsafe wire.pointee.total = total
    }

    /// Whether what the handshake read last is a request: OpenSSL knows five methods only.
    fileprivate var hasReadHTTP: Bool {
        guard let wire = unsafe pointer else { return false }
        let count = unsafe Int(wire.pointee.first_count)
        // Safe: the wire lives as long as its worker, and `first` holds as many bytes.
        return unsafe withUnsafePointer(to: wire.pointee.first) { first in
            unsafe first.withMemoryRebound(to: UInt8.self, capacity: count) {
                let bytes = unsafe Bytes($0, count: count)
                return FirstBytes.judge(bytes, 0, count, targetBytesMax: .max) == .http
            }
        }
    }
}

extension Worker {
    /// What clients of a listener must speak.
    private func protection(of listener: Link) -> TLSTable.Server {
        guard !listener.it.isCaptured, listener.it.table >= 0, let config = configs[current].config
        else { return .plain }
        return config.tls.servers[Int(listener.it.table)]
    }

    /// Whether they expect a handshake: an answer in HTTP says nothing to them.
    func speaksTLS(_ listener: Link) -> Bool {
        if case .secure = protection(of: listener) { true } else { false }
    }

    /// Puts TLS between a client and us where its listener asks for it; `false`: it is refused.
    func secure(_ link: Link, from listener: Link) -> Bool {
        switch protection(of: listener) {
        case .plain: return true
        case .unavailable:
            tally.count(.downstream, .noContext)
            return false
        case .secure(let server):
            makeRoomForHandshake(of: link)
            // Safe: the session holds a reference to the context; the wire is this thread's.
            let session = unsafe tls_accept_new(
                server.context.pointer, wire.pointer, link.it.descriptor)
            link.it.session = unsafe Session(session)
            return unsafe session != nil
        }
    }

    /// The same towards an endpoint. `identity` is that of its pool, not 0.
    func secure(_ upstream: Link, for link: Link, identity: UInt32) -> Bool {
        guard let client = config(link).tls.clients.first(where: { $0.number == identity }) else {
            tally.count(.upstream, .noContext)
            return false
        }
        let session = unsafe tls_connect_new(
            client.context.pointer, wire.pointer, upstream.it.descriptor, client.hostname,
            upstream.it.pool.it.hash, identity)
        upstream.it.session = unsafe Session(session)
        return unsafe session != nil
    }

    /// One worker sees to it that no key seals tickets for too long.
    func rotateTicketKeys() {
        guard number == 0, now &- ticketKeysAt > limits.ticketKeyNanosecondsMax, current >= 0 else {
            return
        }
        ticketKeysAt = now
        configs[current].config?.tls.tickets?.rotate()
    }

    func side(_ link: Link) -> HandshakeSide {
        link.it.role == .upstream || (link.it.role == .carrier && !link.it.isServer)
            ? .upstream : .downstream
    }

    func countHandshake(_ link: Link) {
        guard link.it.hasTLS, let session = unsafe link.it.session.pointer else { return }
        let isResumed = unsafe tls_session_is_resumed(session) != 0
        tally.count(side(link), isResumed ? .resumed : .none)
    }

    /// Why the handshake that just failed did; counted.
    func failHandshake(_ link: Link, isLate: Bool) {
        guard link.it.hasTLS, let session = unsafe link.it.session.pointer else { return }
        var why = isLate ? .timeout : TLSFailure(unsafe tls_session_failure(session))
        if why == .notTLS, link.it.role == .downstream, wire.hasReadHTTP { why = .plainHTTP }
        tally.count(side(link), why)
        if why == .plainHTTP, link.it.role == .downstream { explainPlain(link) }
    }

    /// Whether what ended a connection was a flood of messages that are no data (KeyUpdates).
    func hasFlooded(_ link: Link) -> Bool {
        guard link.it.hasTLS, let session = unsafe link.it.session.pointer else { return false }
        // Safe: the session lives as long as its connection is not dead.
        return unsafe tls_session_has_flooded(session) != 0
    }

    /// Whether our part of a handshake has gone out.
    func hasAnswered(_ link: Link) -> Bool {
        guard let session = unsafe link.it.session.pointer else { return false }
        return unsafe tls_session_has_answered(session) != 0
    }

    /// A client that speaks plain HTTP to a TLS port is told so, in its own language.
    private func explainPlain(_ link: Link) {
        tally.count(.plainHTTP)
        writeLast(.plainHTTP)
        unsafe _ = engine_send(link.it.descriptor, writer.base, writer.count)
    }

    /// Whether the client saw a certificate where it asks for `https`, and whether that holds for
    /// the host it asks for: one listener may have several (RFC 9110 sections 7.4 and 15.5.20).
    @inline(__always)
    func isCovered(_ link: Link, _ request: RequestHead) -> Bool {
        if head.namesHTTPS, !link.it.hasTLS { return false }
        guard let session = unsafe link.it.session.pointer, !link.it.isCaptured else { return true }
        // In range: the parser made it of these bytes.
        let host = unsafe UnsafeRawPointer(request.bytes.pointer + request.host.lower)
        return unsafe tls_session_covers(
            session, host.assumingMemoryBound(to: CChar.self), request.host.count) != 0
    }

    /// Which listener of its socket the client chose by name (Gateway API, Listener.hostname): by
    /// the name for which the handshake was made, and in the same form.
    func scope(of link: Link, _ table: CompiledRoutes) -> Int32 {
        guard let session = unsafe link.it.session.pointer,
            let name = unsafe tls_session_name(session)
        else { return table.scopeOfAny }
        // Safe: the bytes live as long as the session.
        let count = unsafe strlen(name)
        return unsafe name.withMemoryRebound(to: UInt8.self, capacity: count) {
            unsafe table.scope(Bytes($0, count: count), ByteRange(0, count))
        }
    }

    /// Whether the socket asks no more of a client now than was asked of this one by its handshake,
    /// or by that of the session that it has resumed.
    func hasShownEnough(_ link: Link, _ config: WorkerConfig) -> Bool {
        let rules = config.tls.clientRules[Int(link.it.socket)]
        guard let session = unsafe link.it.session.pointer, rules.contains(where: { $0 != 0 })
        else { return true }
        guard link.it.scope >= 0 else { return false }
        let asked = rules[Int(link.it.scope)]
        // Safe: the session lives as long as its connection is not dead.
        return unsafe asked == 0 || asked == tls_session_rules(session)
    }
}
