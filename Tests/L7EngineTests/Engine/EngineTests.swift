import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("The engine proxies on loopback", .serialized)
struct EngineTests {
    @Test func `requests on one connection are answered in order, pipelined too`() throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        Loopback.send(
            client,
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        var bytes: [UInt8] = []
        while true {
            let more = Loopback.receive(client)
            if more.isEmpty { break }
            bytes += more
        }
        let text = String(decoding: bytes, as: UTF8.self)

        let answers = text.components(of: "HTTP/1.1 200 OK")
        #expect(answers.count == 3)
        #expect(answers.last?.contains("GET /2 HTTP/1.1") == true)
        #expect(answers.last?.contains("Connection: close") == true)
    }

    @Test func `what belongs to one hop is not forwarded`() throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = gateway.get(
            "/", "Connection: x-secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nX-Kept: 2\r\n")

        #expect(!answer.contains("X-Secret"))
        #expect(!answer.contains("Keep-Alive"))
        #expect(answer.contains("X-Kept: 2"))
        #expect(answer.contains("X-Forwarded-For: 127.0.0.1"))
    }

    @Test func `a megabyte passes both ways unchanged, chunked or not`() throws {
        let body = (0..<1_048_576).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let origin = Origin { connection, _ in
            var bytes: [UInt8] = []
            while bytes.count < 1_048_576 + (Loopback.headEnd(bytes) ?? 1 << 30) {
                let more = Loopback.receive(connection)
                if more.isEmpty { return }
                bytes += more
            }
            let end = Loopback.headEnd(bytes) ?? 0
            Loopback.send(
                connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n")
            Loopback.send(connection, Array(bytes[end...]))
            Loopback.send(connection, "\r\n0\r\n\r\n")
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        Loopback.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n")
        Loopback.send(client, body)
        var bytes: [UInt8] = []
        while bytes.suffix(5) != Array("0\r\n\r\n".utf8)[...] {
            let more = Loopback.receive(client)
            if more.isEmpty { break }
            bytes += more
        }

        let start = (Loopback.headEnd(bytes) ?? 0) + 8
        #expect(bytes.count == start + 1_048_576 + 7)
        #expect(bytes.count > start + 1_048_576 && Array(bytes[start..<start + 1_048_576]) == body)
    }

    @Test func `HEAD has a length and no body, and the connection goes on`() throws {
        let origin = Origin { connection, _ in
            while !Loopback.message(connection).isEmpty {
                Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        for _ in 0..<2 {
            Loopback.send(client, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = String(decoding: Loopback.receive(client), as: UTF8.self)
            #expect(answer.hasPrefix("HTTP/1.1 200 OK"))
            #expect(answer.contains("Content-Length: 1000"))
        }
    }

    @Test func `a stale pooled connection costs no request`() throws {
        let origin = Origin { connection, _ in
            // One answer, then the end without a word.
            _ = Loopback.message(connection)
            Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            _ = Loopback.message(connection)
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        for _ in 0..<5 { #expect(gateway.get().hasSuffix("ok")) }

        #expect(gateway.engine.exposition().contains("malla_upstream_retries_total 4"))
        // Methods have a case: what `get` does nobody knows, so it is not sent twice.
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "get / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(Loopback.message(client).hasPrefix("HTTP/1.1 503 "))
        #expect(gateway.engine.exposition().contains("malla_upstream_retries_total 4"))
    }

    @Test(arguments: [("http", 200), ("HTTP", 200), ("https", 421), ("HTTPS", 421)])
    func `what is https is not answered without TLS`(scheme: String, status: Int) throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = gateway.get("\(scheme)://shop.example/a")

        #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(answer)")
        #expect(answer.contains("reason: misdirected") == (status == 421), "\(answer)")
    }

    @Test func `failures have their status`() throws {
        let (closed, port) = Loopback.listen()
        close(closed)
        let dead = Origin { connection, _ in _ = Loopback.message(connection) }
        let garbage = Origin { connection, _ in
            _ = Loopback.message(connection)
            Loopback.send(connection, "SSH-2.0-OpenSSH\r\n\r\n")
        }
        let slow = Origin { connection, _ in
            _ = Loopback.message(connection)
            _ = Loopback.message(connection)
        }
        func rule(_ path: String, _ backends: [RouteBackend], timeout: UInt32 = 0) -> HTTPRouteRule
        {
            HTTPRouteRule(
                matches: [HTTPRouteMatch(path: .prefix(path))], backends: backends,
                requestTimeoutMilliseconds: timeout)
        }
        let gateway = try Gateway(
            origins: [port, dead.port, garbage.port, slow.port],
            rules: [
                rule("/refused", [Gateway.to(0)]), rule("/dead", [Gateway.to(1)]),
                rule("/garbage", [Gateway.to(2)]), rule("/slow", [Gateway.to(3)], timeout: 100),
                rule("/none", []),
                rule("/unresolved", [RouteBackend(target: .unresolved("no such Service"))]),
            ])
        defer { gateway.stop() }

        #expect(gateway.get("/refused").hasPrefix("HTTP/1.1 503 "))
        #expect(gateway.get("/dead").hasPrefix("HTTP/1.1 503 "))
        #expect(gateway.get("/garbage").hasPrefix("HTTP/1.1 502 "))
        #expect(gateway.get("/slow").hasPrefix("HTTP/1.1 504 "))
        #expect(gateway.get("/none").hasPrefix("HTTP/1.1 500 "))
        #expect(gateway.get("/unresolved").hasPrefix("HTTP/1.1 500 "))
        #expect(gateway.get("/unknown").hasPrefix("HTTP/1.1 404 "))
        #expect(gateway.get("/a%2fb").hasPrefix("HTTP/1.1 400 "))
        #expect(gateway.get("/slow").contains("Server: malla"))
    }
}

extension String {
    /// The parts between occurrences of `separator`.
    func components(of separator: String) -> [Substring] {
        self.split(separator: separator, omittingEmptySubsequences: false)
    }
}
