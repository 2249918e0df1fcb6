import Glibc
import MeshModel
import Testing

@testable import L7Engine

/// A worker whose turns the test takes itself, so that what happens between two of them is known.
final class SteppedWorker {
    let worker: Worker
    let port: UInt16
    private let mailbox: Mailbox
    private let descriptor: Int32
    private var adoption = Adoption()
    private let names = MetricRegister()
    /// Workloads of what is adopted next have accounts of their own.
    var hasAccounts = false

    /// Serves one service with these endpoints; paths below `/none` lead nowhere.
    init(
        _ origins: [UInt16], backend: BackendTLS? = nil, _ change: (inout Limits) -> Void = { _ in }
    )
        throws
    {
        var limits = Limits()
        change(&limits)
        (descriptor, port) = Loopback.listen()
        mailbox = try Mailbox()
        worker = Worker(
            number: 0, limits: limits, mailbox: mailbox, tally: Tally(seriesMax: limits.seriesMax),
            accessLog: AccessLog(capacity: limits.accessLogRecordsMax),
            accounts: Accounts(count: limits.accountsMax), nodeSockets: nil, capturedListener: -1)
        worker.watchMailbox()
        adopt(Self.mesh(origins, port, backend), version: 1)
    }

    /// Accepts what was captured, as in the engine's namespace; what the mesh is, `adopt` says.
    init(captured: Void) throws {
        let limits = Limits()
        (descriptor, port) = Loopback.listen()
        mailbox = try Mailbox()
        worker = Worker(
            number: 0, limits: limits, mailbox: mailbox, tally: Tally(seriesMax: limits.seriesMax),
            accessLog: AccessLog(capacity: limits.accessLogRecordsMax),
            accounts: Accounts(count: limits.accountsMax),
            nodeSockets: try NodeSockets(workers: 1, limits: limits).stocks[0],
            capturedListener: descriptor)
        worker.watchMailbox()
    }

    deinit { close(descriptor) }

    static func mesh(_ origins: [UInt16], _ port: UInt16, _ backend: BackendTLS?) -> Mesh {
        let service = Service(
            name: ObjectName("shop", "web"), addresses: [],
            ports: [
                ServicePort(
                    name: "http", port: 80, application: .http,
                    endpoints: origins.map { Endpoint(address: SocketAddress(.loopbackV4, $0)) },
                    tls: backend)
            ])
        let listener = Listener(
            gateway: ObjectName("shop", "edge"), name: "web", addresses: [.loopbackV4], port: port,
            hostname: nil)
        let route = HTTPRoute(
            name: ObjectName("shop", "all"), attachments: [.listener(0, hostnames: ["*"])],
            rules: [
                HTTPRouteRule(
                    matches: [HTTPRouteMatch(path: .prefix("/none"))],
                    backends: [RouteBackend(target: .unresolved("gone"))]),
                HTTPRouteRule(backends: [Gateway.to(0)]),
            ])
        return Mesh(services: [service], listeners: [listener], routes: [route])
    }

    func adopt(_ mesh: Mesh, version: UInt64, after: Snapshot? = nil) {
        adopt(SnapshotCompiler.compile(mesh, node: "n", version: version, after: after))
    }

    func adopt(_ snapshot: Snapshot) {
        let (sources, ports) = names.numbers(of: snapshot)
        adoption.followAffinity(of: snapshot, worker.limits)
        let config = WorkerConfig(
            snapshot: snapshot, sources: sources, accounts: accounts(sources.count), ports: ports,
            listeners: snapshot.gatewaySockets.map { _ in [descriptor] },
            tls: adoption.store.table(of: snapshot),
            gate: PolicyGate(snapshot, isHostAllowed: true), peers: nil,
            affinities: adoption.affinities, quarantined: [])
        let number = mailbox.post { $0.config = config }
        take { mailbox.hasTaken(number) }
    }

    /// By `Mesh.workloads`' index.
    private func accounts(_ count: Int) -> [Int32] {
        (0..<Int32(count)).map { hasAccounts ? AccountNumbers.outsideCount + $0 : 0 }
    }

    func policiesAreApplied() {
        let number = mailbox.post { $0.arePoliciesApplied = true }
        take { mailbox.hasTaken(number) }
    }

    /// One turn, which does not wait for events.
    func turn() {
        mailbox.post { _ in }
        worker.takeTurn()
    }

    /// Turns until the condition holds, for ten seconds at most.
    @discardableResult
    func take(until isTrue: () -> Bool) -> Bool {
        for _ in 0..<10_000 {
            if isTrue() { return true }
            turn()
            if isTrue() { return true }
            poll(nil, 0, 1)
        }
        return isTrue()
    }

    /// One message, for which the worker takes turns.
    func message(_ descriptor: Int32) -> String {
        take { Loopback.isReadable(descriptor, milliseconds: 0) }
        return Loopback.message(descriptor)
    }

    /// The next connection that the worker dials.
    func accepted(_ listener: Int32) -> Int32 {
        take { Loopback.isReadable(listener, milliseconds: 0) }
        let connection = accept(listener, nil, nil)
        Loopback.limit(connection)
        return connection
    }

    /// The only request under way, as soon as its upstream is dialled, which may have got none of
    /// it yet; `link` is the record of its client.
    func dialled(
        for request: String, at listener: Int32
    ) throws -> (client: Int32, upstream: Int32, link: Link) {
        let client = Loopback.connect(port)
        Loopback.send(client, request)
        let upstream = accepted(listener)
        let link = try #require(
            worker.timers.all().first { $0.it.role == .downstream && $0.it.exchange.isActive })
        return (client, upstream, link)
    }

    /// The descriptors of pooled upstreams.
    var pooled: [Int32] {
        worker.timers.all().filter { $0.it.role == .upstream && $0.it.phase == .idle }
            .map(\.it.descriptor)
    }

    /// The server's end of the one connection in the pool, which has served its first request.
    ///
    /// - Parameter answer: the head of its answer, but for the length.
    func pooledServer(
        of client: Int32, at listener: Int32, answer: String = "HTTP/1.1 200 OK"
    ) throws -> Int32 {
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        let server = accepted(listener)
        #expect(message(server).hasPrefix("GET / "))
        Loopback.send(server, "\(answer)\r\nContent-Length: 2\r\n\r\nok")
        #expect(message(client).hasSuffix("ok"))
        try #require(take { pooled.count == 1 })
        return server
    }

    var configurations: Int { worker.configs.count { $0.config != nil } }
}
