// Bytes as they are, both ways, until both ends have closed: after 101, after 2xx to CONNECT, and
// of opaque connections.
// Each direction ends by itself, and by the same kind of end that came: an orderly end is passed on
// when all before it is; a reset resets the other side. While a side takes nothing the other is not
// read, so what waits outside of the sockets is one receive or one pipe.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    /// The upstream switched protocols, or has connected: relays its head and what is behind it.
    func startTunnel(
        _ link: Link, _ client: Link, _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int
    ) -> Int {
        let isExpected = head.status == 101 ? unsafe isOffered(client, base) : client.it.isConnect
        guard isExpected, client.it.framing.isDone else {
            perform(client.it.exchange.on(.upstreamInvalid), client)
            return -1
        }
        guard !isJoinedTooLate(client) else {
            perform(client.it.exchange.on(.failed(.endpointRemoved)), client)
            return -1
        }
        _ = client.it.exchange.on(.switchedProtocols)
        client.it.status = UInt16(head.status)
        client.it.keepsAlive = false
        buffers.release(&client.it.request)
        client.it.phase = .tunnel
        link.it.phase = .tunnel
        link.it.keepsAlive = false
        client.it.requestDeadline = .max
        mayRest(client)
        timers.arm(client, at: now + limits.checkNanoseconds)
        unsafe writeInterim(client, base)
        client.it.sentBytes += UInt64(end - head.end)
        var isSent = unsafe transmit(
            client, writer.base, writer.count, base + head.end, end - head.end)
        if !client.it.input.isEmpty, let early = unsafe client.it.input.base {
            client.it.receivedBytes += UInt64(client.it.input.count)
            isSent =
                unsafe transmit(link, early + client.it.input.start, client.it.input.count)
                && isSent
            buffers.release(&client.it.input)
        }
        guard isSent else {
            cut(client, .downstreamGone)
            return -1
        }
        makeReady(client)
        makeReady(link)
        return end
    }

    /// The client of a tunnel may take nothing for long (`Limits.silenceNanosecondsMax`).
    func mayRest(_ client: Link) {
        if !client.it.isStream { engine_limit_standstill(client.it.descriptor, 0) }
    }

    /// Moves what has come to the other side; `false`: nothing more now.
    func moveTunnel(_ from: Link) -> Bool {
        let to = from.it.partner
        guard !to.isNone, !to.it.isBlocked, from.it.canRead, !from.it.hasEnded else {
            return false
        }
        if from.it.isBulky, let answer = spliceTunnel(from, to) { return answer }
        let count = unsafe receive(from, scratch, room(from))
        if count < 0 { return false }
        if count == 0 {
            tunnelEnded(from, to)
            return false
        }
        countMoved(from, count)
        from.it.isBulky =
            count >= limits.tunnelSpliceBytesMin && from.it.session.isNone && to.it.session.isNone
        if unsafe transmit(to, scratch, count) { return true }
        loseReceiver(to)
        return false
    }

    /// `nil`: no pipe is to be had, the bytes are copied.
    private func spliceTunnel(_ from: Link, _ to: Link) -> Bool? {
        let (result, count) = splice(from, to, limits.tunnelSpliceBytesMax)
        countMoved(from, count)
        switch result {
        case .refused: return nil
        case .nothing:
            from.it.isBulky = false
            return false
        case .ended:
            tunnelEnded(from, to)
            return false
        case .broken:
            loseReceiver(to)
            return false
        case .moved:
            // Little at a time is copied for less.
            from.it.isBulky = count >= limits.tunnelSpliceBytesMin
            return true
        }
    }

    @inline(__always)
    private func countMoved(_ from: Link, _ count: Int) {
        if from.it.role == .downstream {
            from.it.receivedBytes += UInt64(count)
        } else {
            from.it.partner.it.sentBytes += UInt64(count)
        }
    }

    /// Nothing more comes from this side, and all that came was passed on.
    func tunnelEnded(_ from: Link, _ to: Link) {
        let client = from.it.role == .downstream ? from : to
        if from.it.isBroken {
            cutLost(from)
            return
        }
        endSending(to)
        if to.it.hasEnded, !from.it.isBlocked {
            endTunnel(client)
        } else if from.it.isReset {
            passReset(from)
        }
    }

    /// A side that had ended is reset: so is the other, which may say nothing for long, when it has
    /// taken what came before, or after a moment.
    func passReset(_ from: Link) {
        let to = from.it.partner
        guard !to.isNone else { return }
        let client = from.it.role == .downstream ? from : to
        // The end itself counts for one.
        if to.it.isBlocked || (!to.it.isStream && unsent(to) > 1) {
            timers.arm(client, at: now + limits.lingerNanosecondsMax)
        } else {
            cutLost(from)
        }
    }

    /// One of both sides was reset behind its end.
    func isLost(_ client: Link) -> Bool {
        let upstream = client.it.partner
        return client.it.phase == .tunnel
            && (client.it.isReset && client.it.hasEnded
                || !upstream.isNone && upstream.it.isReset && upstream.it.hasEnded)
    }

    /// A side has taken all that waited for it.
    func tunnelFlushed(_ link: Link) {
        let other = link.it.partner
        guard !other.isNone, other.it.hasEnded else { return }
        endSending(link)
        if link.it.hasEnded {
            endTunnel(link.it.role == .downstream ? link : other)
        } else if other.it.isReset {
            passReset(other)
        }
    }

    /// This side takes nothing any more. What it has said before is passed on, then both are reset.
    func loseReceiver(_ link: Link) {
        let other = link.it.partner
        guard !other.isNone else { return }
        dropPipe(link)
        buffers.release(&link.it.output)
        // Nobody will hear more of the other side.
        other.it.hasEnded = true
        if link.it.hasEnded {
            cutLost(link)
            return
        }
        link.it.isBroken = true
        link.it.canRead = true
        link.it.isEnding = true
        makeReady(link)
    }

    /// Resets both sides, of which this one is lost.
    func cutLost(_ side: Link) {
        if side.it.role == .downstream {
            cut(side, .downstreamGone)
        } else {
            cut(side.it.partner, .upstreamEnded)
        }
    }

    private func endTunnel(_ client: Link) {
        let upstream = client.it.partner
        upstream.it.partner = .none
        client.it.partner = .none
        close(upstream)
        account(client)
        client.it.exchange = Exchange()
        close(client)
    }
}
