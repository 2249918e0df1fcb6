import CLinux
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("A captured connection whose protocol nobody declared", .serialized)
struct DetectionTests {
    /// Greets like a server of mail, then sends back what comes, until the end.
    private static let greeter = { @Sendable (connection: Int32, _: Int) in
        Loopback.send(connection, "220 hello\r\n")
        while true {
            let bytes = Loopback.receive(connection)
            if bytes.isEmpty { return }
            Loopback.send(connection, bytes)
        }
    }
    /// Sends back what comes.
    static let mirror = { @Sendable (connection: Int32, _: Int) in
        while true {
            let bytes = Loopback.receive(connection)
            if bytes.isEmpty { return }
            Loopback.send(connection, bytes)
        }
    }

    @Test func `a server that speaks first is heard while the client is silent`() throws {
        let origin = Origin(Self.greeter)
        let captured = try CapturedPort.detecting(origin.port)
        defer { captured.stop() }
        let client = Loopback.connect(captured.port)
        defer { close(client) }

        #expect(Loopback.receive(client) == Array("220 hello\r\n".utf8))
        // HTTP or not does not matter any more.
        Loopback.send(client, "GET / HTTP/1.1\r\n\r\n")
        #expect(Loopback.receive(client) == Array("GET / HTTP/1.1\r\n\r\n".utf8))
    }

    @Test func `what is not HTTP reaches the service as it came, in any pieces`() throws {
        let origin = Origin(Self.mirror)
        let captured = try CapturedPort.detecting(origin.port)
        defer { captured.stop() }
        for pieces in [["*1\r\n$4\r\nPING\r\n"], ["S", "SH", "-2.0-x\r\n"], ["\u{16}\u{3}\u{1}"]] {
            let client = Loopback.connect(captured.port)
            defer { close(client) }
            for piece in pieces {
                Loopback.send(client, piece)
                poll(nil, 0, 5)
            }
            shutdown(client, Int32(SHUT_WR))
            #expect(String(decoding: Loopback.rest(client), as: UTF8.self) == pieces.joined())
        }
        #expect(captured.counts("malla_requests_total 0"))
    }

    @Test func `HTTP goes by the routes, at once, in pieces and after a pause`() throws {
        let origin = Origin.echo()
        let captured = try CapturedPort.detecting(origin.port)
        defer { captured.stop() }
        let request = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
        for cut in [0, 1, 3, 9, request.utf8.count] {
            let client = Loopback.connect(captured.port)
            defer { close(client) }
            for part in [request.prefix(cut), request.dropFirst(cut)] {
                Loopback.send(client, String(part))
                poll(nil, 0, 5)
            }
            let answer = Loopback.message(client)
            #expect(answer.contains("Via: 1.1 malla"), "\(cut): \(answer)")
            Loopback.send(client, request)
            #expect(Loopback.message(client).contains("Via: 1.1 malla"))
        }
        #expect(captured.counts("malla_requests_total 10"))
        #expect(!captured.engine.exposition().contains("istio_tcp_connections_opened_total{"))
    }

    @Test(arguments: ["get  /admin HTTP/1.1\r\n\r\n", "\nGET /admin HTTP/1.1\r\n\r\n"])
    func `a request that is a little wrong does not get past the routes`(text: String) throws {
        let origin = Origin(Self.mirror)
        let captured = try CapturedPort.detecting(origin.port)
        defer { captured.stop() }
        #expect(Loopback.exchange(captured.port, text).hasPrefix("HTTP/1.1 400 "))
    }

    @Test func `the beginning of a request and no more is answered with 408`() throws {
        let origin = Origin(Self.mirror)
        var limits = Limits()
        limits.headNanosecondsMax = 100_000_000
        let captured = try CapturedPort.detecting(origin.port, limits: limits)
        defer { captured.stop() }
        #expect(Loopback.exchange(captured.port, "GE").hasPrefix("HTTP/1.1 408 "))
    }

    @Test func `a client that sends nothing is closed with the server, and after its time`() throws
    {
        let origin = Origin { connection, number in
            if number > 0 { _ = Loopback.receive(connection) }
        }
        var limits = Limits()
        limits.silenceNanosecondsMax = 200_000_000
        let captured = try CapturedPort.detecting(origin.port, limits: limits)
        defer { captured.stop() }
        let (first, second) = (Loopback.connect(captured.port), Loopback.connect(captured.port))
        let ends = [Loopback.ending(first), Loopback.ending(second)].sorted()
        close(first)
        close(second)
        #expect(ends == [0, ECONNRESET])
        #expect(captured.counts("malla_requests_failed_total{reason=\"idle_timeout\"} 1"))
        close(Loopback.connect(captured.port))
        #expect(captured.counts("malla_connections_active 0"))
    }

    @Test func `a service without endpoints resets what is not HTTP, and answers what is`() throws {
        let captured = try CapturedPort.detecting(nil)
        defer { captured.stop() }
        let client = Loopback.connect(captured.port)
        defer { close(client) }
        Loopback.send(client, "\u{16}\u{3}\u{1}")
        #expect(Loopback.ending(client) == ECONNRESET)
        let answer = Loopback.exchange(
            captured.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        #expect(answer.hasPrefix("HTTP/1.1 503 "))
        let silent = Loopback.connect(captured.port)
        defer { close(silent) }
        #expect(!Loopback.isReadable(silent, milliseconds: 100), "it may speak HTTP yet")
    }
}
