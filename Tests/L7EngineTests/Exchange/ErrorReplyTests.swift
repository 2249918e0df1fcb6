// The engine's own answers: one table, two shapes, nothing of what is behind.

import MeshModel
import Testing

@testable import L7Engine

@Suite("Answers of the engine's own (docs/errors.md)", .serialized)
struct ErrorReplyTests {
    private func gateway() throws -> Gateway {
        try Gateway(
            origins: [],
            rules: [
                HTTPRouteRule(
                    matches: [HTTPRouteMatch(path: .prefix("/none"))],
                    backends: [RouteBackend(target: .unresolved("secret-backend"))])
            ])
    }

    @Test func `text by default: what happened, its reason, the request's id`() throws {
        let gateway = try gateway()
        defer { gateway.stop() }

        let answer = gateway.get("/", "X-Request-ID: order-1\r\n")

        #expect(answer.hasPrefix("HTTP/1.1 404 Not Found\r\nServer: malla\r\nDate: "))
        #expect(answer.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"))
        #expect(answer.contains("\r\nX-Request-ID: order-1\r\n"))
        #expect(answer.hasSuffix("\r\n\r\nno route matches\nreason: no_route\nrequest: order-1\n"))
        #expect(Loopback.field(answer, "date")?.hasSuffix(" GMT") == true)
    }

    @Test func `JSON for those who ask for it`() throws {
        let gateway = try gateway()
        defer { gateway.stop() }

        let answer = gateway.get(
            "/none", "Accept: application/json\r\nX-Request-ID: order-2\r\n")

        #expect(answer.hasPrefix("HTTP/1.1 500 Internal Server Error\r\n"))
        #expect(answer.contains("\r\nContent-Type: application/json\r\n"))
        #expect(
            answer.hasSuffix(
                "\r\n\r\n{\"status\":500,\"reason\":\"no_backend\",\"message\":\"the route's backend "
                    + "cannot be resolved\",\"request_id\":\"order-2\"}\n"))
        #expect(!answer.contains("secret-backend"))
    }

    @Test func `HEAD gets the fields and no body, and the connection goes on`() throws {
        let gateway = try gateway()
        defer { gateway.stop() }

        let answer = Loopback.exchange(
            gateway.port,
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
                + "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        let parts = answer.components(of: "HTTP/1.1 404 Not Found")

        #expect(parts.count == 3)
        #expect(parts.count > 1 && parts[1].hasSuffix("\r\n\r\n"))
        #expect(answer.hasSuffix("\n"))
    }

    struct Row: CustomTestStringConvertible, Sendable {
        let head: String
        let status: String
        let reason: String
        var testDescription: String { reason }
    }

    static let rows = [
        Row(head: "GET / HTTP/1.1\r\n\r\n", status: "400 Bad Request", reason: "host_missing"),
        Row(head: "GARBAGE\r\n\r\n", status: "400 Bad Request", reason: "malformed_line"),
        Row(
            head: "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", status: "405 Method Not Allowed",
            reason: "connect_method"),
        Row(
            head: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            status: "413 Content Too Large", reason: "content_length_too_large"),
        Row(
            head: "GET /\(String(repeating: "a", count: 20000)) HTTP/1.1\r\n",
            status: "414 URI Too Long", reason: "target_too_long"),
        Row(
            head: "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n",
            status: "417 Expectation Failed", reason: "expectation"),
        Row(
            head: "GET / HTTP/1.1\r\nHost: a\r\nX: \(String(repeating: "a", count: 40000))\r\n",
            status: "431 Request Header Fields Too Large", reason: "head_too_long"),
        Row(
            head: "GET / HTTP/1.1\r\nHost: a\r\n\(String(repeating: "a: b\r\n", count: 200))\r\n",
            status: "431 Request Header Fields Too Large", reason: "fields_too_many"),
        Row(
            head: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            status: "501 Not Implemented", reason: "encoding_unknown"),
        Row(
            head: "GET / HTTP/3.0\r\n\r\n", status: "505 HTTP Version Not Supported",
            reason: "version"),
    ]

    @Test(arguments: rows)
    func `a refused request has its status and reason, is counted, and ends`(row: Row) throws {
        let gateway = try gateway()
        defer { gateway.stop() }

        let answer = Loopback.exchange(gateway.port, row.head)

        #expect(answer.hasPrefix("HTTP/1.1 \(row.status)\r\n"))
        #expect(answer.contains("\r\nConnection: close\r\n"))
        #expect(answer.contains("\nreason: \(row.reason)\n"))
        #expect(
            gateway.engine.exposition().contains(
                "malla_requests_refused_total{reason=\"\(row.reason)\"} 1\n"))
    }

    private static let wish = "Accept: application/json\r\nX-Request-ID: mine-2\r\n"

    @Test(arguments: [
        (true, "GET / HTTP/1.1\r\nHost: a\r\n\(wish)Bad Name: x\r\n\r\n"),
        (true, "GET / HTTP/1.1\r\n\(wish)Host: a\r\nHost: b\r\n\r\n"),
        // Found when all was read.
        (true, "GET / HTTP/1.1\r\n\(wish)\r\n"),
        (true, "GET /a%2fb HTTP/1.1\r\n\(wish)Host: a\r\n\r\n"),
        (false, "GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\(wish)\r\n"),
        (false, "GET / HTTP/3.0\r\nHost: a\r\n\(wish)\r\n"),
        (false, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: a b\r\nBad Name: x\r\n\r\n"),
    ])
    func `a refused head is answered as what stands before its fault asks`(
        isHeard: Bool, head: String
    ) throws {
        let gateway = try gateway()
        defer { gateway.stop() }

        let answer = Loopback.exchange(gateway.port, head)

        #expect(answer.contains("\r\nConnection: close\r\n"))
        #expect(answer.contains("\r\nContent-Type: application/json\r\n") == isHeard, "\(answer)")
        let id = try #require(Loopback.field(answer, "x-request-id"))
        #expect(isHeard ? id == "mine-2" : id.count == 36)
        #expect(gateway.engine.tallies[0].value(.requests) == 1)
    }

    @Test func `a refused HEAD gets no body`() throws {
        let gateway = try gateway()
        defer { gateway.stop() }

        let answer = Loopback.exchange(
            gateway.port, "HEAD / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n")

        #expect(answer.hasPrefix("HTTP/1.1 400 ") && answer.hasSuffix("\r\n\r\n"), "\(answer)")
    }

    @Test func `a body refused with its head is one request, answered as the client asked`() throws
    {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = Loopback.exchange(
            gateway.port,
            "POST /bad HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n"
                + "X-Request-ID: mine-1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")

        #expect(answer.hasPrefix("HTTP/1.1 400 "), "\(answer)")
        #expect(answer.hasSuffix("\"request_id\":\"mine-1\"}\n"), "\(answer)")
        #expect(gateway.engine.tallies[0].value(.requests) == 1)
        var lines: [String] = []
        #expect(
            Loopback.eventually {
                lines += gateway.engine.takeAccessLog()
                return !lines.isEmpty
            })
        #expect(lines.count == 1 && lines[0].contains("\"path\":\"/bad\""), "\(lines)")
    }

    /// Heads are good, what comes with them is not.
    @Test(arguments: ["zz\r\n", "2\r\nok\r\nzz\r\n", "0\r\nHost: a\r\n\r\n"])
    func `an answer whose body is bad from its first bytes on is 502`(_ body: String) throws {
        let origin = Origin { connection, _ in
            guard !Loopback.message(connection).isEmpty else { return }
            Loopback.send(
                connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        }
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = gateway.get()

        #expect(answer.hasPrefix("HTTP/1.1 502 "), "\(answer)")
        #expect(answer.contains("reason: upstream_invalid"), "\(answer)")
    }

    @Test func `every failure has a label of its own, and a number that leads back to it`() {
        let all = Failure.own + Refusal.allCases.map { .refused($0) }
        let labels = all.map { "\($0.row.label)" }

        #expect(Set(labels).count == labels.count)
        for failure in all {
            #expect(Failure.label(ofCode: failure.code).map { "\($0)" } == "\(failure.row.label)")
        }
        #expect(Failure.label(ofCode: 0) == nil)
    }

    @Test func `the access log says why`() throws {
        let gateway = try gateway()
        defer { gateway.stop() }
        _ = gateway.get("/", "X-Request-ID: order-3\r\n")

        var lines: [String] = []
        #expect(
            Loopback.eventually {
                lines += gateway.engine.takeAccessLog()
                return lines.count == 1
            })
        #expect(lines.joined().contains("\"reason\":\"no_route\",\"request_id\":\"order-3\","))
    }
}
