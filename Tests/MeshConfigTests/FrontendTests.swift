internal import MeshConfig
internal import MeshModel
import TestSupport
import Testing

@Suite("A Gateway's tls.frontend says whose certificates clients must bring", .serialized)
struct FrontendTests {
    struct Row: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var frontend: String
        var accepted = "Accepted"
        var resolved = "ResolvedRefs"
        /// Of the listener of port 8443: nil where nobody is asked.
        var isOptional: Bool?
        var says = ""
    }

    private static func reference(_ name: String, _ more: String = "") -> String {
        "{caCertificateRefs: [{group: '', kind: ConfigMap, name: \(name)\(more)}]}"
    }

    static let rows = [
        Row(
            testDescription: "a ConfigMap for all ports",
            frontend: "default: {validation: \(reference("ca"))}", isOptional: false),
        Row(
            testDescription: "the insecure fallback",
            frontend: "default: {validation: {mode: AllowInsecureFallback, "
                + "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}",
            isOptional: true),
        Row(
            testDescription: "a port of its own",
            frontend: "default: {}, "
                + "perPort: [{port: 8443, tls: {validation: \(reference("ca"))}}]",
            isOptional: false),
        Row(
            testDescription: "a port that takes itself out",
            frontend: "default: {validation: \(reference("ca"))}, "
                + "perPort: [{port: 8443, tls: {}}]"),
        Row(
            testDescription: "another port's rule",
            frontend: "default: {}, perPort: [{port: 443, tls: {validation: \(reference("ca"))}}]"),
        Row(
            testDescription: "nobody of that name",
            frontend: "default: {validation: \(reference("nobody"))}",
            accepted: "NoValidCACertificate", resolved: "InvalidCACertificateRef",
            says: "ConfigMap shop/nobody does not exist"),
        Row(
            testDescription: "a kind that holds none",
            frontend: "default: {validation: {caCertificateRefs: "
                + "[{group: '', kind: Service, name: ca}]}}",
            accepted: "NoValidCACertificate", resolved: "InvalidCACertificateKind",
            says: "authorities of kind Service"),
        Row(
            testDescription: "another namespace that grants nothing",
            frontend: "default: {validation: \(reference("ca", ", namespace: other"))}",
            accepted: "NoValidCACertificate", resolved: "RefNotPermitted",
            says: "no ReferenceGrant in namespace other"),
        Row(
            testDescription: "another namespace that grants it",
            frontend: "default: {validation: \(reference("granted", ", namespace: other"))}",
            isOptional: false),
        Row(
            testDescription: "one good reference of two",
            frontend: "default: {validation: {caCertificateRefs: "
                + "[{group: '', kind: ConfigMap, name: nobody}, "
                + "{group: '', kind: ConfigMap, name: ca}]}}",
            resolved: "InvalidCACertificateRef", isOptional: false, says: "does not exist"),
    ]

    private static func bundle(_ name: String, in space: String, _ authority: TestAuthority)
        -> String
    {
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: \(name), namespace: \(space)}\n"
            + "data:\n  ca.crt: |\n"
            + String(decoding: authority.bundle, as: UTF8.self).split(separator: "\n")
            .map { "    \($0)\n" }.joined()
    }

    @Test(arguments: rows) func `a rule is in force, or the listener is not served`(
        _ row: Row
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let gateway = CertificateTests.one().replacing(
            "listeners:", with: "tls: {frontend: {\(row.frontend)}}\n  listeners:")
        let result = try TestDirectory.load(
            TestAuthority.secret("web-tls", in: "shop", try authority.issue("DNS:a.example"))
                + Self.bundle("ca", in: "shop", authority)
                + Self.bundle("ca", in: "other", authority)
                + Self.bundle("granted", in: "other", authority)
                    + """
                    ---
                    apiVersion: gateway.networking.k8s.io/v1
                    kind: ReferenceGrant
                    metadata: {name: g, namespace: other}
                    spec:
                      from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}]
                      to: [{group: "", kind: ConfigMap, name: granted}]

                    """ + gateway)

        #expect(CertificateTests.reason(result, "Accepted") == row.accepted)
        #expect(CertificateTests.reason(result, "ResolvedRefs") == row.resolved)
        #expect(result.mesh.listeners.count == (row.accepted == "Accepted" ? 1 : 0))
        #expect(result.mesh.listeners.first?.tls?.clients?.isOptional == row.isOptional)
        let problems = result.diagnostics.filter { $0.severity != .info }
        #expect(problems.isEmpty == row.says.isEmpty, "\(problems)")
        if !row.says.isEmpty { #expect(problems.contains { $0.message.contains(row.says) }) }
    }
}
