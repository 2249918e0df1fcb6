// Bundles in a directory: additional roots, revocation lists, and trust domains that are federated.

internal import L7Engine
internal import MeshModel

/// What stands beside an authority or beside SVIDs.
///
/// `ca.crl` and `federated/<trust domain>.pem` with `federated/<trust domain>.crl`: all PEM.
///
/// A list that cannot be used, or that none of the authorities beside it has signed, takes nothing
/// away: what was revoked before stays revoked, and all else goes on. So it is with what stands for
/// another trust domain: its last good roots stay, and this node's own are not its hostages.
struct BundleFiles {
    let directory: String
    let trustDomain: TrustDomain
    /// By path: the lists that are in force.
    private var good: [String: [[UInt8]]] = [:]
    /// By path: the roots of other trust domains that are in force.
    private var goodRoots: [String: [[UInt8]]] = [:]
    /// Why files of the last reading are not in force.
    private(set) var refused: [SVIDFailure] = []

    init(directory: String, trustDomain: TrustDomain) {
        self.directory = directory
        self.trustDomain = trustDomain
    }

    private var folder: String { directory + "/federated" }

    /// Every file that counts; a change of any is a change of the bundles.
    var paths: [String] {
        [directory + "/ca.crt", directory + "/ca.key", directory + "/ca.crl"]
            + IdentityFile.names(in: folder).map { folder + "/" + $0 }
    }

    /// - Parameters:
    ///   - roots: of the node's own trust domain, DER.
    ///   - others: of its authorities below them.
    mutating func read(roots: [[UInt8]], others: [[UInt8]] = []) -> [TrustBundle] {
        refused = []
        var bundles = [
            TrustBundle(
                trustDomain: trustDomain, roots: roots,
                revocations: lists(directory + "/ca.crl", of: roots + others))
        ]
        let before = goodRoots
        goodRoots = [:]
        for name in IdentityFile.names(in: folder) where name.hasSuffix(".pem") {
            do throws(SVIDFailure) {
                bundles.append(try federated(folder + "/" + name.dropLast(4), before))
            } catch {
                refused.append(error)
            }
        }
        return bundles
    }

    /// - Parameters:
    ///   - stem: the path without its ending.
    ///   - before: `goodRoots` of the reading before.
    private mutating func federated(
        _ stem: String, _ before: [String: [[UInt8]]]
    ) throws(SVIDFailure) -> TrustBundle {
        let path = stem + ".pem"
        let domain: TrustDomain
        do {
            domain = try TrustDomain(String(stem.dropFirst(folder.count + 1)))
        } catch {
            throw SVIDFailure(.invalid, "\(path) must be named after a trust domain: \(error)")
        }
        guard domain != trustDomain else {
            throw SVIDFailure(.invalid, "\(path) is of this node's own trust domain: use ca.crt")
        }
        let roots: [[UInt8]]
        do throws(SVIDFailure) {
            roots = try IdentityFile.pem(path, "CERTIFICATE")
        } catch {
            guard let last = before[path] else { throw error }
            refused.append(error)
            roots = last
        }
        goodRoots[path] = roots
        return TrustBundle(
            trustDomain: domain, roots: roots, revocations: lists(stem + ".crl", of: roots))
    }

    private mutating func lists(_ path: String, of authorities: [[UInt8]]) -> [[UInt8]] {
        let before = good[path] ?? []
        good[path] = []
        guard IdentityFile.exists(path) else { return [] }
        func isGood(_ list: [UInt8]) -> Bool {
            TrustBundle.judge(list: list, by: authorities) == .good
        }
        var found: [[UInt8]] = []
        var failure: SVIDFailure?
        do throws(SVIDFailure) {
            let read = try IdentityFile.pem(path, "X509 CRL")
            found = read.filter(isGood)
            if found.count < read.count {
                failure = SVIDFailure(
                    .untrusted,
                    "\(path): \(read.count - found.count) of \(read.count) revocation list(s) are "
                        + "signed by no authority that is believed: what they name is not revoked")
            }
        } catch {
            failure = error
        }
        if let failure {
            refused.append(failure)
            found += before.filter { !found.contains($0) && isGood($0) }
        }
        good[path] = found
        return found
    }
}
