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
    /// Where the datapath looks for the engine's interface: 0 is written when no child has served
    /// for two seconds, so that the kernel applies each workload's choice. `nil`: nowhere.
    public var engineSlot: PinnedWord?

    public init(
        statePath: String, socketPath: String, workers: Int, hasDatapath: Bool,
        childArguments: [String], engineSlot: PinnedWord? = nil
    ) {
        self.statePath = statePath
        self.socketPath = socketPath
        self.workers = workers
        self.hasDatapath = hasDatapath
        self.childArguments = childArguments
        self.engineSlot = engineSlot
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

/// Starts the child, keeps what must outlive it, starts it again.
///
/// - Threads: one, and never another in this process.
public struct Supervisor: ~Copyable {
    /// The child ends by itself before; then it is killed.
    public static let stopMilliseconds: Int64 = 15_000
    static let slotMilliseconds: Int64 = 2_000

    private let options: SupervisorOptions
    private let log: (String) -> Void
    private let lock: NodeLock
    private var engine: EngineNamespace?
    /// The namespace and its listeners, as the child gets them; they belong to `engine`.
    private let engineDescriptors: [Int32]
    private var engineInterface: UInt32
    private let signals: Descriptor

    private var sockets = HeldSockets()
    private var restarts = Restarts()
    private var child: pid_t = 0
    private var control: ControlSocket?
    private var startedAt: Int64 = 0
    /// The same, for what the child is told.
    private var startedMicroseconds: Int64 = 0
    private var nextStart: Int64? = 0
    private var hasServed = false
    private var killAt: Int64?
    /// When the engine's slot is cleared; `nil` while a child serves or once it is clear.
    private var clearSlotAt: Int64?
    private var outcome: SupervisorError?

    /// Takes the locks and makes what the child will inherit.
    public init(
        _ options: SupervisorOptions, log: @escaping (String) -> Void
    ) throws(SupervisorError) {
        let missing = options.hasDatapath ? Privileges.missing() : []
        guard missing.isEmpty else { throw .lacksCapabilities(missing) }
        let lock = try NodeLock(
            state: options.statePath, socket: options.socketPath, ownsNode: options.hasDatapath)
        let signals = malla_signals_open()
        guard signals >= 0 else { throw .refused(doing: "take signals", errno: -signals) }
        if options.hasDatapath {
            let engine = try EngineNamespace(workers: options.workers)
            engineDescriptors = [engine.descriptor.number] + engine.listeners
            engineInterface = engine.interfaceIndex
            self.engine = consume engine
        } else {
            engineDescriptors = []
            engineInterface = 0
            engine = nil
        }

        self.options = options
        self.log = log
        self.lock = lock
        self.signals = Descriptor(adopting: signals)
    }

    /// Serves until SIGTERM or SIGINT.
    public mutating func run() throws(SupervisorError) {
        while true {
            startIfDue()
            if let outcome {
                lock.removeSocket()
                throw outcome
            }
            if child == 0, nextStart == nil { break }
            waitForEvents()
            while case let signal = malla_signals_next(signals.number), signal != 0 {
                if signal != SIGCHLD { stop() }
            }
            reap()
            passDeadlines()
        }
        lock.removeSocket()
    }

    private mutating func startIfDue() {
        guard child == 0, let due = nextStart, now() >= due else { return }
        do throws(SupervisorError) {
            let (ours, theirs) = try ControlSocket.pair()
            let end = Descriptor(adopting: theirs)
            control = ControlSocket(adopting: ours)
            let arguments = ["malla-agent"] + options.childArguments
            let block = arguments.flatMap { Array($0.utf8) + [0] }.map { CChar(bitPattern: $0) }
            startedMicroseconds = microseconds()
            // The block holds `arguments.count` strings, a NUL after each, and outlives the call.
            let started = unsafe malla_spawn(
                "/proc/self/exe", block, arguments.count, end.number)
            guard started > 0 else {
                throw SupervisorError.refused(doing: "start the agent", errno: -started)
            }
            child = started
            startedAt = startedMicroseconds / 1_000
            nextStart = nil
            clearSlotAt = clearSlotAt ?? startedAt + Self.slotMilliseconds
        } catch {
            if restarts.count == 0 { outcome = error }
            log("\(error)")
            nextStart = now() + Restarts.waitMax
        }
    }

    private mutating func waitForEvents() {
        var events = [
            pollfd(fd: signals.number, events: Int16(POLLIN), revents: 0),
            pollfd(fd: control?.descriptor.number ?? -1, events: Int16(POLLIN), revents: 0),
        ]
        let due = [nextStart, killAt, clearSlotAt].compactMap { $0 }.min()
        let wait = due.map { max(0, min(60_000, $0 - now())) } ?? -1
        // The array outlives the call, which fills in two records.
        _ = unsafe poll(&events, 2, Int32(wait))
        guard events[1].revents != 0 else { return }
        if let (message, descriptors) = control?.receive() {
            for one in descriptors { close(one) }
            answer(message)
        } else {
            control = nil
        }
    }

    private mutating func answer(_ message: ControlMessage) {
        switch message.kind {
        case .hello: sendInheritance()
        case .open:
            let (error, opened) = sockets.open(message)
            send(ControlMessage(.sockets, count: UInt32(opened.count), code: error), opened)
        case .close: sockets.close(message)
        case .list:
            for var held in sockets.requests {
                held.kind = .held
                send(held)
            }
            send(ControlMessage(.end))
        case .serving:
            hasServed = true
            clearSlotAt = nil
            // It may have been cleared while this child was slow to start.
            _ = setEngineSlot(engineInterface)
        case .linkUp: send(ControlMessage(.end, code: EngineNamespace.setLinkUp()))
        case .verify: verifyEngine()
        case .diagnose:
            let opened = malla_diagnose_open_of(pid_t(bitPattern: message.number))
            send(
                ControlMessage(.sockets, count: opened < 0 ? 0 : 1, code: opened < 0 ? -opened : 0),
                opened < 0 ? [] : [opened])
            if opened >= 0 { close(opened) }
        case .inheritance, .sockets, .held, .end, .verified: break
        }
    }

    private mutating func verifyEngine() {
        var answer = ControlMessage(.verified)
        do throws(SupervisorError) {
            answer.count = try engine?.repair().rawValue ?? 0
        } catch {
            if case .refused(_, let errno) = error { answer.code = errno }
        }
        engineInterface = engine?.interfaceIndex ?? 0
        answer.number = engineInterface
        send(answer)
    }

    private func sendInheritance() {
        var descriptors = [lock.socket.number]
        descriptors += engineDescriptors
        let age = Int32(clamping: microseconds() - startedMicroseconds)
        let message = ControlMessage(
            .inheritance, number: engineInterface, count: restarts.count, code: age)
        send(message, descriptors)
    }

    private func send(_ message: ControlMessage, _ descriptors: [Int32] = []) {
        let error = control?.send(message, descriptors) ?? EPIPE
        // EPIPE: the child has just died, which SIGCHLD tells.
        if error != 0, error != EPIPE { log("cannot answer the agent: \(systemText(error))") }
    }

    private mutating func stop() {
        nextStart = nil
        guard child > 0, killAt == nil else { return }
        kill(child, SIGTERM)
        killAt = now() + Self.stopMilliseconds
    }

    private mutating func reap() {
        guard child > 0 else { return }
        var code: Int32 = 0
        var signal: Int32 = 0
        // The call writes one number to each.
        guard unsafe malla_child_gone(child, &code, &signal) != 0 else { return }
        let pid = child
        child = 0
        control = nil
        if killAt != nil {
            if signal != 0 { log("the agent (pid \(pid)) was ended by signal \(signal)") }
            return
        }
        // What ended by itself before it ever served would do so again: say why and end too.
        if !hasServed, signal == 0 {
            outcome = .child(code: code == 0 ? 70 : code)
            return
        }
        let wait = restarts.died(afterMilliseconds: now() - startedAt)
        clearSlotAt = clearSlotAt ?? now() + Self.slotMilliseconds
        nextStart = now() + wait
        let how = signal != 0 ? "was ended by signal \(signal)" : "ended with \(code)"
        log("the agent (pid \(pid)) \(how); restart \(restarts.count) in \(wait) ms")
    }

    private mutating func passDeadlines() {
        let time = now()
        if let due = killAt, time >= due, child > 0 {
            log("the agent did not end in \(Self.stopMilliseconds / 1_000) s: killed")
            kill(child, SIGKILL)
            killAt = .max
        }
        guard let due = clearSlotAt, time >= due else { return }
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
