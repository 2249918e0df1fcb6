import Foundation
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("A listener that asks for something else serves nobody of before", .serialized)
struct ListenerChangeTests {
    enum Rule: CaseIterable { case plain, secure, certificates, optional, otherAuthority }

    /// Who signs for the server, and who for its clients.
    private final class Authorities {
        let server: TestAuthority
        let clients: TestAuthority
        let others: TestAuthority

        init() throws {
            server = try TestAuthority("server-ca")
            clients = try TestAuthority("clients-ca")
            others = try TestAuthority("others-ca")
        }

        deinit { for one in [server, clients, others] { one.remove() } }

        func site(_ rule: Rule) throws -> SecureGateway.Site {
            if rule == .plain { return .init(certificates: [], isPlain: true) }
            let signer = rule == .otherAuthority ? others : clients
            return .init(
                // Another certificate each time: that ends nothing.
                certificates: [try server.issue("DNS:a.example").certificate("a.example")],
                clients: rule == .secure
                    ? nil
                    : ClientValidation(authorities: signer.bundle, isOptional: rule == .optional))
        }
    }

    /// before, then, whether the connection goes on
    static let rows: [(Rule, Rule, Bool)] = [
        (.plain, .plain, true), (.plain, .secure, false), (.plain, .certificates, false),
        (.secure, .plain, false), (.secure, .secure, true), (.secure, .certificates, false),
        (.secure, .optional, false), (.optional, .certificates, false),
        (.optional, .optional, true), (.optional, .otherAuthority, false),
        (.optional, .secure, true),
    ]

    @Test(arguments: rows) func `a connection that is open is held to what is asked now`(
        _ before: Rule, _ now: Rule, _ goesOn: Bool
    ) throws {
        let authorities = try Authorities()
        let origin = Origin.echo()
        let gateway = try SecureGateway([try authorities.site(before)], origin: origin.port)
        defer { gateway.stop() }
        let plain = before == .plain ? Loopback.connect(gateway.port) : -1
        let secure = before == .plain ? nil : try SecureClient(gateway, "a.example")
        defer {
            if plain >= 0 { close(plain) }
            secure?.close()
        }
        func get() -> String {
            if let secure { return secure.get("/") }
            Loopback.send(plain, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            return Loopback.message(plain)
        }
        #expect(get().hasPrefix("HTTP/1.1 200 "))

        gateway.adopt([try authorities.site(now)], version: 2)
        let answer = get()

        #expect(answer.hasPrefix("HTTP/1.1 \(goesOn ? 200 : 421) "), "\(answer)")
        if !goesOn {
            #expect(answer.contains("\r\nConnection: close\r\n"))
            #expect(answer.contains("reason: listener_changed"))
            if secure == nil { #expect(get().isEmpty, "the connection is over") }
        }
    }
}
