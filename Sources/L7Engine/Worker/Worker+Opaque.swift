// A connection that is not HTTP: one upstream, then bytes as they are (Worker+Tunnel), until both
// ends have said their last. What cannot be served is reset, as the kernel would refuse it.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    func startOpaque(_ link: Link) {
        link.it.isOpaque = true
        link.it.phase = .waiting
        beginConnection(link)
    }

    /// Chooses an endpoint of the port that the client dialled, and dials it.
    func beginConnection(_ link: Link) {
        guard current >= 0 else {
            cut(link, .noListener)
            return
        }
        beginOpaque(link)
        if let failure = choosePort(link) {
            cut(link, failure)
        } else if isQuarantined(link.it.account) {
            cut(link, .quarantined)
        } else if lacksBuffers(link) {
            cut(link, .overloaded)
        } else {
            perform(link.it.exchange.on(.routed), link)
        }
    }

    /// Whether two crashes have named the account: nothing of what it sends is read.
    @inline(__always)
    func isQuarantined(_ account: Int32) -> Bool {
        hasQuarantine && accounts[account].isQuarantined
    }

    /// The same of the workload that would answer there.
    @inline(__always)
    func isQuarantined(_ address: SocketAddress) -> Bool {
        hasQuarantine && accounts[ownAccount(of: address.address)].isQuarantined
    }

    /// A quarantined client who would begin with a handshake: that is what we may have died of.
    func refuseUnread(_ link: Link) {
        link.it.isOpaque = true
        beginOpaque(link)
        link.it.port = -1
        cut(link, .quarantined)
    }

    /// It is an exchange of the current configuration from now on.
    private func beginOpaque(_ link: Link) {
        link.it.exchange = Exchange(attemptsMax: limits.attemptsMax)
        link.it.configSlot = Int32(current)
        configs[current].exchanges += 1
        link.it.startedAt = now
        link.it.seenBytes = .max
        link.it.quietSince = now
        link.it.requestDeadline = .max
        link.it.triedCount = 0
        link.it.redials = 0
        link.it.rule = -1
        link.it.flag = .none
        link.it.failure = 0
        link.it.isResendable = false
        link.it.endpoint = -1
        link.it.destination = 0
        link.it.upstreamPeer = SocketAddress(.anyV6, 0)
        link.it.resolvedVersion = .max
        resolve(link)
    }

    /// The service port whose endpoints the connection is for: the one dialled, or what a TCPRoute
    /// says. Answers why there is none.
    private func choosePort(_ link: Link) -> Failure? {
        let config = self.config(link)
        link.it.port = -1
        link.it.metricPort = 0
        if link.it.isCaptured {
            guard let port = entry(of: link, config) else {
                // Another pod, at its own address: there is nothing to choose.
                guard config.snapshot.workloadsByAddress[link.it.target.address] != nil else {
                    return .noListener
                }
                link.it.isDirect = true
                return nil
            }
            link.it.port = Int32(port.value)
            link.it.metricPort = config.ports[port.value]
            if link.it.isDirect || !config.snapshot.ports[port.value].isTCPRouted { return nil }
        }
        guard link.it.table >= 0 else { return .noListener }
        let table = self.table(link)
        guard let rule = table.rules.first else { return .noRoute }
        link.it.rule = 0
        let failure = choose(link, rule, table)
        if link.it.port >= 0 { link.it.metricPort = config.ports[Int(link.it.port)] }
        return failure
    }

    /// The upstream is connected.
    func reached(_ link: Link) {
        let upstream = link.it.partner
        if link.it.isStream { admit(link) }
        if link.it.phase == .sensing {
            upstream.it.phase = .sensing
            if link.it.isStream { hearStream(link) }
        } else {
            _ = join(link, upstream)
        }
    }

    /// There is no upstream to be had.
    func unreachable(_ link: Link, _ failure: Failure) {
        // A stream that is not answered yet says so by its status.
        guard link.it.phase == .sensing, !link.it.isStream else {
            cut(link, failure)
            return
        }
        // It may speak HTTP yet, and a route may lead elsewhere.
        letGo(link)
        link.it.exchange = Exchange(attemptsMax: limits.attemptsMax)
        link.it.search = .failed
    }

    /// From here on bytes pass as they are, those first that were read already; `false`: they
    /// could not, and the connection is over.
    func join(_ link: Link, _ upstream: Link) -> Bool {
        if isJoinedTooLate(link) {
            cut(link, .endpointRemoved)
            return false
        }
        _ = link.it.exchange.on(.switchedProtocols)
        link.it.phase = .tunnel
        upstream.it.phase = .tunnel
        link.it.keepsAlive = false
        upstream.it.keepsAlive = false
        link.it.isOpened = true
        mayRest(link)
        record(link, .none, Tally.OpaqueChange(opened: 1))
        timers.arm(link, at: now + limits.checkNanoseconds)
        if !link.it.input.isEmpty, let early = unsafe link.it.input.base {
            link.it.receivedBytes += UInt64(link.it.input.count)
            let isSent = unsafe transmit(
                upstream, early + link.it.input.start, link.it.input.count)
            buffers.release(&link.it.input)
            if !isSent { loseReceiver(upstream) }
        }
        if link.it.hasEnded, !upstream.it.isBlocked { endSending(upstream) }
        makeReady(link)
        makeReady(upstream)
        return link.it.phase == .tunnel
    }

    /// Ends both sides at once by a reset: nobody takes what has come for all.
    func cut(_ link: Link, _ failure: Failure) {
        let upstream = link.it.partner
        link.it.partner = .none
        if !upstream.isNone {
            upstream.it.partner = .none
            endByReset(upstream)
        }
        note(failure, link)
        account(link)
        link.it.exchange = Exchange()
        endByReset(link)
    }

    private func endByReset(_ link: Link) {
        // A session's orderly end would say that this was all.
        link.it.isBroken = true
        if link.it.isStream {
            refuseUnanswered(link)
            if !link.it.session.isNone { HBONEStream(link.it.session).breakOff() }
        } else {
            engine_end_by_reset(link.it.descriptor)
        }
        close(link)
    }

    // MARK: Counts

    private func record(_ link: Link, _ flag: ResponseFlag, _ change: Tally.OpaqueChange) {
        tally.record(
            source: metricSource(link), port: link.it.metricPort, destination: link.it.destination,
            flag: flag, tunnel: tunnelUse(link), change)
    }

    /// Counts the bytes since the last time. A connection that is open for long lets go of a
    /// configuration that is not in force any more.
    func report(_ link: Link) {
        let received = link.it.receivedBytes &- link.it.reportedReceived
        let sent = link.it.sentBytes &- link.it.reportedSent
        link.it.reportedReceived = link.it.receivedBytes
        link.it.reportedSent = link.it.sentBytes
        record(link, .none, Tally.OpaqueChange(sent: sent, received: received))
        accounts[link.it.account].receivedBytes &+= received
        accounts[link.it.account].sentBytes &+= sent
        if !isByCurrent(link) { letGo(link) }
    }

    /// The end of an opaque connection: what is not counted yet, and a line of the access log.
    func accountOpaque(_ link: Link) {
        guard link.it.isOpened || link.it.configSlot >= 0 else { return }
        let flag = link.it.flag
        if link.it.isOpened {
            report(link)
            record(link, flag, Tally.OpaqueChange(closed: 1))
        } else {
            record(link, flag, Tally.OpaqueChange(opened: 1, closed: 1))
        }
        link.it.isOpened = false
        if logsAccess { logOpaque(link, flag) }
        letGo(link)
    }

    private func logOpaque(_ link: Link, _ flag: ResponseFlag) {
        let line = LogRecord(
            time: link.it.startedAt &+ wallOffset, duration: now &- link.it.startedAt,
            receivedBytes: link.it.receivedBytes, sentBytes: link.it.sentBytes, peer: link.it.peer,
            upstream: link.it.upstreamPeer, status: 0, flag: flag, methodLength: 0,
            authorityLength: 0, routeLength: 0, pathLength: 0, failure: link.it.failure,
            requestIDLength: 0, isOpaque: true, target: link.it.target)
        var isLogged = false
        if link.it.rule >= 0, link.it.configSlot >= 0 {
            let table = self.table(link)
            isLogged = unsafe accessLog.append(
                line, text: nil, route: table.text, table.rules[Int(link.it.rule)].label)
        } else {
            isLogged = unsafe accessLog.append(line, text: nil, route: [], .empty)
        }
        if !isLogged { tally.count(.accessLogDropped) }
    }
}
