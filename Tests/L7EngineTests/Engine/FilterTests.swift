import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Gateway API HTTPRouteFilter, on the wire", .serialized)
struct FilterTests {
    private func rule(_ path: String, _ filters: [HTTPRouteFilter]) -> HTTPRouteRule {
        HTTPRouteRule(
            matches: [HTTPRouteMatch(path: .prefix(path))], filters: filters,
            backends: [Gateway.to(0)])
    }

    @Test func `header modifiers set, add and remove on both ways`() throws {
        let origin = Origin.echo("one")
        let modifier = HTTPRouteFilter.HeaderModifier(
            set: [.init(name: "X-Set", value: "new")], add: [.init(name: "X-Add", value: "more")],
            remove: ["x-gone"])
        let response = HTTPRouteFilter.HeaderModifier(
            set: [.init(name: "X-Origin", value: "hidden")])
        let gateway = try Gateway(
            origins: [origin.port],
            rules: [rule("/", [.requestHeaders(modifier), .responseHeaders(response)])])
        defer { gateway.stop() }

        let answer = gateway.get("/", "X-Set: old\r\nX-Gone: 1\r\nX-Add: first\r\n")

        #expect(answer.contains("X-Set: new") && !answer.contains("X-Set: old"))
        #expect(answer.contains("X-Add: first") && answer.contains("X-Add: more"))
        #expect(!answer.contains("X-Gone"))
        #expect(answer.contains("X-Origin: hidden") && !answer.contains("X-Origin: one"))
    }

    @Test func `a filter that sets or removes what we write ourselves has the last word`() throws {
        let origin = Origin.echo()
        let modifier = HTTPRouteFilter.HeaderModifier(
            set: [
                .init(name: "X-Forwarded-For", value: "9.9.9.9"),
                .init(name: "X-Request-ID", value: "mine"),
            ], remove: ["X-Forwarded-Host", "x-forwarded-proto"])
        let gateway = try Gateway(
            origins: [origin.port],
            rules: [rule("/all", [.requestHeaders(modifier)]), rule("/", [])])
        defer { gateway.stop() }

        let changed = gateway.get("/all").lowercased()
        #expect(changed.contains("\r\nx-forwarded-for: 9.9.9.9\r\n"))
        #expect(changed.contains("\r\nx-request-id: mine\r\nvia: 1.1 malla\r\n"))
        for name in ["x-forwarded-for:", "x-request-id:"] {
            #expect(changed.ranges(of: name).count == 1, "\(changed)")
        }
        #expect(!changed.contains("x-forwarded-host") && !changed.contains("x-forwarded-proto"))
        let claim = "X-Forwarded-Client-Cert: URI=spiffe://admin\r\n"
        let plain = gateway.get("/", claim).lowercased()
        #expect(!plain.contains("spiffe"))
        for name in ["for: 127.0.0.1", "proto: http", "host: shop.example"] {
            #expect(plain.contains("\r\nx-forwarded-\(name)\r\n"), "\(plain)")
        }
    }

    /// So many fields of 4 KiB each.
    private static func fields(_ name: String, _ count: Int) -> HTTPRouteFilter.HeaderModifier {
        let value = String(repeating: "v", count: 4096)
        return .init(set: (0..<count).map { .init(name: "X-\(name)-\($0)", value: value) })
    }

    /// A rule and its backend, each with so many of them, for the request or for its answer.
    private static func long(
        _ rule: Int, _ backend: Int, _ make: (HTTPRouteFilter.HeaderModifier) -> [HTTPRouteFilter]
    ) -> HTTPRouteRule {
        HTTPRouteRule(
            filters: make(fields("Rule", rule)),
            backends: [
                RouteBackend(
                    target: .service(0, port: 0), filters: make(fields("Backend", backend)))
            ])
    }

    /// Fields of the rule and of its backend; the worker's block for heads has 160 KiB.
    static let tooMany: [(Int, Int)] = [(10, 10), (25, 25), (50, 0), (0, 50)]

    @Test(arguments: tooMany, [true, false])
    func `a head that filters make too large is 500, and nobody gets a part of it`(
        _ count: (Int, Int), _ isOfAnswer: Bool
    ) throws {
        let origin = Origin.echo("told")
        let rule = Self.long(count.0, count.1) {
            isOfAnswer ? [.responseHeaders($0)] : [.requestHeaders($0)]
        }
        let gateway = try Gateway(origins: [origin.port], rules: [rule])
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        // The client's connection goes on, the upstream's does not.
        for _ in 0..<2 {
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = Loopback.message(client)
            #expect(answer.hasPrefix("HTTP/1.1 500 Internal Server Error\r\nServer: malla\r\n"))
            #expect(answer.contains("\nreason: rewritten_head\n"), "\(answer.prefix(200))")
            #expect(!answer.contains("told") && !answer.contains("vvvv"))
        }

        let reason = "malla_requests_failed_total{reason=\"rewritten_head\"} 2"
        #expect(TimeoutTests.counts(gateway, reason))
        #expect(TimeoutTests.counts(gateway, "malla_connections_active 1"))
        let tally = gateway.engine.tallies[0]
        #expect(tally.value(Failure.downstreamGone) == 0)
        #expect(tally.value(.dials) == (isOfAnswer ? 2 : 0))
        #expect(tally.value(.reuses) == 0)
        var lines: [String] = []
        _ = Loopback.eventually {
            lines += gateway.engine.takeAccessLog()
            return lines.count >= 2
        }
        #expect(lines.count == 2)
        for line in lines {
            #expect(line.contains("\"flags\":\"UO\"") && line.contains("rewritten_head"), "\(line)")
        }
    }

    @Test func `a redirect that filters make too large is 500`() throws {
        let redirect = HTTPRouteFilter.redirect(.init(hostname: "b.example"))
        let gateway = try Gateway(
            origins: [],
            rules: [HTTPRouteRule(filters: [.responseHeaders(Self.fields("Rule", 50)), redirect])])
        defer { gateway.stop() }

        let answer = gateway.get()

        #expect(answer.hasPrefix("HTTP/1.1 500 "))
        #expect(answer.contains("\nreason: rewritten_head\n") && !answer.contains("b.example"))
    }

    @Test func `heads that filters make large pass, with a body behind them in one piece`() throws {
        let origin = Origin.echo()
        let rule = Self.long(7, 7) { [.requestHeaders($0), .responseHeaders($0)] }
        let gateway = try Gateway(origins: [origin.port], rules: [rule])
        defer { gateway.stop() }
        let body = String(repeating: "b", count: 60_000)
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        // The first waits for a dial, the second does not.
        for _ in 0..<2 {
            Loopback.send(
                client,
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n" + body)
            let answer = Loopback.message(client)
            #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
            #expect(answer.ranges(of: "\r\nX-Rule-6: vvvv").count == 2)
            #expect(answer.ranges(of: "\r\nX-Backend-6: vvvv").count == 2)
            #expect(answer.hasSuffix("\r\n\r\n" + body))
        }
    }

    @Test(arguments: [
        ("/prefix/a?q=1", "GET /new/a?q=1 HTTP/1.1"), ("/prefix", "GET /new HTTP/1.1"),
        ("/prefix/", "GET /new/ HTTP/1.1"), ("/root/a", "GET /a HTTP/1.1"),
        ("/root", "GET / HTTP/1.1"), ("/full/x", "GET /whole HTTP/1.1"),
    ])
    func `paths and hosts are rewritten`(target: String, line: String) throws {
        let origin = Origin.echo()
        let gateway = try Gateway(
            origins: [origin.port],
            rules: [
                rule(
                    "/prefix",
                    [.rewrite(.init(hostname: "b.example", path: .replacePrefixMatch("/new/")))]),
                rule("/root", [.rewrite(.init(path: .replacePrefixMatch("/")))]),
                rule("/full", [.rewrite(.init(path: .replaceFullPath("/whole")))]),
            ])
        defer { gateway.stop() }

        let answer = gateway.get(target)

        #expect(answer.contains(line))
        if target.hasPrefix("/prefix") { #expect(answer.contains("Host: b.example")) }
    }

    @Test(arguments: [
        ("/a/x?q", "302", "https://other.example/b/x?q"),
        ("/c", "301", "http://shop.example:8080/c"),
        ("/d/e", "308", "http://shop.example/full"),
    ])
    func `redirects say where`(target: String, status: String, location: String) throws {
        let gateway = try Gateway(
            origins: [],
            rules: [
                rule(
                    "/a",
                    [
                        .redirect(
                            .init(
                                scheme: "https", hostname: "other.example",
                                path: .replacePrefixMatch("/b")))
                    ]),
                rule("/c", [.redirect(.init(port: 8080, status: 301))]),
                rule(
                    "/d",
                    [.redirect(.init(scheme: "http", path: .replaceFullPath("/full"), status: 308))]
                ),
            ].map {
                var rule = $0
                rule.backends = []
                return rule
            })
        defer { gateway.stop() }

        let answer = gateway.get(target)

        #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
        #expect(Loopback.field(answer, "location") == location)
        #expect(Loopback.field(answer, "date")?.hasSuffix(" GMT") == true, "\(answer)")
        #expect(Loopback.field(answer, "x-request-id")?.isEmpty == false, "\(answer)")
    }

    @Test(arguments: ["GET /r/x HTTP/1.0\r\n\r\n", "GET /r/x HTTP/1.1\r\nHost:\r\n\r\n"])
    func `who names no host is sent to the one that was dialled`(_ request: String) throws {
        for (more, end) in [(nil, ":PORT/r/x"), (UInt16(8080), ":8080/r/x"), (80, "/r/x")] {
            var rule = rule("/r", [.redirect(.init(port: more, status: 302))])
            rule.backends = []
            let gateway = try Gateway(origins: [], rules: [rule])
            defer { gateway.stop() }
            let client = Loopback.connect(gateway.port)
            defer { close(client) }
            Loopback.send(client, request)

            let location = Loopback.field(Loopback.message(client), "location")

            let port = end.replacing("PORT", with: "\(gateway.port)")
            #expect(location == "http://127.0.0.1\(port)")
        }
    }

    @Test func `weights split requests, and a new configuration loses none`() throws {
        let (first, second) = (Origin.echo("one"), Origin.echo("two"))
        let rules = [HTTPRouteRule(backends: [Gateway.to(0, weight: 9), Gateway.to(1)])]
        let gateway = try Gateway(origins: [first.port, second.port], rules: rules)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        var ones = 0

        for round in 0..<2000 {
            if round % 50 == 0 { gateway.adopt(rules, version: UInt64(round + 2)) }
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let answer = Loopback.message(client)
            #expect(answer.hasPrefix("HTTP/1.1 200 OK"))
            if answer.contains("X-Origin: one") { ones += 1 }
        }

        // Five standard deviations of a binomial of 2000 with 0.9.
        #expect((1733...1867).contains(ones))
    }
}
