import CLinux
import Glibc
import MeshModel
import Synchronization
import Testing

@testable import L7Engine

@Suite("Time-outs: who stands still is cut off", .serialized)
struct TimeoutTests {
    static let tenth: UInt64 = 100_000_000

    static func gateway(
        _ origins: [UInt16], workloads: [Workload] = [], isOneService: Bool = false,
        _ change: (inout Limits) -> Void
    ) throws -> Gateway {
        var limits = Limits()
        change(&limits)
        return try Gateway(
            origins: origins, rules: [HTTPRouteRule(backends: [Gateway.to(0)])],
            workloads: workloads, limits: limits, isOneService: isOneService)
    }

    static func counts(_ gateway: Gateway, _ line: String, isNow: Bool = false) -> Bool {
        if isNow { return gateway.engine.exposition().contains(line + "\n") }
        return Loopback.eventually { gateway.engine.exposition().contains(line + "\n") }
    }

    @Test func `half a head is answered with 408`() throws {
        let origin = Origin.echo()
        let gateway = try Self.gateway([origin.port]) { $0.headNanosecondsMax = Self.tenth }
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\nX-Slow:")
        let answer = Loopback.message(client)
        #expect(answer.hasPrefix("HTTP/1.1 408 "))
        #expect(answer.contains("Connection: close"))
        #expect(Self.counts(gateway, "malla_requests_failed_total{reason=\"head_timeout\"} 1"))
    }

    @Test func `a connection that says nothing is closed`() throws {
        let origin = Origin.echo()
        let gateway = try Self.gateway([origin.port]) {
            $0.headNanosecondsMax = Self.tenth
            $0.idleNanosecondsMax = Self.tenth
        }
        defer { gateway.stop() }
        let (silent, kept) = (Loopback.connect(gateway.port), Loopback.connect(gateway.port))
        defer {
            close(silent)
            close(kept)
        }
        Loopback.send(kept, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(Loopback.message(kept).hasPrefix("HTTP/1.1 200 "))
        #expect(Loopback.receive(silent).isEmpty)
        #expect(Loopback.receive(kept).isEmpty)
        #expect(Self.counts(gateway, "malla_connections_active 0"))
    }

    @Test(arguments: [false, true])
    func `a body that stands still, or trickles, is answered with 408`(trickles: Bool) throws {
        let origin = Origin { connection, _ in while !Loopback.receive(connection).isEmpty {} }
        let gateway = try Self.gateway([origin.port]) { $0.checkNanoseconds = Self.tenth }
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nfirst")
        if trickles {
            #expect(
                Loopback.eventually {
                    Loopback.send(client, "x")
                    return gateway.engine.exposition().contains("reason=\"body_timeout\"} 1\n")
                })
        }
        #expect(Loopback.message(client).hasPrefix("HTTP/1.1 408 "))
        #expect(Self.counts(gateway, "malla_requests_failed_total{reason=\"body_timeout\"} 1"))
    }

    @Test(arguments: ["Content-Length: 67108864\r\n", ""])
    func `a client that does not read its answer is cut off`(length: String) throws {
        let origin = Origin { connection, _ in
            _ = Loopback.message(connection)
            Loopback.send(connection, "HTTP/1.1 200 OK\r\n\(length)\r\n")
            Loopback.send(connection, [UInt8](repeating: 7, count: 64 << 20))
        }
        let gateway = try Self.gateway([origin.port]) { $0.checkNanoseconds = Self.tenth }
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(Self.counts(gateway, "malla_requests_failed_total{reason=\"slow_reader\"} 1"))
        #expect(Self.counts(gateway, "malla_connections_active 0"))
        // Not by an end that waits behind megabytes in the kernel.
        #expect(Loopback.ending(client) == ECONNRESET)
    }

    @Test func `an upstream without an answer is 504`() throws {
        let origin = Origin { connection, _ in while !Loopback.receive(connection).isEmpty {} }
        let gateway = try Self.gateway([origin.port]) {
            $0.checkNanoseconds = Self.tenth
            $0.firstByteNanosecondsMax = 2 * Self.tenth
        }
        defer { gateway.stop() }
        #expect(gateway.get().hasPrefix("HTTP/1.1 504 "))
    }

    /// By a client's version and how the answer's end would be said.
    @Test(arguments: [
        ("HTTP/1.1", "Content-Length: 90\r\n\r\nhalf"),
        ("HTTP/1.1", "Transfer-Encoding: chunked\r\n\r\n5a\r\nhalf"), ("HTTP/1.1", "\r\nhalf"),
        ("HTTP/1.0", "\r\nhalf"), ("HTTP/1.1", "Content-Length: 90000\r\n\r\nhalf"),
    ])
    func `an answer whose origin falls silent in the middle is cut off`(
        version: String, answer: String
    ) throws {
        let origin = Origin { connection, _ in
            _ = Loopback.message(connection)
            Loopback.send(connection, "HTTP/1.1 200 OK\r\n" + answer)
            _ = Loopback.receive(connection)
        }
        let gateway = try Self.gateway([origin.port]) {
            $0.checkNanoseconds = Self.tenth
            $0.silenceNanosecondsMax = 2 * Self.tenth
        }
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "GET / \(version)\r\nHost: a\r\n\r\n")
        var came = ""
        while !came.contains("half") {
            let more = Loopback.receive(client)
            try #require(!more.isEmpty, "\(came)")
            came += String(decoding: more, as: UTF8.self)
        }
        #expect(Loopback.ending(client) == (version == "HTTP/1.0" ? ECONNRESET : 0))
        #expect(Self.counts(gateway, "malla_requests_failed_total{reason=\"request_timeout\"} 1"))
        #expect(Self.counts(gateway, "malla_connections_active 0"))
        #expect(gateway.engine.exposition().contains("response_flags=\"UT\""))
        let line = gateway.engine.takeAccessLog().first ?? ""
        #expect(line.contains("\"flags\":\"UT\"") && line.contains("request_timeout"), "\(line)")
    }

    @Test func `an endpoint that drops what is dialled is 503 in time`() throws {
        let hole = BlackHole()
        let gateway = try Self.gateway([hole.port]) { $0.connectNanosecondsMax = Self.tenth }
        defer { gateway.stop() }
        #expect(gateway.get().hasPrefix("HTTP/1.1 503 "))
    }

    @Test func `the only endpoint is dialled once, whether it is silent or refuses`() throws {
        let hole = BlackHole()
        let (descriptor, closed) = Loopback.listen()
        close(descriptor)
        for (port, reason) in [(hole.port, "connect_timeout"), (closed, "connect_failed")] {
            let gateway = try Self.gateway([port]) { $0.connectNanosecondsMax = Self.tenth }
            defer { gateway.stop() }
            #expect(gateway.get().contains("reason: \(reason)\n"))
            #expect(gateway.engine.tallies[0].value(.dials) == 1)
            #expect(gateway.engine.tallies[0].value(.retries) == 0)
        }
    }

    @Test func `two endpoints that did not answer in time are two`() throws {
        let holes = [BlackHole(), BlackHole()]
        defer { withExtendedLifetime(holes) {} }
        let gateway = try Self.gateway(holes.map(\.port), isOneService: true) {
            $0.raceNanoseconds = Self.tenth / 4
            $0.connectNanosecondsMax = Self.tenth
        }
        defer { gateway.stop() }
        #expect(gateway.get().contains("reason: retries_exceeded\n"))
        #expect(gateway.engine.tallies[0].value(.dials) == 2)
    }

    @Test func `a dial that is late is not given up because the second was refused`() throws {
        let hole = BlackHole()
        let (descriptor, closed) = Loopback.listen()
        close(descriptor)
        let gateway = try Self.gateway([hole.port, closed], isOneService: true) {
            $0.raceNanoseconds = Self.tenth / 4
            $0.connectNanosecondsMax = 4 * Self.tenth
        }
        defer { gateway.stop() }
        for _ in 0..<6 {
            #expect(gateway.get().contains("reason: retries_exceeded\n"))
        }
        #expect(gateway.engine.tallies[0].value(.dials) == 12)
    }

    @Test(arguments: [true, false])
    func `who does not take the rest of a complete answer is cut off`(keepsAlive: Bool) throws {
        let body = [UInt8](repeating: 7, count: 3_300_000)
        let origin = Origin { connection, _ in
            _ = Loopback.message(connection)
            Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n")
            Loopback.send(connection, body)
        }
        let gateway = try Self.gateway([origin.port]) { $0.checkNanoseconds = Self.tenth }
        defer { gateway.stop() }
        let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(client) }
        var little: Int32 = 4096
        // Safe: the call reads one number.
        unsafe _ = setsockopt(client, SOL_SOCKET, SO_RCVBUF, &little, 4)
        Loopback.connect(client, gateway.port)
        let connection = keepsAlive ? "keep-alive" : "close"
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: \(connection)\r\n\r\n")
        #expect(Self.counts(gateway, "malla_requests_failed_total{reason=\"slow_reader\"} 1"))
        #expect(Self.counts(gateway, "malla_connections_active 0"))
    }

    @Test func `an endpoint that hangs costs a quarter of a second, not the time-out`() throws {
        let (hole, origin) = (BlackHole(), Origin.echo())
        let gateway = try Self.gateway([hole.port, origin.port], isOneService: true) { _ in }
        defer { gateway.stop() }
        for _ in 0..<12 {
            let client = Loopback.connect(gateway.port)
            defer { close(client) }
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            // Of the five that a dial may take.
            #expect(Loopback.isReadable(client, milliseconds: 4000))
            #expect(Loopback.message(client).hasPrefix("HTTP/1.1 200 "))
        }
        #expect(!Self.counts(gateway, "malla_upstream_races_total 0", isNow: true))
    }

    @Test func `an upstream's life ends`() throws {
        let origin = Origin.echo()
        let gateway = try Self.gateway([origin.port]) { $0.upstreamLifeNanosecondsMax = 0 }
        defer { gateway.stop() }
        for _ in 0..<3 { #expect(gateway.get().hasPrefix("HTTP/1.1 200 ")) }
        #expect(Self.counts(gateway, "malla_upstream_dials_total 3"))
    }
}

@Suite("Overload: what is one too many is turned away", .serialized)
struct OverloadTests {
    @Test(arguments: [(true, "account_connections"), (false, "connections")])
    func `connections beyond the limit get 503 and Retry-After`(isAccount: Bool, reason: String)
        throws
    {
        let origin = Origin.echo()
        let gateway = try TimeoutTests.gateway(
            [origin.port], workloads: [.client("shop", "web", "127.0.0.1")]
        ) {
            if isAccount { $0.accountConnectionsMax = 2 } else { $0.connectionsMax = 2 }
        }
        defer { gateway.stop() }
        let kept = (0..<2).map { _ in Loopback.connect(gateway.port) }
        defer { for client in kept { close(client) } }
        for client in kept {
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(Loopback.message(client).hasPrefix("HTTP/1.1 200 "))
        }
        let third = Loopback.connect(gateway.port)
        defer { close(third) }
        let answer = Loopback.message(third)
        #expect(answer.hasPrefix("HTTP/1.1 503 "))
        #expect(answer.contains("Retry-After: 1") && answer.contains("\r\nDate: "))
        #expect(Loopback.field(answer, "x-request-id")?.count == 36)
        #expect(answer.contains("too busy; try again in a second\nreason: overloaded\nrequest: "))
        #expect(TimeoutTests.counts(gateway, "malla_requests_shed_total{reason=\"\(reason)\"} 1"))
        // The others are served as before.
        Loopback.send(kept[0], "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(Loopback.message(kept[0]).hasPrefix("HTTP/1.1 200 "))
    }

    @Test func `one client outside of the mesh cannot take every connection, all of them cannot`()
        throws
    {
        let origin = Origin.echo()
        let gateway = try TimeoutTests.gateway(
            [origin.port], workloads: [.client("shop", "web", "127.0.0.9")]
        ) { $0.connectionsMax = 8 }
        defer { gateway.stop() }
        var kept: [Int32] = []
        defer { for client in kept { close(client) } }
        /// Opens a connection and asks; answers the status line.
        func ask(_ last: UInt32) -> String {
            let client = Loopback.connect(gateway.port, from: 0x7f00_0000 | last)
            kept.append(client)
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            return String(Loopback.message(client).prefix(12))
        }

        let first = (0..<5).map { _ in ask(1) }
        let second = (0..<3).map { _ in ask(2) }
        let workload = (0..<2).map { _ in ask(9) }

        #expect(first == Array(repeating: "HTTP/1.1 200", count: 4) + ["HTTP/1.1 503"])
        #expect(second == ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 503"])
        #expect(workload == ["HTTP/1.1 200", "HTTP/1.1 200"])
        for reason in ["account_connections", "outside_connections"] {
            let count = "malla_requests_shed_total{reason=\"\(reason)\"} 1"
            #expect(TimeoutTests.counts(gateway, count))
        }
    }

    /// A client that takes nothing of its long answer holds more buffers than there may be: who
    /// comes from its address gets 503 for this reason, who comes from another is served.
    private func expectHolderIsShed(
        _ reason: String, workloads: [Workload] = [], _ change: (inout Limits) -> Void
    ) throws {
        let origin = Origin { connection, number in
            while !Loopback.message(connection).isEmpty {
                if number > 0 {
                    Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    continue
                }
                Loopback.send(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                Loopback.send(connection, "2000000\r\n")
                Loopback.send(connection, [UInt8](repeating: 7, count: 32 << 20))
            }
        }
        let gateway = try TimeoutTests.gateway([origin.port], workloads: workloads, change)
        defer { gateway.stop() }
        let slow = Loopback.connect(gateway.port)
        defer { close(slow) }
        Loopback.send(slow, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        // As soon as the kernel takes no more for the slow one.
        var answer = ""
        #expect(
            Loopback.eventually {
                answer = gateway.get()
                return answer.hasPrefix("HTTP/1.1 503 ")
            })
        #expect(answer.contains("Retry-After: 1"))
        let count = "malla_requests_shed_total{reason=\"\(reason)\"} 1"
        #expect(TimeoutTests.counts(gateway, count))
        // From an address of no workload.
        let other = Loopback.connect(gateway.port, from: 0x7f00_0009)
        defer { close(other) }
        Loopback.send(other, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(Loopback.message(other).hasSuffix("ok"))
    }

    @Test func `requests of an account that holds its share of buffers get 503, others do not`()
        throws
    {
        try expectHolderIsShed(
            "account_buffers", workloads: [.client("shop", "web", "127.0.0.1")]
        ) { $0.accountBufferBytesMax = 1024 }
    }

    @Test func `streams that begin to flow when the buffers are used up hold little more`() throws {
        let go = Atomic(false)
        let origin = Origin { connection, _ in
            guard !Loopback.message(connection).isEmpty else { return }
            Loopback.send(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n")
            _ = Loopback.eventually { go.load(ordering: .relaxed) }
            Loopback.send(connection, "a\r\n2000000\r\n")
            Loopback.send(connection, [UInt8](repeating: 7, count: 16 << 20))
        }
        let gateway = try TimeoutTests.gateway(
            [origin.port], workloads: [.client("shop", "web", "127.0.0.1")]
        ) { $0.accountBufferBytesMax = 1 << 20 }
        defer { gateway.stop() }
        let clients = (0..<40).map { _ in Loopback.connect(gateway.port) }
        defer { for client in clients { close(client) } }
        for client in clients {
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(Loopback.isReadable(client, milliseconds: 5000))
        }
        go.store(true, ordering: .relaxed)
        func held() -> UInt64 { gateway.engine.accounts().map(\.bufferBytes).max() ?? 0 }
        #expect(Loopback.eventually { held() > 1 << 20 })
        // Every stream has been met by a client that takes no more.
        var (most, last, still) = (UInt64(0), UInt64(0), 0)
        _ = Loopback.eventually {
            let now = held()
            (most, still, last) = (max(most, now), now == last ? still + 1 : 0, now)
            return still == 200
        }
        #expect(most <= 1 << 20 + 140 * 1024 + 80 * 1024, "\(most)")
    }

    @Test func `what a flood held is given back`() {
        var charge: UInt64 = 0
        // Safe: it lives as long as the pool.
        unsafe withUnsafeMutablePointer(to: &charge) { charged in
            var pool = unsafe BufferPool(charged: charged)
            var held = (0..<1000).map { _ in ByteBuffer() }
            for index in held.indices { #expect(pool.reserve(&held[index], 100_000)) }
            for index in held.indices { pool.release(&held[index]) }
            #expect(pool.heldBytes == 0)
            let isFull = pool.keepsMuch
            #expect(isFull)
            // Once a second.
            for _ in 0..<10 { pool.giveBack() }
            let isKept = pool.keepsMuch
            #expect(!isKept)
        }
    }

    @Test func `while nobody else accepts, a new connection is answered until the drain is over`()
        throws
    {
        let origin = Origin { connection, _ in
            while !Loopback.message(connection).isEmpty {
                Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
        }
        let gateway = try TimeoutTests.gateway([origin.port]) { _ in }
        let kept = Loopback.connect(gateway.port)
        Loopback.send(kept, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(Loopback.message(kept).hasSuffix("ok"))
        let isOver = Atomic(false)
        let engine = gateway.engine
        try Thread.start {
            engine.drain(seconds: 10, accepts: true)
            isOver.store(true, ordering: .relaxed)
        }
        let isDraining = Loopback.eventually {
            let answer = gateway.get()
            #expect(answer.hasPrefix("HTTP/1.1 200 "))
            return answer.contains("Connection: close")
        }
        #expect(isDraining)
        let isEarly = isOver.load(ordering: .relaxed)
        #expect(!isEarly)
        close(kept)
        #expect(Loopback.eventually { isOver.load(ordering: .relaxed) })
        gateway.stop()
    }

    @Test(arguments: [
        ("HTTP/1.1", ""), ("HTTP/1.0", "HTTP/1.1 200 OK\r\n\r\nhalf"),
        ("HTTP/1.1", "HTTP/1.1 200 OK\r\n\r\nhalf"),
    ])
    func `at the drain's end what was not answered is told so, and half an answer is no whole one`(
        version: String, _ answer: String
    ) throws {
        let origin = Origin { connection, _ in
            guard !Loopback.message(connection).isEmpty else { return }
            Loopback.send(connection, answer)
            _ = Loopback.receive(connection)
        }
        let gateway = try TimeoutTests.gateway([origin.port]) { _ in }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "GET / \(version)\r\nHost: a\r\n\r\n")
        #expect(TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"active\"} 1"))
        if !answer.isEmpty { #expect(Loopback.isReadable(client, milliseconds: 5000)) }
        gateway.stop()
        if answer.isEmpty {
            let told = Loopback.message(client)
            #expect(told.hasPrefix("HTTP/1.1 503 ") && told.contains("reason: drained"), "\(told)")
        } else if version == "HTTP/1.0" {
            #expect(Loopback.ending(client) == ECONNRESET)
        } else {
            // Its last chunk is missing.
            let told = String(decoding: Loopback.rest(client), as: UTF8.self)
            #expect(told.hasSuffix("\r\n4\r\nhalf\r\n"), "\(told)")
        }
        #expect(gateway.engine.exposition().contains("reason=\"drained\"} 1"))
    }

    @Test func `when the worker holds too many buffers, who holds them gets 503, others do not`()
        throws
    {
        try expectHolderIsShed("buffers") { $0.bufferBytesMax = 1024 }
    }

    @Test(arguments: [(true, "account_dials"), (false, "dials")])
    func `dials beyond the limit get 503 at once`(isAccount: Bool, reason: String) throws {
        let hole = BlackHole()
        let gateway = try TimeoutTests.gateway(
            [hole.port], workloads: [.client("shop", "web", "127.0.0.1")]
        ) {
            if isAccount { $0.accountDialsMax = 1 } else { $0.dialsMax = 1 }
        }
        defer { gateway.stop() }
        let waiting = Loopback.connect(gateway.port)
        defer { close(waiting) }
        Loopback.send(waiting, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(
            TimeoutTests.counts(gateway, "malla_upstream_connections{state=\"connecting\"} 1"))
        let answer = gateway.get()
        #expect(answer.contains("Retry-After: 1"))
        #expect(answer.contains("overloaded"))
        #expect(TimeoutTests.counts(gateway, "malla_requests_shed_total{reason=\"\(reason)\"} 1"))
    }

    @Test func `without descriptors the worker rests, and serves when there are some again`() throws
    {
        let origin = Origin.echo()
        let gateway = try TimeoutTests.gateway([origin.port]) { _ in }
        defer { gateway.stop() }
        let first = Loopback.connect(gateway.port)
        defer { close(first) }
        Loopback.send(first, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(Loopback.message(first).hasPrefix("HTTP/1.1 200 "))
        let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(client) }
        var old = rlimit()
        // Safe: the calls read and write these records.
        unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &old)
        var none = rlimit(rlim_cur: 3, rlim_max: old.rlim_max)
        unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none)
        Loopback.connect(client, gateway.port)
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        let isPaused = Loopback.eventually {
            !gateway.engine.exposition().contains("malla_accept_paused_total 0\n")
        }
        unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &old)
        #expect(isPaused)
        #expect(Loopback.message(client).hasPrefix("HTTP/1.1 200 "))
        // Ten times a second, not a hundred thousand times.
        let text = gateway.engine.exposition()
        let line = text.split(separator: "\n").first { $0.hasPrefix("malla_accept_paused_total ") }
        #expect((line?.split(separator: " ").last.flatMap { Int($0) } ?? 1000) < 110)
    }

    @Test func `of two endpoints the less busy one is asked`() throws {
        let stuck = Origin { connection, _ in while !Loopback.receive(connection).isEmpty {} }
        let quick = Origin.echo("quick")
        let gateway = try TimeoutTests.gateway(
            [stuck.port, quick.port], isOneService: true
        ) { _ in }
        defer { gateway.stop() }
        var clients: [Int32] = []
        defer { for client in clients { close(client) } }
        var served = 0
        for _ in 1...20 {
            let client = Loopback.connect(gateway.port)
            clients.append(client)
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            if Loopback.isReadable(client, milliseconds: 1000) { served += 1 }
        }
        // The stuck one has one request; the quick one never has more at the same time.
        #expect(served >= 18)
    }
}

/// A port whose every new connection hangs: its queue is full and nobody accepts.
final class BlackHole: Sendable {
    let port: UInt16
    private let descriptors: [Int32]

    /// - Parameter isOnAll: of both families, else IPv4.
    init(isOnAll: Bool = false) {
        let (listener, port) =
            isOnAll ? Loopback.listenOnAll(backlog: 0) : Loopback.listen(backlog: 0)
        self.port = port
        var all = [listener]
        for _ in 0..<4 {
            let filler = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
            Loopback.connect(filler, port)
            all.append(filler)
        }
        descriptors = all
    }

    deinit { for descriptor in descriptors { close(descriptor) } }
}
