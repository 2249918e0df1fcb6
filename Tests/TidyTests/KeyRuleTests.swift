// docs/identity.md: swift-certificates builds certificates and sees public keys only. A private key
// is a handle of OpenSSL's (SigningKey); what signs by it is CertificateSigner.

import Testing

@Suite("Private keys stay OpenSSL's (docs/identity.md)")
struct KeyRuleTests {
    @Test func `no file names a key of swift-crypto's or swift-certificates'`() {
        let wrong = Repository.sources.flatMap { file in
            file.foreignKeys.map { line in
                let remedy = "a private key is a SigningKey; certificates are signed by its signer"
                return Violation(path: file.path, line: line, remedy: remedy)
            }
        }
        expectNone(wrong)
    }

    @Test func `the one signer holds OpenSSL's key and is written nowhere`() throws {
        let path = "Sources/NodeAgent/Identity/SVIDCertificate.swift"
        let file = try #require(Repository.sources.first { $0.path == path })
        let first = try #require(file.code.firstIndex { $0.contains(SourceText.signers[0]) })
        let signer = file.code[first...].prefix { $0 != "}" }
        #expect(signer.contains { $0.contains("let key: SigningKey") })
        let serializer = try #require(signer.firstIndex { $0.contains("func serialize(into") })
        #expect(signer[serializer + 1].contains("throw SVIDFailure"))
    }

    @Test(arguments: [
        ("issuerPrivateKey: X509.Certificate.PrivateKey(authority.signer))", false),
        ("let a = X509.Certificate.PrivateKey(signer)", false),
        ("let a = try X509.Certificate.PrivateKey(pemEncoded: text)", true),
        ("let a: Certificate.PrivateKey", true),
        ("let a = P256.Signing.PrivateKey()", true),
        ("let a = _RSA.Signing.PrivateKey(keySize: .bits2048)", true),
        ("typealias Key = Curve25519.Signing", true),
        ("struct CertificateSigner: CustomPrivateKey {", false),
        ("struct Other: CustomPrivateKey {", true),
        ("let a = MALLA_KEY_P256 // P256", false),
    ])
    func `a key that is not OpenSSL's is seen`(_ line: String, _ isSeen: Bool) {
        let file = SourceText(path: "x.swift", text: "internal import X509\n\(line)\n")
        #expect(file.foreignKeys == (isSeen ? [2] : []))
    }

    @Test func `the configuration's own type of that name is not meant`() {
        let file = SourceText(
            path: "x.swift", text: "internal import MeshModel\nlet a = PrivateKey(pem: key)\n")
        #expect(file.foreignKeys == [])
    }
}

extension SourceText {
    /// Where `PrivateKey` or a conformance to `CustomPrivateKey` holds no key: OpenSSL's signs.
    fileprivate static let signers = [
        "struct CertificateSigner: CustomPrivateKey",
        "X509.Certificate.PrivateKey(authority.signer)", "X509.Certificate.PrivateKey(signer)",
    ]
    /// Namespaces of swift-crypto's keys.
    private static let kinds = [
        "P256", "P384", "P521", "Curve25519", "_RSA", "MLDSA65", "MLDSA87", "SecureEnclave",
        "SecKey",
    ]

    /// Lines (from 1) that name a private key that is one of swift-crypto's, or that
    /// swift-certificates reads, makes or keeps.
    fileprivate var foreignKeys: [Int] {
        let knows = imports.contains { ["X509", "SwiftASN1"].contains($0.module) }
        return code.indices.filter { index in
            let rest = Self.signers.reduce(code[index]) { line, signer in
                line.replacing(signer, with: "")
            }
            return Self.kinds.contains { Self.contains($0, in: rest) }
                || Self.contains("CustomPrivateKey", in: rest)
                || knows && Self.contains("PrivateKey", in: rest)
        }.map { $0 + 1 }
    }
}
