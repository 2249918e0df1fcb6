// Obeying the exchange; replies of our own; ends and accounts; writing to sockets.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    func perform(_ action: Exchange.Action, _ link: Link) {
        switch action {
        case .none, .relay: break
        case .dial: obtain(link, anew: false)
        case .dialAnew:
            tally.count(.retries)
            dropUpstream(link)
            obtain(link, anew: true)
        case .sendRequest: sendRequest(link)
        case .finish: finish(link)
        case .reply(let failure):
            dropUpstream(link)
            if link.it.isOpaque {
                unreachable(link, failure)
            } else {
                reply(link, failure)
            }
        case .abort(let failure):
            if link.it.isOpaque || link.it.phase == .tunnel {
                cut(link, failure)
                return
            }
            // Who does not read would leave what lies in the kernel there for many minutes.
            if failure == .slowReader || endsByClose(link) {
                engine_end_by_reset(link.it.descriptor)
            }
            dropUpstream(link)
            note(failure, link)
            account(link)
            link.it.isBroken = true
            close(link)
        }
    }

    /// Whether the client takes the connection's orderly end for that of the answer, so that only
    /// a reset says that it was cut off.
    private func endsByClose(_ link: Link) -> Bool {
        let upstream = link.it.partner
        // A session without close_notify says it already.
        guard !upstream.isNone, link.it.answerStarted, link.it.session.isNone else { return false }
        let framing = upstream.it.framing
        return framing.kind == .untilClose && !framing.encodes || framing.decodes
    }

    func dropUpstream(_ link: Link) {
        let upstream = link.it.partner
        guard !upstream.isNone else { return }
        link.it.partner = .none
        upstream.it.partner = .none
        close(upstream)
    }

    private func reply(_ link: Link, _ failure: Failure) {
        note(failure, link)
        link.it.status = UInt16(failure.row.status)
        endIfUnread(link)
        writer.reset()
        let reply = ErrorReply(
            row: failure.row, isJSON: link.it.prefersJSON, isHead: link.it.isHead,
            time: now &+ wallOffset)
        link.it.sentBytes = UInt64(reply.writeHead(&writer, requestID(link)))
        if failure == .overloaded { writer.append("Retry-After: 1\r\n") }
        writeConnection(link)
        writer.append("\r\n")
        reply.writeBody(&writer, requestID(link))
        sendReply(link)
    }

    func note(_ failure: Failure, _ link: Link) {
        link.it.flag = failure.row.flag
        link.it.failure = failure.code
        tally.count(failure)
    }

    /// What follows is no request: the rest of a body, or what a client sends into its tunnel
    /// without having waited for it.
    private func endIfUnread(_ link: Link) {
        if !link.it.framing.isDone || link.it.isConnect { link.it.keepsAlive = false }
    }

    private func startReply(_ link: Link, _ status: UInt16) {
        link.it.status = status
        endIfUnread(link)
        writer.reset()
        writer.append("HTTP/1.1 ")
        writer.append(decimal: Int(status))
        writer.append(" ")
        writer.append(reasonPhrase(Int(status)))
        writer.append("\r\nServer: malla\r\nDate: ")
        writer.append(date: Int((now &+ wallOffset) / 1_000_000_000))
        writer.append("\r\nX-Request-ID: ")
        requestID(link).write(&writer)
        writer.append("\r\n")
    }

    private func sendReply(_ link: Link) {
        isStaged = false
        buffers.release(&link.it.request)
        if !link.it.keepsAlive { endWithNext(link) }
        guard unsafe transmit(link, writer.base, writer.count) else {
            account(link)
            close(link)
            return
        }
        finish(link)
    }

    /// The request may be passed on to nobody: we are whom it asks (RFC 9110 section 7.6.2).
    func answerAsLast(_ link: Link, _ base: UnsafeMutablePointer<UInt8>) {
        guard unsafe isSpelt(base, head.method, "OPTIONS") else {
            refuse(link, .traceMethod)
            return
        }
        startReply(link, 200)
        writer.append("Allow: ")
        writer.append(ErrorReply.methods)
        writer.append("\r\nContent-Length: 0\r\n")
        writeConnection(link)
        writer.append("\r\n")
        sendReply(link)
    }

    /// Answers with where to go instead (HTTPRequestRedirectFilter).
    func redirect(
        _ link: Link, _ base: UnsafeMutablePointer<UInt8>, _ redirect: CompiledRedirect,
        _ match: RouteMatch, _ table: CompiledRoutes
    ) {
        let bytes = unsafe Bytes(base, count: head.end)
        startReply(link, redirect.status)
        writer.append("Location: ")
        if let scheme = redirect.scheme {
            writer.append(table.text, scheme)
        } else {
            writer.append(link.it.hasTLS ? "https" : "http")
        }
        writer.append("://")
        if let hostname = redirect.hostname {
            writer.append(table.text, hostname)
        } else if head.host.isEmpty {
            writeDialled(link)
        } else {
            writer.append(bytes, head.host)
        }
        let isSecure = redirect.scheme.map { $0.count == 5 } ?? link.it.hasTLS
        let ordinary: UInt16 = isSecure ? 443 : 80
        // Without a port: the scheme's if one is given, else the listener's.
        let port = redirect.port ?? (redirect.scheme == nil ? link.it.target.port : ordinary)
        if port != ordinary {
            writer.append(":")
            writer.append(decimal: Int(port))
        }
        // The URI of `*` has no path (RFC 9112 section 3.3).
        if isAboutServer(bytes) { head.path = ByteRange(head.path.upper, head.path.upper) }
        writePath(bytes, redirect.path, match, table)
        if head.hasQuery {
            writer.append("?")
            writer.append(bytes, head.query)
        }
        writer.append("\r\nContent-Length: 0\r\n")
        let edits = table.rules[Int(match.rule)].responseEdits
        if !edits.lines.isEmpty { writer.append(table.text, edits.lines) }
        writeConnection(link)
        writer.append("\r\n")
        guard !isHeadTooLarge else {
            perform(link.it.exchange.on(.failed(.tooLarge)), link)
            return
        }
        // The exchange ends here without having begun to dial.
        sendReply(link)
    }

    /// The response is written: the next request, or the end of the connection.
    func finish(_ link: Link) {
        account(link)
        link.it.partner = .none
        link.it.exchange = Exchange(attemptsMax: limits.attemptsMax)
        buffers.release(&link.it.request)
        if link.it.keepsAlive, link.it.framing.isDone {
            link.it.phase = .head
            link.it.needsMore = false
            waitForRequest(link)
            if !link.it.input.isEmpty || link.it.canRead { makeReady(link) }
            return
        }
        link.it.phase = .flushing
        timers.arm(link, at: now + limits.checkNanoseconds)
        if !link.it.isBlocked { endAfterReply(link) }
        if !link.it.isWatched { settle(link) }
    }

    /// How long a connection may wait for its next request.
    var idle: UInt64 {
        drainUntil == nil ? limits.idleNanosecondsMax : limits.drainIdleNanosecondsMax
    }

    /// The first look is whether the answer was taken (`idleExpired`).
    private func waitForRequest(_ link: Link) {
        link.it.quietSince = now
        timers.arm(link, at: now + min(idle, limits.checkNanoseconds))
    }

    private func endAfterReply(_ link: Link) {
        // Unread bytes would turn close(2) into a reset that may overtake the reply.
        let isRead =
            link.it.hasEnded
            || (link.it.framing.isDone && !link.it.canRead && link.it.input.isEmpty
                && link.it.flag != .downstreamInvalid)
        if isRead {
            leave(link)
        } else {
            linger(link)
        }
    }

    /// Closes a connection on which nothing more will be said, unless the kernel has much to send.
    func leave(_ link: Link) {
        if hasRest(link) {
            linger(link)
            return
        }
        // close(2) drops what is held back, should the peer have said more in this moment.
        if link.it.isHeldBack { endSending(link) }
        close(link)
    }

    private func linger(_ link: Link) {
        buffers.release(&link.it.input)
        endSending(link)
        link.it.phase = .lingering
        link.it.quietSince = now
        timers.arm(link, at: now + limits.lingerNanosecondsMax)
        makeReady(link)
    }

    /// Counts and logs the exchange, and lets go of its configuration.
    func account(_ link: Link) {
        if link.it.isOpaque {
            accountOpaque(link)
            return
        }
        guard link.it.configSlot >= 0 || link.it.hasLetGo else { return }
        let duration = now &- link.it.startedAt
        let port = metricPort(link)
        tally.record(
            source: metricSource(link), port: port, status: link.it.status, flag: link.it.flag,
            destination: link.it.destination, duration: duration, tunnel: tunnelUse(link))
        if logsAccess { log(link, duration) }
        let account = link.it.account
        accounts[account].requests &+= 1
        accounts[account].receivedBytes &+= link.it.receivedBytes
        accounts[account].sentBytes &+= link.it.sentBytes
        letGo(link)
        link.it.hasLetGo = false
    }

    /// The number of the port that the exchange was sent to; 0: it was sent nowhere.
    func metricPort(_ link: Link) -> UInt32 {
        if link.it.hasLetGo { return link.it.metricPort }
        return link.it.port >= 0 ? config(link).ports[Int(link.it.port)] : 0
    }

    private func log(_ link: Link, _ duration: UInt64) {
        let record = LogRecord(
            time: link.it.startedAt &+ wallOffset, duration: duration,
            receivedBytes: link.it.receivedBytes, sentBytes: link.it.sentBytes, peer: link.it.peer,
            upstream: link.it.upstreamPeer, status: link.it.status, flag: link.it.flag,
            methodLength: link.it.methodLength, authorityLength: link.it.authorityLength,
            routeLength: link.it.hasLetGo ? link.it.routeLength : 0,
            pathLength: link.it.pathLength, failure: link.it.failure,
            requestIDLength: link.it.requestIDLength, isOpaque: false,
            claimsIdentity: link.it.claimsIdentity, target: link.it.target)
        var isLogged = false
        if link.it.rule >= 0 {
            let table = self.table(link)
            isLogged = unsafe accessLog.append(
                record, text: link.it.logText, route: table.text,
                table.rules[Int(link.it.rule)].label)
        } else {
            isLogged = unsafe accessLog.append(record, text: link.it.logText, route: [], .empty)
        }
        if !isLogged { tally.count(.accessLogDropped) }
    }

    /// What the access log will say of the rule: its text goes with the configuration.
    func keepRoute(_ link: Link) {
        link.it.routeLength = 0
        guard logsAccess, link.it.rule >= 0, let text = unsafe link.it.logText else { return }
        let table = self.table(link)
        let label = table.rules[Int(link.it.rule)].label
        let count = min(label.count, AccessLog.routeBytesMax)
        // Safe: `Connection.textBytes` has room for as many.
        let place = unsafe text + (Connection.textBytes - AccessLog.routeBytesMax)
        for index in 0..<count { unsafe place[index] = table.text[label.lower + index] }
        link.it.routeLength = UInt8(count)
    }

    // MARK: Writing

    /// Sends the bytes, or holds what the socket does not take; `false`: the connection is broken.
    @inline(__always)
    func transmit(_ link: Link, _ bytes: UnsafePointer<UInt8>, _ count: Int) -> Bool {
        unsafe transmit(link, bytes, count, nil, 0)
    }

    func transmit(
        _ link: Link, _ first: UnsafePointer<UInt8>, _ firstCount: Int,
        _ second: UnsafePointer<UInt8>?, _ secondCount: Int
    ) -> Bool {
        if firstCount + secondCount == 0 { return true }
        var sent = 0
        if !link.it.isBlocked {
            sent = unsafe send(link, first, firstCount, second, secondCount)
            if sent == firstCount + secondCount { return true }
            if sent == -Int(EAGAIN) { sent = 0 }
            if sent < 0 {
                // Records that failed had not left, and frames go with their tunnel; but a session
                // without memory for what the socket left over has sent the rest.
                tookNothing = sent != -Int(ENOMEM)
                noteReset(link, sent)
                return false
            }
        }
        var isHeld = true
        if sent < firstCount {
            isHeld = unsafe buffers.append(&link.it.output, first + sent, firstCount - sent)
        }
        let rest = max(0, sent - firstCount)
        if isHeld, let second = unsafe second, rest < secondCount {
            isHeld = unsafe buffers.append(&link.it.output, second + rest, secondCount - rest)
        }
        if !link.it.isWatched { return watch(link) && isHeld }
        return isHeld
    }

    /// Sends what was written and the body behind it, as one piece where a copy costs less than a
    /// second part in sendmsg(2).
    func sendWritten(_ link: Link, _ body: UnsafePointer<UInt8>, _ count: Int) -> Bool {
        if count <= 4096, writer.count + count <= writer.capacity {
            unsafe writer.append(body, count)
            return unsafe transmit(link, writer.base, writer.count)
        }
        return unsafe transmit(link, writer.base, writer.count, body, count)
    }

    /// The socket takes bytes again.
    func flush(_ link: Link) {
        if link.it.pipe.held > 0 {
            guard drainPipe(link) else {
                broken(link)
                return
            }
            if link.it.pipe.held > 0 { return }
        }
        guard let base = unsafe link.it.output.base else {
            flushed(link)
            return
        }
        let sent = unsafe send(link, base + link.it.output.start, link.it.output.count, nil, 0)
        if sent == -Int(EAGAIN) { return }
        guard sent > 0 else {
            noteReset(link, sent)
            broken(link)
            return
        }
        link.it.output.start += sent
        guard link.it.output.isEmpty else { return }
        buffers.release(&link.it.output)
        flushed(link)
    }

    /// What the kernel told a send of a reset it does not tell the next receive, which would take
    /// the end of what came before for that of the answer. Behind an orderly end it says EPIPE.
    func noteReset(_ link: Link, _ sent: Int) {
        guard sent == -Int(ECONNRESET), link.it.role == .upstream, link.it.phase != .tunnel else {
            return
        }
        link.it.isBroken = true
    }

    /// The socket takes nothing any more: what it may have said before is read.
    private func broken(_ link: Link) {
        dropPipe(link)
        buffers.release(&link.it.output)
        link.it.canRead = true
        link.it.isEnding = true
        if link.it.phase == .tunnel { loseReceiver(link) }
        if link.it.phase == .flushing { close(link) }
    }

    private func flushed(_ link: Link) {
        if link.it.phase == .flushing {
            endAfterReply(link)
        } else if link.it.phase == .head, link.it.role == .downstream {
            waitForRequest(link)
        } else if link.it.phase == .tunnel {
            tunnelFlushed(link)
        }
        makeReady(link.it.partner)
    }
}
