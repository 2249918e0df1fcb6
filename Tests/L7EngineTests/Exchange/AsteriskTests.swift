// OPTIONS of a server as a whole, whose target is no path: on the wire, between a client and an
// origin on loopback.

import MeshModel
import Testing

@testable import L7Engine

@Suite("OPTIONS of the server as a whole (RFC 9112 section 3.2.4)", .serialized)
struct AsteriskTests {
    typealias PathModifier = HTTPRouteFilter.PathModifier

    private func ask(_ port: UInt16, _ target: String) -> String {
        Loopback.exchange(
            port, "OPTIONS \(target) HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    }

    /// target, what the origin gets
    static let targets = [
        ("*", "*"), ("http://a", "*"), ("HTTP://A", "*"), ("http://a/", "/"), ("http://a?", "/?"),
        ("http://a?q", "/?q"), ("http://a/*", "/*"), ("/", "/"), ("/*", "/*"),
    ]

    @Test(arguments: targets)
    func `it reaches the origin as an asterisk, and a path as itself`(
        target: String, sent: String
    ) throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let captured = try CapturedPort(origin: origin.port)
        defer { captured.stop() }

        for port in [gateway.port, captured.port] {
            let answer = ask(port, target)
            #expect(answer.contains("\r\n\r\nOPTIONS \(sent) HTTP/1.1\r\n"), "\(answer)")
            #expect(answer.contains("\r\nHost: a\r\n"), "\(answer)")
        }
    }

    /// modifier, what `/x` becomes
    static let rewrites: [(PathModifier, String)] = [
        (.replacePrefixMatch("/v2"), "/v2/x"), (.replacePrefixMatch("/"), "/x"),
        (.replaceFullPath("/whole"), "/whole"),
    ]

    /// `OPTIONS *` reached the origin as `OPTIONS /v2*`.
    @Test(arguments: rewrites)
    func `a rewrite changes paths, and the asterisk is none`(
        modifier: PathModifier, path: String
    ) throws {
        let origin = Origin.echo()
        let gateway = try Gateway(
            to: origin, filters: [.rewrite(.init(hostname: "b.example", path: modifier))])
        defer { gateway.stop() }

        for (target, sent) in [("*", "*"), ("http://a", "*"), ("/x", path)] {
            let answer = ask(gateway.port, target)
            #expect(answer.contains("\r\n\r\nOPTIONS \(sent) HTTP/1.1\r\n"), "\(answer)")
            #expect(answer.contains("\r\nHost: b.example\r\n"), "\(answer)")
        }
    }

    /// modifier, the path that `Location` has
    static let redirects: [(PathModifier?, String)] = [
        (nil, ""), (.replacePrefixMatch("/v2"), "/v2"), (.replacePrefixMatch("/"), "/"),
        (.replaceFullPath("/whole"), "/whole"),
    ]

    /// `Location` was `https://b.example*`, which is no URI.
    @Test(arguments: redirects)
    func `a redirect leads to a URI, and that of the asterisk has no path (section 3.3)`(
        modifier: PathModifier?, path: String
    ) throws {
        let redirect = HTTPRouteFilter.Redirect(
            scheme: "https", hostname: "b.example", path: modifier)
        let gateway = try Gateway(
            origins: [], rules: [HTTPRouteRule(filters: [.redirect(redirect)])])
        defer { gateway.stop() }

        for target in ["*", "http://a"] {
            let answer = ask(gateway.port, target)
            #expect(answer.hasPrefix("HTTP/1.1 302 "), "\(answer)")
            #expect(answer.contains("\r\nLocation: https://b.example\(path)\r\n"), "\(answer)")
        }
    }
}
