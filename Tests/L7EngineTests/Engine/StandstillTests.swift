// Who holds up an exchange, where it is not who seems to: an upstream that is waited for, a client
// that takes nothing of what the kernel has for it. The clock is the test's.

import CLinux
import Foundation
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Expect: 100-continue: who is waited for (RFC 9110 section 10.1.1)", .serialized)
struct ContinueTests {
    static let post =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"

    @Test func `an upstream that does not say 100 is 504, and its client is not blamed`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let (client, upstream, link) = try begin(stepped, listener)
        defer { for end in [client, upstream] { close(end) } }
        let (worker, begun) = (stepped.worker, stepped.worker.now)

        for minute: UInt64 in 1...4 {
            worker.now = begun + minute * worker.limits.checkNanoseconds
            worker.check(link)
            #expect(link.it.exchange.isActive, "\(minute)")
        }
        worker.now = begun + worker.limits.firstByteNanosecondsMax
        worker.check(link)

        let answer = Loopback.message(client)
        #expect(answer.hasPrefix("HTTP/1.1 504 ") && answer.contains("request_timeout"))
    }

    @Test(arguments: [false, true])
    func `the client's time begins when 100 was passed on`(isSent: Bool) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let (client, upstream, link) = try begin(stepped, listener)
        defer { for end in [client, upstream] { close(end) } }
        let (worker, begun) = (stepped.worker, stepped.worker.now)
        worker.now = begun + worker.limits.checkNanoseconds
        worker.check(link)
        #expect(link.it.exchange.isActive)

        // An interim answer of another kind is none.
        for status in ["103 Early Hints", "100 Continue"] {
            #expect(link.it.awaitsContinue)
            Loopback.send(upstream, "HTTP/1.1 \(status)\r\n\r\n")
            #expect(stepped.take { Loopback.isReadable(client, milliseconds: 0) })
            #expect(
                String(decoding: Loopback.receive(client), as: UTF8.self)
                    == "HTTP/1.1 \(status)\r\n\r\n")
        }

        // Not at a look that was due just now.
        #expect(link.it.deadline > worker.now + worker.limits.checkNanoseconds / 2)
        if isSent {
            Loopback.send(client, "hello")
            #expect(stepped.take { link.it.framing.isDone })
        }
        worker.now += worker.limits.checkNanoseconds
        worker.check(link)
        #expect(link.it.exchange.isActive == isSent)
        if !isSent { #expect(Loopback.message(client).contains("reason: body_timeout")) }
    }

    @Test func `a client that did not wait is asked for its body as any other`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let (client, upstream, link) = try begin(stepped, listener)
        defer { for end in [client, upstream] { close(end) } }
        Loopback.send(client, "he")
        #expect(stepped.take { link.it.receivedBytes == 2 })
        let worker = stepped.worker
        worker.now += worker.limits.checkNanoseconds
        worker.check(link)
        #expect(Loopback.message(client).contains("reason: body_timeout"))
    }

    /// A request whose body is expected later, and the worker's record of its client.
    private func begin(_ stepped: SteppedWorker, _ listener: Int32) throws -> (Int32, Int32, Link) {
        let (client, upstream, link) = try stepped.dialled(for: Self.post, at: listener)
        #expect(stepped.take { Loopback.isReadable(upstream, milliseconds: 0) })
        #expect(Loopback.receive(upstream).starts(with: Array("POST / ".utf8)))
        return (client, upstream, link)
    }
}

@Suite("A body that its upstream does not take", .serialized)
struct UntakenBodyTests {
    /// Of one length, which is spliced; and one chunk of it, which may be copied.
    @Test(arguments: [
        "Content-Length: 1073741824\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n40000000\r\n",
    ])
    func `is held up by the upstream: 504, and its client is not blamed`(framing: String) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let (client, upstream, link) = try stepped.dialled(
            for: "POST / HTTP/1.1\r\nHost: a\r\n\(framing)", at: listener)
        defer { for end in [client, upstream] { close(end) } }
        let worker = stepped.worker
        // Until all that is between both ends is full.
        let block = [UInt8](repeating: 7, count: 65536)
        let isFull = stepped.take {
            let sent = unsafe block.withUnsafeBytes {
                unsafe Glibc.send(
                    client, $0.baseAddress!, $0.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
            }
            let to = link.it.partner
            return sent < 0 && !to.isNone && to.it.isBlocked
        }
        try #require(isFull)

        // The first look sees what has come.
        worker.now += worker.limits.checkNanoseconds
        worker.check(link)
        let begun = worker.now
        for minute: UInt64 in 1...4 {
            worker.now = begun + minute * worker.limits.checkNanoseconds
            worker.check(link)
            #expect(link.it.exchange.isActive, "\(minute)")
        }
        worker.now = begun + worker.limits.firstByteNanosecondsMax
        worker.check(link)

        let answer = Loopback.message(client)
        #expect(answer.hasPrefix("HTTP/1.1 504 "), "\(answer)")
        #expect(answer.contains("reason: request_timeout\n"), "\(answer)")
        #expect(worker.tally.value(Failure.bodyTimeout) == 0)
    }
}

@Suite("A route that gives a request long", .serialized)
struct LongRouteTests {
    static let hour: UInt64 = 3_600_000_000_000

    /// A request by a route of an hour, once its upstream has got its head; its client's record.
    private func begin(
        _ stepped: SteppedWorker, _ origin: (descriptor: Int32, port: UInt16), _ request: String
    ) throws -> (client: Int32, upstream: Int32, link: Link) {
        var mesh = SteppedWorker.mesh([origin.port], stepped.port, nil)
        mesh.routes[0].rules[1].requestTimeoutMilliseconds = UInt32(Self.hour / 1_000_000)
        stepped.adopt(mesh, version: 2)
        let begun = try stepped.dialled(for: request, at: origin.descriptor)
        #expect(stepped.take { Loopback.isReadable(begun.upstream, milliseconds: 0) })
        return begun
    }

    @Test func `a client that sends nothing of its body is cut off as by any other`() throws {
        let origin = Loopback.listen()
        defer { close(origin.descriptor) }
        let stepped = try SteppedWorker([origin.port])
        let (client, upstream, link) = try begin(
            stepped, origin, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nbo")
        defer { for end in [client, upstream] { close(end) } }
        let worker = stepped.worker

        #expect(link.it.deadline <= worker.now + worker.limits.checkNanoseconds)
        for _ in 0..<2 where link.it.exchange.isActive {
            worker.now += worker.limits.checkNanoseconds
            worker.check(link)
        }
        #expect(Loopback.message(client).contains("reason: body_timeout"))
    }

    @Test func `an upstream that takes long for its answer has all of that time`() throws {
        let origin = Loopback.listen()
        defer { close(origin.descriptor) }
        let stepped = try SteppedWorker([origin.port])
        let (client, upstream, link) = try begin(
            stepped, origin, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        defer { for end in [client, upstream] { close(end) } }
        let worker = stepped.worker
        let end = link.it.requestDeadline
        try #require(end > worker.now + worker.limits.firstByteNanosecondsMax)

        for before in [Self.hour / 2, 1] {
            worker.now = end - before
            worker.check(link)
            #expect(link.it.exchange.isActive)
        }
        worker.now = end
        worker.check(link)
        let answer = Loopback.message(client)
        #expect(answer.hasPrefix("HTTP/1.1 504 ") && answer.contains("request_timeout"))
    }
}

@Suite("A body in chunks may rest between them, and not in one", .serialized)
struct ChunkPaceTests {
    /// What a client sends in the first minute and in the second, and whether it may go on.
    static let minutes: [(first: String, second: String, goesOn: Bool)] = [
        ("5\r\nhello\r\n", "1\r\nx\r\n", true), ("5\r\nhello\r\n", "5\r\nhe", true),
        ("5\r\nhe", "llo\r\n", true), ("5\r\nhe", "llo\r\n5\r\nhe", true),
        ("ffff\r\n", String(repeating: "x", count: 4096), true),
        ("5\r\nhello\r\n", "", false), ("5\r\nhe", "l", false), ("5;", "a", false),
        ("ffff\r\n", String(repeating: "x", count: 4095), false), ("0\r\nX: y", "y", false),
    ]

    @Test(arguments: minutes)
    func `what has begun comes as fast as a body of known length`(
        _ row: (first: String, second: String, goesOn: Bool)
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let (client, upstream, link) = try stepped.dialled(
            for: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", at: listener)
        defer { for end in [client, upstream] { close(end) } }
        #expect(stepped.take { Loopback.isReadable(upstream, milliseconds: 0) })
        let worker = stepped.worker

        var sent: UInt64 = 0
        for (minute, text) in [row.first, row.second].enumerated() {
            Loopback.send(client, text)
            sent += UInt64(text.utf8.count)
            #expect(stepped.take { link.it.receivedBytes == sent })
            worker.now += worker.limits.checkNanoseconds
            worker.check(link)
            #expect(link.it.exchange.isActive == (minute == 0 || row.goesOn))
        }

        if !row.goesOn {
            let answer = Loopback.message(client)
            #expect(answer.hasPrefix("HTTP/1.1 408 ") && answer.contains("reason: body_timeout"))
        }
    }
}

@Suite("A complete answer that its client does not take", .serialized)
struct RestTests {
    enum End: CaseIterable { case keepsAlive, closes, isHalfClosed }

    static let tenth: UInt64 = 100_000_000

    /// A client whose window holds next to nothing.
    static func narrow(_ port: UInt16) -> Int32 {
        let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var little: Int32 = 4096
        // Safe: the call reads one number.
        unsafe _ = setsockopt(client, SOL_SOCKET, SO_RCVBUF, &little, 4)
        Loopback.connect(client, port)
        return client
    }

    static func origin(_ bytes: Int) -> Origin {
        Origin { connection, _ in
            guard !Loopback.message(connection).isEmpty else { return }
            Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: \(bytes)\r\n\r\n")
            Loopback.send(connection, [UInt8](repeating: 7, count: bytes))
        }
    }

    @Test(arguments: End.allCases)
    func `is cut off though it fits in the kernel`(_ end: End) throws {
        let origin = Self.origin(300_000)
        let gateway = try TimeoutTests.gateway([origin.port]) {
            $0.checkNanoseconds = Self.tenth
            $0.lingerNanosecondsMax = Self.tenth / 2
        }
        defer { gateway.stop() }
        let client = Self.narrow(gateway.port)
        defer { close(client) }
        let connection = end == .closes ? "close" : "keep-alive"
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: \(connection)\r\n\r\n")
        if end == .isHalfClosed { shutdown(client, Int32(SHUT_WR)) }

        #expect(
            TimeoutTests.counts(gateway, "malla_requests_failed_total{reason=\"slow_reader\"} 1"))
        #expect(TimeoutTests.counts(gateway, "malla_connections_active 0"))
        #expect(Loopback.ending(client) == ECONNRESET)
    }

    @Test(arguments: [true, false])
    func `waits for who takes four kilobytes from look to look`(keepsAlive: Bool) throws {
        let origin = Self.origin(200_000)
        let stepped = try SteppedWorker([origin.port]) { $0.lingerNanosecondsMax = 1 }
        let client = Self.narrow(stepped.port)
        defer { close(client) }
        let connection = keepsAlive ? "keep-alive" : "close"
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: \(connection)\r\n\r\n")
        let worker = stepped.worker
        func found() -> Link? {
            worker.timers.all().first {
                $0.it.role == .downstream && !$0.it.exchange.isActive && $0.it.sentBytes == 200_000
            }
        }
        #expect(stepped.take { found().map { !$0.it.isBlocked } ?? false })
        let link = try #require(found())
        func look() {
            worker.now += worker.limits.checkNanoseconds
            if keepsAlive { worker.headExpired(link) } else { worker.lingerExpired(link) }
        }

        look()
        var taken = 0
        for _ in 0..<4 {
            let unsent = engine_unsent(link.it.descriptor)
            #expect(
                Loopback.eventually {
                    if Loopback.isReadable(client, milliseconds: 0) {
                        taken += Loopback.receive(client).count
                    }
                    return engine_unsent(link.it.descriptor) <= unsent - 5000
                })
            look()
            #expect(link.it.phase != .dead)
        }
        #expect(taken > 20_000)
        look()
        #expect(link.it.phase == .dead)
        #expect(Loopback.ending(client) == ECONNRESET)
    }

    @Test(arguments: [true, false])
    func `does not hold the connection of who ended it and then reset it`(isLate: Bool) throws {
        let origin = Self.origin(300_000)
        let stepped = try SteppedWorker([origin.port])
        let client = Self.narrow(stepped.port)
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        let worker = stepped.worker
        func found() -> Link? {
            worker.timers.all().first {
                $0.it.role == .downstream && !$0.it.exchange.isActive && $0.it.sentBytes == 300_000
                    && !$0.it.isBlocked
            }
        }
        #expect(stepped.take { found() != nil })
        let link = try #require(found())
        shutdown(client, Int32(SHUT_WR))
        // Before the worker hears of the end, or behind it.
        if isLate { #expect(stepped.take { link.it.phase == .lingering }) }
        Loopback.willReset(client)
        close(client)

        #expect(stepped.take { link.it.phase == .dead })
        #expect(worker.connectionsOpen == 0)
        #expect(worker.tally.value(.slowReader) == 0)
    }

    @Test func `stays no longer in the kernel when its connection was closed`() throws {
        let origin = Self.origin(40_000)
        let gateway = try TimeoutTests.gateway([origin.port]) { $0.standstillMilliseconds = 200 }
        defer { gateway.stop() }
        let client = Self.narrow(gateway.port)
        defer { close(client) }
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        #expect(TimeoutTests.counts(gateway, "malla_connections_active 0"))
        #expect(TimeoutTests.counts(gateway, "malla_requests_total 1"))

        // The kernel's own time-out is 0.2 s here; without it, it asks on for many minutes.
        #expect(Loopback.eventually { !Self.isHeld(gateway.port, Self.port(of: client)) })
    }

    private static func port(of descriptor: Int32) -> UInt16 {
        var local = engine_address()
        // Safe: the call writes one record.
        unsafe _ = engine_local_address(descriptor, &local)
        return local.port
    }

    /// Whether the kernel has a socket of these ports of loopback, closed or not.
    private static func isHeld(_ own: UInt16, _ peer: UInt16) -> Bool {
        func place(_ port: UInt16) -> String {
            let digits = String(port, radix: 16, uppercase: true)
            return "0100007F:" + String(repeating: "0", count: 4 - digits.count) + digits
        }
        let table = (try? String(contentsOfFile: "/proc/net/tcp", encoding: .utf8)) ?? ""
        return table.contains(" \(place(own)) \(place(peer)) ")
    }

    @Test func `a tunnel's client may rest for longer`() throws {
        let origin = Origin { connection, _ in
            guard !Loopback.message(connection).isEmpty else { return }
            Loopback.send(
                connection, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
            )
            Loopback.send(connection, [UInt8](repeating: 7, count: 40_000))
            _ = Loopback.receive(connection)
        }
        let stepped = try SteppedWorker([origin.port])
        let client = Self.narrow(stepped.port)
        defer { close(client) }
        func standstill() throws -> Int32 {
            let all = stepped.worker.timers.all()
            let link = try #require(all.first { $0.it.role == .downstream })
            var (milliseconds, size) = (Int32(-1), socklen_t(4))
            // Safe: the call writes one number.
            unsafe _ = getsockopt(
                link.it.descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &milliseconds, &size)
            return milliseconds
        }
        #expect(stepped.take { stepped.worker.connectionsOpen == 1 })
        #expect(try standstill() == 180_000)

        Loopback.send(
            client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        #expect(stepped.take { Loopback.isReadable(client, milliseconds: 0) })
        #expect(try standstill() == 0)
    }
}
