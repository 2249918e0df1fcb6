// A connection's byte stream: the socket itself, or a session (TLS) above it. Parser, buffers and
// forwarding meet bytes only here; a plain connection pays one comparison.
//
// A connection begins by `begin`, which answers whether bytes may flow already; one with a session
// is in phase `handshaking` until `secured`. `Worker.close` frees the session.

internal import CLinux
internal import Glibc
internal import MeshModel

/// A session above a socket; `none`: bytes are the socket's own.
///
/// - Owns: nothing; the connection's record does, until `Worker.close`.
@safe struct Session: BitwiseCopyable {
    let pointer: UnsafeMutablePointer<engine_session>?
    static var none: Session { unsafe Session(nil) }

    init(_ pointer: UnsafeMutablePointer<engine_session>?) { unsafe self.pointer = pointer }

    @inline(__always) var isNone: Bool { unsafe pointer == nil }
}

extension Worker {
    /// After accept(2) or connect(2): `true` when bytes may flow now. A client's handshake waits
    /// for its account's turn like all else that a client sends.
    func begin(_ link: Link) -> Bool {
        if link.it.session.isNone { return true }
        link.it.phase = .handshaking
        if link.it.role == .downstream { handshakeBegins(link) }
        blame(link)
        timers.arm(link, at: now + limits.handshakeNanosecondsMax)
        return link.it.role == .upstream && handshake(link)
    }

    /// Goes on with a handshake after an event; `true`: it is done in this moment.
    private func handshake(_ link: Link) -> Bool {
        // Safe: the session lives as long as its connection is not dead.
        guard let session = unsafe link.it.session.pointer else { return true }
        if link.it.isEnding { unsafe session.pointee.is_ending = 1 }
        let result = unsafe engine_session_handshake(session)
        if result > 0 {
            countHandshake(link)
            if link.it.role == .downstream {
                handshakeEnded(link)
                link.it.phase = .head
            }
            // Bytes may lie in the session without a new edge of the socket's.
            link.it.canRead = true
            return true
        }
        if result < 0 {
            handshakeFailed(link, isLate: false)
        } else if link.it.role == .downstream {
            noteProgress(of: link)
        }
        return false
    }

    func handshakeFailed(_ link: Link, isLate: Bool) {
        failHandshake(link, isLate: isLate)
        guard link.it.role == .upstream else {
            close(link)
            return
        }
        tally.count(.dialFailures)
        let client = link.it.partner
        let isStream = link.it.isStream
        client.it.partner = .none
        if isLate { noteBroken(client, link.it.pool.it.endpoint.address) }
        let refusal = isStream ? HBONEStream(link.it.session).status : 0
        let carrier = link.it.carrier
        let isLeaving = isStream && (carrier.isNone || takesNothingNew(carrier))
        let unreached = link.it.unreached
        close(link)
        let hasOthers = hasOtherEndpoints(client)
        switch refusal {
        case TunnelRefusal.denied.rawValue:
            dialFailed(client, .denied(hasOthers: hasOthers))
        case let status where status != 0 && status != 200 && !isLeaving:
            // By a good tunnel: the pod did not take the connection, or its node not the CONNECT.
            dialFailed(client, .connectFailed(isLate: false, isLast: !hasOthers))
        case _ where unreached != .none:
            // There was no handshake: nobody took the tunnel's TCP.
            connectFailed(of: client, isLate: unreached == .timeout)
        default:
            // A tunnel may have ended under a stream that another would carry.
            let isLast = !isStream && !hasOthers
            dialFailed(client, .handshakeFailed(isLast: isLast))
        }
    }

    /// An event of a connection whose handshake is not done.
    func shake(_ link: Link) {
        guard handshake(link) else { return }
        if link.it.role == .upstream {
            established(link)
        } else {
            timers.arm(link, at: now + limits.headNanosecondsMax)
            pumpDownstream(link)
        }
    }

    /// The result of a recv: bytes, 0 at the end, -1 when there is nothing now.
    @inline(__always)
    func receive(_ link: Link, _ bytes: UnsafeMutablePointer<UInt8>, _ room: Int) -> Int {
        if let session = unsafe link.it.session.pointer {
            // Its end may stand behind half a record, of which nothing is to be had.
            if link.it.isEnding { unsafe session.pointee.is_ending = 1 }
            let count = unsafe engine_session_receive(session, bytes, room)
            guard count > 0 else { return nothing(link, count) }
            if unsafe session.pointee.is_drained != 0, !link.it.isEnding { link.it.canRead = false }
            movedBytes += count
            // Its peer is owed room.
            if link.it.isStream { soil(link.it.carrier) }
            return count
        }
        let count = unsafe engine_recv(link.it.descriptor, bytes, room)
        if count > 0 {
            movedBytes += count
            // A short read empties the socket; what comes later is a new edge.
            if count < room, !link.it.isEnding { link.it.canRead = false }
            return count
        }
        return nothing(link, count)
    }

    private func nothing(_ link: Link, _ count: Int) -> Int {
        link.it.canRead = false
        if count == -Int(EAGAIN) { return -1 }
        link.it.hasEnded = true
        // A reset, or TLS without close_notify: nobody said that this was all.
        if count < 0, !link.it.isBroken {
            link.it.isBroken = true
            if hasFlooded(link) { tally.count(.floods(side(link))) }
        }
        return 0
    }

    /// Bytes taken by the socket, or -errno.
    @inline(__always)
    func send(
        _ link: Link, _ first: UnsafePointer<UInt8>, _ firstCount: Int,
        _ second: UnsafePointer<UInt8>?, _ secondCount: Int
    ) -> Int {
        if let session = unsafe link.it.session.pointer {
            if link.it.isStream { soil(link.it.carrier) }
            return unsafe engine_session_send(session, first, firstCount, second, secondCount)
        }
        if link.it.isHeldBack {
            return unsafe engine_send_more(
                link.it.descriptor, first, firstCount, second, secondCount)
        }
        if let second = unsafe second, secondCount > 0 {
            return unsafe engine_send2(link.it.descriptor, first, firstCount, second, secondCount)
        }
        return unsafe engine_send(link.it.descriptor, first, firstCount)
    }

    /// What is sent next is the last of the connection: its end goes with it, in one packet.
    @inline(__always)
    func endWithNext(_ link: Link) {
        if let session = unsafe link.it.session.pointer {
            unsafe session.pointee.ends = 1
        } else {
            link.it.isHeldBack = true
        }
    }

    /// Says that nothing more will be sent; what comes is still read.
    func endSending(_ link: Link) {
        if let session = unsafe link.it.session.pointer { unsafe engine_session_end(session) }
        if link.it.isStream {
            soil(link.it.carrier)
        } else {
            shutdown(link.it.descriptor, Int32(SHUT_WR))
        }
    }

    /// Whether a pooled upstream has neither ended nor spoken unasked. A session may have received
    /// what is its own (a ticket), so it looks for itself.
    func isQuiet(_ upstream: Link) -> Bool {
        if upstream.it.session.isNone { return engine_is_stale(upstream.it.descriptor) == 0 }
        // Not into `scratch`: a request that waits to be sent may lie there.
        var byte: UInt8 = 0
        // Safe: one byte at most.
        return unsafe receive(upstream, &byte, 1) < 0
    }

    /// Frees the session of a connection that is closed now.
    func endSession(_ link: Link) {
        guard let session = unsafe link.it.session.pointer else { return }
        // What was cut off must not look complete.
        if !link.it.isBroken { unsafe engine_session_end(session) }
        unsafe engine_session_free(session)
        link.it.session = .none
    }
}
