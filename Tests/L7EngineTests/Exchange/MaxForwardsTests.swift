// OPTIONS and TRACE count who passes them on: on the wire, between a client and an origin.

import MeshModel
import Testing

@testable import L7Engine

@Suite("Max-Forwards (RFC 9110 section 7.6.2)", .serialized)
struct MaxForwardsTests {
    private func ask(_ gateway: Gateway, _ method: String, _ fields: String) -> String {
        Loopback.exchange(
            gateway.port,
            "\(method) / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\(fields)\r\n")
    }

    @Test(arguments: [
        ("OPTIONS", "3", "2"), ("TRACE", "1", "0"), ("OPTIONS", "007", "6"),
        ("OPTIONS", "99999999999999999999999999", "999"),
        // For other methods it means nothing.
        ("GET", "0", "0"), ("options", "0", "0"), ("GET", "x", "x"),
    ])
    func `is one less for the next one`(method: String, came: String, went: String) throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = ask(gateway, method, "Max-Forwards: \(came)\r\n")

        #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
        #expect(answer.contains("\r\n\r\n\(method) / HTTP/1.1\r\n"), "the origin was asked")
        #expect(answer.contains("\r\nMax-Forwards: \(went)\r\n"))
        #expect(answer.components(of: "Max-Forwards").count == 2)
    }

    @Test func `OPTIONS that may not be passed on is answered, and the connection goes on`() throws
    {
        let origin = Origin.echo("origin")
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = Loopback.exchange(
            gateway.port,
            "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"
                + "OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nX-Request-ID: mine\r\n"
                + "Connection: close\r\n\r\n")
        let answers = answer.components(of: "HTTP/1.1 200 OK\r\n").dropFirst()

        #expect(answers.count == 2)
        for part in answers {
            #expect(part.hasPrefix("Server: malla\r\nDate: "))
            #expect(part.contains("\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"))
            #expect(part.contains("\r\nContent-Length: 0\r\n") && part.hasSuffix("\r\n\r\n"))
        }
        #expect(answers.last?.contains("\r\nX-Request-ID: mine\r\n") == true)
        #expect(!answer.contains("origin"))
    }

    @Test func `TRACE that may not be passed on is 405: nobody's cookies are told`() throws {
        let origin = Origin.echo("origin")
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = ask(gateway, "TRACE", "Max-Forwards: 0\r\nCookie: secret\r\n")

        #expect(answer.hasPrefix("HTTP/1.1 405 Method Not Allowed\r\n"))
        #expect(answer.contains("\r\nAllow: GET, ") && answer.contains("\nreason: trace_method\n"))
        #expect(!answer.contains("secret") && !answer.contains("origin"))
    }

    @Test(arguments: ["x", "", "-1", "1, 2", "1 2", "0x1", "3\r\nMax-Forwards: 3"])
    func `of OPTIONS and TRACE, what is no number is refused`(_ value: String) throws {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        for method in ["OPTIONS", "TRACE"] {
            let answer = ask(gateway, method, "Max-Forwards: \(value)\r\n")
            #expect(answer.hasPrefix("HTTP/1.1 400 "))
            #expect(answer.contains("\nreason: max_forwards\n"))
        }
    }

    @Test func `a filter has the last word, and where no route leads the answer is 404`() throws {
        let origin = Origin.echo()
        let modifier = HTTPRouteFilter.HeaderModifier(
            set: [.init(name: "Max-Forwards", value: "5")])
        let gateway = try Gateway(to: origin, filters: [.requestHeaders(modifier)])
        defer { gateway.stop() }
        let nowhere = try Gateway(origins: [], rules: [])
        defer { nowhere.stop() }

        let answer = ask(gateway, "OPTIONS", "Max-Forwards: 9\r\n").lowercased()

        #expect(answer.contains("\r\nmax-forwards: 5\r\n"), "\(answer)")
        #expect(answer.components(of: "max-forwards").count == 2)
        #expect(ask(nowhere, "OPTIONS", "Max-Forwards: 0\r\n").hasPrefix("HTTP/1.1 404 "))
    }
}
