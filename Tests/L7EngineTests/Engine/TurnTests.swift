import CLinux
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Nobody holds a worker, whatever it sends", .serialized)
struct TurnTests {
    private static let none = "GET /none HTTP/1.1\r\nHost: a\r\n\r\n"

    /// Each dispatch is more than a quantum, and a turn is one dispatch.
    private func worker(_ origins: [UInt16]) throws -> SteppedWorker {
        try SteppedWorker(origins) {
            $0.quantumMicroseconds = 0
            $0.turnMicroseconds = 0
        }
    }

    /// Two clients that are known and quiet.
    private func pair(_ stepped: SteppedWorker) -> (Int32, Int32) {
        let clients = (Loopback.connect(stepped.port), Loopback.connect(stepped.port))
        for client in [clients.0, clients.1] {
            Loopback.send(client, Self.none)
            #expect(stepped.message(client).hasPrefix("HTTP/1.1 500 "))
        }
        return clients
    }

    /// What lies in the socket, and no more.
    private func waiting(_ descriptor: Int32) -> String {
        guard Loopback.isReadable(descriptor, milliseconds: 0) else { return "" }
        return String(decoding: Loopback.receive(descriptor, max: 1 << 20), as: UTF8.self)
    }

    @Test func `who pipelines requests that are answered locally does not keep others waiting`()
        throws
    {
        let stepped = try worker([])
        let (flood, other) = pair(stepped)
        defer { for client in [flood, other] { close(client) } }

        Loopback.send(flood, String(repeating: Self.none, count: 1000))
        Loopback.send(other, Self.none)
        for _ in 0..<6 { stepped.turn() }

        #expect(waiting(other).hasPrefix("HTTP/1.1 500 "))
        #expect(waiting(flood).ranges(of: "HTTP/1.1 500 ").count < 10)
    }

    @Test func `who goes on sending after it was refused does not keep others waiting`() throws {
        let stepped = try worker([])
        let (flood, other) = pair(stepped)
        defer { for client in [flood, other] { close(client) } }
        Loopback.send(flood, "GET / HTTP/1.1\r\nHost : a\r\n\r\n")
        #expect(stepped.message(flood).hasPrefix("HTTP/1.1 400 "))

        let filler = [UInt8](repeating: 0x78, count: 1 << 16)
        for _ in 0..<4 {
            // Safe: the bytes live as long as the call.
            unsafe filler.withUnsafeBytes {
                unsafe _ = send(flood, $0.baseAddress!, $0.count, Int32(MSG_DONTWAIT))
            }
        }
        Loopback.send(other, Self.none)
        for _ in 0..<2 {
            stepped.turn()
            // After one receive of the flood, not when it is over.
            #expect(stepped.worker.movedBytes < 1 << 17)
        }
        #expect(stepped.take { Loopback.isReadable(other, milliseconds: 0) })
    }

    @Test(arguments: [20_000])
    func `answers that a client does not take yet wait, and none is lost`(_ count: Int) throws {
        let gateway = try Gateway(origins: [], rules: [])
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        try Thread.start {
            Loopback.send(client, String(repeating: request, count: count - 1) + last)
        }
        // It does not read before the worker stands still for it.
        _ = Loopback.eventually {
            gateway.engine.tallies[0].value(.requests) > 100
        }
        let answers = String(decoding: Loopback.rest(client), as: UTF8.self)

        #expect(answers.components(of: "HTTP/1.1 404 Not Found").count == count + 1)
        #expect(gateway.engine.tallies[0].value(.requests) == UInt64(count))
    }

    @Test(arguments: ["1.0", "1.1"])
    func `an upstream that sends interim answers without end is 502`(_ version: String) throws {
        let origin = Origin { connection, _ in
            guard !Loopback.message(connection).isEmpty else { return }
            let flood = Array(
                String(repeating: "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", count: 1000).utf8)
            for _ in 0..<1000 { Loopback.send(connection, flood) }
        }
        let gateway = try TimeoutTests.gateway([origin.port]) { _ in }
        defer { gateway.stop() }

        let answer = Loopback.exchange(
            gateway.port, "GET / HTTP/\(version)\r\nHost: a\r\nConnection: close\r\n\r\n")

        let heads = answer.components(of: "HTTP/1.1 ")
        #expect(heads.last?.hasPrefix("502 ") == true, "\(heads.last ?? "")")
        #expect(heads.count == (version == "1.0" ? 2 : 102))
    }

    @Test func `what a pooled connection says unasked never becomes an answer`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let client = Loopback.connect(stepped.port)
        defer { close(client) }
        let get = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
        Loopback.send(client, get)
        let first = stepped.accepted(listener)
        defer { close(first) }
        #expect(stepped.message(first).hasPrefix("GET /a "))
        Loopback.send(first, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal")
        #expect(stepped.message(client).hasSuffix("real"))
        #expect(stepped.take { stepped.pooled.count == 1 })

        // Between two turns, the request first.
        Loopback.send(client, get)
        Loopback.send(first, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON")
        let second = stepped.accepted(listener)
        defer { close(second) }
        #expect(stepped.message(second).hasPrefix("GET /a "))
        Loopback.send(second, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal")

        #expect(stepped.message(client).hasSuffix("real"))
    }

    /// A request with a body, as far as it is there.
    private func ask(_ client: Int32, _ method: String, _ part: String) {
        Loopback.send(
            client, "\(method) /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\(part)")
    }

    /// Whether that part of the body comes, while the worker takes turns.
    private func takes(_ stepped: SteppedWorker, _ server: Int32, _ part: String) -> Bool {
        var text = ""
        return stepped.take {
            text += waiting(server)
            return text.hasPrefix("P") && text.hasSuffix("\r\n\r\n" + part)
        }
    }

    /// The next connection that is dialled gets the whole body, whose rest comes now, and what it
    /// answers is the client's.
    private func expectNextServes(
        _ stepped: SteppedWorker, _ client: Int32, _ listener: Int32, whole body: String = "body",
        rest: String = ""
    ) {
        let server = stepped.accepted(listener)
        defer { close(server) }
        Loopback.send(client, rest)
        #expect(takes(stepped, server, body))
        Loopback.send(server, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal")
        #expect(stepped.message(client).hasSuffix("real"))
    }

    private func end(_ connection: Int32, byReset: Bool) {
        if byReset { engine_end_by_reset(connection) }
        close(connection)
    }

    /// how the server ends its connection, how much of the body is there
    @Test(arguments: [false, true], ["body", "bo", ""])
    func `a POST is not lost on a pooled connection that its server has closed meanwhile`(
        byReset: Bool, part: String
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let client = Loopback.connect(stepped.port)
        defer { close(client) }
        let first = try stepped.pooledServer(of: client, at: listener)

        // Between two turns, the request first.
        ask(client, "POST", part)
        end(first, byReset: byReset)

        let rest = String("body".dropFirst(part.count))
        expectNextServes(stepped, client, listener, rest: rest)
        // None of it had been sent: that is no second attempt.
        #expect(stepped.worker.tally.value(.retries) == 0)
        #expect(stepped.worker.tally.value(.dials) == 2)
    }

    /// The kernel may learn of the server's end between the look and the send. how much of the body
    /// is there
    @Test(arguments: ["body", "bo", ""])
    func `a POST that a pooled connection takes nothing of is sent again`(part: String) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let client = Loopback.connect(stepped.port)
        defer { close(client) }
        let first = try stepped.pooledServer(of: client, at: listener)
        defer { close(first) }

        // Nothing is to be seen of that by whoever looks: send(2) says EPIPE.
        try #require(shutdown(stepped.pooled[0], Int32(SHUT_WR)) == 0)
        ask(client, "POST", part)

        let rest = String("body".dropFirst(part.count))
        expectNextServes(stepped, client, listener, rest: rest)
        #expect(stepped.worker.tally.value(.retries) == 1)
        #expect(stepped.worker.tally.value(.dials) == 2)
    }

    /// What was not received yet must not go where nothing is taken.
    @Test func `a long POST that a pooled connection takes nothing of is sent again whole`() throws
    {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        // Its rest is there, too, when the first part was received.
        let stepped = try SteppedWorker([port]) {
            $0.headBytesMax = 8 * 1024
            $0.receiveBytesMax = 16 * 1024
        }
        let client = Loopback.connect(stepped.port)
        defer { close(client) }
        let first = try stepped.pooledServer(of: client, at: listener)
        defer { close(first) }

        try #require(shutdown(stepped.pooled[0], Int32(SHUT_WR)) == 0)
        let body = String(repeating: "long", count: 15_000)
        Loopback.send(client, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + body)

        expectNextServes(stepped, client, listener, whole: body)
        #expect(stepped.worker.tally.value(.retries) == 1)
    }

    /// method, how much of the body the server has got, whether it is sent again
    @Test(arguments: [
        ("POST", "body", false), ("POST", "bo", false), ("PUT", "bo", false),
        ("PUT", "body", true),
    ])
    func `what a pooled connection has taken in part is sent again only if it is safe`(
        method: String, part: String, isSentAgain: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let client = Loopback.connect(stepped.port)
        defer { close(client) }
        let first = try stepped.pooledServer(of: client, at: listener)

        ask(client, method, part)
        #expect(takes(stepped, first, part))
        end(first, byReset: false)

        if isSentAgain {
            expectNextServes(stepped, client, listener, whole: part)
        } else {
            #expect(stepped.message(client).hasPrefix("HTTP/1.1 503 "))
            #expect(!Loopback.isReadable(listener, milliseconds: 0))
        }
        #expect(stepped.worker.tally.value(.retries) == (isSentAgain ? 1 : 0))
        #expect(stepped.worker.tally.value(.dials) == (isSentAgain ? 2 : 1))
    }

    @Test func `a stream that stays open does not hold every configuration since`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        var streams: [Int32] = []
        defer { for stream in streams { close(stream) } }
        var mesh = SteppedWorker.mesh([port], stepped.port, nil)
        for version in 2..<UInt64(20) {
            let client = Loopback.connect(stepped.port)
            let kind = version % 3
            let fields = kind == 0 ? "Connection: Upgrade\r\nUpgrade: chat\r\n" : ""
            Loopback.send(client, "GET /\(version) HTTP/1.1\r\nHost: a\r\n\(fields)\r\n")
            let upstream = stepped.accepted(listener)
            streams += [client, upstream]
            #expect(stepped.message(upstream).hasPrefix("GET /\(version) "))
            if kind == 0 {
                Loopback.send(
                    upstream,
                    "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
            } else if kind == 1 {
                Loopback.send(
                    upstream,
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
            }
            // The third kind is a long poll.
            if kind != 2 { stepped.take { Loopback.isReadable(client, milliseconds: 0) } }
            mesh.namespaces["shop"] = ["version": "\(version)"]
            stepped.adopt(mesh, version: version)
        }
        #expect(stepped.configurations <= stepped.worker.limits.configsKeptMax)

        // Each ends as it should, and is counted.
        for (number, upstream) in streams.enumerated() where number % 2 == 1 {
            let (version, client) = (number / 2 + 2, streams[number - 1])
            switch version % 3 {
            case 0:
                Loopback.send(upstream, "bye")
                shutdown(upstream, Int32(SHUT_WR))
            case 1: Loopback.send(upstream, "0\r\n\r\n")
            default:
                Loopback.send(
                    upstream,
                    "HTTP/1.1 103 Early\r\nX-A: a\r\n\r\n"
                        + "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok")
            }
            stepped.take { Loopback.isReadable(client, milliseconds: 0) }
            if version % 3 == 2 {
                var answer = ""
                stepped.take {
                    answer += waiting(client)
                    return answer.hasSuffix("ok")
                }
                #expect(answer.hasSuffix("\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok"), "\(answer)")
            }
        }
        for stream in streams { shutdown(stream, Int32(SHUT_RDWR)) }
        stepped.take { stepped.worker.connectionsOpen == 0 }
        #expect(stepped.configurations == 1)
    }

    @Test func `an exchange goes over to a configuration that differs in endpoints only`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let mesh = SteppedWorker.mesh([port], stepped.port, nil)
        var before = SnapshotCompiler.compile(mesh, node: "n", version: 2)
        stepped.adopt(before)
        let client = Loopback.connect(stepped.port)
        defer { close(client) }
        Loopback.send(client, "GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        let upstream = stepped.accepted(listener)
        defer { close(upstream) }
        #expect(stepped.message(upstream).hasPrefix("GET /long "))
        for version in 3..<UInt64(12) {
            var changed = mesh
            changed.services[0].ports[0].endpoints.append(
                Endpoint(address: SocketAddress(.loopbackV4, UInt16(version))))
            let after = SnapshotCompiler.compile(
                changed, node: "n", version: version, after: before)
            stepped.adopt(after)
            before = after
        }
        #expect(stepped.configurations <= stepped.worker.limits.configsKeptMax)
        Loopback.send(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        #expect(stepped.message(client).hasSuffix("ok"))
        stepped.take { stepped.configurations == 1 }
        #expect(stepped.configurations == 1)
    }

    @Test func `an upstream that never answers is 504 when its time is over, not a minute later`()
        throws
    {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let (client, upstream, link) = try stepped.dialled(
            for: "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok", at: listener)
        defer { for end in [client, upstream] { close(end) } }
        #expect(stepped.message(upstream).hasPrefix("PUT / "))

        let worker = stepped.worker
        let begun = worker.now
        // The wheel asks every minute.
        for minute: UInt64 in 1...4 {
            worker.now = begun + minute * worker.limits.checkNanoseconds
            worker.check(link)
            #expect(link.it.exchange.isActive, "\(minute)")
        }
        worker.now = begun + worker.limits.firstByteNanosecondsMax
        worker.check(link)
        #expect(Loopback.message(client).hasPrefix("HTTP/1.1 504 "))
    }

    @Test func `a configuration is not in force before a worker has taken it`() throws {
        let mailbox = try Mailbox()
        mailbox.acknowledge(Mailbox.started)
        let first = mailbox.post { _ in }
        #expect(!mailbox.waits(for: first, milliseconds: 5))
        let taken = mailbox.take()
        let second = mailbox.post { _ in }
        mailbox.acknowledge(taken.number)
        #expect(mailbox.hasTaken(first))
        // The late word for the first is none for the second.
        #expect(!mailbox.waits(for: second, milliseconds: 5))
        mailbox.acknowledge(mailbox.take().number)
        #expect(mailbox.waits(for: second, milliseconds: 5))
    }
}
