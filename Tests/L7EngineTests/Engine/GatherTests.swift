// What a server that knows no chunks gets of a request that comes in them. Its last answer says of
// which version it is; before the first one nobody knows.

import AllocationCount
import CLinux
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("A request in chunks to a server of HTTP/1.0 (RFC 9112 section 6.1)", .serialized)
struct GatherTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    private static let chunks = "5;a=b\r\nhello\r\n06\r\n world\r\n0\r\nSum: 42\r\n\r\n"

    private static func post(
        _ target: String = "/", _ fields: String = "", method: String = "POST"
    ) -> String {
        "\(method) \(target) HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\(fields)\r\n"
    }

    /// Answers each request with itself: at `/new` by HTTP/1.1, else by HTTP/1.0.
    private static func serve(_ connection: Int32, isKept: Bool) {
        repeat {
            let request = Loopback.message(connection)
            if request.isEmpty { return }
            let version = request.contains(" /new ") ? "HTTP/1.1" : "HTTP/1.0"
            let fields = isKept ? "Connection: keep-alive\r\n" : ""
            Loopback.send(
                connection,
                "\(version) 200 OK\r\n\(fields)Content-Length: \(request.utf8.count)\r\n\r\n"
                    + request)
        } while isKept
    }

    private static func origin(isKept: Bool = true) -> Origin {
        Origin { connection, _ in serve(connection, isKept: isKept) }
    }

    /// A client whose pieces leave at once, and not when the kernel has acknowledged those before.
    private static func connect(_ port: UInt16) -> Int32 {
        let client = Loopback.connect(port)
        var one: Int32 = 1
        // Safe: the call reads one number.
        unsafe _ = setsockopt(client, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        return client
    }

    /// What stands behind an answer's head: the request that the server got.
    private static func request(in answer: String) -> String {
        let bytes = Array(answer.utf8)
        return String(decoding: bytes[(Loopback.headEnd(bytes) ?? bytes.count)...], as: UTF8.self)
    }

    private static func expectLength(_ request: String, _ body: String) {
        #expect(Loopback.field(request, "content-length") == "\(body.utf8.count)")
        #expect(request.hasSuffix("\r\n\r\n" + body))
        for name in ["transfer-encoding", "trailer", "expect"] {
            #expect(Loopback.field(request, name) == nil, "\(request.prefix(1000))")
        }
    }

    @Test func `the first goes as it came, those behind its answer with their length`() throws {
        let origin = Self.origin()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        Loopback.send(client, Self.post() + "5\r\nhello\r\n0\r\n\r\n")
        let first = Self.request(in: Loopback.message(client))
        #expect(first.contains("\r\nTransfer-Encoding: chunked\r\n"), "\(first)")
        #expect(first.hasSuffix("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "\(first)")

        let trailer = "Trailer: Sum\r\nTE: trailers\r\nConnection: TE\r\n"
        for (fields, chunks, body) in [
            ("", Self.chunks, "hello world"), (trailer, Self.chunks, "hello world"),
            ("", "0\r\n\r\n", ""),
        ] {
            Loopback.send(client, Self.post("/", fields) + chunks)
            Self.expectLength(Self.request(in: Loopback.message(client)), body)
        }
        #expect(gateway.engine.tallies[0].value(.dials) == 1)
    }

    @Test func `its body may come in pieces that end anywhere`() throws {
        let origin = Self.origin()
        let stepped = try SteppedWorker([origin.port])
        let client = Self.connect(stepped.port)
        defer { close(client) }
        Loopback.send(client, Self.get)
        #expect(stepped.message(client).hasPrefix("HTTP/1.1 200 "))
        let link = try #require(stepped.worker.timers.all().first { $0.it.role == .downstream })
        let bytes = Array(Self.chunks.utf8)

        for cut in bytes.indices {
            let part = String(decoding: bytes[..<cut], as: UTF8.self)
            Loopback.send(client, Self.post() + part)
            try #require(
                stepped.take { link.it.phase == .body && link.it.receivedBytes == UInt64(cut) })
            Loopback.send(client, Array(bytes[cut...]))
            Self.expectLength(Self.request(in: stepped.message(client)), "hello world")
        }
        #expect(stepped.worker.tally.value(.dials) == 1)
    }

    private static let letters: [UInt8] = (0..<120_000).map { UInt8(97 + ($0 / 7 + $0) % 26) }

    /// - Parameter piece: how much the client sends at once; 0: all.
    @Test(arguments: [0, 61, 5021])
    func `a long body is at the server what it was`(piece: Int) throws {
        let origin = Self.origin()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        #expect(gateway.get().hasPrefix("HTTP/1.1 200 "))
        var bytes = Array(Self.post().utf8)
        var start = 0
        for size in [1, 15, 26, 4095, 65_536, 50_327] {
            bytes += "\(String(size, radix: 16))\r\n".utf8
            bytes += Self.letters[start..<start + size]
            bytes += "\r\n".utf8
            start += size
        }
        try #require(start == Self.letters.count)
        bytes += "0\r\n\r\n".utf8
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        for start in stride(from: 0, to: bytes.count, by: piece == 0 ? bytes.count : piece) {
            let end = piece == 0 ? bytes.count : min(start + piece, bytes.count)
            Loopback.send(client, Array(bytes[start..<end]))
        }

        let request = Self.request(in: Loopback.message(client))
        Self.expectLength(request, String(decoding: Self.letters, as: UTF8.self))
    }

    @Test func `128 KiB are more than may be held`() throws {
        let origin = Self.origin()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        #expect(gateway.get().hasPrefix("HTTP/1.1 200 "))
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        let body = String(repeating: "x", count: 128 * 1024)
        Loopback.send(client, Self.post() + "20000\r\n\(body)\r\n0\r\n\r\n")

        let answer = Loopback.message(client)
        #expect(answer.hasPrefix("HTTP/1.1 411 Length Required\r\n"), "\(answer)")
    }

    @Test func `chunks go again to a server that has answered by HTTP/1.1`() throws {
        let origin = Self.origin()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        let chunks = "5\r\nhello\r\n0\r\n\r\n"

        for (target, hasLength) in [
            ("/", false), ("/", true), ("/new", true), ("/new", false), ("/", false), ("/", true),
        ] {
            Loopback.send(client, Self.post(target) + chunks)
            let request = Self.request(in: Loopback.message(client))
            if hasLength {
                Self.expectLength(request, "hello")
            } else {
                #expect(request.hasSuffix("\r\n\r\n" + chunks), "\(request)")
            }
        }
    }

    @Test func `what is known outlives the server's connections`() throws {
        let origin = Self.origin(isKept: false)
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        #expect(gateway.get().hasPrefix("HTTP/1.1 200 "))

        for _ in 0..<3 {
            let client = Loopback.connect(gateway.port)
            defer { close(client) }
            Loopback.send(client, Self.post())
            Loopback.send(client, Self.chunks)
            Self.expectLength(Self.request(in: Loopback.message(client)), "hello world")
        }
        #expect(gateway.engine.tallies[0].value(.dials) == 4)
    }

    @Test func `what has a length, or no body, is passed on as ever`() throws {
        let origin = Self.origin()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        #expect(gateway.get().hasPrefix("HTTP/1.1 200 "))
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        Loopback.send(
            client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTrailer: Sum\r\n\r\nhello")
        let request = Self.request(in: Loopback.message(client))
        #expect(request.components(of: "\r\nContent-Length: 5\r\n").count == 2, "\(request)")
        #expect(request.contains("\r\nTrailer: Sum\r\n") && request.hasSuffix("\r\n\r\nhello"))

        Loopback.send(client, Self.get)
        let plain = Self.request(in: Loopback.message(client))
        #expect(plain.hasPrefix("GET ") && Loopback.field(plain, "content-length") == nil)
    }

    @Test func `by a tunnel the server's node gives it its length`() throws {
        let mesh = try TunnelMesh { connection, _ in Self.serve(connection, isKept: true) }
        defer { mesh.stop() }
        #expect(mesh.get().hasPrefix("HTTP/1.1 200 "))
        let client = Loopback.connect(mesh.port)
        defer { close(client) }

        Loopback.send(client, Self.post())
        Loopback.send(client, Self.chunks)

        Self.expectLength(Self.request(in: Loopback.message(client)), "hello world")
    }

    @Test func `a thousand of them allocate nothing`() throws {
        let origin = Self.origin()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        // Safe: a constant string.
        let worker = unsafe allocation_thread("malla-worker-0")
        let client = Self.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, Self.get)
        #expect(Loopback.message(client).hasPrefix("HTTP/1.1 200 "))
        var before: UInt64 = 0
        for number in 0..<1300 {
            if number == 300 { before = allocation_count(worker) }
            Loopback.send(client, Self.post())
            Loopback.send(client, Self.chunks)
            #expect(Loopback.message(client).hasPrefix("HTTP/1.1 200 "))
        }
        #expect(before > 0 && allocation_count(worker) == before)
    }
}

@Suite("While a request is gathered for a server of HTTP/1.0", .serialized)
struct GatheringTests {
    private static let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"

    /// What a test meets: a client, the server's end of a pooled connection that has answered by
    /// HTTP/1.0, and the worker's record of the client.
    private struct Ends {
        let client: Int32
        let server: Int32
        let link: Link
    }

    private func begin(_ stepped: SteppedWorker, _ listener: Int32) throws -> Ends {
        let client = Loopback.connect(stepped.port)
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        let server = stepped.accepted(listener)
        #expect(stepped.message(server).hasPrefix("GET / "))
        answer(server)
        #expect(stepped.message(client).hasSuffix("ok"))
        try #require(stepped.take { stepped.pooled.count == 1 })
        let link = try #require(stepped.worker.timers.all().first { $0.it.role == .downstream })
        return Ends(client: client, server: server, link: link)
    }

    private func answer(_ server: Int32, status: Int = 200) {
        Loopback.send(
            server,
            "HTTP/1.0 \(status) X\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")
    }

    /// A whole request, whether it came with its length, and an answer by HTTP/1.0.
    private func isGathered(_ stepped: SteppedWorker, _ ends: Ends, status: Int) -> Bool {
        Loopback.send(ends.client, Self.post + "\r\n5\r\nhello\r\n0\r\n\r\n")
        let request = stepped.message(ends.server)
        answer(ends.server, status: status)
        #expect(stepped.message(ends.client).hasPrefix("HTTP/1.1 \(status) "))
        return Loopback.field(request, "transfer-encoding") == nil
    }

    /// Sends the head and a part of the body, until the worker has it.
    private func send(_ stepped: SteppedWorker, _ ends: Ends, _ head: String, _ part: String) {
        Loopback.send(ends.client, head + "\r\n" + part)
        let count = UInt64(part.utf8.count)
        #expect(stepped.take { ends.link.it.phase == .body && ends.link.it.receivedBytes == count })
    }

    /// The request comes whole, and its answer reaches the client.
    private func expectServed(
        _ stepped: SteppedWorker, _ ends: Ends, by server: Int32, _ body: String = "hello"
    ) {
        let request = stepped.message(server)
        #expect(Loopback.field(request, "content-length") == "\(body.utf8.count)", "\(request)")
        #expect(Loopback.field(request, "transfer-encoding") == nil)
        #expect(Loopback.field(request, "expect") == nil)
        #expect(request.hasSuffix("\r\n\r\n" + body), "\(request)")
        answer(server)
        #expect(stepped.message(ends.client).hasPrefix("HTTP/1.1 200 "))
    }

    /// how the client asks for its answer, whether the body is longer than may be from the first
    @Test(arguments: [false, true], [false, true])
    func `what is more than may be held is 411, and nothing of it is at the server`(
        isJSON: Bool, isAtOnce: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port]) { $0.pendingBytesMax = 4096 }
        let ends = try begin(stepped, listener)
        defer { for end in [ends.client, ends.server] { close(end) } }
        let head = Self.post + (isJSON ? "Accept: application/json\r\n" : "")
        let chunk = "3e8\r\n" + String(repeating: "x", count: 1000) + "\r\n"
        if !isAtOnce { send(stepped, ends, head, chunk) }

        let rest = String(repeating: chunk, count: 5)
        Loopback.send(ends.client, isAtOnce ? head + "\r\n" + rest : rest)

        let answer = stepped.message(ends.client)
        #expect(answer.hasPrefix("HTTP/1.1 411 Length Required\r\n"), "\(answer)")
        #expect(answer.contains("\r\nConnection: close\r\n"))
        let reason = isJSON ? "\"reason\":\"length_required\"" : "\nreason: length_required\n"
        #expect(answer.contains(reason), "\(answer)")
        #expect(stepped.worker.tally.value(Failure.lengthRequired) == 1)
        #expect(stepped.worker.accessLog.taken().contains("\"flags\":\"DPE\""))
        // Open and silent, or at its end.
        let isSilent = !Loopback.isReadable(ends.server, milliseconds: 0)
        #expect(isSilent || Loopback.receive(ends.server).isEmpty)
    }

    @Test func `who waits for 100 gets ours, and the server is not asked for it`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { for end in [ends.client, ends.server] { close(end) } }
        let head = Self.post + "Expect: 100-continue\r\n"

        send(stepped, ends, head, "")
        #expect(stepped.take { Loopback.isReadable(ends.client, milliseconds: 0) })
        let interim = String(decoding: Loopback.receive(ends.client), as: UTF8.self)
        #expect(interim == "HTTP/1.1 100 Continue\r\n\r\n")
        #expect(!ends.link.it.awaitsContinue)
        #expect(!Loopback.isReadable(ends.server, milliseconds: 0))
        Loopback.send(ends.client, "5\r\nhello\r\n0\r\n\r\n")
        expectServed(stepped, ends, by: ends.server)

        // Who did not wait is told nothing.
        Loopback.send(ends.client, head + "\r\n5\r\nhello\r\n0\r\n\r\n")
        expectServed(stepped, ends, by: ends.server)
    }

    /// What becomes of the server's connection before it was sent anything.
    enum Loss: CaseIterable { case end, reset, speech }

    private func lose(_ server: Int32, by loss: Loss) {
        switch loss {
        case .end: close(server)
        case .reset:
            Loopback.willReset(server)
            close(server)
        case .speech: Loopback.send(server, "HTTP/1.0 408 Request Timeout\r\n\r\n")
        }
    }

    /// what happens, and whether the worker sees it before the body's end
    @Test(arguments: Loss.allCases, [false, true])
    func `a server that ends or speaks too early is dialled anew and gets all of it`(
        loss: Loss, isSeen: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { close(ends.client) }
        send(stepped, ends, Self.post + "Expect: 100-continue\r\n", "5\r\nhello\r\n")
        #expect(stepped.take { Loopback.isReadable(ends.client, milliseconds: 0) })
        #expect(Loopback.receive(ends.client).starts(with: Array("HTTP/1.1 100 ".utf8)))

        lose(ends.server, by: loss)
        defer { if loss == .speech { close(ends.server) } }
        if isSeen {
            #expect(stepped.take { ends.link.it.partner.isNone })
            // There is nothing to send yet.
            #expect(stepped.worker.tally.value(.dials) == 1)
        }
        Loopback.send(ends.client, "0\r\n\r\n")
        if !isSeen {
            #expect(Loopback.isReadable(ends.link.it.descriptor, milliseconds: 5000))
            #expect(Loopback.isReadable(ends.link.it.partner.it.descriptor, milliseconds: 5000))
            stepped.worker.slot.serve(ends.link.it.account)
            // The client's event first.
            stepped.worker.dispatchStream(ends.link, EPOLLIN.rawValue)
        }
        let second = stepped.accepted(listener)
        defer { close(second) }

        expectServed(stepped, ends, by: second)
        #expect(stepped.worker.tally.value(.dials) == 2)
    }

    @Test(arguments: [("PUT", true), ("POST", false)])
    func `one that was sent is sent again only if it is safe`(
        method: String, isSentAgain: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { close(ends.client) }
        send(stepped, ends, "\(method)\(Self.post.dropFirst(4))", "5\r\nhel")
        Loopback.send(ends.client, "lo\r\n0\r\n\r\n")
        #expect(stepped.message(ends.server).hasSuffix("\r\n\r\nhello"))

        close(ends.server)

        if isSentAgain {
            let second = stepped.accepted(listener)
            defer { close(second) }
            expectServed(stepped, ends, by: second)
        } else {
            #expect(stepped.message(ends.client).hasPrefix("HTTP/1.1 503 "))
            #expect(!Loopback.isReadable(listener, milliseconds: 0))
        }
    }

    /// The configuration that it began with is let go of meanwhile.
    @Test(arguments: [false, true])
    func `a new configuration knows the server, and what has begun goes on`(isLost: Bool) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { close(ends.client) }
        send(stepped, ends, Self.post, "5\r\nhello\r\n")

        stepped.adopt(SteppedWorker.mesh([port], stepped.port, nil), version: 2)
        stepped.worker.letGoIfOld(ends.link)
        #expect(ends.link.it.hasLetGo)
        if isLost {
            close(ends.server)
            #expect(stepped.take { ends.link.it.partner.isNone })
        }
        Loopback.send(ends.client, "0\r\n\r\n")

        var server = ends.server
        if isLost {
            // Nobody knows any more where else it may go.
            #expect(stepped.message(ends.client).hasPrefix("HTTP/1.1 503 "))
        } else {
            expectServed(stepped, ends, by: server)
        }
        Loopback.send(ends.client, Self.post + "\r\n5\r\nhello\r\n0\r\n\r\n")
        if isLost { server = stepped.accepted(listener) }
        defer { close(server) }
        expectServed(stepped, ends, by: server)
    }

    /// A request of whose upstream nothing is left is seen by no change of policies or modes.
    @Test func `without its upstream a request goes nowhere by rules that are not in force`() throws
    {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        var mesh = SteppedWorker.mesh([port], stepped.port, nil)
        // An exchange whose answer is edited keeps its configuration.
        mesh.routes[0].rules[1].filters = [
            .responseHeaders(.init(set: [.init(name: "x", value: "y")]))
        ]
        stepped.adopt(mesh, version: 2)
        let ends = try begin(stepped, listener)
        defer { close(ends.client) }
        send(stepped, ends, Self.post, "5\r\nhello\r\n")
        close(ends.server)
        #expect(stepped.take { ends.link.it.partner.isNone })

        stepped.adopt(SteppedWorker.mesh([port], stepped.port, nil), version: 3)
        #expect(!ends.link.it.hasLetGo)
        Loopback.send(ends.client, "0\r\n\r\n")

        #expect(stepped.message(ends.client).hasPrefix("HTTP/1.1 503 "))
        #expect(!Loopback.isReadable(listener, milliseconds: 0))
    }

    @Test func `what is known of a server ends by itself, and is not learnt from an error`() throws
    {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { for end in [ends.client, ends.server] { close(end) } }
        #expect(isGathered(stepped, ends, status: 503))

        let worker = stepped.worker
        let time = worker.limits.oldServerNanosecondsMax
        let seen = worker.configs[worker.current].oldServerSeen
        worker.configs[worker.current].oldServerSeen = seen.map { $0 > 0 ? $0 &- time : 0 }
        // Whoever answers 503 has not said that the server is an old one.
        #expect(!isGathered(stepped, ends, status: 503))
        #expect(!isGathered(stepped, ends, status: 200))
        #expect(isGathered(stepped, ends, status: 200))
    }

    @Test(arguments: [false, true])
    func `a client that stands still is cut off, whether the server is there or not`(
        isLost: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { close(ends.client) }
        send(stepped, ends, Self.post, "5\r\nhe")
        defer { if !isLost { close(ends.server) } }
        if isLost {
            close(ends.server)
            #expect(stepped.take { ends.link.it.partner.isNone })
        }

        let worker = stepped.worker
        for _ in 0..<2 where ends.link.it.exchange.isActive {
            worker.now += worker.limits.checkNanoseconds
            worker.check(ends.link)
        }

        let answer = Loopback.message(ends.client)
        #expect(answer.hasPrefix("HTTP/1.1 408 ") && answer.contains("reason: body_timeout"))
    }

    @Test func `of a client that goes away the server gets nothing`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { close(ends.server) }
        send(stepped, ends, Self.post, "5\r\nhello\r\n")

        close(ends.client)

        #expect(stepped.take { stepped.worker.connectionsOpen == 0 })
        #expect(Loopback.rest(ends.server).isEmpty)
    }

    @Test func `where memory is used up it is turned away, and holds none`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port]) { $0.accountBufferBytesMax = 1 }
        let ends = try begin(stepped, listener)
        defer { for end in [ends.client, ends.server] { close(end) } }
        send(stepped, ends, Self.post, "")

        Loopback.send(ends.client, "3e8\r\n" + String(repeating: "x", count: 1000) + "\r\n")

        let answer = stepped.message(ends.client)
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains("reason: overloaded\n"))
        #expect(stepped.worker.tally.sheds(.accountBuffers) == 1)
        #expect(stepped.worker.accounts[ends.link.it.account].bufferBytes == 0)
    }
}
