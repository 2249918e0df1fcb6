import AllocationCount
import CLinux
import Foundation
import MeshModel
import Synchronization
import Testing

@testable import L7Engine

/// The answers that come to one client, one after another.
final class AnswerReader {
    struct Answer {
        var head: String
        /// What its chunks hold.
        var content: [UInt8]
        /// Its last chunk came.
        var isWhole: Bool
        var text: String { String(decoding: content, as: UTF8.self) }
    }

    let client: Int32
    /// Received, and not part of an answer yet.
    private(set) var bytes: [UInt8] = []

    init(_ client: Int32) { self.client = client }

    /// The next answer, which must be one in chunks; `nil`: none came.
    func next(pieces: Int = 65536) -> Answer? {
        while Loopback.headEnd(bytes) == nil { if !more(pieces) { return nil } }
        guard let end = Loopback.headEnd(bytes) else { return nil }
        let head = String(decoding: bytes[..<end], as: UTF8.self)
        bytes.removeFirst(end)
        guard Loopback.field(head, "transfer-encoding") == "chunked" else {
            return Answer(head: head, content: [], isWhole: false)
        }
        var content: [UInt8] = []
        var framing = BodyFraming.chunked()
        while true {
            let (stop, kept) = Self.decode(&framing, &bytes)
            if stop < 0 { break }
            content += bytes[..<kept]
            bytes.removeFirst(stop)
            if framing.isDone || !more(pieces) { break }
        }
        return Answer(head: head, content: content, isWhole: framing.isDone)
    }

    private func more(_ max: Int) -> Bool {
        let came = Loopback.receive(client, max: max)
        bytes += came
        return !came.isEmpty
    }

    private static func decode(
        _ framing: inout BodyFraming, _ bytes: inout [UInt8]
    ) -> (stop: Int, kept: Int) {
        var kept = 0
        // Safe: the pointer stays inside the closure.
        let stop = unsafe bytes.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return 0 }
            return unsafe framing.decode(base, 0, buffer.count, kept: &kept)
        }
        return (stop, kept)
    }
}

@Suite("An answer without a length: its client gets chunks and stays connected", .serialized)
struct LengthlessTests {
    static let heads = [
        "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ]
    private static let large: [UInt8] = (0..<(10 << 20)).map {
        UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 9)
    }

    /// Ends its connection behind its answer.
    private static func origin(_ answer: @escaping @Sendable (Int32, String) -> Void) -> Origin {
        Origin { connection, _ in
            let request = Loopback.message(connection)
            if !request.isEmpty { answer(connection, request) }
        }
    }

    private static func gateway(
        _ origin: Origin, timeout: UInt32 = 0, _ change: (inout Limits) -> Void = { _ in }
    ) throws -> Gateway {
        var limits = Limits()
        change(&limits)
        return try Gateway(
            origins: [origin.port],
            rules: [
                HTTPRouteRule(backends: [Gateway.to(0)], requestTimeoutMilliseconds: timeout)
            ], limits: limits)
    }

    private static func get(_ client: Int32, _ target: String = "/", version: String = "HTTP/1.1") {
        Loopback.send(client, "GET \(target) \(version)\r\nHost: a\r\n\r\n")
    }

    @Test(arguments: heads)
    func `requests behind it are answered on the same connection`(head: String) throws {
        let origin = Self.origin { connection, request in
            Loopback.send(connection, head + request.prefix(6))
        }
        let gateway = try Self.gateway(origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        // Two at once, and one when both are answered.
        Self.get(client, "/1")
        Self.get(client, "/2")
        let reader = AnswerReader(client)
        for number in 1...3 {
            if number == 3 { Self.get(client, "/3") }
            let answer = try #require(reader.next())
            #expect(answer.text == "GET /\(number)" && answer.isWhole)
            #expect(answer.head.components(of: "\r\nTransfer-Encoding: ").count == 2)
            #expect(!answer.head.contains("Connection:"))
        }
        #expect(gateway.engine.tallies[0].value(.connectionsClosed) == 0)
    }

    @Test func `ten mebibytes are what the origin sent, and curl uses the connection again`() throws
    {
        let origin = Self.origin { connection, _ in
            Loopback.send(connection, "HTTP/1.0 200 OK\r\n\r\n")
            Loopback.send(connection, Self.large)
        }
        let gateway = try Self.gateway(origin)
        defer { gateway.stop() }
        let stem = NSTemporaryDirectory() + "malla-lengthless-\(getpid())-\(gateway.port)"
        defer {
            for name in ["1", "2"] { try? FileManager.default.removeItem(atPath: stem + name) }
        }
        let url = "http://127.0.0.1:\(gateway.port)/"

        let said = Program.run([
            "curl", "-sS", "--max-time", "15", "-w", "%{num_connects} ", "-o", stem + "1", url,
            "-o",
            stem + "2", url,
        ])

        #expect(said.status == 0 && said.output == "1 0 ", "\(said)")
        for name in ["1", "2"] {
            #expect(FileManager.default.contents(atPath: stem + name) == Data(Self.large))
        }
    }

    @Test func `a slow reader gets all of it, in pieces of any size`() throws {
        let origin = Self.origin { connection, _ in
            Loopback.send(connection, "HTTP/1.0 200 OK\r\n\r\n")
            Loopback.send(connection, Self.large)
        }
        // The worker's buffers are used up by the first bytes that wait.
        let gateway = try Self.gateway(origin) { $0.accountBufferBytesMax = 1 }
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Self.get(client)

        let reader = AnswerReader(client)
        let answer = try #require(reader.next(pieces: 50_021))

        #expect(answer.isWhole && answer.content == Self.large)
    }

    @Test func `an empty one is a last chunk and no other`() throws {
        let origin = Self.origin { connection, _ in
            Loopback.send(connection, "HTTP/1.0 200 OK\r\n\r\n")
        }
        let gateway = try Self.gateway(origin)
        defer { gateway.stop() }
        let answer = gateway.get("/", "Connection: close\r\n")
        #expect(answer.hasSuffix("\r\n\r\n0\r\n\r\n"), "\(answer)")
        #expect(answer.contains("\r\nConnection: close\r\n"))
    }

    @Test func `what drips out of the origin reaches the client byte by byte`() throws {
        let seen = Atomic(0)
        let origin = Self.origin { connection, _ in
            Loopback.send(connection, "HTTP/1.0 200 OK\r\n\r\n")
            for number in 0..<26 {
                Loopback.send(connection, [UInt8(97 + number)])
                // Nothing more until the client has it.
                _ = Loopback.eventually { seen.load(ordering: .acquiring) > number }
            }
        }
        let gateway = try Self.gateway(origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Self.get(client)
        var bytes: [UInt8] = []
        for number in 0..<26 {
            let chunk = Array("1\r\n".utf8) + [UInt8(97 + number)] + Array("\r\n".utf8)
            while !bytes.suffix(chunk.count).elementsEqual(chunk) {
                let more = Loopback.receive(client)
                try #require(!more.isEmpty, "byte \(number) does not come")
                bytes += more
            }
            seen.store(number + 1, ordering: .releasing)
        }
        while bytes.suffix(5) != Array("0\r\n\r\n".utf8)[...] {
            let more = Loopback.receive(client)
            try #require(!more.isEmpty)
            bytes += more
        }
    }

    /// How the origin stops in the middle.
    enum Stop: CaseIterable { case reset, timeout, silence }

    @Test(arguments: Stop.allCases)
    func `one that breaks off has no last chunk, and nothing comes behind it`(_ stop: Stop) throws {
        let origin = Self.origin { connection, _ in
            Loopback.send(connection, "HTTP/1.0 200 OK\r\n\r\n")
            Loopback.send(connection, Array(Self.large.prefix(2 << 20)))
            if stop == .reset {
                Loopback.willReset(connection)
            } else {
                _ = Loopback.receive(connection)
            }
        }
        let gateway = try Self.gateway(origin, timeout: stop == .timeout ? 500 : 0) {
            guard stop == .silence else { return }
            $0.checkNanoseconds = TimeoutTests.tenth
            $0.silenceNanosecondsMax = 3 * TimeoutTests.tenth
        }
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Self.get(client, "/1")
        Self.get(client, "/2")

        let reader = AnswerReader(client)
        let answer = try #require(reader.next())

        #expect(!answer.isWhole && answer.content.count <= 2 << 20)
        #expect(reader.next() == nil)
        let (flag, reason) =
            stop == .reset ? ("UC", "upstream_ended") : ("UT", "request_timeout")
        #expect(
            TimeoutTests.counts(gateway, "malla_requests_failed_total{reason=\"\(reason)\"} 1"))
        #expect(gateway.engine.exposition().contains("response_flags=\"\(flag)\""))
        #expect(gateway.engine.takeAccessLog().first?.contains("\"\(flag)\"") == true)
    }

    /// The kernel tells of a reset once: here the rest of the request's body hears of it.
    @Test func `one that is reset while its request is still sent has no last chunk`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let (client, origin, link) = try stepped.dialled(
            for: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nfirst", at: listener)
        defer { close(client) }
        stepped.take { Loopback.isReadable(origin, milliseconds: 0) }
        Loopback.send(origin, "HTTP/1.0 200 OK\r\n\r\npart")
        Loopback.willReset(origin)
        close(origin)
        Loopback.send(client, "rest")

        stepped.worker.dispatchStream(link, EPOLLIN.rawValue)
        stepped.take { link.it.phase == .lingering || link.it.phase == .dead }

        let answer = String(decoding: Loopback.rest(client), as: UTF8.self)
        #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
        #expect(answer.hasSuffix("4\r\npart\r\n"), "\(answer)")
    }

    @Test(arguments: ["", "Connection: keep-alive\r\n"])
    func `a client of HTTP/1.0 gets it as it came, and its connection ends`(field: String) throws {
        let origin = Self.origin { connection, _ in
            Loopback.send(connection, "HTTP/1.0 200 OK\r\n\r\n")
            Loopback.send(connection, Self.large)
        }
        let gateway = try Self.gateway(origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "GET / HTTP/1.0\r\n\(field)\r\n")

        let bytes = Loopback.rest(client)

        let end = try #require(Loopback.headEnd(bytes))
        let head = String(decoding: bytes[..<end], as: UTF8.self)
        #expect(!head.contains("Transfer-Encoding") && head.contains("Connection: close\r\n"))
        #expect(Array(bytes[end...]) == Self.large)
    }

    /// What has no body has no chunks, and keeps its connection as before.
    @Test(arguments: [("HEAD", 200), ("GET", 204), ("GET", 304)])
    func `an answer without a body gets no chunks`(method: String, status: Int) throws {
        let origin = Self.origin { connection, _ in
            Loopback.send(connection, "HTTP/1.0 \(status) X\r\n\r\n")
        }
        let gateway = try Self.gateway(origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        for _ in 0..<2 {
            Loopback.send(client, "\(method) / HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = String(decoding: Loopback.receive(client), as: UTF8.self)
            #expect(answer.hasPrefix("HTTP/1.1 \(status) X\r\n") && answer.hasSuffix("\r\n\r\n"))
            #expect(!answer.contains("Transfer-Encoding") && !answer.contains("Connection:"))
        }
    }

    @Test func `the access log and the accounts count what the client got, chunks and all`() throws
    {
        let origin = Self.origin { connection, _ in
            Loopback.send(connection, "HTTP/1.0 200 OK\r\n\r\nhello")
        }
        let gateway = try Self.gateway(origin)
        defer { gateway.stop() }
        let answer = gateway.get()
        #expect(answer.hasSuffix("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "\(answer)")
        var lines: [String] = []
        #expect(
            Loopback.eventually {
                lines += gateway.engine.takeAccessLog()
                return !lines.isEmpty
            })
        #expect(lines.first?.contains("\"bytes_sent\":15,") == true, "\(lines)")
        #expect(gateway.engine.accounts().map(\.sentBytes).max() == 15)
    }

    @Test func `a thousand chunks allocate nothing`() throws {
        let seen = Atomic(0)
        let origin = Self.origin { connection, _ in
            var one: Int32 = 1
            // Safe: the call reads one number.
            unsafe _ = setsockopt(connection, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
            Loopback.send(connection, "HTTP/1.0 200 OK\r\n\r\n")
            for number in 0..<1100 {
                Loopback.send(connection, [UInt8](repeating: 7, count: 5000))
                // Half of them come one by one.
                if number % 2 == 0 { continue }
                while seen.load(ordering: .acquiring) < number * 5000 { sched_yield() }
            }
        }
        let gateway = try Self.gateway(origin)
        defer { gateway.stop() }
        // Safe: a constant string.
        let worker = unsafe allocation_thread("malla-worker-0")
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Self.get(client)
        defer { seen.store(.max, ordering: .releasing) }
        var (count, before): (Int, UInt64?) = (0, nil)
        while count < 1050 * 5000 {
            let more = Loopback.receive(client)
            try #require(!more.isEmpty)
            count += more.count
            seen.store(count, ordering: .releasing)
            if before == nil, count > 100 * 5000 { before = allocation_count(worker) }
        }
        #expect(allocation_count(worker) == before)
    }

    // MARK: By a tunnel

    @Test func `by a tunnel both nodes keep what carried it`() throws {
        let mesh = try TunnelMesh { connection, _ in
            let request = Loopback.message(connection)
            if request.isEmpty { return }
            Loopback.send(connection, "HTTP/1.0 200 OK\r\n\r\n")
            Loopback.send(connection, Array(Self.large.prefix(1 << 20)))
            if request.contains("/broken") { Loopback.willReset(connection) }
        }
        defer { mesh.stop() }
        let client = Loopback.connect(mesh.port)
        defer { close(client) }
        let reader = AnswerReader(client)
        for _ in 0..<3 {
            Self.get(client)
            let answer = try #require(reader.next())
            #expect(answer.isWhole && answer.content.elementsEqual(Self.large.prefix(1 << 20)))
        }
        #expect(
            TunnelMesh.counts(mesh.client, "malla_tunnel_streams_total{side=\"upstream\"} 1"))

        let old = Loopback.connect(mesh.port)
        defer { close(old) }
        Self.get(old, version: "HTTP/1.0")
        let bytes = Loopback.rest(old)
        #expect(bytes.suffix(1 << 20).elementsEqual(Self.large.prefix(1 << 20)))

        Self.get(client, "/broken")
        let broken = try #require(reader.next())
        #expect(!broken.isWhole)
        #expect(reader.next() == nil)
    }
}
