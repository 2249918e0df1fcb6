import Glibc
import MeshModel
import Synchronization
import Testing

@testable import L7Engine

@Suite("Bodies stream both ways", .serialized)
struct BodyTests {
    private static let pattern: [UInt8] = (0..<(8 << 20)).map {
        UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 7)
    }

    /// Without a length to a client of HTTP/1.0, which gets no chunks.
    @Test(arguments: [("HTTP/1.1", "Content-Length: 8388608\r\n"), ("HTTP/1.0", "")])
    func `a large answer reaches a slow reader whole`(version: String, length: String) throws {
        let origin = Origin { connection, _ in
            while !Loopback.message(connection).isEmpty {
                Loopback.send(connection, "HTTP/1.1 200 OK\r\n\(length)\r\n")
                Loopback.send(connection, Self.pattern)
                if length.isEmpty { return }
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        // Twice, so that the second comes on a pooled connection known for large answers.
        for _ in 0..<(length.isEmpty ? 1 : 3) {
            Loopback.send(client, "GET / \(version)\r\nHost: a\r\n\r\n")
            var bytes: [UInt8] = []
            var end = -1
            while end < 0 || bytes.count < end + Self.pattern.count {
                let more = Loopback.receive(client, max: 3000)
                if more.isEmpty { break }
                bytes += more
                if end < 0, let found = Loopback.headEnd(bytes) { end = found }
            }
            #expect(bytes.count == end + Self.pattern.count)
            #expect(bytes[end...].elementsEqual(Self.pattern))
        }
    }

    private static let large =
        Array("HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n".utf8)
        + [UInt8](repeating: 0x61, count: 1 << 20)

    @Test func `large answers follow each other on one upstream connection`() throws {
        let origin = Origin { connection, _ in
            while !Loopback.message(connection).isEmpty { Loopback.send(connection, Self.large) }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        for _ in 0..<30 {
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(Loopback.message(client).utf8.count > 1 << 20)
        }

        #expect(gateway.engine.tallies[0].value(.dials) == 1)
    }

    @Test func `what comes behind a large answer is nobody's answer`() throws {
        let more = Array("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsmugly".utf8)
        let origin = Origin { connection, _ in
            while !Loopback.message(connection).isEmpty {
                Loopback.send(connection, Self.large + more)
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        for _ in 0..<10 {
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = Loopback.message(client)
            #expect(answer.utf8.count > 1 << 20)
            #expect(answer.utf8.last == 0x61)
        }
    }

    @Test func `a large upload reaches a slow origin whole, twice on one connection`() throws {
        let origin = Origin { connection, _ in
            for _ in 0..<2 {
                var bytes: [UInt8] = []
                while bytes.count < Self.pattern.count + (Loopback.headEnd(bytes) ?? 1 << 30) {
                    let more = Loopback.receive(connection, max: 5000)
                    if more.isEmpty { return }
                    bytes += more
                }
                let end = Loopback.headEnd(bytes) ?? 0
                let isSame = bytes[end...].elementsEqual(Self.pattern)
                let word = isSame ? "same" : "diff"
                Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\(word)")
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        for _ in 0..<2 {
            Loopback.send(
                client,
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(Self.pattern.count)\r\n\r\n")
            Loopback.send(client, Self.pattern)
            #expect(Loopback.message(client).hasSuffix("same"))
        }
    }

    /// A request's chunks: sizes in letters of both cases and with zeros before them, extensions,
    /// and trailers.
    private static let chunks: [UInt8] = {
        var bytes: [UInt8] = []
        var start = 0
        for (number, size) in [1, 15, 26, 4095, 65_536, 300_001, 1 << 20].enumerated() {
            let digits = String(size, radix: 16, uppercase: number % 2 == 0)
            let isLong = number % 3 == 0
            bytes += (isLong ? "00\(digits);part=\(number);q=\"a;b\"\r\n" : "\(digits)\r\n").utf8
            bytes += pattern[start..<start + size]
            bytes += "\r\n".utf8
            start += size
        }
        return bytes + "0\r\nSum: 42\r\nX-Signed: a b\r\n\r\n".utf8
    }()

    /// - Parameter piece: how much the client sends at once; 0: head and chunks together.
    @Test(arguments: [0, 61, 50_021])
    func `a request in chunks is at the origin what it was, with its trailers, and so is the next`(
        piece: Int
    ) throws {
        let origin = Origin { connection, _ in
            for _ in 0..<2 {
                var bytes: [UInt8] = []
                while bytes.count < Self.chunks.count + (Loopback.headEnd(bytes) ?? 1 << 30) {
                    let more = Loopback.receive(connection)
                    if more.isEmpty { return }
                    bytes += more
                }
                let end = Loopback.headEnd(bytes) ?? 0
                let isSame = bytes[end...].elementsEqual(Self.chunks)
                let body =
                    (isSame ? "same " : "other ") + String(decoding: bytes[..<end], as: UTF8.self)
                Loopback.send(
                    connection,
                    "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        let head =
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Sum, X-Signed\r\n"
            + "TE: trailers\r\nConnection: TE\r\n\r\n"

        for _ in 0..<2 {
            if piece == 0 {
                Loopback.send(client, Array(head.utf8) + Self.chunks)
            } else {
                Loopback.send(client, head)
                for start in stride(from: 0, to: Self.chunks.count, by: piece) {
                    let end = min(start + piece, Self.chunks.count)
                    Loopback.send(client, Array(Self.chunks[start..<end]))
                }
            }
            let answer = Loopback.message(client)
            #expect(answer.contains("\r\n\r\nsame POST / HTTP/1.1\r\n"), "\(answer)")
            #expect(answer.components(of: "\r\nTransfer-Encoding: chunked\r\n").count == 2)
            #expect(answer.components(of: "Content-Length").count == 2, "the answer's own")
            #expect(answer.contains("\r\nTrailer: Sum, X-Signed\r\n"))
            #expect(answer.contains("\r\nTE: trailers\r\nConnection: TE\r\n"))
        }
        #expect(gateway.engine.tallies[0].value(.dials) == 1)
    }

    @Test(arguments: [
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400000\r\n",
    ])
    func `a large answer without a length that breaks off is reset for who knows no chunks`(
        head: String
    ) throws {
        let origin = Origin { connection, _ in
            _ = Loopback.message(connection)
            Loopback.send(connection, head)
            Loopback.send(connection, Array(Self.pattern.prefix(2 << 20)))
            Loopback.willReset(connection)
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        #expect(Loopback.receive(client, max: 15) == Array("HTTP/1.1 200 OK".utf8))
        #expect(Loopback.ending(client) == ECONNRESET)
    }

    @Test func `an answer before the request's end is relayed, then the connection ends`() throws {
        let origin = Origin { connection, _ in
            _ = Loopback.receive(connection, max: 1000)
            Loopback.send(
                connection, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
            // Reads a while, so that no reset overtakes the answer.
            while !Loopback.receive(connection).isEmpty {}
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        Loopback.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
        Loopback.send(client, Array(Self.pattern[..<100_000]))
        let answer = Loopback.message(client)

        #expect(answer.hasPrefix("HTTP/1.1 413 "))
        #expect(answer.contains("Connection: close"))
        #expect(answer.hasSuffix("big"))
    }

    @Test func `an origin that dies in the middle of a body cuts the client off`() throws {
        let origin = Origin { connection, _ in
            _ = Loopback.message(connection)
            Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n")
            Loopback.send(connection, Array(Self.pattern[..<3_000_000]))
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        var count = 0
        while true {
            let more = Loopback.receive(client)
            if more.isEmpty { break }
            count += more.count
        }
        #expect(count < 8_388_608)
        #expect(gateway.engine.exposition().contains("response_flags=\"UC\""))
    }

    @Test(arguments: ["Content-Length: 1073741824\r\n", "", "Transfer-Encoding: chunked\r\n"])
    func `a client that does not read stops the origin, not the memory`(length: String) throws {
        let start =
            "HTTP/1.1 200 OK\r\n\(length)\r\n" + (length.contains("ch") ? "40000000\r\n" : "")
        let sent = Atomic64()
        let origin = Origin { connection, _ in
            _ = Loopback.message(connection)
            Loopback.send(connection, start)
            sent.add(Self.pour(connection))
            sent.finish()
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(sent.waits(milliseconds: 10_000))
        // Buffers of four sockets and one pipe; the kernel's own are up to 10 MiB a connection.
        #expect(sent.value < 48 << 20)
        Self.expectFewHeld(gateway.engine, isCopied: length.contains("ch"))
    }

    @Test(arguments: ["Content-Length: 1073741824\r\n", "Transfer-Encoding: chunked\r\n"])
    func `an origin that does not read stops the client, not the memory`(length: String) throws {
        let end = Atomic64()
        let origin = Origin { connection, _ in
            _ = Loopback.receive(connection, max: 1)
            _ = end.waits(milliseconds: 30_000)
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        defer { end.finish() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        let start = length.contains("ch") ? "40000000\r\n" : ""
        Loopback.send(client, "POST / HTTP/1.1\r\nHost: a\r\n\(length)\r\n\(start)")
        #expect(Self.pour(client) < 48 << 20)
        Self.expectFewHeld(gateway.engine, isCopied: length.contains("ch"))
    }

    /// Sends until nobody takes more for 0.3 s, a gibibyte at most; answers how much was taken.
    private static func pour(_ connection: Int32) -> UInt64 {
        var time = timeval(tv_sec: 0, tv_usec: 300_000)
        // Safe: the call reads this value.
        unsafe _ = setsockopt(
            connection, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        var sent: UInt64 = 0
        for _ in 0..<1024 {
            let count = unsafe pattern.withUnsafeBytes {
                unsafe Glibc.send(connection, $0.baseAddress, 1 << 20, Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { break }
            sent += UInt64(count)
        }
        return sent
    }

    /// Of one body: what a pipe holds, and what both ends wait for. Chunks are copied.
    private static func expectFewHeld(_ engine: Engine, isCopied: Bool) {
        let limits = Limits()
        let held = Int(engine.accounts().map(\.bufferBytes).max() ?? 0)
        let most = 2 * limits.pendingBytesMax + (isCopied ? 0 : limits.spliceBytesMax)
        #expect(held > 0 && held <= most, "\(held)")
    }
}

/// A count that a server's thread leaves for its test.
final class Atomic64: Sendable {
    private let count = Atomic<UInt64>(0)
    private let ends: (read: Int32, write: Int32)

    init() {
        var pair: [Int32] = [-1, -1]
        // Safe: the call writes two numbers.
        unsafe _ = pipe(&pair)
        ends = (pair[0], pair[1])
    }

    deinit {
        close(ends.read)
        close(ends.write)
    }

    func add(_ more: UInt64) { count.add(more, ordering: .relaxed) }

    /// Nothing more will be added.
    func finish() {
        // Safe: one byte of a constant.
        unsafe _ = write(ends.write, "x", 1)
    }

    var value: UInt64 { count.load(ordering: .acquiring) }

    /// Whether it was finished in that time.
    func waits(milliseconds: Int32) -> Bool {
        var watched = pollfd(fd: ends.read, events: Int16(POLLIN), revents: 0)
        // Safe: one record.
        return unsafe poll(&watched, 1, milliseconds) == 1
    }
}
