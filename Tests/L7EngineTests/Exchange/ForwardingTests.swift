// What a forwarded request says of where it came from, and what each version of HTTP gets: on the
// wire, between a client and an origin on loopback.

import Foundation
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("What is forwarded (RFC 9110 sections 7.6 and 10.1, RFC 9112 section 6)", .serialized)
struct ForwardingTests {
    static let claims =
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil\r\n"
        + "Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Port: 6\r\n"

    @Test(arguments: [
        "::", "::1", "1::", "2001:db8::1", "1:2:3:4:5:6:7:8", "2001:db8:0:1:1:1:1:1",
        "2001:0:0:1::1", "2001:db8::1:0:0:1", "0:1::", "::1:0:0:0:2", "10.0.0.7", "fe80::a:0:0",
    ])
    func `addresses are written as RFC 5952 says`(text: String) throws {
        let address = try #require(IPAddress(text))
        let room = UnsafeMutablePointer<UInt8>.allocate(capacity: 64)
        defer { unsafe room.deallocate() }
        var writer = unsafe ByteWriter(room, capacity: 64)
        writer.append(address: address)
        // Safe: the writer has written as many.
        let written = unsafe UnsafeBufferPointer(start: room, count: writer.count)
        #expect(unsafe String(decoding: written, as: UTF8.self) == address.description)
    }

    @Test func `at the edge a stranger's claims are replaced`() throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = gateway.get("/", Self.claims)

        #expect(!answer.contains("6.6.6.6") && !answer.contains("gopher"))
        #expect(!answer.contains("evil") && !answer.contains("X-Forwarded-Port"))
        #expect(answer.contains("\r\nX-Forwarded-For: 127.0.0.1\r\n"))
        #expect(answer.contains("\r\nX-Forwarded-Proto: http\r\n"))
        #expect(answer.contains("\r\nX-Forwarded-Host: shop.example\r\n"))
        #expect(answer.contains("\r\nVia: 1.1 malla\r\n"))
    }

    @Test func `between pods the client is appended to what came`() throws {
        let origin = Origin.echo()
        let captured = try CapturedPort(origin: origin.port)
        defer { captured.stop() }

        let answer = Loopback.exchange(
            captured.port,
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\(Self.claims)Via: 1.0 old\r\n"
                + "X-Forwarded-For: 7.7.7.7\r\n\r\n")

        #expect(answer.contains("\r\nX-Forwarded-For: 6.6.6.6, 7.7.7.7, 127.0.0.1\r\n"))
        #expect(answer.contains("\r\nForwarded: for=6.6.6.6, for=127.0.0.1\r\n"))
        #expect(answer.contains("\r\nX-Forwarded-Proto: gopher\r\n"))
        #expect(answer.contains("Via: 1.0 old\r\n") && answer.contains("Via: 1.1 malla\r\n"))
    }

    /// host that is dialled, the client in X-Forwarded-For, and as a node of RFC 7239 section 6
    static let clients = [
        ("[::1]", "::1", "\"[::1]\""), ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
    ]

    @Test(arguments: clients)
    func `a client of IPv6 has brackets and quotes in Forwarded, and none elsewhere`(
        host: String, address: String, node: String
    ) throws {
        let origin = Origin.echo()
        let captured = try CapturedPort(origin: origin.port, isOnAll: true)
        defer { captured.stop() }
        let old = "for=\"[2001:db8::7]:80\";proto=https"

        let answer = Program.run([
            "curl", "-sS", "--max-time", "10", "-H", "X-Forwarded-For: 2001:db8::7", "-H",
            "Forwarded: " + old, "http://\(host):\(captured.port)/",
        ]).output

        #expect(answer.contains("\r\nX-Forwarded-For: 2001:db8::7, \(address)\r\n"), "\(answer)")
        #expect(answer.contains("\r\nForwarded: \(old), for=\(node)\r\n"), "\(answer)")
        #expect(answer.contains("\r\nHost: \(host):\(captured.port)\r\n"), "\(answer)")
    }

    @Test func `whom mutual TLS has proved is our word, and nobody else's`() throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let captured = try CapturedPort(origin: origin.port)
        defer { captured.stop() }
        let forged = "X-Forwarded-Client-Cert: URI=spiffe://a/b\r\nx-forwarded-client-cert: c\r\n"

        let answers = [
            gateway.get("/", forged),
            Loopback.exchange(
                captured.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\(forged)\r\n"),
        ]

        for answer in answers {
            #expect(answer.hasPrefix("HTTP/1.1 200 "))
            #expect(!answer.lowercased().contains("client-cert"), "\(answer)")
        }
        // A request is counted once, however often it says so.
        let counted = "malla_requests_forged_client_cert_total "
        #expect(gateway.engine.exposition().contains(counted + "1\n"))
        for (engine, port) in [(gateway.engine, gateway.port), (captured.engine, captured.port)] {
            // The agent's log is told whose it was, and where it went.
            let told = engine.takeRefused()
            #expect(told.tunnels.map(\.reason) == [RefusedTunnel.forgedClientCert])
            #expect(told.tunnels.map(\.peer.address) == [.loopbackV4])
            #expect(told.tunnels.map(\.asked) == [SocketAddress(.loopbackV4, port)])
            #expect(told.tunnels.map(\.claim) == [""])
            #expect(told.others.isEmpty)
        }
        #expect(gateway.get("/").hasPrefix("HTTP/1.1 200 "))
        #expect(gateway.engine.exposition().contains(counted + "1\n"))
        #expect(gateway.engine.takeRefused() == RefusedTunnels())
    }

    @Test func `a request without an id gets one, a plain one stays, another is replaced`() throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let made = try #require(Loopback.field(gateway.get(), "x-request-id"))
        let kept = gateway.get("/", "X-Request-ID: order-4711:a/b+c=\r\n")
        let replaced = gateway.get("/", "X-Request-ID: a\"b\r\n")
        let long = gateway.get("/", "X-Request-ID: \(String(repeating: "a", count: 65))\r\n")

        #expect(made.count == 36 && made.split(separator: "-").map(\.count) == [8, 4, 4, 4, 12])
        #expect(made.dropFirst(14).first == "4")
        #expect(Loopback.field(kept, "x-request-id") == "order-4711:a/b+c=")
        #expect(!replaced.contains("a\"b") && Loopback.field(replaced, "x-request-id")?.count == 36)
        #expect(Loopback.field(long, "x-request-id")?.count == 36)
    }

    @Test(arguments: [("bad\"x", "good"), ("good", "also-good"), ("", "good"), ("a", "")])
    func `of two ids neither is kept, and one goes on`(first: String, second: String) throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = gateway.get("/", "X-Request-ID: \(first)\r\nX-Request-ID:\(second)\r\n")

        // What the origin got is the answer's body.
        let sent = answer.split(whereSeparator: \.isNewline).filter {
            $0.lowercased().hasPrefix("x-request-id:")
        }
        #expect(Set(sent.map { $0.count }) == ["X-Request-ID: ".count + 36], "\(sent)")
    }

    @Test func `TE of an answer stays behind`() throws {
        let origin = Origin { connection, _ in
            _ = Loopback.message(connection)
            Loopback.send(
                connection, "HTTP/1.1 200 OK\r\nTE: gzip\r\nX: y\r\nContent-Length: 0\r\n\r\n")
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = gateway.get()

        #expect(answer.contains("\r\nX: y\r\n") && !answer.contains("TE: gzip"))
    }

    @Test func `a client of HTTP/1.0 is spoken for in HTTP/1.1, with a host`() throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = Loopback.exchange(gateway.port, "GET /old HTTP/1.0\r\n\r\n")

        #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n") && answer.contains("Connection: close"))
        #expect(answer.contains("GET /old HTTP/1.1\r\n"))
        #expect(answer.contains("Host: 127.0.0.1:\(gateway.port)\r\n"))
        #expect(answer.contains("Via: 1.0 malla\r\n"))
    }

    @Test(arguments: ["HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"])
    func `a client of HTTP/1.0 keeps its connection for as long as it asks for that`(
        head: String
    ) throws {
        let origin = Origin { connection, _ in
            while true {
                let request = Loopback.message(connection)
                if request.isEmpty { return }
                Loopback.send(connection, "\(head)Content-Length: 6\r\n\r\n\(request.prefix(6))")
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        for number in 1...4 {
            let wish = number < 4 ? "Connection: Keep-Alive\r\n" : ""
            Loopback.send(client, "GET /\(number) HTTP/1.0\r\nHost: a\r\n\(wish)\r\n")
            let answer = Loopback.message(client)
            #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"), "\(answer)")
            #expect(answer.hasSuffix("\r\n\r\nGET /\(number)"), "\(answer)")
            let option = number < 4 ? "keep-alive" : "close"
            #expect(answer.contains("\r\nConnection: \(option)\r\n"), "\(answer)")
            #expect(answer.components(of: "Connection:").count == 2, "\(answer)")
        }
        #expect(Loopback.ending(client) == 0)
        #expect(TimeoutTests.counts(gateway, "malla_upstream_dials_total 1"))
    }

    @Test func `a client of HTTP/1.0 gets what the chunks hold, not the chunks`() throws {
        let origin = Origin { connection, _ in
            _ = Loopback.message(connection)
            Loopback.send(
                connection,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n\r\n"
                    + "3;x\r\nabc\r\n")
            Loopback.send(connection, "4\r\n")
            Loopback.send(connection, "defg\r\n0\r\nX-Trailer: 1\r\n\r\n")
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let old = Loopback.exchange(
            gateway.port, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        let new = Loopback.exchange(
            gateway.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

        #expect(old.hasSuffix("\r\n\r\nabcdefg") && old.contains("Connection: close"))
        #expect(!old.lowercased().contains("transfer-encoding") && !old.contains("Trailer"))
        #expect(new.contains("\r\nTrailer: X-Trailer\r\n"))
        #expect(new.hasSuffix("3;x\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n"))
    }

    @Test func `interim answers pass to those who know them`() throws {
        let origin = Origin { connection, _ in
            while !Loopback.message(connection).isEmpty {
                Loopback.send(
                    connection,
                    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                        + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let new = Loopback.exchange(
            gateway.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        let old = Loopback.exchange(gateway.port, "GET / HTTP/1.0\r\n\r\n")

        #expect(new.hasPrefix("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n"))
        #expect(old.hasPrefix("HTTP/1.1 200 OK\r\n") && old.hasSuffix("ok"))
    }

    @Test func `a client that expects 100 Continue sends its body after it`() throws {
        let origin = Origin { connection, _ in
            var text = ""
            while !text.contains("\r\n\r\n") {
                text += String(decoding: Loopback.receive(connection), as: UTF8.self)
            }
            let hasExpectation = text.contains("Expect: 100-continue")
            Loopback.send(connection, "HTTP/1.1 100 Continue\r\n\r\n")
            let body = String(decoding: Loopback.receive(connection), as: UTF8.self)
            Loopback.send(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n"
                    + "X-Expected: \(hasExpectation)\r\n\r\n\(body)")
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        Loopback.send(
            client,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        let interim = String(decoding: Loopback.receive(client), as: UTF8.self)
        Loopback.send(client, "hello")
        let answer = Loopback.message(client)

        #expect(interim == "HTTP/1.1 100 Continue\r\n\r\n")
        #expect(answer.contains("X-Expected: true") && answer.hasSuffix("hello"))
    }

    @Test func `what belongs to the upstream's hop stays there, Date and Server do not`() throws {
        let origin = Origin { connection, _ in
            _ = Loopback.message(connection)
            Loopback.send(
                connection,
                "HTTP/1.1 200 OK\r\nDate: then\r\nServer: theirs\r\nConnection: close, x-inner\r\n"
                    + "X-Inner: 1\r\nKeep-Alive: 3\r\nContent-Length: 0\r\n\r\n")
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = gateway.get()

        #expect(answer.contains("Date: then\r\n") && answer.contains("Server: theirs\r\n"))
        #expect(!answer.contains("X-Inner") && !answer.contains("Keep-Alive"))
        #expect(!answer.contains("Connection"))
    }

    @Test func `a client that takes trailers says so to the origin`() throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        #expect(
            gateway.get("/", "TE: gzip, trailers\r\n").contains("TE: trailers\r\nConnection: TE"))
        #expect(!gateway.get("/", "TE: gzip\r\n").contains("TE:"))
    }

    @Test func `204 has no length, and the next answer is the next answer`() throws {
        let origin = Origin { connection, number in
            while !Loopback.message(connection).isEmpty {
                Loopback.send(connection, "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n")
            }
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = Loopback.exchange(
            gateway.port,
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
                + "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

        #expect(answer.components(of: "HTTP/1.1 204 No Content").count == 3)
        #expect(!answer.contains("Content-Length"))
    }

    @Test func `an upgrade to HTTP/2 is not passed on`() throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = gateway.get(
            "/",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")

        #expect(!answer.lowercased().contains("upgrade"))
        #expect(!answer.contains("HTTP2-Settings"))
    }
}
