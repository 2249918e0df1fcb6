// Mutual TLS of carriers: sessions begin here, and here peers prove who they are.

internal import CLinux
internal import COpenSSL
internal import Glibc
internal import MeshModel

extension Connection {
    /// TLS is spoken with the client or the upstream itself.
    @inline(__always) var hasTLS: Bool { !session.isNone && !isStream }
}

extension Worker {
    /// Towards a peer that must prove to be `id`.
    func secure(_ carrier: Link, as contexts: MeshContexts, expecting id: String) -> Bool {
        // Safe: the session holds a reference to the context; the wire is this thread's.
        guard
            let session = unsafe tls_connect_new(
                contexts.client.pointer, wire.pointer, carrier.it.descriptor, nil, 0, 0)
        else { return false }
        carrier.it.session = unsafe Session(session)
        carrier.it.shown = contexts.number
        shownIDs[carrier.token] = contexts.id
        return unsafe tls_session_expect(session, id) == 0
    }

    /// Towards whoever calls.
    func secure(_ carrier: Link, as contexts: MeshContexts) -> Bool {
        // Safe: as above.
        let session = unsafe tls_accept_new(
            contexts.server.pointer, wire.pointer, carrier.it.descriptor)
        carrier.it.session = unsafe Session(session)
        carrier.it.shown = contexts.number
        shownIDs[carrier.token] = contexts.id
        return unsafe session != nil
    }

    /// What a carrier's handshake has agreed on: version and suite, as RFC 8446 numbers them.
    func agreement(of carrier: Link) -> (version: UInt16, suite: UInt16) {
        guard let session = unsafe carrier.it.session.pointer else { return (0, 0) }
        // Safe: the session lives as long as its carrier is not dead.
        return unsafe (
            UInt16(truncatingIfNeeded: tls_session_version(session)),
            UInt16(truncatingIfNeeded: tls_session_cipher(session))
        )
    }

    /// When the first of both certificates of a carrier runs out, by the wall's clock.
    func lastMoment(of carrier: Link) -> UInt64 {
        guard let session = unsafe carrier.it.session.pointer else { return 0 }
        // Safe: the session lives as long as its carrier is not dead.
        let end = unsafe tls_session_not_after(session)
        guard end > 0 else { return 0 }
        let (moment, isFar) = UInt64(end).multipliedReportingOverflow(by: 1_000_000_000)
        return isFar ? .max : moment
    }

    /// Whether one of both has, by what the wall's clock says now: it may have been set.
    @inline(__always) func hasRunOut(_ carrier: Link) -> Bool {
        now &+ wallOffset >= carrier.it.takesUntil
    }

    /// The peer will send no more: only an empty read is the end.
    func noteEnding(_ carrier: Link) {
        guard let session = unsafe carrier.it.session.pointer else { return }
        // Safe: the session lives as long as its carrier is not dead.
        if carrier.it.isEnding { unsafe session.pointee.is_ending = 1 }
    }

    /// 1: done, 0: later, -1: failed.
    func shakeHands(_ carrier: Link) -> Int {
        guard let session = unsafe carrier.it.session.pointer else { return -1 }
        return Int(unsafe engine_session_handshake(session))
    }

    func speaksHTTP2(_ carrier: Link) -> Bool {
        guard let session = unsafe carrier.it.session.pointer else { return false }
        return unsafe tls_session_is_h2(session) != 0
    }

    /// Why the handshake that just failed did.
    func meshFailure(_ carrier: Link) -> TLSFailure {
        guard let session = unsafe carrier.it.session.pointer else { return .other }
        return TLSFailure(unsafe tls_session_failure(session))
    }

    /// Whom the peer's certificate names, believed or not; empty: nobody.
    ///
    /// - Complexity: allocates; once a refusal.
    func claim(of carrier: Link) -> String {
        guard let session = unsafe carrier.it.session.pointer,
            let text = unsafe tls_session_claim(session)
        else { return "" }
        // Safe: as in `peerID`.
        return unsafe String(cString: text)
    }

    /// Whom the peer proved to be, in bytes that live as long as its carrier.
    func peerName(of carrier: Link) -> Bytes? {
        guard let session = unsafe carrier.it.session.pointer,
            let text = unsafe tls_session_peer(session)
        else { return nil }
        // Safe: it ends with NUL and lives as long as the session.
        let count = unsafe strlen(text)
        return unsafe text.withMemoryRebound(to: UInt8.self, capacity: count) {
            unsafe Bytes($0, count: count)
        }
    }

    /// Whom the peer proved to be.
    ///
    /// - Complexity: allocates; once a carrier.
    func peerID(of carrier: Link) -> String? {
        guard let session = unsafe carrier.it.session.pointer,
            let text = unsafe tls_session_peer(session)
        else { return nil }
        // Safe: it ends with NUL and lives as long as the session.
        return unsafe String(cString: text)
    }
}
