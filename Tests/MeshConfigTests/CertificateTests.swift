internal import Foundation
internal import MeshConfig
internal import MeshModel
import TestSupport
import Testing

@Suite("Certificates are judged before they are served", .serialized)
struct CertificateTests {
    static func gateway(_ listener: String) -> String {
        """
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: shop}
        spec:
          gatewayClassName: malla
          listeners: [{name: web, port: 8443, protocol: HTTPS, \(listener)}]
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: web, namespace: shop}
        spec: {parentRefs: [{name: edge}]}

        """
    }

    static func one(_ more: String = "") -> String {
        gateway("tls: {certificateRefs: [{name: web-tls}]\(more)}")
    }

    static func reason(_ result: ConfigResult, _ type: String) -> String? {
        result.gatewayStatuses.first?.listeners.first?.conditions.first { $0.type == type }?.reason
    }

    @Test func `an HTTPS listener is served with its certificates`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let pair = try authority.issue("DNS:a.example")

        let result = try TestDirectory.load(
            TestAuthority.secret("web-tls", in: "shop", pair)
                + Self.one(", options: {malla.io/tls-version-min: '1.3'}"))

        #expect(result.diagnostics.filter { $0.severity != .info } == [])
        #expect(result.mesh.certificates.map(\.name) == [ObjectName("shop", "web-tls")])
        #expect(result.mesh.certificates.first?.chain == pair.chain)
        #expect(
            result.mesh.listeners.first?.tls == ListenerTLS(certificates: [0], versionMin: .v13))
        #expect(Self.reason(result, "ResolvedRefs") == "ResolvedRefs")
        #expect(Self.reason(result, "Programmed") == "Programmed")
        #expect(result.routeStatuses.first?.parents.first?.isAccepted == true)
    }

    /// What is wrong with the Secret's data, and what the diagnostic says.
    enum Fault: String, CaseIterable {
        case expired = "expired at 2020-01-02T00:00:00Z"
        case otherKey = "the private key does not belong to the certificate"
        case noCertificate = "holds no PEM certificate"
        case brokenCertificate = "holds a certificate that cannot be read"
        case noKey = "holds no unencrypted PEM private key"
        case noBase64 = "is no base64"
        case missing = "is required in a Secret of type kubernetes.io/tls"
    }

    static func secret(_ fault: Fault, _ authority: TestAuthority) throws -> String {
        var pair = try authority.issue("DNS:a.example", isExpired: fault == .expired)
        switch fault {
        case .expired: break
        case .otherKey: pair.key = try authority.issue("DNS:a.example").key
        case .noCertificate: pair.chain = Array("hello".utf8)
        case .brokenCertificate:
            pair.chain = Array(
                "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n".utf8)
        case .noKey: pair.key = pair.chain
        case .noBase64, .missing: break
        }
        let text = TestAuthority.secret("web-tls", in: "shop", pair)
        switch fault {
        case .noBase64: return text.replacing(/tls.crt: .*/, with: "tls.crt: '%%%'")
        case .missing: return text.replacing(/tls.key: .*/, with: "other: ''")
        default: return text
        }
    }

    @Test(arguments: Fault.allCases) func `a bad certificate is refused, and the last good stays`(
        _ fault: Fault
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let good = try authority.issue("DNS:a.example")
        let directory = TestDirectory()
        directory.write("gateway.yaml", Self.one())
        directory.write("secret.yaml", try Self.secret(fault, authority))
        var store = ConfigStore(directory: directory.path)

        let first = try store.reload()
        #expect(first.mesh.listeners.isEmpty)
        #expect(first.diagnostics.contains { $0.message.contains(fault.rawValue) })
        #expect(Self.reason(first, "ResolvedRefs") == "InvalidCertificateRef")
        #expect(Self.reason(first, "Programmed") == "Invalid")

        directory.write("secret.yaml", TestAuthority.secret("web-tls", in: "shop", good))
        #expect(try store.reload().mesh.listeners.count == 1)

        directory.write("secret.yaml", try Self.secret(fault, authority))
        let again = try store.reload()
        #expect(again.mesh.certificates.map(\.chain) == [good.chain])
        #expect(again.mesh.listeners.count == 1)
        #expect(
            again.diagnostics.contains {
                $0.message.contains(fault.rawValue) && $0.message.contains("last good version")
            })
    }

    @Test func `no diagnostic and no description shows a private key`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        var pair = try authority.issue("DNS:a.example")
        let key = String(decoding: pair.key, as: UTF8.self)
        let secret = key.split(separator: "\n")[1]
        pair.chain = try authority.issue("DNS:b.example").chain

        let result = try TestDirectory.load(
            TestAuthority.secret("web-tls", in: "shop", pair) + Self.one())
        let certificate = Certificate(
            name: ObjectName("shop", "web-tls"), chain: [], key: PrivateKey(pem: pair.key))

        #expect(!result.diagnostics.map(\.description).joined().contains(secret))
        var dumped = ""
        dump(certificate, to: &dumped)
        #expect(!(dumped + "\(certificate)").contains(secret))
        #expect(!(dumped + "\(certificate)").contains("\(pair.key[30]), \(pair.key[31])"))
    }

    static let references: [(String, String, String)] = [
        ("tls: {certificateRefs: [{name: nobody}]}", "InvalidCertificateRef", "does not exist"),
        (
            "tls: {certificateRefs: [{name: web-tls, kind: ConfigMap}]}", "InvalidCertificateRef",
            "not supported"
        ),
        (
            "tls: {certificateRefs: [{name: plain}]}", "InvalidCertificateRef",
            "not of type kubernetes.io/tls"
        ),
        (
            "tls: {certificateRefs: [{name: web-tls, namespace: other}]}", "RefNotPermitted",
            "no ReferenceGrant"
        ),
        (
            "tls: {certificateRefs: [{name: granted, namespace: other}]}", "ResolvedRefs", ""
        ),
        ("hostname: a.example", "InvalidCertificateRef", "needs tls.certificateRefs"),
    ]

    @Test(arguments: references) func `a reference is followed or says why not`(
        _ listener: String, _ reason: String, _ says: String
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let pair = try authority.issue("DNS:a.example")
        let result = try TestDirectory.load(
            [
                TestAuthority.secret("web-tls", in: "shop", pair),
                TestAuthority.secret("web-tls", in: "other", pair),
                TestAuthority.secret("granted", in: "other", pair),
                """
                apiVersion: v1
                kind: Secret
                metadata: {name: plain, namespace: shop}
                stringData: {tls.crt: x, tls.key: y}
                ---
                apiVersion: gateway.networking.k8s.io/v1
                kind: ReferenceGrant
                metadata: {name: g, namespace: other}
                spec:
                  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}]
                  to: [{group: "", kind: Secret, name: granted}]

                """,
            ].joined(separator: "---\n") + Self.gateway(listener))

        #expect(Self.reason(result, "ResolvedRefs") == reason)
        #expect(Self.reason(result, "Accepted") == "Accepted")
        #expect(result.mesh.listeners.count == (reason == "ResolvedRefs" ? 1 : 0))
        if !says.isEmpty { #expect(result.diagnostics.contains { $0.message.contains(says) }) }
    }

    @Test func `one good certificate of two serves, and the bad one is named`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let result = try TestDirectory.load(
            TestAuthority.secret("web-tls", in: "shop", try authority.issue("DNS:a.example"))
                + Self.gateway("tls: {certificateRefs: [{name: nobody}, {name: web-tls}]}"))

        #expect(Self.reason(result, "ResolvedRefs") == "InvalidCertificateRef")
        #expect(Self.reason(result, "Programmed") == "Programmed")
        #expect(result.mesh.listeners.first?.tls?.certificates == [0])
    }
}
