// A request in chunks to a server that knows none: the last answer of its service port was one of
// HTTP/1.0 (RFC 9112 section 6.1). What its chunks hold is gathered in `request` behind a head that
// has room for the length, and goes when all of it is there; trailers are dropped (RFC 9110 section
// 6.5.1). Receives bytes from Worker+Downstream, hands on the whole to `passOn`.
//
// Its upstream waits meanwhile as one that is kept alive. Nothing was sent to it, so where it ends
// or speaks, another is dialled when there is something to send.

internal import MeshModel

extension Worker {
    /// Room for the length in a head that is written before it is known.
    private static let lengthDigits = 8

    /// Whether the request's chunks must be taken apart.
    @inline(__always)
    func mustGather(_ link: Link) -> Bool {
        link.it.framing.kind == .chunked && knowsOldServers && !link.it.wantsUpgrade
            && configs[Int(link.it.configSlot)].oldServerSeen[Int(link.it.port)] > 0
    }

    /// Nothing of the request was sent, nor will be before all of its body has come.
    @inline(__always)
    func gathers(_ link: Link) -> Bool { link.it.framing.decodes && !link.it.framing.isDone }

    /// Takes apart what has come with the head, and from here on what comes behind.
    func beginGathering(_ link: Link, _ base: UnsafeMutablePointer<UInt8>, _ bodyEnd: Int) {
        var framing = BodyFraming.chunked()
        framing.decodes = true
        // Cannot fail: the same bytes were found good before.
        unsafe _ = framing.take(base, head.end, bodyEnd, kept: &stagedCount)
        link.it.framing = framing
    }

    /// The last field of the head.
    func writeLength(_ link: Link) {
        writer.append("Content-Length: ")
        if link.it.framing.isDone {
            writer.append(decimal: stagedCount)
        } else {
            // White space before a value is no part of it (RFC 9112 section 5).
            for _ in 0..<Self.lengthDigits { writer.append(" ") }
        }
        writer.append("\r\n")
        // With the empty line.
        link.it.headBytes = UInt32(writer.count + 2)
    }

    /// The upstream is there, the body is not: its client is told to send it, which a server of
    /// HTTP/1.0 would not do (RFC 9110 section 10.1.1).
    func awaitBody(_ link: Link) {
        keepStaged(link)
        link.it.partner.it.wasReused = true
        guard link.it.awaitsContinue else { return }
        beginBody(link)
        writer.reset()
        writer.append("HTTP/1.1 100 Continue\r\n\r\n")
        if unsafe !transmit(link, writer.base, writer.count) {
            perform(link.it.exchange.on(.downstreamGone), link)
        }
    }

    /// What `passBody` does for others. Answers where the body's bytes end; -1: it was refused.
    func gather(
        _ link: Link, _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int
    ) -> Int {
        var kept = 0
        let stop = unsafe link.it.framing.take(base, start, end, kept: &kept)
        guard stop >= 0 else {
            refuse(link, link.it.framing.refusal)
            return -1
        }
        link.it.receivedBytes += UInt64(stop - start)
        guard link.it.request.count + kept <= limits.pendingBytesMax else {
            forgetOldServer(link)
            answerLast(link, .lengthRequired)
            return -1
        }
        if kept > link.it.request.room, lacksBuffers(link) {
            answerLast(link, .overloaded)
            return -1
        }
        // Cannot fail: what may be held fits in the largest block.
        unsafe _ = buffers.append(&link.it.request, base + start, kept)
        if link.it.framing.isDone { link.it.phase = .waiting }
        return stop
    }

    /// All of the body is there.
    func sendGathered(_ link: Link) {
        guard let base = unsafe link.it.request.base else { return }
        let headBytes = Int(link.it.headBytes)
        // The last digit stands before two line ends.
        var (place, rest) = (headBytes - 5, link.it.request.count - headBytes)
        repeat {
            // Inside: no more digits than the head has room for.
            unsafe base[place] = 48 + UInt8(rest % 10)
            (place, rest) = (place - 1, rest / 10)
        } while rest > 0
        var method = ByteRange.empty
        while unsafe base[method.upper] != 0x20 { method = ByteRange(0, method.upper + 1) }
        link.it.isResendable =
            unsafe !link.it.hasLetGo && link.it.request.count <= limits.resendBytesMax
            && isIdempotent(base, method)
        let upstream = link.it.partner
        if !upstream.isNone {
            // Who can go nowhere else is served by one that takes nothing new, too.
            let hasOthers = isByCurrent(link) && link.it.exchange.attempts < limits.attemptsMax
            if hasOthers, isOver(upstream) {
                dropUpstream(link)
            } else {
                dropUnlessQuiet(upstream, for: link)
            }
        }
        guard link.it.partner.isNone else {
            passOn(link)
            return
        }
        // Nobody looked at a request without an upstream: by rules that are not in force it goes
        // nowhere, and without its rule nobody knows where.
        letGoIfOld(link)
        let mayGo = isByCurrent(link)
        // Who was sent nothing is no endpoint that was tried; those before it did not connect.
        if link.it.triedCount == 1 { link.it.triedCount = 0 }
        perform(
            link.it.exchange.on(.upstreamEnded(wasReused: true, isResendable: mayGo)), link)
    }

    /// A look at the upstream of a request that is gathered.
    func dropUnlessQuiet(_ upstream: Link, for link: Link) {
        if !upstream.it.isEnding, isStillQuiet(upstream) {
            upstream.it.canRead = false
        } else {
            dropUpstream(link)
        }
    }

    // MARK: Which servers know no chunks

    /// Notes of which version the answer is whose head was read.
    func noteVersion(_ client: Link) {
        // Whoever stands before a server says so for it, in whatever version (RFC 9110 section
        // 15.6).
        guard let (slot, port) = servicePort(client), !(502...504).contains(head.status) else {
            return
        }
        if head.minor == 0 {
            configs[slot].oldServerSeen[port] = now
            knowsOldServers = true
        } else if configs[slot].oldServerSeen[port] > 0 {
            configs[slot].oldServerSeen[port] = 0
        }
    }

    /// A request that is refused gets no answer from which more could be learnt, so what is known
    /// for long is forgotten with it: the next one asks the server again.
    func forgetOldServer(_ link: Link) {
        guard let (slot, port) = servicePort(link) else { return }
        let age = now &- configs[slot].oldServerSeen[port]
        if age >= limits.oldServerNanosecondsMax { configs[slot].oldServerSeen[port] = 0 }
    }

    /// Where what is known of its server stands; `nil`: its request goes to no port, or has let go
    /// of the configuration and has no slot.
    @inline(__always)
    private func servicePort(_ link: Link) -> (slot: Int, port: Int)? {
        let (slot, port) = (Int(link.it.configSlot), Int(link.it.port))
        return slot >= 0 && port >= 0 ? (slot, port) : nil
    }

    /// What is known of the ports of a configuration that takes the place of another.
    ///
    /// - Complexity: linear in ports.
    func oldServers(of config: WorkerConfig, after previous: Int) -> [UInt64] {
        guard knowsOldServers, previous >= 0, let before = configs[previous].config else {
            return [UInt64](repeating: 0, count: config.snapshot.ports.count)
        }
        let known = configs[previous].oldServerSeen
        if before.snapshot.shape === config.snapshot.shape { return known }
        // Their numbers outlive configurations.
        var seen: [UInt32: UInt64] = [:]
        for (index, number) in before.ports.enumerated() where known[index] > 0 {
            seen[number] = known[index]
        }
        return config.ports.map { seen[$0] ?? 0 }
    }
}
