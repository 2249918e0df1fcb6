internal import Foundation
internal import MeshConfig
internal import MeshModel
import TestSupport
import Testing

@Suite("A BackendTLSPolicy is followed, or its ports are not reached at all", .serialized)
struct BackendTLSTests {
    static let service = """
        apiVersion: v1
        kind: Service
        metadata: {name: web, namespace: shop}
        spec:
          clusterIP: 10.96.0.10
          ports: [{name: https, port: 443}, {name: admin, port: 8443}]

        """

    static func policy(
        _ validation: String, name: String = "web", target: String = "", more: String = ""
    ) -> String {
        """
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: BackendTLSPolicy
        metadata: {name: \(name), namespace: shop\(more)}
        spec:
          targetRefs: [{group: "", kind: Service, name: web\(target)}]
          validation: {\(validation)}

        """
    }

    static func bundle(_ kind: String, _ name: String, _ pem: [UInt8]) -> String {
        let text = String(decoding: pem, as: UTF8.self).split(separator: "\n")
            .map { "    " + $0 }.joined(separator: "\n")
        return """
            ---
            apiVersion: v1
            kind: \(kind)
            metadata: {name: \(name), namespace: shop}
            \(kind == "Secret" ? "stringData" : "data"):
              ca.crt: |
            \(text)

            """
    }

    static func tls(_ result: ConfigResult, _ port: Int = 0) -> BackendTLS? {
        result.mesh.services.first?.ports[port].tls
    }

    static func reasons(_ result: ConfigResult, _ name: String = "web") -> [String] {
        result.policyStatuses.first { $0.name.name == name }?.conditions.map(\.reason) ?? []
    }

    @Test(arguments: ["ConfigMap", "Secret"])
    func `authorities come from a ConfigMap or a Secret`(_ kind: String) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let result = try TestDirectory.load(
            Self.service + Self.bundle(kind, "ca", authority.bundle)
                + Self.policy(
                    "caCertificateRefs: [{group: '', kind: \(kind), name: ca}], hostname: A.example"
                        .replacing("A.", with: "a.")))

        let tls = try #require(Self.tls(result))
        #expect(tls.hostname == "a.example")
        #expect(tls.names == [.host("a.example")])
        guard case .bundle(let pem) = tls.authorities else {
            Issue.record("\(tls.authorities)")
            return
        }
        #expect(String(decoding: pem, as: UTF8.self).contains("BEGIN CERTIFICATE"))
        #expect(Self.tls(result, 1) == tls, "the whole service")
        #expect(Self.reasons(result) == ["Accepted", "ResolvedRefs"])
    }

    @Test func `SANs replace the hostname, and System is what the machine trusts`() throws {
        let result = try TestDirectory.load(
            Self.service
                + Self.policy(
                    """
                    wellKnownCACertificates: System, hostname: a.example, subjectAltNames: \
                    [{type: Hostname, hostname: b.example}, {type: URI, uri: 'spiffe://x/y'}]
                    """, target: ", sectionName: admin"))

        #expect(Self.tls(result) == nil, "only the named port")
        let tls = try #require(Self.tls(result, 1))
        #expect(tls.authorities == .system)
        #expect(tls.names == [.host("b.example"), .uri("spiffe://x/y")])
    }

    /// validation, Accepted, ResolvedRefs
    static let unresolved: [(String, String, String)] = [
        (
            "caCertificateRefs: [{group: '', kind: ConfigMap, name: x}], hostname: a.example",
            "NoValidCACertificate", "InvalidCACertificateRef"
        ),
        (
            "caCertificateRefs: [{group: '', kind: ConfigMap, name: empty}], hostname: a.example",
            "NoValidCACertificate", "InvalidCACertificateRef"
        ),
        (
            "caCertificateRefs: [{group: '', kind: Pod, name: x}], hostname: a.example",
            "NoValidCACertificate", "InvalidKind"
        ),
        (
            "wellKnownCACertificates: example.com/own, hostname: a.example", "Invalid",
            "ResolvedRefs"
        ),
    ]

    @Test(arguments: unresolved) func `what cannot be had makes the port unreachable, not plain`(
        _ validation: String, _ accepted: String, _ resolved: String
    ) throws {
        let result = try TestDirectory.load(
            Self.service + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: empty, "
                + "namespace: shop}\ndata: {}\n" + Self.policy(validation))

        guard case .unresolved? = Self.tls(result)?.authorities else {
            Issue.record("\(String(describing: Self.tls(result)))")
            return
        }
        #expect(Self.reasons(result) == [accepted, resolved])
        let reasons = result.diagnostics.compactMap { $0.condition?.reason }
        #expect(reasons.contains(resolved) || reasons.contains(accepted))
    }

    static let refused: [(String, String)] = [
        ("hostname: a.example", "needs caCertificateRefs or wellKnownCACertificates"),
        (
            """
            caCertificateRefs: [{group: '', kind: ConfigMap, name: x}], \
            wellKnownCACertificates: System, hostname: a.example
            """, "must not have both"
        ),
        ("wellKnownCACertificates: System", "is required"),
        (
            "wellKnownCACertificates: System, hostname: a.example, subjectAltNames: [{type: URI}]",
            "is required for type URI"
        ),
        (
            """
            wellKnownCACertificates: System, hostname: a.example, subjectAltNames: \
            [{type: Hostname, hostname: a.example, uri: 'a:b'}]
            """, "must not be given for type Hostname"
        ),
    ]

    @Test(arguments: refused) func `a policy that breaks its schema is refused`(
        _ validation: String, _ says: String
    ) throws {
        let result = try TestDirectory.load(Self.service + Self.policy(validation))

        #expect(
            result.diagnostics.contains { $0.severity == .error && $0.message.contains(says) },
            "\(result.diagnostics)")
    }

    @Test func `of two policies the older counts, and the other says so`() throws {
        let validation = "wellKnownCACertificates: System, hostname: "
        let result = try TestDirectory.load(
            Self.service
                + Self.policy(
                    validation + "a.example", name: "a",
                    more: ", creationTimestamp: '2026-01-02T00:00:00Z'")
                + Self.policy(
                    validation + "b.example", name: "b",
                    more: ", creationTimestamp: '2026-01-01T00:00:00Z'"))

        #expect(Self.tls(result)?.hostname == "b.example")
        #expect(Self.reasons(result, "a").first == "Conflicted")
        #expect(Self.reasons(result, "b").first == "Accepted")
    }

    @Test func `a broken bundle is refused, and the last good stays`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let validation =
            "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}], hostname: a.b"
        let directory = TestDirectory()
        directory.write("mesh.yaml", Self.service + Self.policy(validation))
        directory.write("ca.yaml", Self.bundle("ConfigMap", "ca", authority.bundle))
        var store = ConfigStore(directory: directory.path)
        let good = try store.reload()

        directory.write("ca.yaml", Self.bundle("ConfigMap", "ca", Array("hello".utf8)))
        let bad = try store.reload()

        #expect(Self.tls(bad) == Self.tls(good))
        #expect(bad.diagnostics.contains { $0.message.contains("holds no PEM certificate") })
    }
}
