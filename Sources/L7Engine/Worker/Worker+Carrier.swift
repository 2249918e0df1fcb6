// Carriers: the connections between nodes that carry others (HBONE). A carrier is mutual TLS with
// HTTP/2 on it; each of its CONNECT streams is a connection without a socket, which the rest of the
// worker serves as any other. Here is what both ends do; Worker+CarrierClient opens streams,
// Worker+CarrierServer takes them.
//
// What the streams of one turn write leaves at its end, in one piece a carrier (`flushCarriers`).
//
// - Source: docs/hbone.md.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    /// Where pods take tunnels.
    static var tunnelPort: UInt16 { 15008 }

    /// Enters the set; what is there already is reported.
    func watchCarrier(_ carrier: Link) -> Bool {
        engine_watch(set, carrier.it.descriptor, Self.edges, carrier.token) == 0
    }

    /// An event of a carrier's socket.
    func pumpCarrier(_ carrier: Link) {
        carrier.it.canRead = true
        noteEnding(carrier)
        if carrier.it.phase == .handshaking, !greet(carrier) { return }
        guard carrier.it.phase == .tunnel else { return }
        // A socket that takes bytes again is an event like any other.
        soil(carrier)
        receiveCarrier(carrier)
    }

    /// Goes on with the handshake; `true`: streams may flow.
    func greet(_ carrier: Link) -> Bool {
        let result = shakeHands(carrier)
        if result == 0 {
            if carrier.it.isServer { noteProgress(of: carrier) }
            return false
        }
        guard result > 0 else {
            let why = meshFailure(carrier)
            turnAway(carrier, why, why == .nameMismatch ? .wrongPeer : .handshake)
            return false
        }
        guard speaksHTTP2(carrier) else {
            turnAway(carrier, .protocolUnknown, .notHTTP2)
            return false
        }
        guard isStillBelieved(carrier) else { return false }
        if carrier.it.isServer {
            handshakeEnded(carrier)
            carrier.it.phase = .tunnel
            carrier.it.tunnel = HBONETunnel(
                over: carrier.it.session, carrier.it.descriptor, isServer: true,
                windowMax: limits.tunnelWindowBytesMax, limits)
        } else {
            carrier.it.phase = .tunnel
        }
        guard !carrier.it.tunnel.isNone else {
            endCarrier(carrier, .memory)
            return false
        }
        if carrier.it.isServer {
            countBytes(of: carrier)
            chargeReceived(carrier, to: receiver(of: carrier))
            nameSource(of: carrier)
        }
        noteOpened(carrier)
        tally.count(side(carrier), .none)
        tally.count(.opened(side(carrier)))
        tally.count(.open(side(carrier)))
        carrier.it.quietSince = now
        carrier.it.takesUntil = lastMoment(of: carrier)
        soil(carrier)
        timers.arm(carrier, at: now + limits.tunnelPingNanoseconds)
        if showsOld(carrier) { drainCarrier(carrier) }
        return true
    }

    /// For the metrics: a pod is known by its address, others by what they have proved.
    private func nameSource(of carrier: Link) {
        let pods = configs[current].config?.snapshot.workloadsByAddress
        guard pods?[carrier.it.peer.address] == nil, let text = peerID(of: carrier),
            let id = try? SPIFFEID(text)
        else { return }
        carrier.it.source = names.number(of: id)
    }

    /// Of a peer that does not take our answers nothing more is read: they would pile up.
    private func isStalled(_ carrier: Link) -> Bool {
        guard carrier.it.tunnel.isFull else {
            carrier.it.stalledSince = 0
            return false
        }
        if carrier.it.stalledSince == 0 { carrier.it.stalledSince = now }
        return true
    }

    private func receiveCarrier(_ carrier: Link) {
        while carrier.it.canRead, !isStalled(carrier) {
            if let reason = excessOfStreams(carrier) {
                pause(carrier, reason)
                break
            }
            switch unsafe carrier.it.tunnel.receive(scratch, limits.receiveBytesMax) {
            case .again: movedBytes += limits.receiveBytesMax / 4
            case .nothing: carrier.it.canRead = false
            case .ended:
                let isFlood = hasFlooded(carrier)
                if isFlood { tally.count(.floods(side(carrier))) }
                endCarrier(carrier, isFlood ? .flood : carrier.it.tunnel.end)
                return
            }
            if carrier.it.canRead, yields(carrier) { break }
        }
        deliver(carrier)
    }

    // MARK: What streams hold

    /// Bytes that come on its streams and are not read are charged to the account.
    func chargeReceived(_ carrier: Link, to account: Int32) {
        carrier.it.holder = account
        unsafe carrier.it.tunnel.charge(accounts.bufferBytes(account), streamBytes)
    }

    /// Its bytes, from the first on.
    func countBytes(of carrier: Link) {
        let side = side(carrier)
        // Safe: the tally outlives its worker's tunnels.
        unsafe carrier.it.tunnel.count(
            received: tally.word(.received(side)), sent: tally.word(.sent(side)))
    }

    /// The pod that sends, where it has an account; else the one that should read: a Gateway, or a
    /// host outside, sends to several for many.
    private func receiver(of carrier: Link) -> Int32 {
        guard carrier.it.account < AccountNumbers.outsideCount else { return carrier.it.account }
        let own = account(of: carrier.it.target.address)
        return own >= AccountNumbers.outsideCount ? own : carrier.it.account
    }

    /// Why it is not to be read now: its streams hold something, and their account twice as much as
    /// it may. Short of that each stream that is not read stands still by itself; only a peer that
    /// fills more windows than the account has memory for comes here.
    @inline(__always)
    private func excessOfStreams(_ carrier: Link) -> Shed? {
        // What a peer that has ended has sent is with the socket: it is not much.
        guard carrier.it.holder > 0, !carrier.it.isEnding, carrier.it.tunnel.held > 0 else {
            return nil
        }
        return excessOfStreams(carrier.it.holder)
    }

    /// Leaves what comes with the socket: its peer is slowed down.
    private func pause(_ carrier: Link, _ reason: Shed) {
        guard !carrier.it.isPaused else { return }
        carrier.it.isPaused = true
        carrier.it.seenBytes = .max
        paused.append(carrier)
        tally.count(.paused(side(carrier)))
        shed(carrier.it.holder, reason)
    }

    /// At the end of a turn: streams were read, or ended.
    func resumeCarriers() {
        if paused.isEmpty { return }
        paused.removeAll { carrier in
            guard excessOfStreams(carrier) == nil else { return false }
            carrier.it.isPaused = false
            makeReady(carrier)
            return true
        }
    }

    /// Of one that has stood still for a whole interval those streams are cut off that hold most,
    /// until there is room again, or half is given back. The others go on.
    private func pausedExpired(_ carrier: Link) {
        let held = carrier.it.tunnel.held
        if carrier.it.seenBytes == UInt64(held) {
            while carrier.it.tunnel.held > held / 2, excessOfBuffers(carrier.it.holder) != nil,
                carrier.it.tunnel.relieve()
            { tally.count(.reset(side(carrier), .overload)) }
            soil(carrier)
        }
        carrier.it.seenBytes = UInt64(carrier.it.tunnel.held)
        timers.arm(carrier, at: now + limits.tunnelPingNanoseconds)
    }

    /// Tells streams what is new.
    func deliver(_ carrier: Link) {
        while let stream = carrier.it.tunnel.next() {
            let news = stream.news()
            let owner = stream.owner
            if news.contains(.reset), stream.isMistaken {
                tally.count(.reset(side(carrier), .protocolError))
            }
            if owner.isNone {
                // Given up before it was looked at: nobody else frees it.
                if news.contains(.reset) {
                    stream.refuse(503)
                } else if news.contains(.opened) {
                    serveStream(carrier, stream)
                }
                continue
            }
            var events: UInt32 = 0
            if !news.isDisjoint(with: [.readable, .answered]) { events |= EPOLLIN.rawValue }
            if news.contains(.writable) { events |= EPOLLOUT.rawValue }
            if news.contains(.reset) {
                owner.it.isReset = stream.isCut
                events |= EPOLLIN.rawValue | EPOLLRDHUP.rawValue
            }
            note(owner, events)
        }
    }

    /// Something waits to be sent: at the end of the turn, with all else of this carrier.
    @inline(__always)
    func soil(_ carrier: Link) {
        if carrier.isNone || carrier.it.isSoiled { return }
        carrier.it.isSoiled = true
        soiled.append(carrier)
    }

    /// Sends what the streams of this turn wrote.
    func flushCarriers() {
        if soiled.isEmpty { return }
        var at = engine_cycles()
        var index = 0
        while index < soiled.count {
            let carrier = soiled[index]
            index += 1
            carrier.it.isSoiled = false
            guard carrier.it.role == .carrier, carrier.it.phase == .tunnel else { continue }
            let account = carrier.it.account
            charge(account)
            slot.serve(account)
            if carrier.it.tunnel.flush() == .ended {
                endCarrier(carrier, carrier.it.tunnel.end)
            } else {
                deliver(carrier)
                if carrier.it.stalledSince != 0, !isStalled(carrier) { makeReady(carrier) }
                if isSpent(carrier) { endCarrier(carrier, .drained) }
            }
            let spent = engine_cycles() &- at
            at &+= spent
            spend(account, spent, at: at)
        }
        slot.rest()
        soiled.removeAll(keepingCapacity: true)
    }

    /// It drains, and its last stream is gone.
    private func isSpent(_ carrier: Link) -> Bool {
        carrier.it.tunnel.streams == 0 && carrier.it.tunnel.isDraining
    }

    /// A stream's connection is closed: its carrier has something to say.
    func leaveCarrier(_ link: Link) {
        let carrier = link.it.carrier
        link.it.carrier = .none
        if carrier.isNone { return }
        soil(carrier)
        if carrier.it.tunnel.streams == 0 { carrier.it.quietSince = now }
    }

    /// Takes no new streams; it ends with its last one.
    func drainCarrier(_ carrier: Link) {
        guard carrier.it.phase == .tunnel else { return }
        carrier.it.tunnel.drain()
        soil(carrier)
    }

    /// It drains, or a certificate has run out.
    func takesNothingNew(_ carrier: Link) -> Bool {
        carrier.isNone || carrier.it.tunnel.isDraining || hasRunOut(carrier)
    }

    func carrierExpired(_ carrier: Link) {
        guard carrier.it.phase == .tunnel else {
            if carrier.it.phase == .handshaking {
                turnAway(carrier, .timeout, .timeout)
            } else {
                endCarrier(carrier, .timeout)
            }
            return
        }
        if carrier.it.isPaused {
            pausedExpired(carrier)
            return
        }
        let isIdle =
            carrier.it.tunnel.streams == 0
            && now &- carrier.it.quietSince >= limits.carrierIdleNanosecondsMax
        if isIdle {
            endCarrier(carrier, .closed)
            return
        }
        let isStalled = isStalled(carrier)
        if isStalled, now &- carrier.it.stalledSince >= limits.tunnelStallNanosecondsMax {
            endCarrier(carrier, .slowReader)
            return
        }
        // What a peer answers is not read while it takes nothing.
        guard isStalled || carrier.it.tunnel.pings == carrier.it.pingsSent else {
            endCarrier(carrier, .timeout)
            return
        }
        if hasRunOut(carrier) { drainCarrier(carrier) }
        if !isStalled {
            carrier.it.pingsSent &+= 1
            carrier.it.tunnel.ping()
        }
        soil(carrier)
        timers.arm(carrier, at: now + limits.tunnelPingNanoseconds)
    }

    /// The handshake has failed.
    func turnAway(_ carrier: Link, _ why: TLSFailure, _ end: TunnelEnd) {
        tally.count(side(carrier), why)
        noteRefused(carrier, why)
        if carrier.it.isServer { logRefused(carrier, TunnelRefusal.code(of: why)) }
        endCarrier(carrier, end)
    }

    /// A line of the access log for who was refused, who dialled what, and why.
    func logRefused(_ carrier: Link, _ code: UInt8) {
        guard logsAccess else { return }
        let line = LogRecord(
            time: now &+ wallOffset, duration: 0, receivedBytes: 0, sentBytes: 0,
            peer: carrier.it.peer, upstream: SocketAddress(.anyV6, 0), status: 0,
            flag: .downstreamInvalid, methodLength: 0, authorityLength: 0, routeLength: 0,
            pathLength: 0, failure: code, requestIDLength: 0, isOpaque: true,
            target: carrier.it.target)
        if unsafe !accessLog.append(line, text: nil, route: [], .empty) {
            tally.count(.accessLogDropped)
        }
    }

    /// Ends a carrier; its streams hear of it, and what they carried fails or is tried elsewhere.
    func endCarrier(_ carrier: Link, _ why: TunnelEnd, wasRefused: Bool = false) {
        guard carrier.it.phase != .dead else { return }
        if carrier.it.phase == .handshaking, carrier.it.isServer { handshakeEnded(carrier) }
        let wasOpen = carrier.it.phase == .tunnel
        // Whatever else ends it, another one may connect.
        let isUnreached = carrier.it.phase == .connecting && (why == .connect || why == .timeout)
        let unreached = isUnreached ? why : .none
        let wasReached = wasRefused || carrier.it.isServer || carrier.it.phase != .connecting
        if wasOpen {
            tally.count(.open(side(carrier)), by: -1)
            noteEnded(carrier)
        }
        if carrier.it.isPaused { paused.removeAll { $0 == carrier } }
        shownIDs[carrier.token] = nil
        tally.count(.ended(side(carrier), why))
        carrier.it.phase = .dead
        timers.remove(carrier)
        if !carrier.it.tunnel.isNone {
            // What it has still to say, a GOAWAY for one.
            if wasOpen, why != .broken { _ = carrier.it.tunnel.flush() }
            carrier.it.tunnel.abort()
            release(carrier, unreached, wasReached: wasReached)
            carrier.it.tunnel.free()
            carrier.it.tunnel = .none
        }
        carrier.it.isBroken = why != .closed && why != .drained
        endSession(carrier)
        Glibc.close(carrier.it.descriptor)
        if carrier.it.isServer {
            connectionsOpen -= 1
            if carrier.it.account < AccountNumbers.outsideCount { outsideOpen -= 1 }
            tally.count(.connectionsClosed)
            accounts[carrier.it.account].connectionsClosed &+= 1
        }
        if !carrier.it.pool.isNone {
            carriers.removeIdle(carrier)
            carriers.leave(carrier)
        }
        gone.append(carrier)
    }

    /// The streams of a carrier that has ended live on until their owners have read what came.
    private func release(_ carrier: Link, _ unreached: TunnelEnd, wasReached: Bool) {
        while let stream = carrier.it.tunnel.next() {
            _ = stream.news()
            let owner = stream.owner
            if owner.isNone { continue }
            owner.it.carrier = .none
            owner.it.unreached = unreached
            if !wasReached, !owner.it.partner.isNone {
                noteBroken(owner.it.partner, carrier.it.peer.address)
            }
            owner.it.isReset = stream.isCut
            note(owner, EPOLLIN.rawValue | EPOLLRDHUP.rawValue)
        }
    }
}
