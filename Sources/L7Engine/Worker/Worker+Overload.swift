// Limits that protect the worker and its other clients: who is turned away, and who is cut off.
// Each turns away with 503 and Retry-After, or ends the connection, and is counted by reason.

internal import CLinux
internal import Glibc

/// Why something was turned away: the label of `malla_requests_shed_total`.
enum Shed: Int, CaseIterable {
    case connections, accountConnections, outsideConnections, buffers, accountBuffers, dials,
        accountDials, descriptors, carriers

    var label: StaticString {
        switch self {
        case .connections: "connections"
        case .accountConnections: "account_connections"
        case .outsideConnections: "outside_connections"
        case .buffers: "buffers"
        case .accountBuffers: "account_buffers"
        case .dials: "dials"
        case .accountDials: "account_dials"
        case .descriptors: "descriptors"
        case .carriers: "tunnels"
        }
    }
}

/// What each account may hold of a worker's buffers once they are used up.
struct BufferShare: BitwiseCopyable {
    var bytes: UInt64 = 0
    var countedAt: UInt64 = 0
}

extension Worker {
    /// Whether a connection just accepted for the account is one too many.
    func excess(_ account: Int32) -> Shed? {
        if connectionsOpen >= limits.connectionsMax { return .connections }
        let open = accounts[account].connectionsOpen
        guard account < AccountNumbers.outsideCount else {
            return open >= UInt64(limits.accountConnectionsMax) ? .accountConnections : nil
        }
        // A quarter is the workloads' alone; behind one address may be a balancer with many users.
        if outsideOpen >= limits.connectionsMax - limits.connectionsMax / 4 {
            return .outsideConnections
        }
        return open >= UInt64(limits.connectionsMax / 2) ? .accountConnections : nil
    }

    /// Whether a descriptor just made is one of those that are kept for the agent's own: the kernel
    /// gives the lowest that is free.
    @inline(__always)
    func isReserved(_ descriptor: Int32) -> Bool {
        guard descriptor >= descriptorsMax else { return false }
        lookAtDescriptors()
        return descriptor >= descriptorsMax
    }

    /// Their limit may change while we run (prlimit): looked at every second, and when it is met.
    func lookAtDescriptors() { descriptorsMax = limits.descriptorsMax }

    func shed(_ account: Int32, _ reason: Shed) {
        tally.countShed(reason)
        accounts[account].shed &+= 1
    }

    func turnAway(_ descriptor: Int32, _ account: Int32, _ reason: Shed) {
        shed(account, reason)
        writeLast(.overloaded)
        unsafe engine_turn_away(descriptor, writer.base, writer.count)
    }

    /// Into the writer: the whole answer to a client of whom no request was read, and who gets no
    /// other.
    func writeLast(_ failure: Failure) {
        writer.reset()
        let reply = ErrorReply(
            row: failure.row, isJSON: false, isHead: false, time: now &+ wallOffset)
        unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 36) { place in
            // Safe: a UUID has 36 bytes, and nothing of them is kept.
            guard let base = place.baseAddress else { return }
            unsafe RequestID.make(base, nextRandom(), nextRandom())
            let id = unsafe RequestID(base, count: 36)
            _ = reply.writeHead(&writer, id)
            if failure == .overloaded { writer.append("Retry-After: 1\r\n") }
            writer.append("Connection: close\r\n\r\n")
            reply.writeBody(&writer, id)
        }
    }

    /// Whether a new request, or more of a head, would need memory that others should have.
    func lacksBuffers(_ link: Link) -> Bool {
        guard let reason = excessOfBuffers(link.it.account) else { return false }
        return shed(link, reason)
    }

    /// What an account that asks for memory has too much of: its own limit, or more than its share
    /// of a worker whose buffers are used up. One that holds little is not shed for others.
    @inline(__always)
    func excessOfBuffers(_ account: Int32) -> Shed? {
        excess(account, above: limits.accountBufferBytesMax, ofAll: limits.bufferBytesMax)
    }

    /// The same of an account whose tunnels' streams hold what nobody reads.
    @inline(__always)
    func excessOfStreams(_ account: Int32) -> Shed? {
        excess(account, above: limits.accountStreamBytesMax, ofAll: limits.streamBytesMax)
    }

    @inline(__always)
    private func excess(_ account: Int32, above own: Int, ofAll all: Int) -> Shed? {
        let held = accounts[account].bufferBytes
        if held > UInt64(own) { return .accountBuffers }
        guard heldBytes > all, held > bufferShare() else { return nil }
        return .buffers
    }

    /// Bytes of memory for what peers have not taken, and of streams for what was not read.
    private var heldBytes: Int { buffers.heldBytes + (unsafe Int(streamBytes.pointee)) }

    /// Of each account that holds anything, as of a hundredth of a second ago; bytes.
    private func bufferShare() -> UInt64 {
        guard now &- share.countedAt > 10_000_000 else { return share.bytes }
        var holders: UInt64 = 0
        for index in 0..<Int32(accounts.count) where accounts[index].bufferBytes > 0 {
            holders += 1
        }
        share = BufferShare(
            bytes: UInt64(limits.bufferBytesMax) / max(1, holders), countedAt: now)
        return share.bytes
    }

    /// Whether a head that is not complete yet may not have the larger block that it needs: its
    /// client is turned away.
    func lacksBuffers(_ link: Link, forMore count: Int) -> Bool {
        let needed = link.it.input.count + count
        guard needed > link.it.input.capacity, needed > BufferPool.leastBytes,
            lacksBuffers(link)
        else { return false }
        turnAway(link, .overloaded)
        return true
    }

    /// What may be read at once for a peer that may not take it: little, once the connection's
    /// account has used up its buffers, or its share of the worker's. One that stands still is not
    /// read again.
    @inline(__always)
    func room(_ link: Link) -> Int {
        excessOfBuffers(link.it.account) == nil
            ? limits.receiveBytesMax : limits.shortReceiveBytes
    }

    /// Whether too many upstreams are being dialled already.
    func excessOfDials(_ link: Link) -> Shed? {
        if dialsOpen >= limits.dialsMax { return .dials }
        let pending = accounts[link.it.account].pending
        return pending >= Int32(limits.accountDialsMax) ? .accountDials : nil
    }

    /// Counts a request that is turned away; always true.
    @discardableResult
    func shed(_ link: Link, _ reason: Shed) -> Bool {
        shed(link.it.account, reason)
        return true
    }

    // MARK: Who stands still

    /// The wheel asks after an exchange: is its time over, does anybody hold it up?
    func check(_ link: Link) {
        if now >= link.it.requestDeadline {
            perform(link.it.exchange.on(.deadline), link)
            return
        }
        if isLost(link) {
            cutLost(link.it.isReset && link.it.hasEnded ? link : link.it.partner)
            return
        }
        if link.it.isOpened { report(link) }
        letGoIfOld(link)
        let total = link.it.receivedBytes &+ link.it.sentBytes
        if total != link.it.seenBytes {
            link.it.seenBytes = total
            link.it.quietSince = now
        }
        if let failure = culprit(link) {
            link.it.keepsAlive = false
            perform(link.it.exchange.on(failure), link)
            return
        }
        timers.arm(link, at: min(link.it.requestDeadline, now + limits.checkNanoseconds))
    }

    private func culprit(_ link: Link) -> Exchange.Event? {
        let quiet = now &- link.it.quietSince
        // A client of a tunnel may stop reading while it thinks; what waits for it is bounded.
        if link.it.phase == .tunnel {
            return quiet >= limits.silenceNanosecondsMax ? .failed(.idleTimeout) : nil
        }
        if link.it.isBlocked { return isReading(link) ? nil : .failed(.slowReader) }
        link.it.takenBytes = 0
        let upstream = link.it.partner
        // Who waits for 100, and has not begun without, is held up by the upstream.
        let isAsked = !link.it.awaitsContinue || link.it.receivedBytes > 0
        let takesMore = gathers(link) || (!upstream.isNone && !upstream.it.isBlocked)
        if link.it.phase == .body, isAsked, takesMore {
            return isSending(link) ? nil : .failed(.bodyTimeout)
        }
        // To begin with its answer, as long as the route says.
        let isGivenTime = link.it.requestDeadline != .max
        let patience =
            link.it.answerStarted
            ? limits.silenceNanosecondsMax : isGivenTime ? .max : limits.firstByteNanosecondsMax
        return quiet >= patience ? .deadline : nil
    }

    /// The same for an answer that is complete but for what the client has not taken: the exchange
    /// is counted already, the time-out is too.
    func checkRest(_ link: Link) {
        if isReading(link) {
            timers.arm(link, at: now + limits.checkNanoseconds)
        } else {
            cutRest(link)
        }
    }

    private func cutRest(_ link: Link) {
        tally.count(.slowReader)
        link.it.isBroken = true
        engine_end_by_reset(link.it.descriptor)
        close(link)
    }

    /// Whether the client has taken enough since the last check; the first check only looks.
    private func isReading(_ link: Link) -> Bool {
        let held = UInt64(link.it.pipe.held + link.it.output.count) &+ unsent(link)
        // More may be held than this answer: those before it, heads. What counts is the difference.
        // Never 0: that says "not looked yet".
        let taken = (link.it.sentBytes &- held) | 1
        let before = link.it.takenBytes
        link.it.takenBytes = taken
        return before == 0
            || Int64(bitPattern: taken &- before) >= Int64(limits.slowBytesMin)
    }

    /// Bytes that the kernel has and the peer has not.
    func unsent(_ link: Link) -> UInt64 {
        UInt64(max(0, engine_unsent(link.it.descriptor)))
    }

    /// Nobody has asked anything for a while: is the last answer not taken yet, or is it time?
    func idleExpired(_ link: Link) {
        if unsent(link) > 0 {
            checkRest(link)
            return
        }
        let end = link.it.quietSince &+ idle
        // Who has never asked anything had its time.
        if link.it.quietSince > 0, now < end {
            timers.arm(link, at: end)
        } else {
            close(link)
        }
    }

    /// Whether the kernel still has much of the connection's last answer.
    func hasRest(_ link: Link) -> Bool {
        link.it.sentBytes > UInt64(limits.closeBytesMax) && !link.it.isBroken && unsent(link) > 0
    }

    /// All is said, and read away what still came; a long answer may not be taken yet.
    func lingerExpired(_ link: Link) {
        guard hasRest(link) else {
            close(link)
            return
        }
        if now &- link.it.quietSince >= limits.checkNanoseconds {
            link.it.quietSince = now
            guard isReading(link) else {
                cutRest(link)
                return
            }
        }
        timers.arm(link, at: now + limits.lingerNanosecondsMax)
    }

    /// Whether the client sends its body: what it has begun at a least rate, and else at all.
    private func isSending(_ link: Link) -> Bool {
        let received = link.it.receivedBytes &- link.it.bodySeen
        link.it.bodySeen = link.it.receivedBytes
        let least = link.it.framing.isOwing() ? limits.slowBytesMin : 1
        return received >= UInt64(least)
    }
}
