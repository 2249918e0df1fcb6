// Bytes of a client -> requests, one at a time: what comes behind a request waits in `input`.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    func pumpDownstream(_ link: Link) {
        while true {
            switch link.it.phase {
            case .head:
                // A client that does not take its answers is not asked what else it wants.
                if link.it.isBlocked { return }
                if !link.it.input.isEmpty, !link.it.needsMore {
                    parseInput(link)
                } else if !receiveHead(link) {
                    return
                }
                // Answered without an upstream, or a head in small pieces.
                if link.it.phase == .head, yields(link) { return }
            case .body: if !streamRequest(link) || yields(link) { return }
            case .sensing: if !sense(link) { return }
            case .tunnel: if !moveTunnel(link) || yields(link) { return }
            case .lingering: if !discard(link) || yields(link) { return }
            case .waiting, .connecting, .standingBy, .handshaking, .idle, .flushing, .dead: return
            }
        }
    }

    private func receiveHead(_ link: Link) -> Bool {
        guard link.it.canRead else { return false }
        if link.it.input.isEmpty {
            let count = unsafe receive(link, scratch, limits.receiveBytesMax)
            guard count > 0 else {
                if count == 0 { leave(link) }
                return false
            }
            let used = unsafe takeHead(link, scratch, 0, count)
            if link.it.phase == .dead { return false }
            if used >= 0, used < count, link.it.phase != .lingering {
                if link.it.needsMore, lacksBuffers(link, forMore: count - used) { return false }
                // Cannot fail: one receive fits in a fresh block.
                unsafe _ = buffers.append(&link.it.input, scratch + used, count - used)
            }
            return true
        }
        if lacksBuffers(link, forMore: 2048) { return false }
        guard link.it.input.count <= limits.headBytesMax, buffers.reserve(&link.it.input, 2048),
            let base = unsafe link.it.input.base
        else {
            refuse(link, .headTooLong)
            return false
        }
        let count = unsafe receive(link, base + link.it.input.end, link.it.input.room)
        guard count > 0 else {
            if count == 0 { leave(link) }
            return false
        }
        let from = link.it.input.end
        link.it.input.end += count
        let bytes = unsafe Bytes(base, count: link.it.input.end)
        if head.isWorthParsing(bytes, link.it.input.start, from) { link.it.needsMore = false }
        return true
    }

    private func parseInput(_ link: Link) {
        guard let base = unsafe link.it.input.base else { return }
        let used = unsafe takeHead(link, base, link.it.input.start, link.it.input.end)
        guard link.it.phase != .dead, used >= 0 else { return }
        link.it.input.start = used
        if link.it.input.isEmpty { buffers.release(&link.it.input) }
    }

    /// Parses and starts one request. Answers where the unused bytes begin; -1: nothing is left.
    private func takeHead(
        _ link: Link, _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int
    ) -> Int {
        if isQuarantined(link.it.account) {
            // Unread: what it sends is what we died of.
            turnAway(link, .quarantined)
            return -1
        }
        switch unsafe HTTP1Parser.request(base, start, end, &head) {
        case .incomplete:
            // A first request has the time that began with the connection; the timer of a kept one
            // is that of its quiet.
            if !link.it.needsMore,
                link.it.quietSince > 0 || link.it.deadline > now + limits.headNanosecondsMax
            {
                // Its quiet is over: each line that comes finds it so, and asks for no more time.
                link.it.quietSince = 0
                timers.arm(link, at: now + limits.headNanosecondsMax)
            }
            link.it.needsMore = true
            return start
        case .refused(let refusal):
            unsafe refuseHead(link, base, end, refusal)
            return -1
        case .complete: return unsafe startRequest(link, base, end)
        }
    }

    private func startRequest(
        _ link: Link, _ base: UnsafeMutablePointer<UInt8>, _ end: Int
    ) -> Int {
        if head.namesFields { unsafe FieldReader.markNamed(base, &head) }
        beginExchange(link)
        unsafe keepLogText(link, base)
        unsafe keepRequestID(link, base, head.end)
        if !trapPath.isEmpty { unsafe springTrap(base, head.path) }
        link.it.framing = BodyFraming.request(head)
        let bodyEnd = unsafe link.it.framing.advance(base, head.end, end)
        if bodyEnd < 0 {
            // The exchange has begun: it is refused as one whose body came later.
            link.it.phase = .body
            refuse(link, link.it.framing.refusal)
            return -1
        }
        link.it.receivedBytes = UInt64(bodyEnd - head.end)
        link.it.seenBytes = link.it.receivedBytes
        link.it.phase = link.it.framing.isDone ? .waiting : .body
        if lacksBuffers(link) {
            perform(link.it.exchange.on(.failed(.overloaded)), link)
        } else {
            unsafe route(link, base, bodyEnd)
        }
        return link.it.phase == .lingering || link.it.phase == .dead ? -1 : bodyEnd
    }

    /// Only where a test of the black box has asked for it: by a request's path, and by the value
    /// of an answer's field.
    func springTrap(_ base: UnsafePointer<UInt8>, _ text: ByteRange) {
        guard text.count == trapPath.count else { return }
        for (offset, byte) in trapPath.enumerated()
        where unsafe base[text.lower + offset] != byte {
            return
        }
        fatalError("the trap that a test has asked for")
    }

    private func beginExchange(_ link: Link) {
        tally.count(.requests)
        link.it.exchange = Exchange(attemptsMax: limits.attemptsMax)
        link.it.configSlot = Int32(current)
        if current >= 0 { configs[current].exchanges += 1 }
        link.it.startedAt = now
        link.it.sentBytes = 0
        link.it.rule = -1
        link.it.backend = -1
        link.it.port = -1
        link.it.status = 0
        link.it.flag = .none
        link.it.failure = 0
        link.it.prefersJSON = head.prefersJSON
        link.it.claimsIdentity = head.claimsIdentity
        if head.claimsIdentity {
            tally.count(.identitiesForged)
            noteForged(link)
        }
        link.it.triedCount = 0
        link.it.redials = 0
        link.it.answerStarted = false
        link.it.upstreamPeer = SocketAddress(.anyV6, 0)
        link.it.minor = head.minor
        link.it.isHead = head.isHead
        link.it.isConnect = head.isConnect
        link.it.awaitsContinue = head.expects && head.minor == 1
        link.it.keepsAlive =
            drainUntil == nil && !head.closes && (head.minor == 1 || head.keepsAlive)
        link.it.requestDeadline = .max
        link.it.quietSince = now
        link.it.takenBytes = 0
        link.it.bodySeen = 0
        link.it.endpoint = -1
        link.it.destination = 0
        link.it.isTunnelled = false
        link.it.hasLetGo = false
        timers.arm(link, at: now + limits.checkNanoseconds)
    }

    /// What the access log says of a request is copied now: the bytes will be gone when it ends.
    private func keepLogText(_ link: Link, _ base: UnsafeMutablePointer<UInt8>) {
        guard logsAccess, let text = unsafe link.it.logText else { return }
        let method = min(head.method.count, 16)
        let authority = min(head.authority.count, 64)
        let path = min(head.path.count, Connection.logTextBytes - 80)
        unsafe memcpy(text, base + head.method.lower, method)
        unsafe memcpy(text + method, base + head.path.lower, path)
        unsafe memcpy(text + method + path, base + head.authority.lower, authority)
        link.it.methodLength = UInt8(method)
        link.it.pathLength = UInt16(path)
        link.it.authorityLength = UInt8(authority)
    }

    /// Begins the exchange of a request that is answered without having been understood.
    private func beginUnread(_ link: Link) {
        link.it.framing = BodyFraming()
        beginExchange(link)
        link.it.methodLength = 0
        link.it.pathLength = 0
        link.it.authorityLength = 0
    }

    /// A head or body that must not be served; the connection ends with the answer.
    func refuse(_ link: Link, _ refusal: Refusal) {
        tally.count(refusal)
        turnAway(link, .refused(refusal))
    }

    /// A head of which nothing behind its fault was read: what stands before it says how the
    /// client wants its answer, and by which id.
    private func refuseHead(
        _ link: Link, _ base: UnsafeMutablePointer<UInt8>, _ end: Int, _ refusal: Refusal
    ) {
        tally.count(refusal)
        beginUnread(link)
        unsafe keepRequestID(link, base, end)
        answerLast(link, .refused(refusal))
    }

    func turnAway(_ link: Link, _ failure: Failure) {
        if !link.it.exchange.isActive, link.it.phase == .head {
            head.reset()
            beginUnread(link)
            makeRequestID(link)
        }
        answerLast(link, failure)
    }

    /// Nothing of what the client has sent is read any more.
    func answerLast(_ link: Link, _ failure: Failure) {
        link.it.keepsAlive = false
        buffers.release(&link.it.input)
        perform(link.it.exchange.on(.failed(failure)), link)
    }

    /// Passes on what has come of the request's body; `false`: nothing more now.
    private func streamRequest(_ link: Link) -> Bool {
        let upstream = link.it.partner
        guard upstream.isNone ? gathers(link) : takesBody(upstream) else { return false }
        if !link.it.input.isEmpty, let base = unsafe link.it.input.base {
            let start = link.it.input.start
            let stop = unsafe passBody(link, upstream, base, start, link.it.input.end)
            guard stop >= 0 else { return false }
            link.it.input.start = stop
            if link.it.input.isEmpty { buffers.release(&link.it.input) }
            if link.it.framing.decodes, link.it.framing.isDone { sendGathered(link) }
            return true
        }
        guard link.it.canRead else { return false }
        if !link.it.framing.decodes, isSpliced(link, upstream),
            let answer = spliceRequest(link, upstream)
        {
            return answer
        }
        let count = unsafe receive(link, scratch, room(link))
        guard count > 0 else {
            if count == 0 { perform(link.it.exchange.on(.downstreamGone), link) }
            return false
        }
        let stop = unsafe passBody(link, upstream, scratch, 0, count)
        guard stop >= 0 else { return false }
        if stop < count {
            // Cannot fail: one receive fits in a fresh block.
            unsafe _ = buffers.append(&link.it.input, scratch + stop, count - stop)
        }
        if link.it.framing.decodes, link.it.framing.isDone { sendGathered(link) }
        return true
    }

    @inline(__always)
    private func takesBody(_ upstream: Link) -> Bool {
        upstream.it.phase != .connecting && upstream.it.phase != .handshaking
            && !upstream.it.isBlocked && !upstream.it.isUnsent
    }

    /// `nil`: no pipe is to be had, the bytes are copied.
    private func spliceRequest(_ link: Link, _ upstream: Link) -> Bool? {
        let (result, count) = spliceBody(link, upstream)
        link.it.receivedBytes += UInt64(count)
        switch result {
        case .refused: return nil
        case .nothing: return false
        case .ended:
            perform(link.it.exchange.on(.downstreamGone), link)
            return false
        case .broken:
            lookForAnswer(link, upstream)
            return false
        case .moved:
            if link.it.framing.isDone { link.it.phase = .waiting }
            return true
        }
    }

    /// The upstream takes no more of the request: its answer may have come before it stopped.
    private func lookForAnswer(_ link: Link, _ upstream: Link) {
        upstream.it.canRead = true
        upstream.it.isEnding = true
        link.it.keepsAlive = false
        makeReady(upstream)
        link.it.phase = .waiting
    }

    private func passBody(
        _ link: Link, _ upstream: Link, _ base: UnsafeMutablePointer<UInt8>, _ start: Int,
        _ end: Int
    ) -> Int {
        if link.it.framing.decodes { return unsafe gather(link, base, start, end) }
        let stop = unsafe link.it.framing.advance(base, start, end)
        guard stop >= 0 else {
            refuse(link, link.it.framing.refusal)
            return -1
        }
        link.it.receivedBytes += UInt64(stop - start)
        if link.it.framing.isDone { link.it.phase = .waiting }
        guard unsafe transmit(upstream, base + start, stop - start) else {
            lookForAnswer(link, upstream)
            return -1
        }
        return stop
    }

    /// Reads away what a client still sends that gets no other answer, until it ends or its time is
    /// over.
    private func discard(_ link: Link) -> Bool {
        guard link.it.canRead else { return false }
        let count = unsafe receive(link, scratch, limits.receiveBytesMax)
        // Of an end that came early, the timer looks whether all was taken.
        if count == 0, !hasRest(link) { close(link) }
        return count > 0
    }

    /// A head did not come in time.
    func headExpired(_ link: Link) {
        if !link.it.needsMore, !link.it.input.isEmpty {
            // What came last waits for its account's turn: it may be the head's end.
            timers.arm(link, at: now + 1)
            return
        }
        guard link.it.needsMore else {
            idleExpired(link)
            return
        }
        turnAway(link, .headTimeout)
    }
}
