// The first process of `malla-agent`: owns the listening sockets and the engine's namespace, starts
// the agent proper and starts it again. It reads no configuration and no byte of a connection, so
// that nothing that is sent to the node can end it.

internal import CLinux
internal import Glibc

/// What the supervisor is told at start; all of it by the command line.
public struct SupervisorOptions: Sendable {
    public var statePath: String
    public var socketPath: String
    public var workers: Int
    /// With a datapath there is an engine's namespace, and one agent a node.
    public var hasDatapath: Bool
    /// The child's command line behind its name.
    public var childArguments: [String]
    /// How long a worker may give no sign of life before the child is killed; 0: for ever.
    public var silenceMaxMilliseconds: Int64
    /// Take everything over from the agent that runs with the same socket.
    public var takesOver: Bool
    /// What a new child runs: the program's file, which an upgrade replaces.
    public var programPath: String
    /// Where the datapath looks for the engine's interface: 0 is written when no child has served
    /// for two seconds, so that the kernel applies each workload's choice. `nil`: nowhere.
    public var engineSlot: PinnedWord?

    public init(
        statePath: String, socketPath: String, workers: Int, hasDatapath: Bool,
        childArguments: [String], engineSlot: PinnedWord? = nil,
        silenceMaxMilliseconds: Int64 = 10_000, takesOver: Bool = false,
        programPath: String = "/proc/self/exe"
    ) {
        self.statePath = statePath
        self.socketPath = socketPath
        self.workers = workers
        self.hasDatapath = hasDatapath
        self.childArguments = childArguments
        self.engineSlot = engineSlot
        self.silenceMaxMilliseconds = silenceMaxMilliseconds
        self.takesOver = takesOver
        self.programPath = programPath
    }
}

/// 32 bits in the one row of a pinned eBPF map.
///
/// - Units: bytes.
public struct PinnedWord: Sendable, Equatable {
    public var path: String
    public var rowBytes: Int
    public var offset: Int

    public init(path: String, rowBytes: Int, offset: Int) {
        self.path = path
        self.rowBytes = rowBytes
        self.offset = offset
    }
}

/// Starts the child, keeps what must outlive it, starts it again, or starts the next beside it.
///
/// - Threads: one, and never another in this process.
public struct Supervisor: ~Copyable {
    /// The child ends by itself before; then it is killed.
    public static let stopMilliseconds: Int64 = 15_000
    /// The same where another serves already.
    public static let replacedMilliseconds: Int64 = 615_000
    /// Replaced ones that may serve their last connections at the same time.
    static let leavingMax = 4
    static let slotMilliseconds: Int64 = 2_000
    /// How long nobody is let in at the door who cannot be.
    static let doorRestMilliseconds: Int64 = 1_000
    /// Between two looks whether the child lives.
    static let lookMilliseconds: Int64 = 1_000

    private let options: SupervisorOptions
    private let log: (String) -> Void
    private let signals: Descriptor
    private var held: Holdings

    private var restarts = Restarts()
    private var suspects = Suspects()
    /// It serves, or is to serve.
    private var child: ChildProcess?
    /// Started to take the place of `child` once it serves.
    private var next: ChildProcess?
    /// Told to end, and draining.
    private var leaving: [ChildProcess] = []
    /// The supervisor that comes after us, until it serves.
    private var successor: ControlSocket?
    private var isHandedOver = false
    /// Until when the door rests, because nobody could be let in; `nil`: the last one was.
    private var doorRestsUntil: Int64?
    private var isStopping = false
    private var nextStart: Int64? = 0
    private var looksAt: Int64 = 0
    private var hangs: UInt32 = 0
    /// When the engine's slot is cleared; `nil` while a child serves or once it is clear.
    private var clearSlotAt: Int64?
    private var outcome: SupervisorError?

    /// Takes the locks and makes what the child will inherit, or gets all of it.
    public init(
        _ options: SupervisorOptions, log: @escaping (String) -> Void
    ) throws(SupervisorError) {
        let missing = options.hasDatapath ? Privileges.missing() : []
        guard missing.isEmpty else { throw .lacksCapabilities(missing) }
        // It holds a socket for each port and worker; the usual soft limit is 1024.
        _ = engine_raise_descriptors()
        let held = try options.takesOver ? Holdings(takingOver: options) : Holdings(options)
        let signals = malla_signals_open()
        guard signals >= 0 else { throw .refused(doing: "take signals", errno: -signals) }

        self.options = options
        self.log = log
        self.signals = Descriptor(adopting: signals)
        self.held = held
    }

    /// Serves until SIGTERM or SIGINT, or until another supervisor has taken over.
    public mutating func run() throws(SupervisorError) {
        while true {
            startIfDue()
            if let outcome {
                // What was taken over is still served by its owner.
                if !held.hasPredecessor { held.removeNames(options) }
                throw outcome
            }
            if child == nil, next == nil, leaving.isEmpty, nextStart == nil { break }
            waitForEvents()
            while case let signal = malla_signals_next(signals.number), signal != 0 {
                take(signal)
            }
            reap()
            passDeadlines()
        }
        // A successor that has not served yet has them all the same.
        if !isHandedOver, (successor?.descriptor.number ?? -1) < 0 { held.removeNames(options) }
    }

    private mutating func take(_ signal: Int32) {
        switch signal {
        case SIGCHLD: break
        case SIGUSR2: startNext()
        default:
            stop()
            for one in leaving { hasten(one) }
        }
    }

    // MARK: Starting

    private mutating func startIfDue() {
        guard child == nil, next == nil, let due = nextStart, now() >= due else { return }
        do throws(SupervisorError) {
            child = try start("/proc/self/exe")
            nextStart = nil
            clearSlotAt = clearSlotAt ?? now() + Self.slotMilliseconds
        } catch {
            if restarts.count == 0 { outcome = error }
            log("\(error)")
            nextStart = now() + Restarts.waitMax
        }
    }

    private func start(_ path: String) throws(SupervisorError) -> ChildProcess {
        try ChildProcess.start(
            path, options.childArguments, workers: options.workers,
            suspects: suspects.quarantined(at: now()), at: microseconds())
    }

    /// SIGUSR2: the next child beside this one, of the program as it is on the disk now.
    private mutating func startNext() {
        guard !isStopping, next == nil, let child, child.hasServed else {
            log("a restart was asked for while another is under way")
            return
        }
        do throws(SupervisorError) {
            let next = try start(options.programPath)
            self.next = next
            log("the agent (pid \(next.pid)) starts beside pid \(child.pid)")
        } catch {
            log("\(error); the agent (pid \(child.pid)) goes on")
        }
    }

    // MARK: Events

    private mutating func waitForEvents() {
        var events = [pollfd(fd: signals.number, events: Int16(POLLIN), revents: 0)]
        let doorDue = doorRestsUntil.flatMap { $0 > now() ? $0 : nil }
        let door = isHandedOver || doorDue != nil ? -1 : held.doorNumber
        events.append(pollfd(fd: door, events: Int16(POLLIN), revents: 0))
        events.append(
            pollfd(fd: successor?.descriptor.number ?? -1, events: Int16(POLLIN), revents: 0))
        let children = all
        for child in children {
            let number = child.isConnected ? child.control.descriptor.number : -1
            events.append(pollfd(fd: number, events: Int16(POLLIN), revents: 0))
        }
        let kills = leaving.compactMap(\.killAt).min()
        let looks = isWatching ? looksAt : nil
        let due = [nextStart, kills, clearSlotAt, doorDue, looks].compactMap { $0 }.min()
        let wait = due.map { max(0, min(60_000, $0 - now())) } ?? -1
        // The array outlives the call, which fills in as many records.
        _ = unsafe poll(&events, nfds_t(events.count), Int32(wait))
        // First who asked before: it may be gone.
        if events[2].revents != 0 { hearSuccessor() }
        if events[1].revents != 0 { handOver() }
        for (index, child) in children.enumerated() where events[3 + index].revents != 0 {
            if let (message, descriptors) = child.control.receive() {
                for one in descriptors { close(one) }
                answer(message, child)
            } else {
                child.isConnected = false
            }
        }
    }

    private var all: [ChildProcess] { [child, next].compactMap { $0 } + leaving }

    private mutating func answer(_ message: ControlMessage, _ child: ChildProcess) {
        switch message.kind {
        case .hello: sendInheritance(to: child)
        case .open:
            let (error, opened) = held.sockets.open(message)
            let answer = ControlMessage(.sockets, count: UInt32(opened.count), code: error)
            send(answer, opened, to: child)
        case .close:
            // One that drains knows an older configuration than the one that serves.
            if child.killAt == nil { held.sockets.close(message) }
        case .list:
            for var each in held.sockets.requests {
                each.kind = .held
                send(each, to: child)
            }
            send(ControlMessage(.end), to: child)
        case .serving: serves(child)
        case .linkUp:
            let problem = setMTU(message.number)
            let code = EngineNamespace.setLinkUp()
            send(ControlMessage(.end, code: code == 0 ? problem : code), to: child)
        case .verify: verifyEngine(for: child, mtu: message.number)
        case .diagnose: diagnose(message, for: child)
        case .inheritance, .sockets, .held, .end, .verified, .takeover: break
        }
    }

    private mutating func serves(_ one: ChildProcess) {
        guard !isHandedOver else { return }
        one.hasServed = true
        if let next, next === one {
            if let child { retire(child, isReplaced: true) }
            child = next
            self.next = nil
        }
        clearSlotAt = nil
        // It may have been cleared while this child was slow to start.
        _ = setEngineSlot(held.engineNumbers?.interface ?? 0)
        held.tellPredecessor()
        malla_memory_release()
    }

    /// 0 or a positive errno.
    private mutating func setMTU(_ bytes: UInt32) -> Int32 {
        do throws(SupervisorError) {
            try held.engine?.setMTU(bytes)
        } catch {
            if case .refused(_, let errno) = error { return errno }
        }
        return 0
    }

    private mutating func verifyEngine(for child: ChildProcess, mtu: UInt32) {
        var answer = ControlMessage(.verified, code: setMTU(mtu))
        do throws(SupervisorError) {
            answer.count = try held.engine?.repair().rawValue ?? 0
        } catch {
            if case .refused(_, let errno) = error { answer.code = errno }
        }
        answer.number = held.engineNumbers?.interface ?? 0
        send(answer, to: child)
    }

    private func diagnose(_ message: ControlMessage, for child: ChildProcess) {
        let opened =
            message.number == 0
            ? NamespaceSearch.diagnose(cookie: message.cookie)
            : NamespaceSearch.diagnose(process: message.number)
        let isOpen = opened >= 0
        let answer = ControlMessage(
            .sockets, count: isOpen ? 1 : 0, code: isOpen ? 0 : -opened)
        send(answer, isOpen ? [opened] : [], to: child)
        if isOpen { close(opened) }
    }

    private func sendInheritance(to child: ChildProcess) {
        guard let socket = held.lockNumbers?.socket else { return }
        var descriptors = [socket]
        if let box = child.boxNumber { descriptors.append(box) }
        descriptors += held.engineNumbers?.descriptors ?? []
        let age = Int32(clamping: microseconds() - child.startedAt)
        var message = ControlMessage(
            .inheritance, number: held.engineNumbers?.interface ?? 0, count: restarts.count,
            port: child.boxNumber == nil ? 0 : 1, code: age)
        message.hangs = hangs
        send(message, descriptors, to: child)
    }

    private func send(
        _ message: ControlMessage, _ descriptors: [Int32] = [], to child: ChildProcess
    ) {
        let error = child.control.send(message, descriptors)
        // EPIPE: the child has just died, which SIGCHLD tells.
        if error != 0, error != EPIPE { log("cannot answer the agent: \(systemText(error))") }
    }

    // MARK: Handing over

    private mutating func handOver() {
        if hasLostSuccessor { hearSuccessor() }
        let knocking = held.openDoor()
        guard knocking >= 0 else {
            letDoorRest(-knocking)
            return
        }
        doorRestsUntil = nil
        let refusal = isStopping ? ESHUTDOWN : isTakeoverUnderWay ? EBUSY : 0
        guard let successor = held.handOver(to: knocking, refusal: refusal) else { return }
        self.successor = consume successor
        log("another agent asks for everything; this one serves until that one does")
    }

    /// Another agent has got everything from us and does not serve yet, or we from one that serves:
    /// its door is ours too. A third would serve beside them.
    private var isTakeoverUnderWay: Bool {
        switch successor {
        case .some: true
        case .none: child?.hasServed != true && held.isPredecessorServing
        }
    }

    private var hasLostSuccessor: Bool {
        switch successor {
        case .some(let successor): successor.isHungUp
        case .none: false
        }
    }

    /// Who could not be let in knocks on: without descriptors that would be at once, for ever.
    private mutating func letDoorRest(_ errno: Int32) {
        switch errno {
        case EMFILE, ENFILE, ENOBUFS, ENOMEM: break
        default: return
        }
        if doorRestsUntil == nil { log("cannot hear another agent: \(systemText(errno))") }
        doorRestsUntil = now() + Self.doorRestMilliseconds
    }

    private mutating func hearSuccessor() {
        guard let (message, descriptors) = successor?.receive() else {
            successor = nil
            // It may have written there, and has ended instead of serving.
            if child?.hasServed == true { _ = setEngineSlot(held.engineNumbers?.interface ?? 0) }
            return
        }
        for one in descriptors { close(one) }
        guard message.kind == .serving else { return }
        successor = nil
        isHandedOver = true
        clearSlotAt = nil
        held.letGo()
        log("the other agent serves: draining")
        stop()
        // Those that were replaced before had ten minutes.
        for one in leaving { hasten(one) }
    }

    // MARK: Ending

    private mutating func retire(_ child: ChildProcess, isReplaced: Bool) {
        let time = isReplaced ? Self.replacedMilliseconds : Self.stopMilliseconds
        child.tellToEnd(killAt: now() + time, isReplaced: isReplaced)
        leaving.append(child)
        for one in leaving.dropLast(Self.leavingMax) { hasten(one) }
    }

    private func hasten(_ child: ChildProcess) {
        child.hasten(killAt: now() + Self.stopMilliseconds)
    }

    private mutating func stop() {
        isStopping = true
        nextStart = nil
        for one in [child, next].compactMap({ $0 }) {
            retire(one, isReplaced: isHandedOver)
        }
        child = nil
        next = nil
    }

    private mutating func reap() {
        for one in all {
            var code: Int32 = 0
            var signal: Int32 = 0
            // The call writes one number to each.
            guard unsafe malla_child_gone(one.pid, &code, &signal) != 0 else { continue }
            let how = signal != 0 ? "was ended by signal \(signal)" : "ended with \(code)"
            if one.killAt != nil {
                leaving.removeAll { $0 === one }
                if signal != 0 { log("the agent (pid \(one.pid)) \(how) while it drained") }
                continue
            }
            remember(one, signal)
            if one === next {
                next = nil
                log("the new agent (pid \(one.pid)) \(how) before it served; the old one goes on")
                continue
            }
            child = nil
            died(one, code, signal, how)
        }
    }

    private mutating func died(
        _ one: ChildProcess, _ code: Int32, _ signal: Int32, _ how: String
    ) {
        // What ended by itself before it ever served would do so again: say why and end too.
        if !one.hasServed, signal == 0, restarts.count == 0 {
            outcome = .child(code: code == 0 ? 70 : code)
            return
        }
        let wait = restarts.died(afterMilliseconds: now() - one.startedAt / 1_000)
        // Who hung has not served for longer than that.
        if one.hang == nil { clearSlotAt = clearSlotAt ?? now() + Self.slotMilliseconds }
        if let next {
            log("the agent (pid \(one.pid)) \(how); pid \(next.pid) takes its place")
            child = next
            self.next = nil
            return
        }
        nextStart = now() + wait
        log("the agent (pid \(one.pid)) \(how); restart \(restarts.count) in \(wait) ms")
    }

    /// Whom it served when it crashed: the black box says.
    private mutating func remember(_ one: ChildProcess, _ signal: Int32) {
        let names = one.served(whenEndedBy: signal)
        guard !names.isEmpty else { return }
        let before = suspects.quarantined(at: now())
        suspects.crashed(names, at: now())
        log("it served \(names.joined(separator: ", ")) when it crashed")
        for suspect in suspects.quarantined(at: now())
        where !before.contains(where: { $0.name == suspect.name }) {
            log("\(suspect.name) is quarantined: two crashes named it")
        }
    }

    private var isWatching: Bool { options.silenceMaxMilliseconds > 0 && child != nil }

    /// A child that hangs is as good as dead: killed, and the next one is started.
    private mutating func watchChild() {
        let time = now()
        guard isWatching, time >= looksAt else { return }
        looksAt = time + Self.lookMilliseconds
        for one in [child, next].compactMap({ $0 }) {
            guard let hang = one.findHang(max: options.silenceMaxMilliseconds, at: time) else {
                continue
            }
            one.hang = hang
            hangs &+= 1
            // First: what dials meanwhile goes the way that its pod chose.
            let isCleared = one === child && !held.isPredecessorServing && setEngineSlot(0)
            kill(one.pid, SIGKILL)
            log("the agent (pid \(one.pid)): \(hang.text): killed")
            if isCleared { log("the engine's slot is cleared") }
        }
    }

    private mutating func passDeadlines() {
        watchChild()
        let time = now()
        for one in leaving {
            guard let due = one.killAt, time >= due else { continue }
            log("the agent (pid \(one.pid)) did not end in time: killed")
            kill(one.pid, SIGKILL)
            one.killAt = .max
        }
        guard let due = clearSlotAt, time >= due else { return }
        // Whom we take over from serves until our child does, however long that takes.
        if held.isPredecessorServing {
            clearSlotAt = time + Self.slotMilliseconds
            return
        }
        clearSlotAt = nil
        if setEngineSlot(0) { log("no agent has served for 2 s: the engine's slot is cleared") }
    }

    private func setEngineSlot(_ interface: UInt32) -> Bool {
        guard let slot = options.engineSlot else { return false }
        // The path outlives the call; offset and size are checked by it.
        return unsafe malla_pinned_word_set(slot.path, slot.rowBytes, slot.offset, interface) == 0
    }

    /// Milliseconds of the monotonic clock.
    private func now() -> Int64 { microseconds() / 1_000 }

    private func microseconds() -> Int64 {
        var time = timespec()
        // The call fills in the record.
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
    }
}
