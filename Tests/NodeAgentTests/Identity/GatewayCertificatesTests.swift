import AdminAPI
import Foundation
import MeshModel
import TestSupport
import Testing

@testable import NodeAgent

@Suite("What Gateways show their clients is listed, and no key of it")
struct GatewayCertificatesTests {
    private static func listener(
        _ name: String, _ certificates: [Int], at addresses: [IPAddress] = []
    ) -> Listener {
        Listener(
            gateway: ObjectName("shop", "edge"), name: name, addresses: addresses, port: 443,
            hostname: nil,
            tls: certificates.isEmpty ? nil : ListenerTLS(certificates: certificates))
    }

    private static func certificate(_ pair: TestAuthority.Pair, _ name: String) -> Certificate {
        Certificate(
            name: ObjectName("shop", name), chain: pair.chain, key: PrivateKey(pem: pair.key))
    }

    @Test func `each with its names, life and listeners, and those of this node only`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let life = 86_400
        var many = try authority.issue(
            "DNS:shop.example,DNS:*.shop.example,IP:192.0.2.1,IP:2001:db8::1")
        // A root that is sent, too, and ends in two days: clients have their own.
        many.chain += authority.bundle
        var mesh = Mesh(nodes: [Node(name: "n1", addresses: [IPAddress("10.0.0.1")!])])
        mesh.certificates = [
            Self.certificate(many, "many"),
            Self.certificate(try authority.issue("DNS:a", isExpired: true), "old"),
            Self.certificate(try authority.issue("DNS:b", life: life), "day"),
            Self.certificate(try authority.issue("DNS:c"), "elsewhere"),
            Certificate(
                name: ObjectName("shop", "x"), chain: Array("x".utf8), key: PrivateKey(pem: [])),
        ]
        mesh.listeners = [
            Self.listener("b", [0, 1]), Self.listener("a", [0, 2]), Self.listener("plain", []),
            Self.listener("far", [3], at: [IPAddress("10.0.0.2")!]), Self.listener("odd", [4]),
        ]
        let snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        let now = Int64(Date().timeIntervalSince1970)
        let items = CertificateItem.gateways(snapshot, at: now)
        #expect(items.map(\.identity) == ["shop/day", "shop/many", "shop/old", "shop/x"])
        #expect(items.allSatisfy { $0.type == "gateway" })
        let shown = items[1]
        #expect(
            shown.names == ["shop.example", "*.shop.example", "192.0.2.1", "2001:db8::1"])
        #expect(shown.listeners == ["shop/edge a", "shop/edge b"])
        #expect(shown.state == "valid" && shown.notAfter == "2070-01-01T00:00:00Z")
        #expect(shown.notBefore == "2020-01-01T00:00:00Z" && !shown.serial.isEmpty)
        #expect(!shown.issuer.isEmpty && shown.message.isEmpty)
        #expect(items[2].state == "expired" && items[2].remainingSeconds < 0)
        #expect(!items[3].message.isEmpty && items[3].pem.isEmpty)

        #expect(items[0].state == "due")
        func state(_ index: Int, beforeEnd seconds: Int64) throws -> String {
            let end = try #require(
                try? Date(items[index].notAfter, strategy: .iso8601).timeIntervalSince1970)
            return CertificateItem.gateways(snapshot, at: Int64(end) - seconds)[index].state
        }
        #expect(try state(1, beforeEnd: 15 * 86_400) == "valid")
        #expect(try state(1, beforeEnd: 13 * 86_400) == "due")
        #expect(try state(1, beforeEnd: 0) == "expired")

        let text = String(decoding: try JSONEncoder().encode(items), as: UTF8.self)
        #expect(text.contains("BEGIN CERTIFICATE") && !text.contains("PRIVATE"))
        let secret = String(decoding: many.key, as: UTF8.self).split(separator: "\n")[1]
        #expect(!text.replacingOccurrences(of: "\\/", with: "/").contains(secret))
    }

    @Test func `one that cannot be read here ends when OpenSSL says`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        var odd = try authority.issue("DNS:a", isExpired: true)
        odd.chain += Array("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".utf8)
        var mesh = Mesh(nodes: [Node(name: "n1", addresses: [IPAddress("10.0.0.1")!])])
        mesh.certificates = [Self.certificate(odd, "odd")]
        mesh.listeners = [Self.listener("a", [0])]
        let snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        let items = CertificateItem.gateways(snapshot, at: Int64(Date().timeIntervalSince1970))
        #expect(items.map(\.state) == ["expired"])
        #expect(items.map(\.notAfter) == ["2020-01-02T00:00:00Z"])
        #expect(items.allSatisfy { $0.remainingSeconds < 0 && !$0.message.isEmpty })
    }
}
