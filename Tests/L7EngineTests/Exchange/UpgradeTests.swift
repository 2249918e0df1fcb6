import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Upgrades: to what the client offered, and nothing else (RFC 9110, 7.8)", .serialized)
struct UpgradeOfferTests {
    static let answers: [(fields: String, isTaken: Bool)] = [
        ("Upgrade: chat/2\r\n", true),
        ("upgrade: FOO\r\n", true),
        ("Upgrade: foo, raw\r\n", true),
        ("", false),
        ("Upgrade: h2c\r\n", false),
        ("Upgrade: bar\r\n", false),
        ("Upgrade: chat\r\n", false),
        ("Upgrade: foo\r\nUpgrade: bar\r\n", false),
    ]

    private static func origin(_ head: String) -> Origin {
        Origin { connection, _ in
            while !Loopback.message(connection).isEmpty { Loopback.send(connection, head) }
        }
    }

    @Test(arguments: answers, ["GET", "POST"])
    func `an answer of 101 takes the client at its word`(
        _ row: (fields: String, isTaken: Bool), _ method: String
    ) throws {
        let origin = Self.origin(
            "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\n\(row.fields)\r\n")
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        Loopback.send(
            client,
            "\(method) / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: Upgrade\r\n"
                + "Upgrade: foo ,\tChat/2\r\nX-Upgrade: bar\r\nUpgrade: raw\r\n\r\n")

        // One piece: a tunnel has no end that could be waited for.
        let answer = String(decoding: Loopback.receive(client), as: UTF8.self)

        if row.isTaken {
            #expect(answer.hasPrefix("HTTP/1.1 101 "), "\(answer)")
        } else {
            #expect(answer.hasPrefix("HTTP/1.1 502 "), "\(answer)")
            #expect(answer.contains("reason: upstream_invalid"))
        }
    }

    @Test func `an answer of 426 says what to upgrade to (15.5.22)`() throws {
        let origin = Self.origin(
            "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: chat/3\r\n"
                + "Content-Length: 0\r\n\r\n")
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }

        let answer = gateway.get()

        #expect(answer.hasPrefix("HTTP/1.1 426 Upgrade Required\r\n"))
        #expect(answer.contains("\r\nUpgrade: chat/3\r\n"))
        #expect(answer.contains("\r\nConnection: Upgrade\r\n"))
    }
}
