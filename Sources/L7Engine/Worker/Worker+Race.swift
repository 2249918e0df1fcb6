// A dial that takes long gets company: after a quarter of a second a second endpoint is dialled
// too, after another quarter a third, and whichever connects first serves the request. The others
// are kept in their pools when they connect. Between the two addresses of a dual-stack pod this is
// RFC 8305, between pods it spares a client the time-out of those that are gone. Endpoints that a
// request remembers as tried bound it (`Connection.tried`): three dials, of which two wait.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    /// When a dial is looked at first.
    func firstLook(_ link: Link) -> UInt64 {
        now + (mayRace(link) ? limits.raceNanoseconds : limits.connectNanosecondsMax)
    }

    /// Whether another endpoint can be dialled beside those that are.
    private func mayRace(_ link: Link) -> Bool {
        link.it.triedCount < 3 && hasOtherEndpoints(link)
    }

    /// The time of a dial is over, or its first look has come.
    func dialExpired(_ upstream: Link) {
        let end = upstream.it.openedAt + limits.connectNanosecondsMax
        let client = upstream.it.partner
        if now >= end {
            if client.isNone { loseRace(upstream) } else { connectFailed(upstream, isLate: true) }
            return
        }
        timers.arm(upstream, at: end)
        guard !client.isNone, client.it.exchange.isDialing, hasRoomToDial(client) else { return }
        tally.count(.races)
        upstream.it.partner = .none
        upstream.it.waiter = client
        upstream.it.waiterSince = client.it.startedAt
        if !client.it.waiter.isNone { client.it.waiterBefore = client.it.waiter }
        client.it.waiter = upstream
        client.it.partner = .none
        obtain(client, anew: false)
    }

    /// The last dial has failed and an earlier one is still under way: it is the client's again,
    /// and where an endpoint is left that one is dialled beside it at once.
    func fallBack(_ client: Link) -> Bool {
        guard client.it.exchange.isDialing else { return false }
        var upstream = Link.none
        while !client.it.waiter.isNone || !client.it.waiterBefore.isNone {
            upstream = client.it.waiter
            client.it.waiter = client.it.waiterBefore
            client.it.waiterBefore = .none
            if isDialledFor(client, upstream) { break }
            upstream = .none
        }
        guard !upstream.isNone else { return false }
        upstream.it.waiter = .none
        client.it.exchange.noteFailure()
        attach(client, upstream)
        client.it.upstreamPeer = upstream.it.pool.it.endpoint
        if mayRace(client) { timers.arm(upstream, at: now) }
        return true
    }

    /// The record is never freed, but may be another connection's by now.
    private func isDialledFor(_ client: Link, _ upstream: Link) -> Bool {
        !upstream.isNone && upstream.it.role == .upstream && upstream.it.phase == .connecting
            && upstream.it.waiter == client && upstream.it.waiterSince == client.it.startedAt
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
        let other = waits ? client.it.partner : .none
        if waits, !other.isNone, other.it.phase == .connecting {
            other.it.partner = .none
            other.it.waiter = client
            other.it.waiterSince = 0
            attach(client, upstream)
            client.it.upstreamPeer = upstream.it.pool.it.endpoint
            // A session begins where TCP has won.
            if begin(upstream) { established(upstream) }
            return
        }
        if upstream.it.session.isNone { keepIdle(upstream) } else { close(upstream) }
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
            client.it.waiter == upstream || client.it.waiterBefore == upstream,
            client.it.startedAt == upstream.it.waiterSince, client.it.exchange.isDialing
        {
            if client.it.waiter == upstream { client.it.waiter = .none }
            if client.it.waiterBefore == upstream { client.it.waiterBefore = .none }
            client.it.exchange.noteFailure()
        }
        close(upstream)
    }
}
