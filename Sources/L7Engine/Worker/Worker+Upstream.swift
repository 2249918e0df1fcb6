// Bytes of an upstream -> responses.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    func pumpUpstream(_ link: Link) {
        while true {
            switch link.it.phase {
            case .head:
                if !receiveResponse(link) { return }
                if link.it.phase == .head, yields(link) { return }
            case .body: if !streamResponse(link) || yields(link) { return }
            case .sensing: if !hear(link) { return }
            case .tunnel: if !moveTunnel(link) || yields(link) { return }
            case .idle:
                // It ended, or it speaks unasked: of no use any more.
                if link.it.canRead, link.it.session.isNone || !isQuiet(link) { close(link) }
                return
            case .standingBy:
                if link.it.isEnding { close(link) }
                return
            case .waiting, .connecting, .handshaking, .flushing, .lingering, .dead: return
            }
        }
    }

    private func receiveResponse(_ link: Link) -> Bool {
        let client = link.it.partner
        guard !client.isNone, !client.it.isBlocked, link.it.canRead else { return false }
        if gathers(client) {
            dropUnlessQuiet(link, for: client)
            return false
        }
        if link.it.isUnsent {
            // Whatever it says is no answer.
            ended(link, client)
            return false
        }
        if link.it.input.isEmpty {
            let room = link.it.pool.it.expectsLarge ? limits.headFirstBytes : room(link)
            let count = unsafe receive(link, scratch, room)
            guard count > 0 else {
                if count == 0 { ended(link, client) }
                return false
            }
            let used = unsafe takeResponse(link, client, scratch, 0, count)
            if used >= 0, used < count {
                // Cannot fail: one receive fits in a fresh block.
                unsafe _ = buffers.append(&link.it.input, scratch + used, count - used)
            }
            return used >= 0
        }
        if link.it.input.count + 2048 > link.it.input.capacity, lacksBuffers(client) {
            perform(client.it.exchange.on(.failed(.overloaded)), client)
            return false
        }
        guard link.it.input.count <= limits.headBytesMax, buffers.reserve(&link.it.input, 2048),
            let base = unsafe link.it.input.base
        else {
            perform(client.it.exchange.on(.upstreamInvalid), client)
            return false
        }
        let count = unsafe receive(link, base + link.it.input.end, link.it.input.room)
        guard count > 0 else {
            if count == 0 { ended(link, client) }
            return false
        }
        link.it.input.end += count
        let used = unsafe takeResponse(link, client, base, link.it.input.start, link.it.input.end)
        guard used >= 0 else { return false }
        link.it.input.start = used
        if link.it.input.isEmpty { buffers.release(&link.it.input) }
        return true
    }

    private func ended(_ link: Link, _ client: Link) {
        let isStale = link.it.wasReused && !link.it.hasAnswered
        let mayGoAgain = client.it.isResendable || link.it.isUnsent || wasLost(link, client)
        perform(
            client.it.exchange.on(.upstreamEnded(wasReused: isStale, isResendable: mayGoAgain)),
            client)
    }

    /// The request is kept whole, and nothing of it has left in the tunnel, which has ended.
    private func wasLost(_ link: Link, _ client: Link) -> Bool {
        guard link.it.isStream, client.it.framing.isDone, !client.it.request.isEmpty,
            !client.it.wantsUpgrade, !client.it.hasLetGo
        else { return false }
        return HBONEStream(link.it.session).isUnsent
    }

    /// Relays heads until the final one; answers where unused bytes begin, -1 when the exchange or
    /// the connection is over (nothing may be touched).
    private func takeResponse(
        _ link: Link, _ client: Link, _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int
    ) -> Int {
        var start = start
        link.it.hasAnswered = true
        while start < end {
            switch unsafe HTTP1Parser.response(base, start, end, &head) {
            case .incomplete:
                if end - start <= limits.headBytesMax { return start }
                perform(client.it.exchange.on(.upstreamInvalid), client)
                return -1
            case .refused:
                perform(client.it.exchange.on(.upstreamInvalid), client)
                return -1
            case .complete: break
            }
            if !trapPath.isEmpty { unsafe springTraps(base) }
            if head.status == 101 || (client.it.isConnect && 200..<300 ~= head.status) {
                return unsafe startTunnel(link, client, base, start, end)
            }
            if head.status < 200 {
                link.it.interims += 1
                guard link.it.interims <= limits.interimsMax else {
                    perform(client.it.exchange.on(.upstreamInvalid), client)
                    return -1
                }
                // Informational: to those who know it (RFC 9110 section 15.2).
                if client.it.minor == 1 {
                    unsafe writeInterim(client, base)
                    unsafe _ = transmit(client, writer.base, writer.count)
                    if head.status == 100 { beginBody(client) }
                }
                start = head.end
                continue
            }
            return unsafe startResponse(link, client, base, end)
        }
        return start
    }

    private func springTraps(_ base: UnsafePointer<UInt8>) {
        for index in 0..<head.fieldsCount { unsafe springTrap(base, head.field(index).value) }
    }

    /// The client was told to send its body: its time for that begins.
    func beginBody(_ client: Link) {
        guard client.it.awaitsContinue else { return }
        client.it.awaitsContinue = false
        let look = now + limits.checkNanoseconds
        timers.arm(client, at: min(client.it.requestDeadline, look))
    }

    private func startResponse(
        _ link: Link, _ client: Link, _ base: UnsafeMutablePointer<UInt8>, _ end: Int
    ) -> Int {
        if head.namesFields { unsafe FieldReader.markNamed(base, &head) }
        link.it.framing = BodyFraming.response(head, toHead: client.it.isHead)
        // An old client knows no chunks: it gets what they hold.
        let isOld = client.it.minor == 0
        let decodes = isOld && link.it.framing.kind == .chunked
        link.it.framing.decodes = decodes
        link.it.framing.encodes = !isOld && link.it.framing.kind == .untilClose
        var kept = 0
        let stop = unsafe link.it.framing.take(base, head.end, end, kept: &kept)
        if stop < 0 {
            // Nothing was sent yet: the client is told.
            perform(client.it.exchange.on(.upstreamInvalid), client)
            return -1
        }
        if head.minor == 0 || knowsOldServers { noteVersion(client) }
        link.it.keepsAlive = !head.closes && (head.minor == 1 || head.keepsAlive)
        if link.it.framing.kind == .untilClose {
            link.it.keepsAlive = false
            if isOld { client.it.keepsAlive = false }
        }
        if decodes { client.it.keepsAlive = false }
        if stop < end { link.it.keepsAlive = false }
        // A client that did not wait for its tunnel has sent what is no request.
        if client.it.isConnect { client.it.keepsAlive = false }
        // An answer before the request's end: what still comes of it is not worth waiting for.
        if client.it.phase == .body { client.it.keepsAlive = false }
        unsafe writeResponse(client, base)
        guard !isHeadTooLarge else {
            // The same.
            perform(client.it.exchange.on(.failed(.tooLarge)), client)
            return -1
        }
        _ = client.it.exchange.on(.responseStarted)
        buffers.release(&client.it.request)
        client.it.status = UInt16(head.status)
        client.it.answerStarted = true
        client.it.sentBytes = 0
        if link.it.framing.encodes {
            unsafe writeChunk(client, base + head.end, kept)
            kept = 0
        }
        client.it.sentBytes += UInt64(kept)
        let isLarge = isSpliced(link, client)
        link.it.pool.it.expectsLarge = head.contentLength > Int64(2 * limits.spliceBytesMin)
        client.it.isHeldBack = isLarge && link.it.canRead
        if link.it.framing.isDone, !client.it.keepsAlive { endWithNext(client) }
        guard unsafe sendWritten(client, base + head.end, kept) else {
            perform(client.it.exchange.on(.downstreamGone), client)
            return -1
        }
        if link.it.framing.isDone {
            finishResponse(link, client)
            return -1
        }
        link.it.phase = .body
        return end
    }

    private func writeResponse(_ client: Link, _ base: UnsafeMutablePointer<UInt8>) {
        let bytes = unsafe Bytes(base, count: head.end)
        writer.reset()
        writer.append("HTTP/1.1")
        writer.append(bytes, ByteRange(head.statusLine.lower + 8, head.statusLine.upper))
        if client.it.hasLetGo {
            copyFields(bytes, without: responseDrop(client))
            writeOwnFields(client)
            return
        }
        let table = self.table(client)
        let rule = table.rules[Int(client.it.rule)]
        let backend = table.backends[Int(client.it.backend)]
        copyFields(
            bytes, table, rule.responseEdits, backend.responseEdits,
            without: responseDrop(client))
        writeOwnFields(client)
    }

    private func writeOwnFields(_ client: Link) {
        writeUpgradeOption()
        if client.it.partner.it.framing.encodes {
            writer.append("Transfer-Encoding: chunked\r\n")
        }
        writeConnection(client)
        writer.append("\r\n")
    }

    /// `Connection`, where the version's default is not what happens.
    func writeConnection(_ client: Link) {
        if drainUntil != nil { client.it.keepsAlive = false }
        if !client.it.keepsAlive {
            writer.append("Connection: close\r\n")
        } else if client.it.minor == 0 {
            writer.append("Connection: keep-alive\r\n")
        }
    }

    private func streamResponse(_ link: Link) -> Bool {
        let client = link.it.partner
        guard !client.isNone, !client.it.isBlocked, link.it.canRead else { return false }
        if link.it.framing.encodes { return streamChunk(link, client) }
        if isSpliced(link, client), let answer = spliceResponse(link, client) { return answer }
        let count = unsafe receive(link, scratch, room(link))
        guard count > 0 else {
            push(client)
            if count == 0 { responseEnded(link, client) }
            return false
        }
        var kept = 0
        let stop = unsafe link.it.framing.take(scratch, 0, count, kept: &kept)
        guard stop >= 0 else {
            perform(client.it.exchange.on(.upstreamInvalid), client)
            return false
        }
        if stop < count { link.it.keepsAlive = false }
        client.it.sentBytes += UInt64(kept)
        client.it.isHeldBack = false
        guard unsafe transmit(client, scratch, kept) else {
            perform(client.it.exchange.on(.downstreamGone), client)
            return false
        }
        if link.it.framing.isDone {
            finishResponse(link, client)
            return false
        }
        return true
    }

    /// `nil`: no pipe is to be had, the bytes are copied.
    private func spliceResponse(_ link: Link, _ client: Link) -> Bool? {
        let (result, count) = spliceBody(link, client)
        client.it.sentBytes += UInt64(count)
        switch result {
        case .refused: return nil
        case .nothing: return false
        case .ended:
            responseEnded(link, client)
            return false
        case .broken:
            perform(client.it.exchange.on(.downstreamGone), client)
            return false
        case .moved:
            guard link.it.framing.isDone else { return true }
            finishResponse(link, client)
            return false
        }
    }

    func responseEnded(_ link: Link, _ client: Link) {
        guard link.it.framing.kind == .untilClose, !link.it.isBroken else {
            ended(link, client)
            return
        }
        if link.it.framing.encodes, !sendLastChunk(client) {
            perform(client.it.exchange.on(.downstreamGone), client)
            return
        }
        finishResponse(link, client)
    }

    /// Nothing lies behind the response: no edge would tell of it, and the next exchange would take
    /// it for its answer. Where the last read took all there was, that is known.
    private func isSpent(_ link: Link) -> Bool {
        guard link.it.canRead else { return true }
        guard isQuiet(link) else { return false }
        link.it.canRead = false
        return true
    }

    /// A stream of one client of a Gateway's takes up room that its other clients may need.
    private func isKept(_ upstream: Link) -> Bool {
        guard upstream.it.isStream, upstream.it.pool.it.isNode, !upstream.it.carrier.isNone else {
            return true
        }
        if upstream.it.pool.it.source == .anyV6 { return true }
        var (streams, carrier) = (0, upstream.it.carrier.it.pool.it.idle)
        while !carrier.isNone {
            streams += carrier.it.tunnel.streams
            carrier = carrier.it.idleNext
        }
        return streams <= limits.gatewayStreamsKeptMax
    }

    private func finishResponse(_ link: Link, _ client: Link) {
        let isReusable =
            link.it.keepsAlive && client.it.framing.isDone && !link.it.isEnding
            && !link.it.isBlocked && link.it.input.isEmpty && drainUntil == nil && isSpent(link)
        // The rest of a request that nobody waits for cannot be skipped safely.
        if !client.it.framing.isDone { client.it.keepsAlive = false }
        client.it.partner = .none
        link.it.partner = .none
        if isReusable, link.it.pool.it.idleCount < Int32(limits.idleUpstreamsMax), isKept(link) {
            countUpstream(link, -1)
            link.it.phase = .idle
            countUpstream(link, 1)
            pools.putIdle(link)
            timers.arm(link, at: now + limits.idleUpstreamNanosecondsMax)
        } else {
            close(link)
        }
        perform(client.it.exchange.on(.responseEnded), client)
    }
}
