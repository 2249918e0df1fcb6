import Foundation
import Glibc
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite(
    "The name of the first hello counts, in one form, and no other (RFC 8446, 4.1.2)", .serialized)
struct ServerNameTests {
    /// One certificate for all; who names `open` shows none, all others must.
    private static func gateway(_ authority: TestAuthority, _ origin: Origin) throws
        -> SecureGateway
    {
        let certificate = try authority.issue("DNS:*.corp.example").certificate()
        return try SecureGateway(
            [
                .init(hostname: "open.corp.example", certificates: [certificate]),
                .init(
                    hostname: nil, certificates: [certificate],
                    clients: ClientValidation(authorities: authority.bundle, isOptional: false)),
            ], origin: origin.port)
    }

    /// The type of the record and its first bytes: a ServerHello is a handshake's message 2, an
    /// alert is fatal (2) and illegal_parameter (47).
    static let seconds: [(name: String, answer: [UInt8])] = [
        ("open.corp.example", [22, 2]),
        ("closed.corp.example", [21, 2, 47]),
        ("", [21, 2, 47]),
    ]

    @Test(arguments: seconds)
    func `a hello behind a HelloRetryRequest asks for the same name or is refused`(
        _ row: (name: String, answer: [UInt8])
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try Self.gateway(authority, origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }

        Loopback.send(client, ClientHello.bytes("open.corp.example", hasShare: false))
        let retry = Loopback.receive(client)
        #expect(retry.first == 22 && retry.dropFirst(5).first == 2, "\(retry)")
        Loopback.send(client, ClientHello.bytes(row.name))
        let answer = Loopback.receive(client)

        let seen = Array(answer.prefix(1)) + Array(answer.dropFirst(5).prefix(row.answer.count - 1))
        #expect(seen == row.answer, "\(answer)")
        let isRefused = row.answer[0] == 21
        #expect(!isRefused || gateway.waitFor(.downstream, .other))
    }

    static let hosts = [
        ("open.corp.example", "200"), ("closed.corp.example", "421"),
        ("open.corp.example.", "200"), ("closed.corp.example.", "421"),
    ]

    @Test(arguments: hosts, ["open.corp.example.", "OPEN.corp.example"])
    func `a dot at the end, or another case, makes no other name`(
        _ row: (host: String, status: String), _ name: String
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try Self.gateway(authority, origin)
        defer { gateway.stop() }

        let answer = gateway.client(
            ["-servername", name],
            input: "GET / HTTP/1.1\r\nHost: \(row.host)\r\nConnection: close\r\n\r\n")

        #expect(answer.contains("HTTP/1.1 \(row.status) "), "\(answer)")
    }
}
