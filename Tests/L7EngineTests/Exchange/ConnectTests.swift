import CLinux
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("CONNECT passes where a route asks for it by name (RFC 9110 section 9.3.6)", .serialized)
struct ConnectTests {
    private static let head = "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n"

    private static let allowing = [
        HTTPRouteRule(
            matches: [HTTPRouteMatch(method: "CONNECT")], backends: [Gateway.to(0)])
    ]

    /// A proxy that connects everybody to an echo, or refuses.
    private func proxy(_ answer: String) -> Origin {
        Origin { connection, _ in
            let request = Loopback.message(connection)
            Loopback.send(connection, answer)
            Loopback.send(connection, request)
            while true {
                let bytes = Loopback.receive(connection)
                if bytes.isEmpty { return }
                Loopback.send(connection, bytes)
            }
        }
    }

    private func read(_ client: Int32, until end: String) -> String {
        var text = ""
        while !text.hasSuffix(end) {
            let more = Loopback.receive(client)
            if more.isEmpty { break }
            text += String(decoding: more, as: UTF8.self)
        }
        return text
    }

    @Test(arguments: ["Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n", ""])
    func `after 2xx all bytes pass, whatever the answer's head says of a body`(
        _ framing: String
    ) throws {
        let origin = proxy("HTTP/1.1 200 Connection established\r\n\(framing)\r\n")
        let gateway = try Gateway(origins: [origin.port], rules: Self.allowing)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, Self.head + "\r\n")

        let start = read(client, until: "Via: 1.1 malla\r\n\r\n")
        #expect(start.hasPrefix("HTTP/1.1 200 "), "\(start)")
        #expect(!start.contains("Content-Length: 7") && !start.contains("chunked"), "\(start)")
        #expect(start.contains("\r\n\r\nCONNECT db.example:5432 HTTP/1.1\r\n"), "\(start)")
        #expect(start.contains("\r\nHost: db.example:5432\r\n"), "\(start)")
        for text in ["\u{0}not HTTP at all", "GET / HTTP/1.1\r\n\r\n"] {
            Loopback.send(client, text)
            #expect(read(client, until: text) == text)
        }
        shutdown(client, Int32(SHUT_WR))
        #expect(Loopback.receive(client).isEmpty)
    }

    @Test func `what a client sends before it is connected is the tunnel's`() throws {
        let origin = proxy("HTTP/1.1 200 OK\r\n\r\n")
        let gateway = try Gateway(origins: [origin.port], rules: Self.allowing)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        Loopback.send(client, Self.head + "\r\nGET /early HTTP/1.1\r\nHost: a\r\n\r\n")

        let all = read(client, until: "GET /early HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(all.hasPrefix("HTTP/1.1 200 OK\r\n"), "\(all)")
        #expect(all.hasSuffix("GET /early HTTP/1.1\r\nHost: a\r\n\r\n"), "\(all)")
    }

    @Test func `a refusal of the proxy is relayed, and nothing behind the request is read`() throws
    {
        let origin = proxy("HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        let gateway = try Gateway(origins: [origin.port], rules: Self.allowing)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        Loopback.send(client, Self.head + "\r\nGET /early HTTP/1.1\r\nHost: a\r\n\r\n")

        var all = ""
        while true {
            let more = Loopback.receive(client)
            if more.isEmpty { break }
            all += String(decoding: more, as: UTF8.self)
        }
        #expect(all.hasPrefix("HTTP/1.1 407 No\r\n"), "\(all)")
        #expect(all.ranges(of: "HTTP/1.1 ").count == 1, "\(all)")
    }

    @Test func `after a failure of our own nothing behind the request is read either`() throws {
        let (descriptor, port) = Loopback.listen()
        close(descriptor)
        let gateway = try Gateway(origins: [port], rules: Self.allowing)
        defer { gateway.stop() }

        let all = Loopback.exchange(
            gateway.port, Self.head + "\r\nGET /early HTTP/1.1\r\nHost: a\r\n\r\n")

        #expect(all.hasPrefix("HTTP/1.1 503 "), "\(all)")
        #expect(all.contains("\r\nConnection: close\r\n"), "\(all)")
        #expect(all.ranges(of: "HTTP/1.1 ").count == 1, "\(all)")
    }

    @Test func `a route that names no method does not allow it`() throws {
        let origin = proxy("HTTP/1.1 200 OK\r\n\r\n")
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = Loopback.exchange(gateway.port, Self.head + "\r\n")

        #expect(answer.hasPrefix("HTTP/1.1 405 "), "\(answer)")
        #expect(gateway.engine.tallies[0].value(.connectMethod) == 1)
        #expect(gateway.engine.tallies[0].value(.dials) == 0)
    }
}
