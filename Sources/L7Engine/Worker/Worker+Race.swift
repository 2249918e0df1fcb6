// A dial that takes long gets company: after a quarter of a second a second endpoint is dialled
// too, and whichever connects first serves the request. The other goes on in case that one's
// session fails, stands by when it connects meanwhile, and is else kept in its pool, or closed if a
// session would have to begin on it. The second is of the other family where the service has
// endpoints of it (RFC 8305, Worker+Family); between pods of one family this spares a client the
// time-out of one that is gone.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    /// When a dial is looked at first.
    func firstLook(_ link: Link, _ pool: PoolLink) -> UInt64 {
        // One race a request.
        let isLate =
            !hasOtherEndpoints(link) || link.it.triedCount > 2 || !otherDial(of: link).isNone
        return now + (isLate ? limits.connectNanosecondsMax : limits.raceNanoseconds)
    }

    /// The time of a dial is over, or its first look has come.
    func dialExpired(_ upstream: Link) {
        let end = upstream.it.openedAt + limits.connectNanosecondsMax
        let client = upstream.it.partner
        if !client.isNone { noteBroken(client, upstream.it.pool.it.endpoint.address) }
        if now >= end {
            if client.isNone { loseRace(upstream) } else { connectFailed(upstream, isLate: true) }
            return
        }
        timers.arm(upstream, at: end)
        guard !client.isNone, client.it.exchange.isDialing else { return }
        tally.count(.races)
        standBy(upstream, for: client)
        client.it.partner = .none
        obtain(client, anew: false)
    }

    /// The client's dial has failed, or did not begin: the other one of its race, if that is under
    /// way still, is the only one again.
    func fallBack(_ client: Link) -> Bool {
        let upstream = otherDial(of: client)
        client.it.waiter = .none
        guard !upstream.isNone else { return false }
        upstream.it.waiter = .none
        let isConnected = upstream.it.phase == .standingBy
        attachAgain(client, upstream)
        if isConnected, begin(upstream) { established(upstream) }
        return true
    }

    /// Whether the other dial of the client's race is connected.
    func hasStandBy(_ client: Link) -> Bool {
        let other = otherDial(of: client)
        return !other.isNone && other.it.phase == .standingBy
    }

    /// The client is served by the other dial of its race, or its exchange is over.
    func dismissStandBy(of client: Link) {
        let upstream = raced(by: client)
        guard !upstream.isNone, upstream.it.phase == .standingBy else { return }
        client.it.waiter = .none
        upstream.it.waiter = .none
        keepUnused(upstream)
    }

    /// The dial that goes on beside the client's own, if there is one.
    func otherDial(of client: Link) -> Link {
        let upstream = raced(by: client)
        guard !upstream.isNone,
            upstream.it.phase == .connecting || upstream.it.phase == .standingBy,
            client.it.exchange.isDialing
        else { return .none }
        return upstream
    }

    /// What a race has put beside the client's own dial. The records may be others' by now.
    private func raced(by client: Link) -> Link {
        let upstream = client.it.waiter
        guard !upstream.isNone, upstream.it.role == .upstream, upstream.it.waiter == client,
            upstream.it.waiterSince == client.it.startedAt
        else { return .none }
        return upstream
    }

    /// A dial that nobody waits for any more, or not only for it, has ended.
    func raceEnded(_ upstream: Link) {
        guard engine_socket_error(upstream.it.descriptor) == 0 else {
            loseRace(upstream)
            return
        }
        let client = upstream.it.waiter
        // The record is never freed, but may be another connection's by now.
        let waits =
            !client.isNone && client.it.role == .downstream && client.it.phase != .dead
            && client.it.startedAt == upstream.it.waiterSince && client.it.exchange.isDialing
            && client.it.waiter == upstream
        let other = waits ? client.it.partner : .none
        if waits, !other.isNone, other.it.phase == .connecting {
            upstream.it.waiter = .none
            standBy(other, for: client)
            attachAgain(client, upstream)
            client.it.brokenFamily = .any
            // A session begins where TCP has won; the other goes on in case that it fails.
            if begin(upstream) { established(upstream) }
            return
        }
        // One that has ended already would be told of by no further event.
        if waits, !other.isNone, other.it.phase == .handshaking, !upstream.it.isEnding {
            upstream.it.phase = .standingBy
            // That handshake began before, and is over by then.
            timers.arm(
                upstream, at: now + limits.handshakeNanosecondsMax + limits.raceNanoseconds)
            return
        }
        keepUnused(upstream)
    }

    /// Nobody has spoken on it: a handshake would be for nobody.
    private func keepUnused(_ upstream: Link) {
        if upstream.it.session.isNone, !upstream.it.canRead {
            keepIdle(upstream)
        } else {
            close(upstream)
        }
    }

    /// A dial goes on beside another of its client's. It notes which endpoint it is for.
    private func standBy(_ upstream: Link, for client: Link) {
        upstream.it.partner = .none
        upstream.it.waiter = client
        upstream.it.waiterSince = client.it.startedAt
        client.it.waiter = upstream
        upstream.it.endpoint = client.it.endpoint
        upstream.it.destination = client.it.destination
    }

    /// It is the client's again, and so is what was chosen with it.
    private func attachAgain(_ client: Link, _ upstream: Link) {
        leaveEndpoint(client)
        returnToEndpoint(client, upstream.it.endpoint)
        client.it.destination = upstream.it.destination
        client.it.upstreamPeer = upstream.it.pool.it.endpoint
        upstream.it.endpoint = -1
        attach(client, upstream)
    }

    /// Puts a connection that nobody has spoken on into its pool.
    func keepIdle(_ upstream: Link) {
        guard upstream.it.pool.it.idleCount < Int32(limits.idleUpstreamsMax) else {
            close(upstream)
            return
        }
        countUpstream(upstream, -1)
        upstream.it.phase = .idle
        countUpstream(upstream, 1)
        pools.putIdle(upstream)
        timers.arm(upstream, at: now + limits.idleUpstreamNanosecondsMax)
    }

    private func loseRace(_ upstream: Link) {
        tally.count(.dialFailures)
        let client = upstream.it.waiter
        // The record may be another connection's by now.
        if !client.isNone, client.it.role == .downstream, client.it.phase != .dead,
            client.it.waiter == upstream, client.it.startedAt == upstream.it.waiterSince,
            client.it.exchange.isDialing
        {
            client.it.waiter = .none
            client.it.exchange.noteFailure()
        }
        close(upstream)
    }
}
