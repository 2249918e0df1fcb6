// One worker: a thread with an epoll set, listeners, connections, pools, timers, buffers and counts
// of its own. Receives connections and mail; hands on requests to upstreams. Never waits anywhere
// but in epoll_wait, never logs, shares nothing with other workers.
//
// The files of this folder, in the order in which a request meets them: Worker (the loop),
// Worker+Accept, Worker+Downstream (bytes -> request), Worker+Route (request -> rule -> endpoint),
// Worker+Forward (head rewritten, upstream obtained), Worker+Upstream (response), Worker+Chunks (a
// response without a length), Worker+Finish (replies, ends, accounts), Worker+Tunnel. Requests that
// must have a length: Worker+Gather. What is not HTTP: Worker+Sense, Worker+Opaque.

internal import CLinux
internal import Glibc
internal import MeshModel

@safe final class Worker {
    struct ConfigSlot {
        var config: WorkerConfig?
        var exchanges = 0
        /// Exchanges at each of `Snapshot.endpoints`.
        var busy: [Int32] = []
        /// By `Snapshot.ports`: the last client of the port whose protocol was sought spoke HTTP.
        var speaksHTTP: [Bool] = []
        /// The same: when the port's last answer came, if it was one of HTTP/1.0; else 0
        /// (Worker+Gather).
        var oldServerSeen: [UInt64] = []
    }

    let limits: Limits
    let number: Int
    let mailbox: Mailbox
    let tally: Tally
    let accessLog: AccessLog
    /// Sockets of the node's namespace; `nil` where this thread is in it.
    let nodeSockets: NodeSockets.Stock?
    let isInOwnNamespace: Bool
    let capturedListener: Int32

    let set: Int32
    var now: UInt64 = 0
    var wallOffset: UInt64 = 0
    var wallCheckedAt: UInt64 = 0
    var timers: TimerWheel
    var buffers: BufferPool
    var share = BufferShare()
    var pools = PoolTable()
    /// Connections to peers that carry others, and those of them that have something to send.
    var carriers = PoolTable()
    var soiled: [Link] = []
    /// Those that are not read, because of the memory that their streams hold already; and bytes
    /// of it, of all streams of this worker, and of answers that wait in sessions.
    var paused: [Link] = []
    let streamBytes: UnsafeMutablePointer<UInt64>
    /// Whom carriers show themselves as, by their tokens.
    var shownIDs: [UInt64: SPIFFEID] = [:]
    let register: TunnelRegister
    let names: MetricRegister
    var pipes: PipePool
    var random: UInt64

    var configs: [ConfigSlot] = []
    var current = -1
    /// Some port has, or had, an old server.
    var knowsOldServers = false
    var listeners: [Link] = []
    var connectionsOpen = 0
    /// From this one on descriptors are the agent's own.
    var descriptorsMax: Int32
    var unwatched = Unwatched()
    /// Upstreams being dialled.
    var dialsOpen = 0
    var drainUntil: UInt64?
    /// Upstream connections older than this take no further request; monotonic nanoseconds.
    var reusedSince: UInt64 = 0
    /// When services may have lost endpoints the last time; monotonic nanoseconds.
    var endpointsLostAt: UInt64 = 0
    /// While draining, new connections are answered still: nobody else would.
    var acceptsInDrain = false
    var isDone = false

    /// Received bytes that nobody holds yet; the head being written; its fields.
    let scratch: UnsafeMutablePointer<UInt8>
    var writer: ByteWriter
    var head: MessageHead
    /// The request being forwarded is in `writer` and these bytes, not yet in `request`.
    var isStaged = false
    var stagedBody: UnsafePointer<UInt8>?
    var stagedCount = 0
    /// A socket took nothing of what it was sent.
    var tookNothing = false

    /// Accounts that have something ready, in turn (Worker+Schedule).
    let accounts: Accounts
    var activeFirst: Int32 = -1
    var activeLast: Int32 = -1
    /// Cycles: what an account may use before the next one's turn, and a whole turn.
    let quantum: Int64
    let turn: Int64
    /// What it may owe at most.
    let debtMax: Int64
    /// Moved for the connection that is served now, and since when it is, in cycles.
    var movedBytes = 0
    var servedAt: UInt64 = 0
    /// When the kernel was last asked for events, in cycles, and whether it has told of all.
    var askedAt: UInt64 = 0
    var isToldAll = true

    let wire: TLSWire
    /// Handshakes under way of clients, and of peers (Worker+Handshakes).
    var handshakesOpen = 0
    var greetingsOpen = 0
    /// Of `connectionsOpen`, those of clients outside of the mesh.
    var outsideOpen = 0
    var ticketKeysAt: UInt64

    /// Says to the black box whom this worker serves.
    var slot = BlackBoxSlot.blank()
    var logsAccess = true
    /// Not empty in a test of the black box only (`springTrap`).
    var trapPath: [UInt8] = []
    var hasQuarantine = false

    var gone: [Link] = []
    var free: [Link] = []
    private let events: UnsafeMutablePointer<epoll_event>
    static let eventsMax = 256

    init(
        number: Int, limits: Limits, mailbox: Mailbox, tally: Tally, accessLog: AccessLog,
        accounts: Accounts,
        nodeSockets: NodeSockets.Stock?, capturedListener: Int32,
        register: TunnelRegister = TunnelRegister(), names: MetricRegister = MetricRegister()
    ) {
        self.number = number
        self.limits = limits
        descriptorsMax = limits.descriptorsMax
        self.mailbox = mailbox
        self.tally = tally
        self.accessLog = accessLog
        self.accounts = accounts
        self.register = register
        self.names = names
        let perMicrosecond = Int64(accounts.cyclesPerSecond / 1_000_000)
        quantum = perMicrosecond * limits.quantumMicroseconds
        turn = perMicrosecond * limits.turnMicroseconds
        debtMax = perMicrosecond * limits.debtMicrosecondsMax
        self.nodeSockets = nodeSockets
        isInOwnNamespace = nodeSockets != nil
        self.capturedListener = capturedListener
        set = epoll_create1(Int32(EPOLL_CLOEXEC))
        let now = Worker.monotonic()
        self.now = now
        ticketKeysAt = now
        // Records of one call: what may be held, and what sealing adds to it.
        wire = TLSWire(capacity: limits.pendingBytesMax + 32 * 1024)
        timers = TimerWheel(now: now)
        random = now | 1
        buffers = unsafe BufferPool(charged: accounts.bufferBytes(0))
        pipes = PipePool(keptMax: limits.pipesKeptMax)
        unsafe streamBytes = .allocate(capacity: 1)
        unsafe streamBytes.initialize(to: 0)
        unsafe scratch = .allocate(capacity: limits.receiveBytesMax)
        let written = 3 * limits.headBytesMax + limits.receiveBytesMax
        unsafe writer = ByteWriter(.allocate(capacity: written), capacity: written)
        unsafe head = MessageHead(
            fields: .allocate(capacity: limits.fieldsMax), fieldsMax: limits.fieldsMax,
            bytesMax: limits.headBytesMax, targetBytesMax: limits.targetBytesMax)
        unsafe stagedBody = nil
        unsafe events = .allocate(capacity: Self.eventsMax)
        gone.reserveCapacity(1024)
        free.reserveCapacity(1024)
    }

    static func monotonic() -> UInt64 {
        var time = timespec()
        unsafe _ = clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// The data plane's table of contents. Returns when drained.
    func run() {
        watchMailbox()
        mailbox.acknowledge(Mailbox.started)
        while !isDone { takeTurn() }
        closeAll()
    }

    /// Asks the kernel for news and serves what came, for `Limits.turnMicroseconds`.
    func takeTurn() {
        var wait = hasReady ? 0 : timers.milliseconds(now: now)
        // A drain ends by the clock, not only by events.
        if drainUntil != nil, wait < 0 || wait > 50 { wait = 50 }
        if !unwatched.first.isNone, wait < 0 || wait > 5 { wait = 5 }
        // What a flood has left is given back by the second.
        if buffers.keepsMuch, wait < 0 || wait > 1000 { wait = 1000 }
        slot.beat()
        if let rest = slot.restMax, wait < 0 || wait > rest { wait = rest }
        let count = unsafe engine_wait(set, events, Int32(Self.eventsMax), wait)
        isToldAll = count < Self.eventsMax
        tick()
        var index: Int32 = 0
        while index < count {
            dispatch(
                unsafe Link(token: engine_token(events, index)),
                unsafe engine_ready(events, index))
            index += 1
        }
        serve()
        watchOverdue()
        expireTimers()
        flushCarriers()
        resumeCarriers()
        freeGone()
        checkDrain()
    }

    private func tick() {
        now = Worker.monotonic()
        guard now &- wallCheckedAt > 1_000_000_000 else { return }
        wallCheckedAt = now
        var time = timespec()
        unsafe _ = clock_gettime(CLOCK_REALTIME, &time)
        wallOffset = UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec) &- now
        buffers.giveBack()
        lookAtDescriptors()
        rotateTicketKeys()
    }

    private func dispatch(_ link: Link, _ events: UInt32) {
        switch link.it.role {
        case .mailbox:
            readMail()
            // What a new configuration ends may have begun something on the way.
            slot.rest()
        case .listener: accept(link)
        case .downstream, .upstream, .carrier: note(link, events)
        }
    }

    func dispatchStream(_ link: Link, _ events: UInt32) {
        guard link.it.phase != .dead else { return }
        let ready =
            EPOLLIN.rawValue | EPOLLRDHUP.rawValue | EPOLLHUP.rawValue | EPOLLERR.rawValue
        if events & ready != 0 {
            link.it.canRead = true
            if events & (EPOLLRDHUP.rawValue | EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0 {
                link.it.isEnding = true
            }
        }
        if link.it.phase == .connecting {
            if events & (EPOLLOUT.rawValue | EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 {
                connected(link)
            }
            return
        }
        blame(link)
        if !link.it.session.isNone {
            // A session may want the socket's other direction: each edge is a chance for both.
            link.it.canRead = true
            if link.it.role == .carrier {
                pumpCarrier(link)
                return
            }
            if link.it.phase == .handshaking {
                shake(link)
                return
            }
        }
        if events & EPOLLERR.rawValue != 0 { link.it.isReset = true }
        if link.it.isReset, link.it.hasEnded, link.it.phase == .tunnel {
            passReset(link)
            return
        }
        if events & EPOLLOUT.rawValue != 0, link.it.isBlocked {
            flush(link)
            guard link.it.phase != .dead else { return }
        }
        if link.it.role == .downstream {
            if events & (EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0, link.it.exchange.isActive,
                link.it.phase != .tunnel
            {
                perform(link.it.exchange.on(.downstreamGone), link)
                return
            }
            pumpDownstream(link)
        } else {
            pumpUpstream(link)
        }
    }

    /// For as long as a turn may take: where thousands come due at once, the rest waits for those
    /// who are ready by then.
    private func expireTimers() {
        var (begun, spent) = (UInt64(0), UInt64(0))
        repeat {
            let link = timers.expire(now: now)
            if link.isNone { return }
            if spent == 0 { begun = engine_cycles() }
            let account = link.it.account
            slot.serve(account)
            expired(link)
            slot.rest()
            let ended = engine_cycles()
            spend(account, ended &- begun &- spent, at: ended)
            spent = ended &- begun
        } while spent < UInt64(turn)
    }

    private func expired(_ link: Link) {
        charge(link.it.account)
        switch link.it.role {
        case .mailbox: break
        case .listener: resumeListener(link)
        case .carrier: carrierExpired(link)
        case .upstream:
            switch link.it.phase {
            case .connecting: dialExpired(link)
            case .handshaking: handshakeFailed(link, isLate: true)
            case .idle, .standingBy: close(link)
            default: break
            }
        case .downstream:
            if link.it.phase == .sensing {
                senseExpired(link)
            } else if link.it.exchange.isActive {
                check(link)
            } else if link.it.isBlocked {
                checkRest(link)
            } else if link.it.phase == .head {
                headExpired(link)
            } else if link.it.phase == .handshaking {
                handshakeFailed(link, isLate: true)
            } else if link.it.phase == .lingering {
                lingerExpired(link)
            } else {
                close(link)
            }
        }
    }

    func watchMailbox() {
        let link = makeConnection(mailbox.bell, .mailbox)
        _ = engine_watch(set, mailbox.bell, EPOLLIN.rawValue, link.token)
    }

    func nextRandom() -> UInt64 {
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        return random
    }
}

// MARK: - Records

extension Worker {
    func makeConnection(_ descriptor: Int32, _ role: Role) -> Link {
        var link = Link.none
        if let last = free.popLast() {
            link = last
            let text = unsafe link.it.logText
            link.it = Connection()
            unsafe link.it.logText = text
        } else {
            let made = UnsafeMutablePointer<Connection>.allocate(capacity: 1)
            unsafe made.initialize(to: Connection())
            unsafe made.pointee.logText = .allocate(capacity: Connection.textBytes)
            link = unsafe Link(made)
        }
        link.it.descriptor = descriptor
        link.it.role = role
        return link
    }

    /// Ends a connection at once. Its record is freed at the end of the turn.
    func close(_ link: Link) {
        guard link.it.phase != .dead else { return }
        if link.it.phase == .idle { pools.removeIdle(link) }
        if !link.it.isWatched { leaveUnwatched(link) }
        if !link.it.pool.isNone { countUpstream(link, -1) }
        if link.it.phase == .handshaking, link.it.role == .downstream { handshakeEnded(link) }
        link.it.phase = .dead
        timers.remove(link)
        endSession(link)
        dropPipe(link)
        buffers.release(&link.it.input)
        buffers.release(&link.it.output)
        buffers.release(&link.it.request)
        if link.it.isStream { leaveCarrier(link) } else { Glibc.close(link.it.descriptor) }
        if link.it.role == .downstream {
            connectionsOpen -= 1
            if link.it.account < AccountNumbers.outsideCount { outsideOpen -= 1 }
            tally.count(.connectionsClosed)
            accounts[link.it.account].connectionsClosed &+= 1
            if link.it.isOfGateway { endKept(link) }
        } else if !link.it.pool.isNone {
            pools.leave(link)
        }
        gone.append(link)
    }

    /// An upstream enters (1) or leaves (-1) the phase that it is in: the gauges, and what is being
    /// dialled for its account.
    func countUpstream(_ link: Link, _ difference: Int) {
        switch link.it.phase {
        case .idle: tally.adjust(.upstreamsIdle, by: difference)
        case .connecting, .standingBy, .handshaking:
            tally.adjust(.upstreamsConnecting, by: difference)
            dialsOpen += difference
            accounts[link.it.account].pending += Int32(difference)
        default: tally.adjust(.upstreamsActive, by: difference)
        }
    }

    /// Lets go of a configuration that nobody uses any more.
    func release(_ slot: Int) {
        guard configs[slot].exchanges == 0 else { return }
        configs[slot].config = nil
        configs[slot].busy = []
        configs[slot].speaksHTTP = []
        configs[slot].oldServerSeen = []
    }

    private func freeGone() {
        if gone.isEmpty { return }
        for link in gone {
            // A ready entry may still point here: it is skipped once and freed the turn after.
            if link.it.isReady { continue }
            free.append(link)
        }
        gone.removeAll { !$0.it.isReady }
    }

    private func checkDrain() {
        guard let drainUntil else { return }
        // Who still accepts ends when all workers are idle: the engine says so by the deadline.
        if now >= drainUntil || (connectionsOpen == 0 && !acceptsInDrain) { isDone = true }
    }

    private func closeAll() {
        // What is cut off must not look complete to anybody.
        for link in timers.all() where link.it.role == .downstream {
            if link.it.phase == .tunnel {
                cut(link, .drained)
            } else if link.it.exchange.isActive {
                perform(link.it.exchange.on(.failed(.drained)), link)
            }
        }
        flushCarriers()
        Glibc.close(set)
        mailbox.acknowledge(Mailbox.ended)
    }
}
