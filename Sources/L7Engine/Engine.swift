// The façade of the engine: the agent starts it, gives it snapshots and listening sockets, reads
// its counters, drains it. Inside, one thread a worker and nothing shared between them.

internal import CLinux
internal import Glibc
public import MeshModel
internal import Synchronization

/// What the engine needs before it can start.
public struct EngineOptions: Sendable {
    /// Threads, each with an epoll set, pools and counters of its own.
    public var workers: Int
    /// Listening sockets in the engine's network namespace, one for each worker, in order; empty
    /// where the datapath is off. Not closed by the engine.
    public var capturedListeners: [Int32]
    /// A descriptor of the engine's network namespace, which the workers enter; `nil`: stay here.
    public var engineNamespace: Int32?

    /// The supervisor's page for this process; `nil`: nobody looks.
    public var blackBox: Int32?
    /// Whether the node reaches its pods whatever their policies say.
    public var isHostAllowed = true
    /// Whether somebody calls `takeAccessLog`: records that nobody takes are not made.
    public var logsAccess = true
    /// A test's own: a request for this path traps the worker that serves it.
    public var trapPath = ""

    public init(workers: Int, capturedListeners: [Int32] = [], engineNamespace: Int32? = nil) {
        self.workers = workers
        self.capturedListeners = capturedListeners
        self.engineNamespace = engineNamespace
    }
}

public enum EngineError: Error, Equatable {
    /// A system call failed while the engine started.
    case refused(call: String, errno: Int32)
}

/// Serves the node's L7 connections.
///
/// - Threads: every method may be called from any thread; `start` once.
public final class Engine: Sendable {
    private let options: EngineOptions
    private let limits: Limits
    private let mailboxes: [Mailbox]
    let tallies: [Tally]
    private let accessLogs: [AccessLog]
    private let accountTables: [Accounts]
    private let blackBox: BlackBox?
    /// Numbers of workloads and ports that stay the same from snapshot to snapshot.
    let names = MetricRegister()
    private let accountNumbers = Mutex(AccountNumbers())
    private let nodeSockets: NodeSockets?
    private let register = TunnelRegister()
    /// Whose log is taken first the next time.
    private let logsTaken = Mutex(0)
    /// One `adopt` at a time, with the TLS contexts of the last.
    private let adoption = Mutex(Adoption())

    public convenience init(_ options: EngineOptions) throws(EngineError) {
        try self.init(options, limits: Limits())
    }

    /// With limits of a test's own.
    init(_ options: EngineOptions, limits: Limits) throws(EngineError) {
        precondition(options.workers > 0, "an engine has a worker")
        self.options = options
        var mailboxes: [Mailbox] = []
        for _ in 0..<options.workers { mailboxes.append(try Mailbox()) }
        // Some are left for upstreams, files, listeners and pipes; without any, requests are shed.
        let descriptors = Int(min(engine_raise_descriptors(), 1 << 22))
        nodeSockets =
            options.engineNamespace == nil
            ? nil : try NodeSockets(workers: options.workers, limits: limits)
        self.mailboxes = mailboxes
        var limits = limits
        limits.connectionsMax = min(
            limits.connectionsMax, max(16, (descriptors - 512) * 3 / 4 / options.workers))
        self.limits = limits
        tallies = mailboxes.map { _ in Tally(seriesMax: limits.seriesMax) }
        let accountsCount = Int(AccountNumbers.outsideCount) + limits.accountsMax
        accountTables = mailboxes.map { _ in Accounts(count: accountsCount) }
        blackBox = options.blackBox.flatMap { BlackBox(descriptor: $0) }
        let records = options.logsAccess ? limits.accessLogRecordsMax : 0
        accessLogs = mailboxes.map { _ in AccessLog(capacity: records) }
    }

    /// Starts the workers; returns once each of them is in its loop.
    public func start() throws(EngineError) {
        blackBox?.watch()
        if let nodeSockets {
            try Thread.start {
                // It stays in the node's namespace: it never needs to enter another.
                _ = malla_drop_capabilities()
                nodeSockets.run()
            }
        }
        for number in 0..<options.workers {
            try Thread.start { [self] in serve(number) }
            guard mailboxes[number].waits(for: Mailbox.started, milliseconds: 10_000) else {
                throw .refused(call: "worker start", errno: ETIMEDOUT)
            }
            let code = mailboxes[number].startError
            if code != 0 { throw .refused(call: "setns", errno: code) }
        }
    }

    /// A worker's thread, from its first line to its last.
    private func serve(_ number: Int) {
        // Safe: the name is copied.
        unsafe engine_name_thread("malla-worker-\(number)")
        engine_block_pipe_signal()
        if let namespace = options.engineNamespace {
            let result = engine_enter_namespace(namespace)
            if result < 0 {
                mailboxes[number].fail(-result)
                mailboxes[number].acknowledge(Mailbox.ended)
                return
            }
        }
        // A worker reads what strangers send: it keeps no privilege that it is done with.
        _ = malla_drop_capabilities()
        let captured =
            number < options.capturedListeners.count ? options.capturedListeners[number] : -1
        let worker = Worker(
            number: number, limits: limits, mailbox: mailboxes[number], tally: tallies[number],
            accessLog: accessLogs[number], accounts: accountTables[number],
            nodeSockets: nodeSockets?.stocks[number],
            capturedListener: captured, register: register, names: names)
        if let blackBox {
            worker.slot = blackBox.slot(number)
            malla_blackbox_thread(UInt32(number))
        }
        worker.trapPath = Array(options.trapPath.utf8)
        worker.logsAccess = options.logsAccess
        worker.run()
    }

    /// Gives every worker the new configuration. `sockets[i]` are the listening descriptors of
    /// `snapshot.gatewaySockets[i]`, one for each worker (empty where it could not be opened).
    /// A worker accepts from its own; descriptors that are gone from the list are forgotten, not
    /// closed: the caller owns them and closes them when the workers have let go.
    ///
    /// - Returns: whether every worker has taken it and let go of what was before; `false`: one has
    ///   not within ten seconds, and `hasAdopted` says when.
    @discardableResult
    public func adopt(_ snapshot: Snapshot, sockets: [[Int32]]) -> Bool {
        let numbers = post(snapshot, sockets)
        let end = Worker.monotonic() + 10_000_000_000
        for (mailbox, number) in zip(mailboxes, numbers) {
            let now = Worker.monotonic()
            let left = Int((max(end, now) - now) / 1_000_000)
            guard mailbox.waits(for: number, milliseconds: left) else { return false }
        }
        return true
    }

    /// The kernel judges by the policies of the snapshot last adopted from now on: what was dialled
    /// between the two, and is denied, is ended as the rest was.
    public func policiesAreApplied() {
        for mailbox in mailboxes { mailbox.post { $0.arePoliciesApplied = true } }
    }

    /// Connections to endpoints and other nodes that are open serve what they serve now, and
    /// nothing after it. To be called when the node's uplinks take less than they did: a peer goes
    /// on sending segments as long as it was told when the connection began.
    public func dialAnew() {
        for mailbox in mailboxes { mailbox.post { $0.dialsAnew = true } }
    }

    /// The agent's own thread lives: to be called by it alone, every few seconds.
    public func agentLives() { blackBox?.agentLives() }

    /// Whether every worker has taken the last configuration.
    public var hasAdopted: Bool {
        let numbers = adoption.withLock { $0.numbers }
        return zip(mailboxes, numbers).allSatisfy { $0.hasTaken($1) }
    }

    /// Answers the number of the mail of each worker.
    private func post(_ snapshot: Snapshot, _ sockets: [[Int32]]) -> [UInt64] {
        adoption.withLock { adoption in
            adoption.last = (snapshot, sockets)
            return adopt(snapshot, sockets, &adoption)
        }
    }

    /// Gives every worker what this node may show and believe. From the first call on, pods of
    /// other nodes that speak HBONE are reached by tunnels only, even while a certificate is
    /// missing.
    public func adopt(_ credentials: Credentials) {
        adoption.withLock { adoption in
            adoption.mesh.adopt(credentials)
            guard let last = adoption.last else { return }
            _ = adopt(last.snapshot, last.sockets, &adoption)
        }
    }

    private func adopt(
        _ snapshot: Snapshot, _ sockets: [[Int32]], _ adoption: inout Adoption
    ) -> [UInt64] {
        let suspects = quarantined
        // Names, numbers and TLS do not depend on endpoints.
        var base = adoption.base
        if base == nil || base?.shape !== snapshot.shape {
            let (sources, ports) = names.numbers(of: snapshot)
            let (accounts, accountNames) = number(snapshot, suspects)
            blackBox?.name(accountNames)
            base = Adoption.Base(
                shape: snapshot.shape, sources: sources, ports: ports, accounts: accounts,
                accountNames: accountNames,
                tls: adoption.store.table(of: snapshot),
                gate: PolicyGate(
                    snapshot, isHostAllowed: options.isHostAllowed, after: base?.gate))
            adoption.base = base
            adoption.followAffinity(of: snapshot, limits)
        }
        guard let base else { return [] }
        let quarantined = base.accountNames.indices.filter {
            suspects.contains(BlackBox.kept(base.accountNames[$0]))
        }
        let peers = adoption.mesh.table.map {
            MeshPeers($0, snapshot, after: adoption.peers)
        }
        adoption.peers = peers
        let config = WorkerConfig(
            snapshot: snapshot, sources: base.sources, accounts: base.accounts,
            ports: base.ports, listeners: sockets,
            tls: base.tls, gate: base.gate,
            peers: peers, affinities: adoption.affinities,
            quarantined: quarantined.map { Int32($0) })
        adoption.numbers = mailboxes.map { $0.post { $0.config = config } }
        return adoption.numbers
    }

    /// The accounts of a snapshot's workloads, and whose each account is.
    private func number(_ snapshot: Snapshot, _ suspects: [String]) -> ([Int32], [String]) {
        func words(_ number: Int32) -> [UInt64] {
            accountTables.map { $0.words(Int(number)) }.reduce(Accounts.none) { sum, words in
                zip(sum, words).map { $0 &+ $1 }
            }
        }
        return accountNumbers.withLock { numbers in
            let accounts = numbers.follow(
                snapshot, max: limits.accountsMax,
                isFree: { number, holder in
                    // Quarantine is the account's, and nothing of the next one's fault.
                    Accounts.isIdle(words(number)) && !suspects.contains(BlackBox.kept(holder.name))
                }, words: words)
            return (accounts, numbers.names)
        }
    }

    /// No connection is kept alive, exchanges in flight may end until the deadline; returns when
    /// all are done or the time is over.
    ///
    /// - Parameter accepts: nobody else accepts from the listening sockets, so new connections are
    ///   answered meanwhile.
    public func drain(seconds: Int, accepts: Bool = false) {
        let until = Worker.monotonic() + UInt64(max(0, seconds)) * 1_000_000_000
        hasten(to: until, accepts: accepts)
        for mailbox in mailboxes {
            // A worker ends at the latest at the deadline.
            while !mailbox.waits(for: Mailbox.ended, milliseconds: 20),
                Worker.monotonic() < until + 1_000_000_000
            {
                if accepts, totals().connectionsActive == 0 { hasten(to: 0, accepts: accepts) }
            }
        }
    }

    /// Begins a drain in which another accepts; `true`: every worker has let go of the listening
    /// sockets, and their owner may close them. Waits as `adopt`.
    public func stopAccepting(seconds: Int) -> Bool {
        let begun = Worker.monotonic()
        let until = begun + UInt64(max(0, seconds)) * 1_000_000_000
        let numbers = mailboxes.map { mailbox in mailbox.post { $0.drainUntil = until } }
        for (mailbox, number) in zip(mailboxes, numbers) {
            let spent = (Worker.monotonic() - begun) / 1_000_000
            let left = 10_000 - Int(min(spent, 10_000))
            guard mailbox.waits(for: number, milliseconds: left) else { return false }
        }
        return true
    }

    /// Gives a drain that is under way less time; does not wait.
    public func hasten(seconds: Int) {
        hasten(
            to: Worker.monotonic() + UInt64(max(0, seconds)) * 1_000_000_000, accepts: false)
    }

    private func hasten(to until: UInt64, accepts: Bool) {
        for mailbox in mailboxes {
            mailbox.post {
                // Whichever word comes last: the one that leaves less time holds.
                $0.drainUntil = min(until, $0.drainUntil ?? .max)
                $0.acceptsMeanwhile = accepts
            }
        }
    }

    /// The engine's metrics in Prometheus' text format 0.0.4.
    public func exposition() -> String {
        var names = names.all
        names.trustDomain = adoption.withLock { $0.mesh.table?.trustDomain }
        let (accounts, shortage) = accountNumbers.withLock { numbers in
            (Exposition.accounts(accountTables, numbers), numbers.shortage)
        }
        let now = Int64(time(nil))
        return Exposition.text(tallies, names: names)
            + Exposition.text(ofAccounts: accounts, shortage: shortage)
            + Exposition.text(ofCertificates: adoption.withLock { $0.store.lives }, at: now)
    }

    /// What each workload cost, summed over the workers, and who is quarantined: `malla top`.
    public func accounts() -> [AccountTotals] {
        let now = Int64(Worker.monotonic() / 1_000_000)
        return accountNumbers.withLock {
            Exposition.accounts(
                accountTables, $0, quarantine: blackBox?.suspects ?? [], at: now)
        }
    }

    /// Tunnels that are open, or ended within the last five minutes.
    ///
    /// - Parameter now: seconds since 1970.
    public func tunnels(at now: Int64) -> [TunnelRecord] { register.all(at: now) }

    /// Who was refused a tunnel, or brought a forged field, since the last call.
    public func takeRefused() -> RefusedTunnels { register.refusals.take() }

    /// Workloads that are not served, because the engine has died twice of serving them.
    public var quarantined: [String] { blackBox?.suspects.map(\.name) ?? [] }

    /// Fills `bytes` from its beginning with access log lines since the last call, each with its
    /// line end; what does not fit is for the next call. Allocates for what is
    /// no ASCII, and for IPv6.
    ///
    /// - Parameter bytes: of 4 KiB at least, or no line ever fits.
    /// - Returns: how many bytes the lines have; 0: there are none.
    public func takeAccessLog(into bytes: inout [UInt8]) -> Int {
        logsTaken.withLock { first in
            defer { first = (first + 1) % accessLogs.count }
            // Safe: the writer does not outlive the array's closure, and knows its capacity.
            return unsafe bytes.withUnsafeMutableBufferPointer { buffer in
                guard let base = buffer.baseAddress else { return 0 }
                var out = unsafe ByteWriter(base, capacity: buffer.count)
                for index in accessLogs.indices {
                    accessLogs[(first + index) % accessLogs.count].take(&out)
                }
                return out.count
            }
        }
    }

    /// For `malla status`: sums over the workers.
    public struct Totals: Sendable, Equatable {
        public var connections: UInt64 = 0
        public var connectionsActive: UInt64 = 0
        public var requests: UInt64 = 0
        public init() {}
    }
    public func totals() -> Totals {
        var totals = Totals()
        for tally in tallies {
            let closed = tally.value(.connectionsClosed)
            let connections = tally.value(.connections)
            totals.connections += connections
            totals.connectionsActive += connections > closed ? connections - closed : 0
            totals.requests += tally.value(.requests)
        }
        return totals
    }
}
