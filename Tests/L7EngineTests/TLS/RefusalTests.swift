import Foundation
import Glibc
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("What is no good TLS is refused, counted by reason, and nobody else notices", .serialized)
struct RefusalTests {
    struct Row: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var options: [String]
        var result: TLSFailure
        var versionMin = ListenerTLS.Version.v12
    }

    static let handshakes = [
        Row(
            testDescription: "TLS 1.1",
            options: ["-servername", "a.example", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
            result: .version),
        Row(
            testDescription: "TLS 1.2 where 1.3 is the least",
            options: ["-servername", "a.example", "-tls1_2"], result: .version, versionMin: .v13),
        Row(
            testDescription: "a weak cipher",
            options: [
                "-servername", "a.example", "-tls1_2", "-cipher", "AES128-SHA@SECLEVEL=0",
            ], result: .cipher),
        Row(
            testDescription: "a cipher without forward secrecy",
            options: ["-servername", "a.example", "-tls1_2", "-cipher", "AES128-GCM-SHA256"],
            result: .cipher),
        Row(testDescription: "no server name", options: ["-noservername"], result: .nameUnknown),
        Row(
            testDescription: "an unknown server name", options: ["-servername", "x.example"],
            result: .nameUnknown),
        Row(
            testDescription: "a protocol that is not spoken",
            options: ["-servername", "a.example", "-alpn", "h3"], result: .protocolUnknown),
        Row(
            testDescription: "a client that does not trust us",
            options: ["-servername", "a.example", "-verify_return_error"], result: .alert),
    ]

    @Test(arguments: handshakes) func `a handshake is refused`(_ row: Row) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway(
            [
                .init(
                    hostname: "a.example",
                    certificates: [try authority.issue("DNS:a.example").certificate()],
                    versionMin: row.versionMin)
            ], origin: origin.port)
        defer { gateway.stop() }

        let answer = gateway.client(row.options)

        #expect(gateway.waitFor(.downstream, row.result), "\(answer)")
        #expect(gateway.handshakes(.downstream, .none) == 0)
        #expect(gateway.curl("a.example", authority).hasSuffix("\n200"), "others are served")
    }

    @Test func `garbage instead of a hello ends the connection`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }

        for (index, bytes) in [
            [UInt8](repeating: 0xff, count: 64), [UInt8](repeating: 0, count: 64),
            [22, 3, 1, 0xff, 0xff] + [UInt8](repeating: 7, count: 100),
        ].enumerated() {
            let client = Loopback.connect(gateway.port)
            defer { close(client) }
            Loopback.send(client, bytes)
            // An alert may come first; then the end.
            while !Loopback.receive(client).isEmpty {}
            #expect(gateway.waitFor(.downstream, .notTLS, UInt64(index + 1)))
        }
    }

    @Test(arguments: ["GET", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
    func `plain HTTP on the HTTPS port is answered in plain HTTP, whatever the method`(
        method: String
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }

        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(client, "\(method) / HTTP/1.1\r\nHost: a.example\r\n\r\n")

        #expect(Loopback.message(client).hasPrefix("HTTP/1.1 400 Bad Request\r\n"))
        #expect(gateway.waitFor(.downstream, .plainHTTP))
    }

    @Test func `a client that goes away in the handshake is counted as closed`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }

        let client = Loopback.connect(gateway.port)
        Loopback.send(client, [22, 3, 1, 2, 0, 1])
        close(client)

        #expect(gateway.waitFor(.downstream, .truncated))
    }

    @Test func `a slow handshake is cut off, and so are more than may be under way`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        var limits = Limits()
        limits.handshakeNanosecondsMax = 300_000_000
        limits.handshakesMax = 4
        let gateway = try SecureGateway(
            [.anyHost(authority)], origin: origin.port, limits: limits)
        defer { gateway.stop() }

        let silent = (0..<6).map { _ in Loopback.connect(gateway.port) }
        defer { for client in silent { close(client) } }
        for client in silent { Loopback.send(client, [22, 3, 1]) }

        #expect(gateway.waitFor(.downstream, .overload, 2))
        #expect(gateway.waitFor(.downstream, .timeout, 4))
        for client in silent { #expect(Loopback.receive(client).isEmpty) }
        #expect(gateway.curl("a.example", authority).hasSuffix("\n200"), "there is room again")
    }
}
