// Bundles in a directory: additional roots, revocation lists, and trust domains that are federated.

internal import L7Engine
internal import MeshModel

/// What stands beside an authority or beside SVIDs.
///
/// `ca.crl` and `federated/<trust domain>.pem` with `federated/<trust domain>.crl`: all PEM.
struct BundleFiles {
    let directory: String
    let trustDomain: TrustDomain

    private var folder: String { directory + "/federated" }

    /// Every file that counts; a change of any is a change of the bundles.
    var paths: [String] {
        [directory + "/ca.crt", directory + "/ca.key", directory + "/ca.crl"]
            + IdentityFile.names(in: folder).map { folder + "/" + $0 }
    }

    /// - Parameter roots: of the node's own trust domain, DER.
    func read(roots: [[UInt8]]) throws(SVIDFailure) -> [TrustBundle] {
        var bundles = [
            TrustBundle(
                trustDomain: trustDomain, roots: roots,
                revocations: try lists(directory + "/ca.crl"))
        ]
        for name in IdentityFile.names(in: folder) where name.hasSuffix(".pem") {
            let stem = String(name.dropLast(4))
            let path = folder + "/" + name
            let domain: TrustDomain
            do {
                domain = try TrustDomain(stem)
            } catch {
                throw SVIDFailure(.invalid, "\(path) must be named after a trust domain: \(error)")
            }
            guard domain != trustDomain else {
                throw SVIDFailure(
                    .invalid, "\(path) is of this node's own trust domain: use ca.crt")
            }
            bundles.append(
                TrustBundle(
                    trustDomain: domain, roots: try IdentityFile.pem(path, "CERTIFICATE"),
                    revocations: try lists(folder + "/" + stem + ".crl")))
        }
        return bundles
    }

    private func lists(_ path: String) throws(SVIDFailure) -> [[UInt8]] {
        IdentityFile.exists(path) ? try IdentityFile.pem(path, "X509 CRL") : []
    }
}
