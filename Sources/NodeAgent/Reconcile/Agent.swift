internal import AdminAPI
internal import BPFLoader
internal import CLinux
internal import Foundation
internal import L7Engine
internal import Logging
internal import MeshConfig
internal import MeshModel
internal import NIOCore
internal import Supervisor

/// The agent proper: one thread that has the directory read, brings it into datapath and engine,
/// and answers what the admin server is asked.
///
/// - Threads: one; the engine's workers, NIO's thread, the access log's and the one that reads are
///   behind `Engine`, `Questions`, `AccessLog` and `Aside`.
final class Agent {
    /// How long what is open may go on once the agent is told to end, and where another serves
    /// already: nobody waits for this one then, and a tunnel cannot be moved.
    static let drainSeconds = 10
    static let replacedDrainSeconds = 600
    static let tickMilliseconds: Int32 = 2_000
    /// A directory of a whole cluster may hold thousands of objects that are not for a mesh.
    static let ignoredLinesMax = 20
    /// Ticks between two looks whether the kernel still runs what it should.
    static let repairTicks = 5

    let options: AgentOptions
    let supervisor: Int32
    let inheritance: Inheritance
    let started = Date()
    /// When this process was started by the supervisor, and how long it then took to serve.
    private let born: ContinuousClock.Instant
    private(set) var startDuration = Duration.zero
    let logger: Logger
    private let link: ChildLink
    private let questions: Questions
    /// Asked before there is anything to tell.
    private var early: [Question] = []
    private let readiness = Readiness()
    /// Made when this thread has dropped what its own must not inherit.
    private(set) var server: AdminServer?
    private let signals: Int32

    private let reader: ConfigReader
    let keeper: LastGoodKeeper
    private var reading: ReadingMark
    private var links = LinkWatch()
    let accessLog: AccessLog?
    private(set) var config: ConfigState
    private(set) var datapath: DatapathState
    private(set) var repairs = Repairs()
    private(set) var identity: IdentityState
    /// `Credentials.version`; `nil`: the engine has none.
    private var credentialsInForce: UInt64?
    private(set) var listeners: GatewayListeners
    let healthChecks = HealthCheckPorts()
    private(set) var resets = SocketResets()
    var refusals = RefusalReport()
    private(set) var snapshot: Snapshot?
    /// When it was looked last; the snapshot is compiled with them.
    private var hostAddresses: [IPAddress] = []
    /// What the engine's routes carry, bytes; 0: not known.
    private var uplinkMTU: UInt32 = 0
    private(set) var times = ChangeTimes()
    let engine: Engine
    let flows: FlowReader
    private var ticks = 0
    private var lastLog = ""
    private var stateProblems: [String] = []

    init(_ options: AgentOptions, supervisor: Int32, logger: Logger) throws {
        self.options = options
        self.supervisor = supervisor
        self.logger = logger
        malla_trim_large()
        // Before any other thread is started, so that none takes them.
        signals = malla_signals_open()
        guard signals >= 0 else { throw StartError.engine("cannot take signals") }
        link = ChildLink()
        inheritance = try link.inheritance()
        born = .now - .microseconds(inheritance.ageMicroseconds)
        questions = try Questions()
        let keeper = LastGoodKeeper(
            LastGoodDirectory(state: options.state, configuration: options.config))
        self.keeper = keeper
        reading = ReadingMark(state: options.state)
        reader = ConfigReader(
            directory: options.config, rootNamespace: options.identity.rootNamespace,
            keeper: keeper)
        identity = IdentityState(options.identity)
        config = ConfigState(directory: options.config)
        accessLog = try options.accessLog.map { try AccessLog($0, logger) }
        var datapathOptions = DatapathOptions(
            cgroupPath: options.datapath == .on ? try Mounts.cgroup(options.cgroup) : "",
            bpffsPath: options.bpffs, engineInterface: inheritance.engineInterface,
            engineNamespace: inheritance.engineNamespace, limits: options.datapathLimits)
        datapathOptions.heldPods = options.heldPods
        datapathOptions.capturesHBONE = options.identity.isOn
        datapathOptions.mustHold = options.holdNewPods == .on
        datapathOptions.flowSample = options.flowSample.of
        datapathOptions.isHostAllowed = options.hostToPod == .allow
        datapathOptions.takesRoutes = options.hostRouting == .bpf
        datapath = DatapathState(options.datapath, datapathOptions)
        flows = FlowReader(node: options.nodeName, historyMax: options.flowHistory)
        listeners = GatewayListeners(link, workers: options.workerCount)
        do throws(EngineError) {
            var engineOptions = EngineOptions(
                workers: options.workerCount, capturedListeners: inheritance.capturedListeners,
                engineNamespace: inheritance.engineNamespace)
            engineOptions.blackBox = inheritance.blackBox
            engineOptions.trapPath = options.trapPath ?? ""
            engineOptions.isHostAllowed = options.hostToPod == .allow
            engineOptions.logsAccess = options.accessLog != nil
            engine = try Engine(engineOptions)
        } catch {
            throw StartError.engine("the engine cannot start: \(error)")
        }
    }

    /// Serves until SIGTERM or SIGINT.
    func run() throws {
        try start()
        var (seconds, isReplaced) = (Self.drainSeconds, false)
        while true {
            waitForEvents()
            let signal = malla_signals_next(signals)
            if signal == SIGTERM || signal == SIGINT { break }
            if signal == SIGUSR2 {
                // Another child serves already.
                server?.stopListening()
                (seconds, isReplaced) = (Self.replacedDrainSeconds, true)
                break
            }
            if let written = reader.takeWritten() { refill(written) }
            if reader.isStale() { reload() }
            followInterfaces()
            answer()
            tick()
            readiness.publish(reasons)
        }
        drain(seconds: seconds, isReplaced: isReplaced)
    }

    private func start() throws {
        do throws(EngineError) {
            try engine.start()
        } catch {
            throw StartError.engine("the engine cannot start: \(error)")
        }
        // The workers are where they belong; what is left to do here is to load, attach and repair.
        _ = malla_drop_capabilities()
        accessLog?.start { [engine] in engine.takeAccessLog(into: &$0) }
        if options.datapath == .on { hostAddresses = Datapath.hostAddresses() }
        // A later child serves first: meanwhile the kernel goes on with what is pinned.
        let isFirst = inheritance.restarts == 0
        if isFirst { try loadAndOpen() }
        if let line = identity.awaitAnswer(isFirst: isFirst) { logger.warning("\(line)") }
        let isResumed = try readFirst(isFirst)
        listeners.closeForeign()
        if isFirst { bringLinkUp() }
        link.serving()
        startDuration = .now - born
        let crew = "\(options.workerCount) workers"
        logger.notice(
            "node \(options.nodeName) serves with \(crew), \(startMilliseconds) ms after its start")
        if !isFirst {
            try loadAndOpen()
            if let snapshot { apply(snapshot) }
            bringLinkUp()
            report()
        }
        readiness.publish(reasons)
        if isResumed {
            readAgain()
        } else if config.problem.isEmpty {
            malla_trim()
            // Not otherwise: a directory that cannot be read has nothing that is worth keeping.
            keep()
        }
    }

    /// Brings a first configuration into force; `true`: it is what the agent before had, and the
    /// directory is still to be read. A child after another is in haste: reading what that one
    /// kept takes half the time. So is one that may not survive the directory.
    private func readFirst(_ isFirst: Bool) throws -> Bool {
        if !isFirst || reading.isDeadly {
            config.read(aside { [reader] in reader.fallBack() }, at: Date())
            if reader.objectCount > 0 {
                reconcile()
                return true
            }
        }
        reading.begin()
        defer { reading.end() }
        do throws(ConfigError) {
            reconcile(try readDirectory())
        } catch {
            if isFirst { throw StartError.unreadable("\(error)") }
            config.failed(error)
            reconcile()
        }
        return false
    }

    /// - Returns: the snapshot to be brought into force; `nil`: nothing has changed.
    private func readDirectory() throws(ConfigError) -> Snapshot? {
        let begun = ContinuousClock.now
        let compilation = self.compilation
        let isFirst = snapshot == nil
        let reading = aside { [reader] in reader.reload(compilation, isFirst: isFirst) }
        config.read(try reading.result.get(), at: Date())
        times.read = .now - begun - reading.compileDuration
        if reading.snapshot != nil { times.compile = reading.compileDuration }
        return reading.snapshot
    }

    /// Waits until `work` is done elsewhere, and answers meanwhile. Nothing of the agent changes
    /// until then.
    private func aside<Outcome: Sendable>(_ work: @escaping @Sendable () -> Outcome) -> Outcome {
        let aside = Aside(questions, work)
        while true {
            if let outcome = aside.outcome { return outcome }
            var event = pollfd(fd: questions.descriptor, events: Int16(POLLIN), revents: 0)
            // One record, which outlives the call.
            _ = unsafe poll(&event, 1, Self.tickMilliseconds)
            engine.agentLives()
            answer()
        }
    }

    /// The directory, after what an earlier agent kept of it.
    private func readAgain() {
        guard !reading.isDeadly else {
            let error = ConfigError.deadly(directory: options.config, deaths: reading.deaths)
            config.failed(error)
            readiness.publish(reasons)
            return logger.error("\(error)")
        }
        reload()
    }

    private func loadAndOpen() throws {
        datapath.load(listeners: inheritance.capturedListeners)
        // A first start that cannot load ends here; a later one keeps the Gateways served.
        if !datapath.failure.isEmpty, inheritance.restarts == 0 {
            throw StartError.datapath(datapath.failure)
        }
        if snapshot == nil { readiness.publish(reasons) }
        try openAdmin()
    }

    private func openAdmin() throws {
        let address = options.admin.socket
        let (errno, sockets) = link.open(
            (0..<16).map { address.address.byte($0) }, port: address.port, count: 1,
            purpose: .admin)
        guard errno == 0, let socket = sockets.first else {
            throw StartError.admin(address.description, errno: errno)
        }
        let port = malla_local_port(socket)
        let server = AdminServer(questions, flows, readiness)
        self.server = server
        try server.serve(socket)
        try server.serve(inheritance.unixSocket, mayChange: true)
        let bound = SocketAddress(address.address, UInt16(truncatingIfNeeded: port))
        logger.notice("metrics and probes at http://\(bound), malla at \(options.socket)")
    }

    private func bringLinkUp() {
        guard options.datapath == .on else { return }
        let errno = link.linkUp(mtu: datapath.uplinkMTU)
        if errno != 0 { logger.error("cannot bring malla0 up: \(systemText(errno))") }
    }

    // MARK: The loop

    private func waitForEvents() {
        engine.agentLives()
        var events = [
            pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
            pollfd(fd: questions.descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: reader.pollable, events: Int16(POLLIN), revents: 0),
            pollfd(fd: links.descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: identity.bell, events: Int16(POLLIN), revents: 0),
        ]
        // The array outlives the call, which fills in five records.
        _ = unsafe poll(
            &events, 5,
            reader.hasNews || identity.hasMore ? 0 : links.wait(Self.tickMilliseconds))
        if events[4].revents != 0 { identity.hear() }
        if events[4].revents != 0 || identity.hasMore { turnIdentity() }
    }

    /// Where endpoints alone are new, without a look at everything else.
    private func refill(_ written: WrittenFiles) {
        let begun = ContinuousClock.now
        guard let result = aside({ [reader] in reader.refill(written) }) else {
            return reader.postpone()
        }
        times.read = .now - begun
        config.read(result, at: Date())
        if result.isChanged { reconcile() }
        keep()
    }

    private func keep() { reader.keep(by: keeper) }

    private func reload() {
        reading.begin()
        defer { reading.end() }
        for path in reader.takeGivenUp() {
            logger.warning("\(path): open for writing for too long; it is read as it is")
        }
        do throws(ConfigError) {
            if let new = try readDirectory() { reconcile(new) } else { report() }
        } catch {
            config.failed(error)
            readiness.publish(reasons)
            return logger.error("\(error)")
        }
        readiness.publish(reasons)
        keep()
        // What a whole reading leaves free would stay with the process for ever.
        malla_trim()
    }

    private func answer() {
        let asked = early + questions.take()
        early = []
        for question in asked {
            // A listing says nothing before a configuration is in force; whoever asks waits.
            if snapshot == nil, question.path != "/metrics" {
                early.append(question)
                continue
            }
            question.answer.succeed(answer(question.path, question.query))
        }
    }

    /// Of a clock that nobody sets: the wall's may go back by a day.
    private var lastTick: ContinuousClock.Instant?
    /// A worker has not taken the last configuration.
    private var isBehind = false

    private func isTickDue() -> Bool {
        let now = ContinuousClock.now
        if let lastTick, now - lastTick < .milliseconds(Self.tickMilliseconds) { return false }
        lastTick = now
        return true
    }

    private func tick() {
        guard isTickDue() else { return }
        ticks += 1
        datapath.collect()
        if let loaded = datapath.datapath { flows.note(loaded.eventCounts()) }
        turnIdentity()
        if let snapshot, listeners.hasFailed { serve(snapshot) }
        tickEngine()
        tellRefused()
        if ticks % Self.repairTicks == 0, healthChecks.retry() { report() }
        tickState()
        if datapath.mode == .on { verify() }
        // What is in force stays so: `verify` looks after it, and what it finds is applied there.
        let isDue = datapath.isOwed || datapath.isShort && ticks % Self.repairTicks == 0
        let isLacking = datapath.problems.contains { !$0.isWaiting }
        guard datapath.mode == .on, isDue || isLacking, let snapshot else { return }
        if datapath.datapath == nil {
            datapath.load(listeners: inheritance.capturedListeners)
            if datapath.datapath != nil { bringLinkUp() }
        }
        apply(snapshot)
        report()
    }

    /// Compares what the kernel runs with what it should run. Repairs it; until then a packet of a
    /// pod without its program has no way to a captured service.
    private func verify() {
        guard datapath.datapath != nil, !datapath.isYielded() else { return }
        let now = Date()
        let addresses = Datapath.hostAddresses()
        if addresses != hostAddresses {
            hostAddresses = addresses
            reconcile()
        }
        let mtu = datapath.uplinkMTU
        let engine = link.verifyEngine(mtu: mtu)
        if engine.errno == 0 { followUplinks(mtu) }
        var lines = repairs.note(engine.repairs, errno: engine.errno, at: now)
        if engine.interface != 0, engine.interface != datapath.options.engineInterface {
            datapath.moveEngine(to: engine.interface)
            bringLinkUp()
        }
        let found = datapath.verify()
        lines += repairs.note(found, at: now)
        for line in lines { logger.warning("\(line)") }
        applyAgain(found)
    }

    private func applyAgain(_ found: [Repair]) {
        guard found.contains(where: { $0.what == .interface }), let snapshot else { return }
        apply(snapshot)
        report()
    }

    /// A pod's interface is there, gone or another one: at once, and not at the next tick.
    private func followInterfaces() {
        guard links.isDue(), datapath.datapath != nil else { return }
        let found = datapath.lookAtInterfaces()
        guard !found.isEmpty else { return }
        for line in repairs.add(found, at: Date()) { logger.warning("\(line)") }
        applyAgain(found)
    }

    /// The engine's routes carry `mtu` bytes now (0: as many as its interface takes).
    private func followUplinks(_ mtu: UInt32) {
        if mtu != 0, uplinkMTU != 0, mtu < uplinkMTU {
            engine.dialAnew()
            logger.notice(
                "uplinks take \(mtu) bytes, not \(uplinkMTU): the engine dials endpoints anew")
        }
        uplinkMTU = mtu
    }

    /// Into the datapath; and what had to do with endpoints that are gone is ended.
    private func apply(_ snapshot: Snapshot) {
        // Rules are known before they decide.
        flows.follow(snapshot)
        // What the engine has dialled meanwhile, and is denied, is ended.
        if datapath.apply(snapshot, isKept: !reader.hasRead) { engine.policiesAreApplied() }
        if let loaded = datapath.datapath {
            flows.know(loaded.podsByInterface)
            flows.start(loaded)
        }
        guard let stale = datapath.datapath?.takeStaleSockets(), !stale.isEmpty else { return }
        resets.reset(stale, link)
        if !resets.lastProblem.isEmpty {
            logger.warning("connections to endpoints that are gone: \(resets.lastProblem)")
        }
    }

    /// Says what the disk refused, and tries again.
    private func tickState() {
        let problems = keeper.report.problems
        if problems != stateProblems { report() }
        stateProblems = problems
        if ticks % Self.repairTicks == 0, keeper.hasFailed { keep() }
    }

    /// The new snapshot into engine and datapath. The engine is first, and keeps what was captured
    /// before: no connection meets an engine that does not know where it wanted to go.
    private func reconcile() {
        let begun = ContinuousClock.now
        let new = compilation.compile(config.result.mesh)
        times.compile = .now - begun
        reconcile(new)
    }

    /// The next snapshot, but for the mesh.
    private var compilation: Compilation {
        Compilation(
            node: options.nodeName, version: config.generation + 1, previous: snapshot,
            hostAddresses: hostAddresses,
            numbersInUse: snapshot == nil ? datapath.numbersInUse : PolicyNumbersInUse())
    }

    private func reconcile(_ new: Snapshot?) {
        guard let new else { return }
        config.generation += 1
        snapshot = new
        let begun = ContinuousClock.now
        // Nothing goes in plain text because a certificate is not there yet.
        identity.follow(new)
        turnIdentity()
        // Who is to take another's place has all that this one had.
        let latest = ContinuousClock.now + .seconds(identity.answerSecondsMax)
        while startDuration == .zero, identity.hasMore, .now < latest { turnIdentity() }
        // What the engine has no part in is none of its business.
        if new.delta?.isEngines ?? true { serve(new) }
        let served = ContinuousClock.now
        apply(new)
        if new.delta == nil, !datapath.isOwed { engine.policiesAreApplied() }
        times.engine = served - begun
        times.attach = datapath.datapath?.attachDuration ?? .zero
        times.maps = .now - served - times.attach
        healthChecks.follow(new.healthChecks)
        report()
        let isInForce = !isBehind && !datapath.isOwed
        if isInForce { logger.info("generation \(config.generation) is in force") }
    }

    private func turnIdentity() {
        for line in identity.turn() { logger.notice("\(line)") }
        guard let credentials = identity.identities?.credentials,
            credentials.version != credentialsInForce
        else { return }
        credentialsInForce = credentials.version
        engine.adopt(credentials)
    }

    private func serve(_ snapshot: Snapshot) {
        isBehind = !engine.adopt(snapshot, sockets: listeners.follow(snapshot.gatewaySockets))
        if !isBehind { return listeners.closeLeft() }
        logger.error("a worker has not taken generation \(config.generation) within 10 s")
    }

    /// A worker may still accept from what it has not let go of.
    private func tickEngine() {
        guard isBehind, engine.hasAdopted else { return }
        isBehind = false
        listeners.closeLeft()
        logger.info("generation \(config.generation) is in force")
    }

    /// Logs what is wrong, once for each change of it.
    private func report() {
        var lines = config.result.diagnostics.filter { $0.severity != .info }.map(\.description)
        if datapath.mode == .on, !datapath.message.isEmpty { lines.append(datapath.message) }
        lines += keeper.report.problems + identity.warnings
        if !flows.failure.isEmpty { lines.append(flows.failure) }
        lines += healthChecks.problems.map { "Service \($0.service): \($0.message)" }
        for item in listenerItems() where !item.programmed {
            lines.append("Gateway \(item.gateway) listener \(item.listener): \(item.message)")
        }
        let ignored = config.result.ignored.map(\.description)
        let text = (lines + ignored).joined(separator: "\n")
        guard text != lastLog else { return }
        lastLog = text
        for line in lines { logger.warning("\(line)") }
        for line in ignored.prefix(Self.ignoredLinesMax) { logger.info("\(line)") }
        if ignored.count > Self.ignoredLinesMax {
            let rest = ignored.count - Self.ignoredLinesMax
            logger.info("\(rest) more are ignored: malla config validate --all names them")
        }
    }

    /// They are the next child's alone, so that they end with it.
    private func letGoOfListeners(seconds: Int) {
        healthChecks.follow([])
        guard engine.stopAccepting(seconds: seconds) else { return }
        listeners.letGo()
        for one in inheritance.capturedListeners { close(one) }
    }

    /// The directory has changed since this one began to drain, and was not read yet.
    private var isBehindDirectory = false

    /// While it drains: whom nobody believes any more, and who is gone, loses what is open here,
    /// too. Datapath, listening sockets and the state directory are the next agent's alone.
    private func followWhileDraining(isReplaced: Bool) {
        isBehindDirectory = reader.forget() || isBehindDirectory
        guard isTickDue() else { return }
        turnIdentity()
        // The kernel judges by what the next agent has made of it: since the last tick, at least.
        engine.policiesAreApplied()
        // Without a next agent all ends in a moment; what that one did not survive is not read.
        guard isReplaced, isBehindDirectory, ReadingMark(state: options.state).deaths == 0 else {
            return
        }
        isBehindDirectory = false
        let read: Snapshot?
        do throws(ConfigError) {
            read = try readDirectory()
        } catch {
            isBehindDirectory = true
            return config.failed(error)
        }
        guard let new = read else { return }
        config.generation += 1
        snapshot = new
        identity.follow(new)
        turnIdentity()
        isBehind = !engine.adopt(new, sockets: new.gatewaySockets.map { _ in [] })
    }

    private func drain(seconds: Int, isReplaced: Bool) {
        flows.stop()
        logger.notice("draining, at most \(seconds) s")
        if isReplaced { letGoOfListeners(seconds: seconds) }
        let done = Done()
        // Probes are answered meanwhile.
        Thread.detachNewThread { [engine, questions] in
            engine.drain(seconds: seconds, accepts: !isReplaced)
            done.set()
            questions.wake()
        }
        while !done.isSet {
            waitForEvents()
            let signal = malla_signals_next(signals)
            if signal == SIGTERM || signal == SIGINT { engine.hasten(seconds: Self.drainSeconds) }
            _ = links.isDue()
            followWhileDraining(isReplaced: isReplaced)
            answer()
        }
        accessLog?.end()
        keeper.finish()
        logger.notice("ended")
    }
}
