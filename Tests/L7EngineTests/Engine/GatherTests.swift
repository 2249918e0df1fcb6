// What a server that knows no chunks gets of a request that comes in them. Its last answer says of
// which version it is; before the first one nobody knows.

import AllocationCount
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
