// Mail and new connections.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    func readMail() {
        let mail = mailbox.take()
        if let config = mail.config { adopt(config) }
        if mail.arePoliciesApplied, current >= 0, let config = configs[current].config {
            endDenied(config.gate)
        }
        if mail.dialsAnew { dialAnew() }
        if let until = mail.drainUntil { startDrain(until, accepts: mail.acceptsMeanwhile) }
        mailbox.acknowledge(mail.number)
    }

    /// Peers send in segments as long as our SYN said. Where that has become too long for the way,
    /// only connections that begin now are of use.
    private func dialAnew() {
        reusedSince = now
        for link in timers.all() where link.it.role == .carrier { drainCarrier(link) }
    }

    /// Exchanges in flight keep the configuration they started with: its slot stays until they end.
    private func adopt(_ config: WorkerConfig) {
        acceptRest(config)
        let previous = current
        let before = previous >= 0 ? configs[previous].config : nil
        let free = configs.firstIndex { $0.config == nil }
        let slot = ConfigSlot(
            config: config, busy: [Int32](repeating: 0, count: config.snapshot.endpoints.count),
            speaksHTTP: [Bool](repeating: false, count: config.snapshot.ports.count),
            oldServerSeen: oldServers(of: config, after: previous))
        if let free {
            configs[free] = slot
            current = free
        } else {
            configs.append(slot)
            current = configs.count - 1
        }
        let gate = previous >= 0 ? configs[previous].config?.gate : nil
        if previous >= 0 { release(previous) }
        if gate !== config.gate { endDenied(config.gate) }
        letGoOfOld()
        // An account never leaves quarantine while this process lives.
        for number in config.quarantined where Int(number) < accounts.count {
            accounts[number].isQuarantined = true
            hasQuarantine = true
        }
        replaceListeners(descriptors(config))
        recheckCarriers(since: before)
        recheckPlain(since: before)
        recheckEndpoints(since: before)
    }

    /// Ends what was dialled for those whom policies no longer admit: the kernel drops its packets
    /// without a word. A request that can be sent again goes to another endpoint.
    private func endDenied(_ gate: PolicyGate) {
        guard !gate.isOpen else { return }
        for link in timers.all() {
            if link.it.role == .upstream, link.it.phase == .idle {
                let pool = link.it.pool
                if !pool.it.isNode,
                    !gate.admits(pool.it.source, to: pool.it.endpoint, asksClient: true)
                {
                    close(link)
                }
                continue
            }
            guard link.it.role == .downstream, link.it.exchange.isActive else { continue }
            let other = otherDial(of: link)
            if denies(gate, link, other) { close(other) }
            guard denies(gate, link, link.it.partner) else { continue }
            charge(link.it.account)
            let goesOn = canSendAgain(link) && hasOtherEndpoints(link)
            if link.it.exchange.isDialing { dropUpstream(link) }
            dialFailed(link, goesOn ? .denied(hasOthers: true) : .failed(.deniedByPolicy))
        }
    }

    private func denies(_ gate: PolicyGate, _ link: Link, _ upstream: Link) -> Bool {
        !upstream.isNone && !upstream.it.pool.isNone
            && !gate.admits(
                link.it.peer.address, to: upstream.it.pool.it.endpoint,
                asksClient: link.it.isOwnCall)
    }

    /// Whether the request is held still, or was not sent yet.
    func canSendAgain(_ link: Link) -> Bool {
        link.it.exchange.isDialing || (link.it.isResendable && !link.it.request.isEmpty)
            || (gathers(link) && !link.it.hasLetGo)
    }

    /// What waits at listeners that are to be closed is accepted by the rules that hold still.
    private func acceptRest(_ config: WorkerConfig) {
        let wanted = descriptors(config)
        for link in listeners
        where !link.it.isCaptured && !wanted.contains(link.it.descriptor) {
            // As many as a queue holds.
            for _ in 0..<256 {
                link.it.batch = 32
                accept(link)
                if link.it.batch < 32 { break }
            }
        }
    }

    /// This worker's own of each socket; -1: not open.
    private func descriptors(_ config: WorkerConfig) -> [Int32] {
        config.listeners.map { number < $0.count ? $0[number] : -1 }
    }

    private func replaceListeners(_ wanted: [Int32]) {
        // Another accepts, and their owner has closed them.
        guard drainUntil == nil || acceptsInDrain else { return }
        var kept: [Link] = []
        for link in listeners {
            let index = wanted.firstIndex(of: link.it.descriptor)
            if link.it.descriptor == capturedListener {
                kept.append(link)
            } else if let index {
                link.it.table = Int32(index)
                if link.it.isOpaque != isTCP(index) { prepare(link, isOpaque: isTCP(index)) }
                kept.append(link)
            } else {
                drop(link)
            }
        }
        listeners = kept
        // Not before the first configuration: what waits in the queue would be answered with 404.
        if capturedListener >= 0, !kept.contains(where: { $0.it.descriptor == capturedListener }) {
            addListener(capturedListener, gateway: -1)
        }
        for (index, descriptor) in wanted.enumerated()
        where descriptor >= 0 && !listeners.contains(where: { $0.it.descriptor == descriptor }) {
            addListener(descriptor, gateway: index)
        }
    }

    private func drop(_ listener: Link) {
        _ = engine_unwatch(set, listener.it.descriptor)
        timers.remove(listener)
        listener.it.phase = .dead
        gone.append(listener)
    }

    /// Their owner may close them from now on.
    private func dropListeners() {
        for link in listeners { drop(link) }
        listeners = []
    }

    /// Whether a Gateway's socket is one for TCP.
    private func isTCP(_ gateway: Int) -> Bool {
        guard gateway >= 0, let config = configs[current].config else { return false }
        return config.snapshot.gatewaySockets[gateway].isTCP
    }

    func addListener(_ descriptor: Int32, gateway: Int) {
        let link = makeConnection(descriptor, .listener)
        link.it.table = Int32(gateway)
        link.it.isCaptured = gateway < 0
        prepare(link, isOpaque: isTCP(gateway))
        link.it.target = localAddress(descriptor)
        _ = engine_watch(set, descriptor, EPOLLIN.rawValue, link.token)
        listeners.append(link)
    }

    /// What it accepts is without Nagle's delay, and the kernel gives up a client that takes
    /// nothing of an answer. Who is not HTTP may rest for longer.
    private func prepare(_ listener: Link, isOpaque: Bool) {
        listener.it.isOpaque = isOpaque
        let standstill = isOpaque ? 0 : limits.standstillMilliseconds
        _ = engine_prepare_listener(listener.it.descriptor, standstill)
    }

    /// Level-triggered: what is not accepted now is reported again. As many are taken in a row as
    /// came the last time, so that few calls find nobody.
    func accept(_ listener: Link) {
        guard listener.it.phase != .dead else { return }
        let batch = listener.it.batch
        var accepted: UInt8 = 0
        defer { listener.it.batch = accepted < batch ? max(1, accepted) : min(batch * 2, 32) }
        while accepted < batch {
            var peer = engine_address()
            let descriptor = unsafe engine_accept(listener.it.descriptor, &peer)
            if descriptor == -EMFILE || descriptor == -ENFILE || descriptor == -ENOMEM
                || descriptor == -ENOBUFS
            {
                pause(listener)
                return
            }
            guard descriptor != -EAGAIN else { return }
            accepted += 1
            guard descriptor >= 0 else { continue }
            let begun = engine_cycles()
            tally.count(.connections)
            let account = account(of: IPAddress(high: peer.high, low: peer.low))
            slot.serve(account)
            defer {
                slot.rest()
                let ended = engine_cycles()
                spend(account, ended &- begun, at: ended)
            }
            if let reason = isReserved(descriptor) ? .descriptors : excess(account) {
                tally.count(.connectionsClosed)
                let isOther =
                    listener.it.isOpaque || speaksTLS(listener)
                    || listener.it.isCaptured && isOpaque(descriptor)
                if isOther {
                    shed(account, reason)
                    engine_close_by_reset(descriptor)
                } else {
                    turnAway(descriptor, account, reason)
                }
                continue
            }
            open(descriptor, peer, account, listener)
        }
    }

    private func open(
        _ descriptor: Int32, _ peer: engine_address, _ account: Int32, _ listener: Link
    ) {
        let link = makeConnection(descriptor, .downstream)
        connectionsOpen += 1
        if account < AccountNumbers.outsideCount { outsideOpen += 1 }
        link.it.exchange = Exchange(attemptsMax: limits.attemptsMax)
        link.it.isCaptured = listener.it.isCaptured
        link.it.isOfAnyAddress = isOfAnyAddress(listener)
        link.it.peer = SocketAddress(IPAddress(high: peer.high, low: peer.low), peer.port)
        link.it.account = account
        accounts[account].connections &+= 1
        // A listener of one address accepts for no other, but where the kernel was told to.
        let isSpecific = !listener.it.isCaptured && !listener.it.target.address.isUnspecified
        link.it.target = isSpecific ? listener.it.target : localAddress(descriptor)
        link.it.phase = .head
        let isCarrier = link.it.target.port == Self.tunnelPort && takesTunnels(link)
        if isQuarantined(account), isCarrier || speaksTLS(listener) {
            refuseUnread(link)
            return
        }
        if isCarrier {
            acceptCarrier(link)
            return
        }
        guard secure(link, from: listener) else {
            close(link)
            return
        }
        let speech = listener.it.isOpaque ? .opaque : speech(of: link)
        if speech == .http, link.it.session.isNone {
            watchLater(link)
        } else if !watch(link) {
            return
        }
        guard begin(link) else { return }
        switch speech {
        case .http:
            let patience =
                drainUntil == nil ? limits.headNanosecondsMax : limits.drainIdleNanosecondsMax
            timers.arm(link, at: now + patience)
        case .detected: startSensing(link)
        case .opaque: startOpaque(link)
        }
    }

    private func localAddress(_ descriptor: Int32) -> SocketAddress {
        var local = engine_address()
        unsafe _ = engine_local_address(descriptor, &local)
        return SocketAddress(IPAddress(high: local.high, low: local.low), local.port)
    }

    /// Out of descriptors: the listener is left alone for a tenth of a second, so that nothing
    /// spins.
    private func pause(_ listener: Link) {
        tally.count(.acceptPaused)
        _ = engine_unwatch(set, listener.it.descriptor)
        timers.arm(listener, at: now + 100_000_000)
    }

    /// The account of the client's workload, or of those outside of the mesh with such addresses.
    func account(of address: IPAddress) -> Int32 {
        let own = ownAccount(of: address)
        return own > 0 ? own : AccountNumbers.outside(address)
    }

    /// The account of the workload that has the address; 0: it has none of its own.
    func ownAccount(of address: IPAddress) -> Int32 {
        guard current >= 0, let config = configs[current].config,
            let index = config.snapshot.workloadsByAddress[address]
        else { return 0 }
        return config.accounts[index]
    }

    /// Whether a client just accepted, and captured, may not be answered in HTTP.
    private func isOpaque(_ descriptor: Int32) -> Bool {
        speech(at: localAddress(descriptor)) != .http
    }

    func resumeListener(_ listener: Link) {
        listener.it.deadline = .max
        guard drainUntil == nil || acceptsInDrain, listener.it.phase != .dead else { return }
        _ = engine_watch(set, listener.it.descriptor, EPOLLIN.rawValue, listener.token)
    }

    private func startDrain(_ until: UInt64, accepts: Bool) {
        let until = min(until, drainUntil ?? .max)
        drainUntil = until
        acceptsInDrain = accepts
        // Another serves already, and accepts from the same sockets.
        if !accepts { dropListeners() }
        for link in timers.all() where link.it.role == .carrier { drainCarrier(link) }
        // Every idle connection waits with a deadline, so the wheel knows them all. A request may
        // be on its way to each: it is answered with `Connection: close`, and only who stays
        // silent for a while is closed.
        let deadline = now + limits.drainIdleNanosecondsMax
        for link in timers.all()
        where link.it.role == .downstream && link.it.input.isEmpty
            && (link.it.phase == .head || link.it.phase == .sensing)
        {
            timers.arm(link, at: min(until, deadline))
        }
    }
}
