// What a captured connection speaks, where nobody has declared it: the first bytes say so, and no
// timer does. An upstream is dialled while the client is silent, so that a server that speaks first
// (MySQL, SMTP) is heard at once; from then on the connection is opaque. A client that speaks HTTP
// goes on in Worker+Downstream, one that speaks anything else in Worker+Opaque.

internal import CLinux
internal import Glibc
internal import MeshModel

extension Worker {
    /// What is expected of a client that was captured; HTTP where it was not.
    func speech(of link: Link) -> Speech {
        link.it.isCaptured ? speech(at: link.it.target) : .http
    }

    func speech(at target: SocketAddress) -> Speech {
        guard let port = port(at: target) else {
            // A pod that was dialled by its own address; what is nobody's is refused in HTTP.
            guard current >= 0, let config = configs[current].config else { return .http }
            return config.snapshot.workloadsByAddress[target.address] == nil ? .http : .opaque
        }
        return configs[current].config?.snapshot.ports[port].speech ?? .http
    }

    /// Into `Snapshot.ports` of the current configuration.
    private func port(at target: SocketAddress) -> Int? {
        guard current >= 0, let config = configs[current].config else { return nil }
        return config.snapshot.capture(at: target)?.value
    }

    func startSensing(_ link: Link) {
        link.it.phase = .sensing
        link.it.isOpaque = true
        timers.arm(link, at: now + limits.silenceNanosecondsMax)
    }

    /// What a client has sent; `false`: nothing more now.
    func sense(_ link: Link) -> Bool {
        // A stream is answered before it is heard: its pod is being dialled.
        if link.it.isStream, HBONEStream(link.it.session).status == 0 { return false }
        guard link.it.canRead else {
            search(link)
            return false
        }
        if !link.it.input.isEmpty, link.it.input.count + 2048 > link.it.input.capacity,
            lacksBuffers(link)
        {
            cut(link, .overloaded)
            return false
        }
        guard buffers.reserve(&link.it.input, 2048), let base = unsafe link.it.input.base else {
            becomeHTTP(link)
            return true
        }
        let count = unsafe receive(link, base + link.it.input.end, link.it.input.room)
        if count < 0 {
            if link.it.input.isEmpty { buffers.release(&link.it.input) }
            search(link)
            return false
        }
        if count == 0 {
            // It waits for a server that speaks first, or it only looked whether anybody is there.
            if link.it.isBroken { cut(link, .downstreamGone) } else { becomeOpaque(link) }
            return false
        }
        let isFirst = link.it.input.isEmpty
        link.it.input.end += count
        let bytes = unsafe Bytes(base, count: link.it.input.end)
        switch FirstBytes.judge(
            bytes, link.it.input.start, link.it.input.end, targetBytesMax: limits.targetBytesMax)
        {
        case .undecided:
            if isFirst { timers.arm(link, at: now + limits.headNanosecondsMax) }
            search(link)
            return true
        case .http:
            becomeHTTP(link)
            return true
        case .other:
            becomeOpaque(link)
            return false
        }
    }

    /// Dials while the client is silent; a moment later where the last client spoke HTTP, so that
    /// the dial is spared when this one does too. Nothing is decided by that moment.
    private func search(_ link: Link) {
        let isSilent = link.it.input.isEmpty
        guard link.it.search == .none || (link.it.search == .postponed && !isSilent) else { return }
        if isSilent, let port = port(at: link.it.target), configs[current].speaksHTTP[port] {
            link.it.search = .postponed
            timers.arm(link, at: now + 1)
        } else {
            link.it.search = .begun
            beginConnection(link)
        }
    }

    func senseExpired(_ link: Link) {
        if !link.it.input.isEmpty {
            // The beginning of a request and no more.
            becomeHTTP(link)
            turnAway(link, .headTimeout)
        } else if link.it.search == .postponed, drainUntil == nil {
            link.it.search = .begun
            timers.arm(link, at: now + limits.silenceNanosecondsMax)
            beginConnection(link)
        } else {
            cut(link, drainUntil == nil ? .idleTimeout : .drained)
        }
    }

    /// A server that speaks first, or ends: the connection is opaque from now on.
    func hear(_ upstream: Link) -> Bool {
        let client = upstream.it.partner
        guard !client.isNone, upstream.it.canRead else { return false }
        let count = unsafe receive(upstream, scratch, limits.receiveBytesMax)
        guard count >= 0 else { return false }
        // What the client has said is in its buffer, never in `scratch`.
        guard join(client, upstream) else { return false }
        if count == 0 {
            tunnelEnded(upstream, client)
            return false
        }
        client.it.sentBytes += UInt64(count)
        guard unsafe transmit(client, scratch, count) else {
            loseReceiver(client)
            return false
        }
        return true
    }

    private func becomeOpaque(_ link: Link) {
        let upstream = link.it.partner
        if !upstream.isNone, upstream.it.phase == .sensing {
            _ = join(link, upstream)
            return
        }
        link.it.phase = .waiting
        // Being dialled already, or never, or in vain: then once more.
        if !link.it.exchange.isActive { beginConnection(link) }
    }

    func becomeHTTP(_ link: Link) {
        if let port = port(at: link.it.target) { configs[current].speaksHTTP[port] = true }
        let upstream = link.it.partner
        link.it.partner = .none
        if !upstream.isNone {
            upstream.it.partner = .none
            switch upstream.it.phase {
            case .sensing: keepIdle(upstream)
            // Kept when it connects (Worker+Race).
            case .connecting: upstream.it.waiter = .none
            default: close(upstream)
            }
        }
        letGo(link)
        link.it.exchange = Exchange(attemptsMax: limits.attemptsMax)
        link.it.isOpaque = false
        link.it.phase = .head
        link.it.needsMore = false
        timers.arm(link, at: now + limits.headNanosecondsMax)
    }
}
