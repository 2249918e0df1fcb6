// An authority that signs: its certificate, its key, what leads from it to the roots.

internal import Foundation
internal import L7Engine
internal import MeshModel
internal import SwiftASN1
internal import X509

/// The built-in authority as `ca.crt` and `ca.key` make it.
struct Authority {
    /// The life of one that Malla makes.
    static let lifeSeconds: Int64 = 10 * 365 * 86_400

    let certificate: X509.Certificate
    /// When the first certificate ends that leads from the key to a root, seconds since 1970.
    let end: Int64
    /// What is sent after a workload's certificate: `ca.crt` without its roots. DER.
    let chain: [[UInt8]]
    /// The self-signed certificates of `ca.crt`; without any, its last one. DER.
    let roots: [[UInt8]]
    /// What of it leads from the key to a root: the signing certificate first. DER.
    let signers: [[UInt8]]
    let signer: CertificateSigner
    let keyIdentifier: ArraySlice<UInt8>

    /// - Parameter certificates: DER, the one that signs first.
    init(
        certificates: [[UInt8]], key: SigningKey, trustDomain: TrustDomain
    ) throws(SVIDFailure) {
        guard let first = certificates.first else {
            throw SVIDFailure(.invalid, "holds no PEM certificate")
        }
        certificate = try X509.Certificate(der: first)
        try Self.check(certificate, trustDomain)
        guard key.matches(certificate: first) else {
            throw SVIDFailure(
                .mismatch, "ca.key does not belong to the first certificate of ca.crt")
        }
        do {
            signer = try CertificateSigner(key)
        } catch {
            throw SVIDFailure(.invalid, "\(error)")
        }
        var all: [(der: [UInt8], certificate: X509.Certificate)] = []
        for der in certificates { all.append((der, try X509.Certificate(der: der))) }
        var roots: [[UInt8]] = []
        var chain: [[UInt8]] = []
        for (der, each) in all {
            let isRoot = each.issuer == each.subject
            if isRoot { roots.append(der) } else { chain.append(der) }
        }
        if roots.isEmpty, let last = chain.last { roots = [last] }
        self.roots = roots
        // At most all: who signs may itself be signed in a circle.
        var signers: [[UInt8]] = []
        var next = all.first
        while let one = next, !roots.contains(one.der), signers.count < all.count {
            signers.append(one.der)
            next = all.first { $0.der != one.der && $0.certificate.hasSigned(one.certificate) }
        }
        self.signers = signers
        self.chain = chain
        end = SVIDCertificate.end(
            of: certificate, in: chain, below: SVIDCertificate.certificates(roots))
        if let own = try? certificate.extensions.subjectKeyIdentifier {
            keyIdentifier = own.keyIdentifier
        } else {
            keyIdentifier = SubjectKeyIdentifier(hash: certificate.publicKey).keyIdentifier
        }
    }

    private static func check(
        _ certificate: X509.Certificate, _ trustDomain: TrustDomain
    ) throws(SVIDFailure) {
        guard certificate.isAuthority else {
            throw SVIDFailure(.invalid, "its first certificate is not an authority's (CA:TRUE)")
        }
        if let usage = try? certificate.extensions.keyUsage, !usage.keyCertSign {
            throw SVIDFailure(.invalid, "its key usage lacks keyCertSign")
        }
        for uri in certificate.uris where uri.hasPrefix("spiffe://") {
            let named = try? SPIFFEID(uri).trustDomain
            if named == trustDomain { continue }
            throw SVIDFailure(
                .invalid,
                "is of trust domain \(named?.name ?? uri), this node's is \(trustDomain): give "
                    + "--trust-domain, or another authority")
        }
    }

    /// A root of our own, self-signed. PEM.
    static func makeRoot(
        key: SigningKey, trustDomain: TrustDomain, at now: Int64
    ) throws -> String {
        let signer = try CertificateSigner(key)
        let identifier = SubjectKeyIdentifier(hash: signer.publicKey)
        // Another root of the same domain must not have the same name.
        let mark = identifier.keyIdentifier.prefix(4).map { byte in
            String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
        }.joined()
        let name = try DistinguishedName {
            OrganizationName("Malla")
            CommonName("Malla root \(mark)")
        }
        let certificate = try X509.Certificate(
            version: .v3, serialNumber: X509.Certificate.SerialNumber(),
            publicKey: signer.publicKey,
            notValidBefore: Date(
                timeIntervalSince1970: Double(now - SVIDCertificate.backdateSeconds)),
            notValidAfter: Date(timeIntervalSince1970: Double(now + lifeSeconds)),
            issuer: name, subject: name, signatureAlgorithm: signer.defaultSignatureAlgorithm,
            extensions: try X509.Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                SubjectAlternativeNames([.uniformResourceIdentifier(trustDomain.id.description)])
                identifier
            }, issuerPrivateKey: X509.Certificate.PrivateKey(signer))
        return try certificate.serializeAsPEM().pemString + "\n"
    }
}
