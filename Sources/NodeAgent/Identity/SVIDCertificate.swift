// X.509 as SPIFFE wants it: making a workload's certificate, and judging one that somebody else
// made. swift-certificates writes and reads; keys stay OpenSSL's, which signs.

internal import Foundation
internal import L7Engine
internal import MeshModel
internal import SwiftASN1
internal import X509

/// A key of OpenSSL's as swift-certificates knows signers.
struct CertificateSigner: CustomPrivateKey {
    let key: SigningKey
    let publicKey: X509.Certificate.PublicKey
    let defaultSignatureAlgorithm: X509.Certificate.SignatureAlgorithm
    private let digestBits: Int32

    init(_ key: SigningKey) throws {
        self.key = key
        publicKey = try X509.Certificate.PublicKey(derEncoded: try key.publicKey())
        switch key.kind {
        case .p256: (defaultSignatureAlgorithm, digestBits) = (.ecdsaWithSHA256, 256)
        case .p384: (defaultSignatureAlgorithm, digestBits) = (.ecdsaWithSHA384, 384)
        case .p521: (defaultSignatureAlgorithm, digestBits) = (.ecdsaWithSHA512, 512)
        case .rsa: (defaultSignatureAlgorithm, digestBits) = (.sha256WithRSAEncryption, 256)
        case .ed25519: (defaultSignatureAlgorithm, digestBits) = (.ed25519, 0)
        case .other:
            throw SVIDFailure(.invalid, "its key is of a kind that X.509 does not sign with")
        }
    }

    var supportedSignatureAlgorithms: [X509.Certificate.SignatureAlgorithm] {
        [defaultSignatureAlgorithm]
    }

    func signSynchronously(
        bytes: some DataProtocol, signatureAlgorithm: X509.Certificate.SignatureAlgorithm
    ) throws -> X509.Certificate.Signature {
        let signature = try key.sign(Array(bytes), digestBits: digestBits)
        return try X509.Certificate.Signature(
            signatureAlgorithm: signatureAlgorithm,
            signatureBytes: ASN1BitString(bytes: signature[...]))
    }

    static var defaultPEMDiscriminator: String { "PRIVATE KEY" }

    func serialize(into coder: inout DER.Serializer) throws {
        throw SVIDFailure(.signing, "a private key is not written")
    }

    static func == (left: CertificateSigner, right: CertificateSigner) -> Bool {
        left.publicKey == right.publicKey
    }

    func hash(into hasher: inout Hasher) { hasher.combine(publicKey) }
}

extension X509.Certificate {
    init(der: [UInt8]) throws(SVIDFailure) {
        do {
            try self.init(derEncoded: der)
        } catch {
            throw SVIDFailure(.invalid, "holds a certificate that cannot be read: \(error)")
        }
    }

    func der() throws -> [UInt8] {
        var serializer = DER.Serializer()
        try serializer.serialize(self)
        return serializer.serializedBytes
    }

    /// Seconds since 1970.
    var notBeforeSeconds: Int64 { Int64(notValidBefore.timeIntervalSince1970) }
    var notAfterSeconds: Int64 { Int64(notValidAfter.timeIntervalSince1970) }

    /// Names of the kind that SPIFFE uses.
    var uris: [String] {
        ((try? extensions.subjectAlternativeNames) ?? SubjectAlternativeNames()).compactMap {
            guard case .uniformResourceIdentifier(let uri) = $0 else { return nil }
            return uri
        }
    }

    /// Lower case hexadecimal, as `openssl x509 -serial` writes it but for the case.
    var serialText: String {
        let digits = serialNumber.bytes.map { byte in
            let text = String(byte, radix: 16)
            return text.count == 1 ? "0" + text : text
        }.joined()
        return digits.isEmpty ? "00" : digits
    }

    /// Whether it is the one that signed another: two of one name are told apart by their keys.
    func hasSigned(_ other: X509.Certificate) -> Bool {
        guard other.issuer == subject else { return false }
        if let own = try? extensions.subjectKeyIdentifier?.keyIdentifier,
            let named = try? other.extensions.authorityKeyIdentifier?.keyIdentifier
        {
            return own == named
        }
        return publicKey.isValidSignature(other.signature, for: other)
    }

    var isAuthority: Bool {
        guard case .isCertificateAuthority? = try? extensions.basicConstraints else { return false }
        return true
    }
}

extension X509SVID {
    /// The same, with the end that its chain has for those who believe `roots`.
    func ending(below roots: [X509.Certificate]) -> X509SVID {
        guard let leaf = try? X509.Certificate(der: chain[0]) else { return self }
        return X509SVID(
            id: id, chain: chain, key: key, notBefore: notBefore,
            notAfter: SVIDCertificate.end(of: leaf, in: chain, below: roots))
    }
}

/// The profile of a workload's certificate.
///
/// - Source: X509-SVID standard, sections 2 to 5 and appendix A.
enum SVIDCertificate {
    /// Clocks of nodes differ: it is valid a little before it is made.
    static let backdateSeconds: Int64 = 60

    /// Whom a certificate names, if it is an X509-SVID of a workload.
    static func identity(of leaf: X509.Certificate) throws(SVIDFailure) -> SPIFFEID {
        let uris = leaf.uris
        guard uris.count == 1 else {
            throw SVIDFailure(.invalid, "holds \(uris.count) URI names, exactly one is needed")
        }
        let id: SPIFFEID
        do {
            id = try SPIFFEID(uris[0])
        } catch {
            throw SVIDFailure(.invalid, "its name \(error)")
        }
        if id.path.isEmpty { throw SVIDFailure(.invalid, "names a trust domain, not a workload") }
        if leaf.isAuthority { throw SVIDFailure(.invalid, "is an authority's certificate") }
        guard let usage = try? leaf.extensions.keyUsage, usage.digitalSignature,
            !usage.keyCertSign, !usage.cRLSign
        else {
            throw SVIDFailure(
                .invalid, "its key usage must be digitalSignature, without keyCertSign and cRLSign")
        }
        if let purposes = try? leaf.extensions.extendedKeyUsage,
            !purposes.contains(.serverAuth) || !purposes.contains(.clientAuth)
        {
            throw SVIDFailure(
                .invalid, "its extended key usage must hold serverAuth and clientAuth")
        }
        return id
    }

    /// Those that can be read.
    static func certificates(_ ders: [[UInt8]]) -> [X509.Certificate] {
        ders.compactMap { try? X509.Certificate(der: $0) }
    }

    /// When the first certificate ends that leads from one to a root, seconds since 1970.
    ///
    /// Roots do not count: whoever believes one has it. Nor does what of a chain leads nowhere,
    /// such as a root's own certificate by an older one; and of two that lead on, the one that
    /// lasts longer does.
    /// - Parameters:
    ///   - chain: what is sent, DER.
    ///   - roots: those that are believed.
    static func end(
        of certificate: X509.Certificate, in chain: [[UInt8]], below roots: [X509.Certificate]
    ) -> Int64 {
        func isSelfSigned(_ one: X509.Certificate) -> Bool { one.issuer == one.subject }
        var others = certificates(chain).filter { $0 != certificate && !isSelfSigned($0) }
        // One that is no root of its own and is sent ends for everybody.
        let anchors = roots.filter { isSelfSigned($0) || !others.contains($0) }
        var (last, end) = (certificate, certificate.notAfterSeconds)
        while !anchors.contains(where: { $0.hasSigned(last) }),
            let next = others.filter({ $0.hasSigned(last) })
                .max(by: { $0.notAfterSeconds < $1.notAfterSeconds })
        {
            end = min(end, next.notAfterSeconds)
            others.removeAll { $0 == next }
            last = next
        }
        return end
    }

    /// Makes a certificate for a key that was made for it.
    ///
    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - life: seconds; cut where the authority ends.
    static func issue(
        _ id: SPIFFEID, by authority: Authority, at now: Int64, life: Int64
    ) throws -> X509SVID {
        let key = try SigningKey.generate()
        let publicKey = try X509.Certificate.PublicKey(derEncoded: try key.publicKey())
        let notBefore = max(now - backdateSeconds, authority.certificate.notBeforeSeconds)
        let notAfter = min(now + life, authority.end)
        let extensions = try X509.Certificate.Extensions {
            Critical(BasicConstraints.notCertificateAuthority)
            Critical(KeyUsage(digitalSignature: true))
            try ExtendedKeyUsage([.serverAuth, .clientAuth])
            // The subject is empty, so the name is critical (RFC 5280, 4.2.1.6).
            Critical(SubjectAlternativeNames([.uniformResourceIdentifier(id.description)]))
            AuthorityKeyIdentifier(keyIdentifier: authority.keyIdentifier)
            SubjectKeyIdentifier(hash: publicKey)
        }
        let certificate = try X509.Certificate(
            version: .v3, serialNumber: X509.Certificate.SerialNumber(), publicKey: publicKey,
            notValidBefore: Date(timeIntervalSince1970: Double(notBefore)),
            notValidAfter: Date(timeIntervalSince1970: Double(notAfter)),
            issuer: authority.certificate.subject, subject: DistinguishedName(),
            signatureAlgorithm: authority.signer.defaultSignatureAlgorithm,
            extensions: extensions,
            issuerPrivateKey: X509.Certificate.PrivateKey(authority.signer))
        return X509SVID(
            id: id, chain: [try certificate.der()] + authority.chain, key: key,
            notBefore: notBefore, notAfter: notAfter)
    }
}
