// The request's head as the upstream gets it, and the upstream that gets it.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    /// Writes the head, keeps what may be needed again, and starts dialling.
    func forward(
        _ link: Link, _ base: UnsafeMutablePointer<UInt8>, _ bodyEnd: Int, _ match: RouteMatch,
        _ table: CompiledRoutes
    ) {
        link.it.wantsUpgrade = head.wantsUpgrade && !head.isConnect
        unsafe stagedBody = UnsafePointer(base + head.end)
        stagedCount = bodyEnd - head.end
        if mustGather(link) { unsafe beginGathering(link, base, bodyEnd) }
        let rule = table.rules[Int(match.rule)]
        unsafe writeRequest(link, base, rule, match, table)
        guard !isHeadTooLarge else {
            perform(link.it.exchange.on(.failed(.tooLarge)), link)
            return
        }
        if link.it.framing.decodes, writer.count + stagedCount > limits.pendingBytesMax {
            forgetOldServer(link)
            perform(link.it.exchange.on(.failed(.lengthRequired)), link)
            return
        }
        link.it.isResendable =
            unsafe link.it.framing.isDone && isIdempotent(base, head.method)
            && writer.count + stagedCount <= limits.resendBytesMax
        isStaged = true
        perform(link.it.exchange.on(.routed), link)
        isStaged = false
    }

    /// With what filters add, the head in the writer is longer than one that may be sent.
    var isHeadTooLarge: Bool { writer.isOver || writer.count > limits.rewrittenHeadBytesMax }

    /// RFC 9110 section 9.2.2; methods have a case (section 9.1).
    func isIdempotent(_ base: UnsafePointer<UInt8>, _ method: ByteRange) -> Bool {
        switch method.count {
        case 3: unsafe isSpelt(base, method, "GET") || isSpelt(base, method, "PUT")
        case 4: unsafe isSpelt(base, method, "HEAD")
        case 5: unsafe isSpelt(base, method, "TRACE")
        case 6: unsafe isSpelt(base, method, "DELETE")
        case 7: unsafe isSpelt(base, method, "OPTIONS")
        default: false
        }
    }

    private func writeRequest(
        _ link: Link, _ base: UnsafeMutablePointer<UInt8>, _ rule: CompiledRule,
        _ match: RouteMatch,
        _ table: CompiledRoutes
    ) {
        let bytes = unsafe Bytes(base, count: head.end)
        writer.reset()
        writer.append(bytes, head.method)
        writer.append(" ")
        if head.isConnect {
            writer.append(bytes, head.authority)
        } else if isAboutServer(bytes) {
            // No path: there is nothing to rewrite.
            writer.append("*")
        } else {
            writePath(bytes, rule.rewritePath, match, table)
        }
        if head.hasQuery {
            writer.append("?")
            writer.append(bytes, head.query)
        }
        writer.append(" HTTP/1.1\r\n")
        var drop: FieldDrop = link.it.isCaptured ? .rewritten : [.rewritten, .edge]
        // The authority of CONNECT is its target: the two may not differ.
        let newHost = head.isConnect ? nil : rule.rewriteHost
        if newHost != nil { drop.insert(.host) }
        if link.it.wantsUpgrade { drop.insert(.allButUpgrade) }
        if link.it.madeRequestID { drop.insert(.requestID) }
        // An old client knows no interim answer (RFC 9110 section 10.1.1).
        if head.minor == 0 { drop.insert(.expect) }
        if link.it.framing.decodes { drop.formUnion([.framing, .expect]) }
        if let host = newHost {
            writer.append("Host: ")
            writer.append(table.text, host)
            writer.append("\r\n")
        } else if !head.hasHost {
            writeHost(link, bytes)
        }
        let backend = table.backends[Int(link.it.backend)]
        copyFields(
            bytes, table, rule.requestEdits, backend.requestEdits, without: drop)
        let own = OwnFields(table, rule.requestEdits, backend.requestEdits)
        writeOrigin(link, bytes, own)
        if link.it.framing.decodes { writeLength(link) }
        writer.append("\r\n")
    }

    /// The target is `*`, of OPTIONS (RFC 9112 section 3.2.4): every path begins with a slash.
    @inline(__always)
    func isAboutServer(_ bytes: Bytes) -> Bool {
        head.path.count == 1 && bytes[head.path.lower] == UInt8(ascii: "*")
    }

    func writePath(
        _ bytes: Bytes, _ path: CompiledPath, _ match: RouteMatch, _ table: CompiledRoutes
    ) {
        switch path.kind {
        case .keep: writer.append(bytes, head.path)
        case .full: writer.append(table.text, path.text)
        case .prefix:
            let before = writer.count
            writer.append(table.text, path.text)
            writer.append(
                bytes, ByteRange(head.path.lower + Int(match.prefixLength), head.path.upper))
            if writer.count == before { writer.append("/") }
        }
    }

    /// Copies the fields as they came, in runs; leaves out what belongs to one hop and what the
    /// rule's filters drop, and puts their lines behind.
    func copyFields(
        _ bytes: Bytes, _ table: CompiledRoutes, _ first: HeaderEdits, _ second: HeaderEdits,
        without drop: FieldDrop
    ) {
        let hasEdits = !first.isEmpty || !second.isEmpty
        var runStart = -1
        var index = 0
        while index < head.fieldsCount {
            let field = head.field(index)
            index += 1
            var drops = drop.drops(field.kind)
            if !drops, hasEdits {
                drops =
                    isDropped(bytes, field.name, first, table)
                    || isDropped(bytes, field.name, second, table)
            }
            if !drops {
                if runStart < 0 { runStart = field.name.lower }
            } else if runStart >= 0 {
                writer.append(bytes, ByteRange(runStart, field.name.lower))
                runStart = -1
            }
        }
        if runStart >= 0 { writer.append(bytes, ByteRange(runStart, head.end - 2)) }
        if hasEdits {
            writer.append(table.text, first.lines)
            writer.append(table.text, second.lines)
        }
    }

    /// The same where no filter has a say.
    func copyFields(_ bytes: Bytes, without drop: FieldDrop) {
        for index in 0..<head.fieldsCount {
            let field = head.field(index)
            if drop.drops(field.kind) { continue }
            let isLast = index + 1 == head.fieldsCount
            let end = isLast ? head.end - 2 : head.field(index + 1).name.lower
            writer.append(bytes, ByteRange(field.name.lower, end))
        }
    }

    private func isDropped(
        _ bytes: Bytes, _ name: ByteRange, _ edits: HeaderEdits, _ table: CompiledRoutes
    ) -> Bool {
        var index = Int(edits.dropsStart)
        while index < Int(edits.dropsEnd) {
            let wanted = table.names[index]
            index += 1
            guard wanted.count == name.count else { continue }
            var isSame = true
            for offset in 0..<name.count {
                let byte = bytes[name.lower + offset]
                let lower = byte &- 0x41 < 26 ? byte | 0x20 : byte
                if lower != table.text[wanted.lower + offset] {
                    isSame = false
                    break
                }
            }
            if isSame { return true }
        }
        return false
    }

    // MARK: Upstream

    /// A pooled connection if there is a good one (and `anew` does not forbid it), else a new one.
    func obtain(_ link: Link, anew: Bool) {
        let anew = anew || link.it.isOpaque
        link.it.isTunnelled = false
        guard var endpoint = link.it.isDirect ? ownEndpoint(link) : pickEndpoint(link) else {
            dialFailed(link, .failed(.noEndpoints))
            return
        }
        // Of a pod itself, for whatever its client dialled.
        if endpoint.port == 0 { endpoint.port = link.it.target.port }
        link.it.upstreamPeer = endpoint
        var source = IPAddress.anyV6
        if isInOwnNamespace, link.it.isCaptured,
            let own = sourceAddress(link, isIPv4: endpoint.address.isIPv4),
            own != endpoint.address,
            // The kernel would ask this pod's policies about a call that it has made to a Gateway.
            link.it.isOwnCall || !isLocalPod(own)
        {
            source = own
        }
        let isNode = source == .anyV6
        guard !refuses(link, endpoint), let identity = identity(link, endpoint) else { return }
        let isTunnelled = identity & TLSTable.tunnelMark != 0
        // The kernel will see the node dial, or a tunnel.
        if isNode || isTunnelled, !isAdmitted(link, endpoint) {
            dialFailed(link, .denied(hasOthers: hasOtherEndpoints(link)))
            return
        }
        if isTunnelled, !link.it.isCaptured, ForwardedElement.isClient(link.it.peer.address) {
            // The pod's node judges for whom a stream is opened: it is one client's.
            source = link.it.peer.address
        }
        let pool = pools.pool(
            source: source, isNode: isNode, endpoint: endpoint, identity: identity)
        while !anew, !pool.it.idle.isNone {
            let upstream = pool.it.idle
            if isOver(upstream) || (mustLook(link, upstream) && !isStillQuiet(upstream)) {
                // The pool may be empty now, but the next dial needs it: hold it.
                pool.it.count += 1
                close(upstream)
                pool.it.count -= 1
                continue
            }
            pools.removeIdle(upstream)
            countUpstream(upstream, -1)
            upstream.it.phase = .head
            countUpstream(upstream, 1)
            upstream.it.deadline = .max
            upstream.it.wasReused = true
            attach(link, upstream)
            link.it.isTunnelled = isTunnelled
            tally.count(.reuses)
            perform(link.it.exchange.on(.connected), link)
            return
        }
        dial(link, pool)
    }

    /// A pooled connection takes no further request.
    @inline(__always)
    func isOver(_ upstream: Link) -> Bool {
        upstream.it.isEnding
            || now &- upstream.it.openedAt > limits.upstreamLifeNanosecondsMax
            || upstream.it.openedAt < reusedSince
            || (upstream.it.isStream && takesNothingNew(upstream.it.carrier))
    }

    /// The endpoint is not to be had in plain text, nor otherwise, or not served at all; and that
    /// is dealt with.
    @inline(__always)
    private func refuses(_ link: Link, _ endpoint: SocketAddress) -> Bool {
        guard let failure = refusal(link, endpoint) else { return false }
        let hasOthers = hasOtherEndpoints(link)
        dialFailed(link, .denied(hasOthers: hasOthers, as: failure))
        return true
    }

    /// The look at a pooled connection before it takes a request. What a session reads for that is
    /// its server's doing.
    func isStillQuiet(_ upstream: Link) -> Bool {
        blame(upstream)
        defer { slot.endReading() }
        return isQuiet(upstream)
    }

    /// `Pool.identity` of the connections that may take a request to an endpoint; `nil`: there are
    /// none, and that is dealt with.
    @inline(__always)
    private func identity(_ link: Link, _ endpoint: SocketAddress) -> UInt32? {
        // What came by a tunnel has the TLS of its own, if any, in it.
        let isAsked = !link.it.isDirect
        let ofPort = isAsked ? config(link).tls.identityOfPort[Int(link.it.port)] : 0
        guard ofPort != TLSTable.unavailable else {
            dialFailed(link, .failed(.tlsUnavailable))
            return nil
        }
        guard ofPort == 0, config(link).hasMesh else { return ofPort }
        let ofPeer = carriage(link, endpoint)
        guard ofPeer != TLSTable.unavailable else {
            dialFailed(link, .failed(.noIdentity))
            return nil
        }
        return ofPeer
    }

    /// Whether a pooled connection is asked if it has spoken unasked, which costs a call. What is
    /// safe to send twice goes without, unless an event waits, or the kernel was asked for events
    /// long ago or had more than it could tell.
    @inline(__always)
    private func mustLook(_ link: Link, _ upstream: Link) -> Bool {
        !link.it.isResendable || upstream.it.events & ~EPOLLOUT.rawValue != 0 || !isToldAll
            || isNewsOld
    }

    func attach(_ link: Link, _ upstream: Link) {
        link.it.partner = upstream
        upstream.it.partner = link
        upstream.it.hasAnswered = false
        upstream.it.interims = 0
        upstream.it.account = link.it.account
        if upstream.it.isStream {
            link.it.dialler = upstream.it.source
            let stream = HBONEStream(upstream.it.session)
            unsafe stream.charge(accounts.bufferBytes(link.it.account))
            stream.mark()
        }
    }

    private func dial(_ link: Link, _ pool: PoolLink) {
        if let reason = excessOfDials(link) {
            pools.retire(pool)
            refuseDial(link, reason)
            return
        }
        tally.count(.dials)
        keepStaged(link)
        if pool.it.identity & TLSTable.tunnelMark != 0 {
            dialTunnel(link, pool)
            return
        }
        let to = pool.it.endpoint
        let descriptor = upstreamSocket(pool)
        var result = descriptor
        if descriptor >= 0 {
            result = engine_connect(
                descriptor,
                engine_address(high: to.address.high, low: to.address.low, port: to.port))
        }
        guard descriptor >= 0, result == 0 || result == -EINPROGRESS else {
            if descriptor >= 0 { Glibc.close(descriptor) }
            pools.retire(pool)
            tally.count(.dialFailures)
            if descriptor == -EMFILE || descriptor == -ENFILE || descriptor == -ENOBUFS {
                refuseDial(link, .descriptors)
                return
            }
            // bind(2) and connect(2) say so: all ports towards this endpoint are taken.
            let isWithoutPort = result == -EADDRINUSE || result == -EADDRNOTAVAIL
            if isWithoutPort {
                // Where the host has no address of the family, too.
                if result == -EADDRNOTAVAIL { noteBroken(link, to.address) }
                dialFailed(link, .portsUsedUp)
            } else {
                if result != -ECONNREFUSED { noteBroken(link, to.address) }
                connectFailed(of: link, isLate: false)
            }
            return
        }
        let upstream = makeConnection(descriptor, .upstream)
        enter(upstream, pool, for: link, .connecting)
        if pool.it.identity != 0, !secure(upstream, for: link, identity: pool.it.identity) {
            connectFailed(upstream, isLate: false)
            return
        }
        _ = engine_watch(set, descriptor, Self.edges, upstream.token)
        timers.arm(upstream, at: firstLook(link, pool))
    }

    /// A new connection is the pool's, and is dialled for `link`.
    func enter(_ upstream: Link, _ pool: PoolLink, for link: Link, _ phase: Phase) {
        upstream.it.pool = pool
        pool.it.count += 1
        upstream.it.phase = phase
        upstream.it.openedAt = now
        upstream.it.server = ownAccount(of: pool.it.endpoint.address)
        attach(link, upstream)
        countUpstream(upstream, 1)
    }

    /// A socket for the pool's family and source; negative: -errno.
    ///
    /// - Parameter part: of a tunnel, the part of the ports that it is dialled from.
    func upstreamSocket(_ pool: PoolLink, part: Int? = nil) -> Int32 {
        let descriptor = openSocket(pool, part)
        guard descriptor >= 0, isReserved(descriptor) else { return descriptor }
        Glibc.close(descriptor)
        return -EMFILE
    }

    private func openSocket(_ pool: PoolLink, _ part: Int?) -> Int32 {
        let isV4 = pool.it.endpoint.address.isIPv4
        if isInOwnNamespace, pool.it.isNode { return nodeSockets?.take(isV4: isV4) ?? -EMFILE }
        let descriptor = engine_socket(isV4 ? AF_INET : AF_INET6)
        guard descriptor >= 0, !pool.it.isNode else { return descriptor }
        let source = pool.it.source
        // ARCHITECTURE.md, ports: both nodes may dial from one client's address.
        let isOwn = isLocalPod(source)
        var (lowest, highest): (UInt16, UInt16) = isOwn ? (61000, 63267) : (63268, 65535)
        if let part, isOwn {
            // A quarter each, by which the other node chooses its worker (bpf/hooks/to_listener.h).
            lowest += 567 * UInt16(part % 4)
            highest = lowest + 566
        }
        let bound = engine_bind_source(
            descriptor, engine_address(high: source.high, low: source.low, port: 0), lowest,
            highest)
        if bound < 0 {
            Glibc.close(descriptor)
            return bound
        }
        return descriptor
    }

    private func isLocalPod(_ address: IPAddress) -> Bool {
        guard current >= 0, let snapshot = configs[current].config?.snapshot,
            let index = snapshot.workloadsByAddress[address]
        else { return false }
        return snapshot.isLocal(snapshot.mesh.workloads[index])
    }

    func connected(_ upstream: Link) {
        if upstream.it.role == .carrier {
            carrierConnected(upstream)
            return
        }
        if upstream.it.partner.isNone {
            raceEnded(upstream)
            return
        }
        let error = engine_socket_error(upstream.it.descriptor)
        // So the kernel's programs answer what policies deny, and so does a pod without a server.
        if error == -ECONNREFUSED, isDenied(upstream) {
            dialDenied(upstream)
            return
        }
        if error == -ECONNREFUSED, dialsAgain(upstream) { return }
        guard error == 0 else {
            if error != -ECONNREFUSED {
                noteBroken(upstream.it.partner, upstream.it.pool.it.endpoint.address)
            }
            connectFailed(upstream, isLate: false)
            return
        }
        if begin(upstream) { established(upstream) }
    }

    /// Refused from the client's own address, a dial may only have had a port that the client holds
    /// towards the same end (bpf/hooks/from_engine.h, ENGINE_MET_POD): the next has another. Where
    /// the endpoint itself refuses, that costs a packet and its answer.
    private func dialsAgain(_ upstream: Link) -> Bool {
        let (link, pool) = (upstream.it.partner, upstream.it.pool)
        guard !pool.it.isNode, link.it.redials < limits.redialsMax else { return false }
        link.it.redials += 1
        tally.count(.dialFailures)
        link.it.partner = .none
        // It may be the pool's only one, and the next dial needs the pool.
        pool.it.count += 1
        close(upstream)
        pool.it.count -= 1
        dial(link, pool)
        return true
    }

    /// The upstream can take the request.
    func established(_ upstream: Link) {
        let link = upstream.it.partner
        link.it.isTunnelled = upstream.it.isStream
        dismissStandBy(of: link)
        countUpstream(upstream, -1)
        upstream.it.phase = .head
        countUpstream(upstream, 1)
        upstream.it.deadline = .max
        perform(link.it.exchange.on(.connected), link)
        if upstream.it.canRead { makeReady(upstream) }
    }

    func connectFailed(_ upstream: Link, isLate: Bool) {
        tally.count(.dialFailures)
        let link = upstream.it.partner
        link.it.partner = .none
        close(upstream)
        connectFailed(of: link, isLate: isLate)
    }

    func connectFailed(of link: Link, isLate: Bool) {
        dialFailed(link, .connectFailed(isLate: isLate, isLast: !hasOtherEndpoints(link)))
    }

    /// A dial has failed, or cannot begin: the other dial of its race serves if it is connected;
    /// else another endpoint is tried; where none is left, that other dial is waited for; and only
    /// without one the client is told.
    func dialFailed(_ link: Link, _ event: Exchange.Event) {
        if hasStandBy(link) || link.it.exchange.ends(by: event), fallBack(link) {
            if case .connectFailed = event { link.it.exchange.noteFailure() }
            return
        }
        perform(link.it.exchange.on(event), link)
    }

    /// There is no room for a dial: a request that waits for none is turned away.
    private func refuseDial(_ link: Link, _ reason: Shed) {
        if fallBack(link) { return }
        shed(link, reason)
        perform(link.it.exchange.on(.failed(.overloaded)), link)
    }

    private func dialDenied(_ upstream: Link) {
        tally.count(.dialFailures)
        let link = upstream.it.partner
        link.it.partner = .none
        close(upstream)
        dialFailed(link, .denied(hasOthers: hasOtherEndpoints(link)))
    }

    private func isDenied(_ upstream: Link) -> Bool {
        let link = upstream.it.partner
        return !config(link).gate.admits(
            link.it.peer.address, to: upstream.it.pool.it.endpoint, asksClient: link.it.isOwnCall)
    }

    /// Whether policies let the client reach the endpoint, where the kernel does not see who dials
    /// whom: the node dials for it, or a tunnel carries it.
    func isAdmitted(_ link: Link, _ endpoint: SocketAddress) -> Bool {
        config(link).gate.admits(
            link.it.peer.address, to: endpoint, asksClient: link.it.isOwnCall)
    }

    /// Copies the staged request, so that it can be sent when its window is gone.
    func keepStaged(_ link: Link) {
        guard isStaged else { return }
        // Cannot fail: head and receive fit in the largest block (`Limits`).
        unsafe _ = buffers.append(&link.it.request, writer.base, writer.count)
        if let body = unsafe stagedBody {
            unsafe _ = buffers.append(&link.it.request, body, stagedCount)
        }
        isStaged = false
    }

    /// What a kept stream takes leaves at the end of the turn, if its tunnel does not end then.
    private func mayBeLost(_ link: Link, _ upstream: Link) -> Bool {
        upstream.it.isStream && upstream.it.wasReused && link.it.framing.isDone
            && writer.count + stagedCount <= limits.resendBytesMax
    }

    func sendRequest(_ link: Link) {
        keepAffinity(link)
        if link.it.isOpaque {
            reached(link)
            return
        }
        // Whoever staged it goes on with the body; else its edge may be long past.
        if !isStaged, link.it.phase == .body { makeReady(link) }
        if gathers(link) { awaitBody(link) } else { passOn(link) }
    }

    /// Sends what there is of the request.
    func passOn(_ link: Link) {
        let upstream = link.it.partner
        var isSent = true
        upstream.it.isUnsent = false
        tookNothing = false
        if isStaged {
            // What an upgrade offers is looked at again when it is answered.
            if link.it.isResendable || link.it.wantsUpgrade || mayBeLost(link, upstream) {
                keepStaged(link)
            } else {
                isSent = unsafe transmit(
                    upstream, writer.base, writer.count, stagedBody, stagedCount)
                if tookNothing { keepStaged(link) }
                isStaged = false
            }
        }
        if isSent, !link.it.request.isEmpty, let base = unsafe link.it.request.base {
            isSent = unsafe transmit(upstream, base, link.it.request.count)
            // Of a body that still comes the rest is not kept: what is can never be sent again.
            let isKept =
                link.it.framing.isDone && link.it.request.count <= limits.resendBytesMax
            let isOver = !upstream.it.wasReused || (isSent && !isKept)
            if isOver, !link.it.wantsUpgrade { buffers.release(&link.it.request) }
        }
        if !isSent {
            // What comes of a body meanwhile waits.
            upstream.it.isUnsent = tookNothing && upstream.it.wasReused && !link.it.hasLetGo
            // Broken: what it may have said before is read, then its end is seen.
            upstream.it.canRead = true
            upstream.it.isEnding = true
            makeReady(upstream)
        }
    }
}
