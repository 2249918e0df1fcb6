import Foundation
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("Clients show the certificate that a listener asks for (FrontendTLSValidation)", .serialized)
struct ClientCertificateTests {
    /// Who signs for the server, who for its clients, and somebody else.
    private struct Authorities {
        let server: TestAuthority
        let clients: TestAuthority
        let stranger: TestAuthority

        init() throws {
            server = try TestAuthority("server-ca")
            clients = try TestAuthority("clients-ca")
            stranger = try TestAuthority("stranger-ca")
        }

        func remove() { for one in [server, clients, stranger] { one.remove() } }

        func site(_ hostname: String, isOptional: Bool? = false) throws -> SecureGateway.Site {
            .init(
                hostname: hostname,
                certificates: [try server.issue("DNS:\(hostname)").certificate(hostname)],
                clients: isOptional.map {
                    ClientValidation(authorities: clients.bundle, isOptional: $0)
                })
        }

        /// Options of curl or of s_client.
        func shown(by authority: TestAuthority, isExpired: Bool = false) throws -> [String] {
            let pair = try authority.issue("DNS:client.example", isExpired: isExpired)
            let files = try authority.write(pair, "client")
            return ["--cert", files.chain, "--key", files.key]
        }
    }

    enum Shown: CaseIterable { case good, none, strange, expired }

    private static func options(_ shown: Shown, _ authorities: Authorities) throws -> [String] {
        switch shown {
        case .good: try authorities.shown(by: authorities.clients)
        case .none: []
        case .strange: try authorities.shown(by: authorities.stranger)
        case .expired: try authorities.shown(by: authorities.clients, isExpired: true)
        }
    }

    static let strict: [(Shown, TLSFailure)] = [
        (.good, .none), (.none, .noCertificate), (.strange, .untrusted), (.expired, .expired),
    ]

    @Test(arguments: strict, ["1.2", "1.3"]) func `only a valid certificate is let in`(
        _ row: (Shown, TLSFailure), _ version: String
    ) throws {
        let authorities = try Authorities()
        defer { authorities.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway([try authorities.site("a.example")], origin: origin.port)
        defer { gateway.stop() }

        let answer = gateway.curl(
            "a.example", authorities.server,
            ["--tls-max", version] + (try Self.options(row.0, authorities)))

        #expect(gateway.waitFor(.downstream, row.1), "\(answer)")
        #expect(answer.hasSuffix("\n200") == (row.0 == .good), "\(answer)")
        let requests = gateway.engine.totals().requests
        #expect(requests == (row.0 == .good ? 1 : 0), "nothing got past the handshake")
    }

    @Test(arguments: Shown.allCases) func `with the insecure fallback everybody is let in`(
        _ shown: Shown
    ) throws {
        let authorities = try Authorities()
        defer { authorities.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway(
            [try authorities.site("a.example", isOptional: true)], origin: origin.port)
        defer { gateway.stop() }

        let answer = gateway.curl(
            "a.example", authorities.server, try Self.options(shown, authorities))
        #expect(answer.hasSuffix("\n200"), "\(answer)")
    }

    @Test func `a listener that asks is not reached through one that does not`() throws {
        let authorities = try Authorities()
        defer { authorities.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway(
            [
                try authorities.site("open.example", isOptional: nil),
                try authorities.site("closed.example"),
            ], origin: origin.port)
        defer { gateway.stop() }
        let request = "GET / HTTP/1.1\r\nHost: closed.example\r\nConnection: close\r\n\r\n"

        let open = gateway.client(["-servername", "open.example"], input: request)
        #expect(open.contains("HTTP/1.1 421 "), "\(open)")
        let closed = gateway.client(["-servername", "closed.example"], input: request)
        #expect(gateway.waitFor(.downstream, .noCertificate), "\(closed)")
        #expect(!closed.contains("HTTP/1.1 200"), "\(closed)")
    }

    @Test func `a session from before the rule is not resumed under it`() throws {
        let authorities = try Authorities()
        defer { authorities.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway(
            [try authorities.site("a.example", isOptional: nil)], origin: origin.port)
        defer { gateway.stop() }
        let ticket = authorities.server.directory.appendingPathComponent("session").path
        let name = ["-servername", "a.example"]
        _ = gateway.client(name + ["-sess_out", ticket])
        _ = gateway.client(name + ["-sess_in", ticket])
        #expect(gateway.handshakes(.downstream, .resumed) == 1, "without a rule it is")

        gateway.adopt([try authorities.site("a.example")], version: 2)
        let answer = gateway.client(name + ["-sess_in", ticket])

        #expect(gateway.waitFor(.downstream, .noCertificate), "\(answer)")
        #expect(gateway.handshakes(.downstream, .resumed) == 1)
    }

    @Test(arguments: ["-tls1_2", "-tls1_3"], [false, true])
    func `where certificates are asked for no session outlives one`(
        _ version: String, isOptional: Bool
    ) throws {
        let authorities = try Authorities()
        defer { authorities.remove() }
        let origin = Origin.echo()
        // The first listener's context is the socket's own: what it allows is not for all.
        let sites = [
            try authorities.site("b.example", isOptional: nil),
            try authorities.site("a.example", isOptional: isOptional),
        ]
        let gateway = try SecureGateway(
            isOptional ? sites.reversed() : sites, origin: origin.port)
        defer { gateway.stop() }
        let pair = try authorities.clients.issue("DNS:client.example")
        let files = try authorities.clients.write(pair, "client")
        let ticket = authorities.server.directory.appendingPathComponent("session").path
        let options = [
            version, "-servername", "a.example", "-cert", files.chain, "-key", files.key,
        ]

        let first = gateway.client(options + ["-sess_out", ticket])
        #expect(first.contains("HTTP/1.1 200 "), "\(first)")
        #expect(!FileManager.default.fileExists(atPath: ticket), "nothing that could be resumed")
        let other = [version, "-servername", "b.example"]
        _ = gateway.client(other + ["-sess_out", ticket])
        _ = gateway.client(other + ["-sess_in", ticket])
        #expect(gateway.handshakes(.downstream, .resumed) == 1, "of the other listener it is")
    }
}
