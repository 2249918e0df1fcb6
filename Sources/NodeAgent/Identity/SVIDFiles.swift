internal import L7Engine
internal import MeshModel
internal import X509

/// Certificates that another program keeps in a directory: `tls.crt` and `tls.key`, in it or in
/// directories below it, one for each identity; `ca.crt` is the bundle. Whom a pair is for stands
/// in the certificate.
///
/// - Source: the names that cert-manager's csi-driver-spiffe and Secrets of type kubernetes.io/tls
///   use.
struct SVIDFiles: SVIDSource {
    let directory: String
    let trustDomain: TrustDomain
    private var bundleFiles: BundleFiles
    private var known: [TrustBundle] = []
    /// The node's own, as `ca.crt` had them when it could be read last.
    private var roots: [[UInt8]] = []
    private var anchors: [X509.Certificate] = []
    /// Why it cannot be now: those go on.
    private var stale: SVIDFailure?
    private var bundleMarks: [String: IdentityFile.Mark] = [:]
    private var pairs: [String: Pair] = [:]
    private(set) var warnings: [String] = []

    private struct Pair {
        var marks: [IdentityFile.Mark]
        var svid: X509SVID?
        var problem: String?
    }

    init(directory: String, trustDomain: TrustDomain) {
        self.directory = directory
        self.trustDomain = trustDomain
        bundleFiles = BundleFiles(directory: directory, trustDomain: trustDomain)
    }

    var title: String { "files in \(directory)" }
    var issues: Bool { false }
    var refused: [SVIDFailure] { (stale.map { [$0] } ?? []) + bundleFiles.refused }

    /// Reads the directory again if any of its files changed. While `ca.crt` cannot be used it is
    /// tried again at each turn, and meanwhile what is revoked is, as what is federated.
    mutating func bundles(at now: Int64) throws(SVIDFailure) -> [TrustBundle] {
        readPairs()
        var present: [String: IdentityFile.Mark] = [:]
        for path in bundleFiles.paths { present[path] = IdentityFile.mark(path) }
        guard present != bundleMarks || stale != nil else { return known }
        let isRead = try readRoots()
        guard present != bundleMarks || isRead else { return known }
        known = bundleFiles.read(roots: roots)
        bundleMarks = present
        return known
    }

    /// `false`: they are the last good ones still.
    private mutating func readRoots() throws(SVIDFailure) -> Bool {
        let before = roots
        do throws(SVIDFailure) {
            roots = try IdentityFile.pem(directory + "/ca.crt", "CERTIFICATE")
            stale = nil
        } catch {
            if roots.isEmpty { throw error }
            stale = error
            return false
        }
        // What is to be counted of a chain depends on where it leads.
        guard roots != before else { return true }
        anchors = SVIDCertificate.certificates(roots)
        for (folder, pair) in pairs { pairs[folder]?.svid = pair.svid?.ending(below: anchors) }
        return true
    }

    mutating func certificate(
        for id: SPIFFEID, after current: X509SVID?, at now: Int64
    ) throws(SVIDFailure) -> X509SVID? {
        let found = pairs.values.compactMap(\.svid).filter { $0.id == id }
            .max { ($0.notAfter, $0.notBefore) < ($1.notAfter, $1.notBefore) }
        guard let found else {
            throw SVIDFailure(.missing, "\(directory) holds no certificate for \(id)")
        }
        return found.isSame(as: current) ? nil : found
    }

    private mutating func readPairs() {
        let below = IdentityFile.names(in: directory).map { directory + "/" + $0 }
        var present: [String: Pair] = [:]
        for folder in [directory] + below {
            let paths = [folder + "/tls.crt", folder + "/tls.key"]
            let marks = paths.map(IdentityFile.mark)
            guard marks.allSatisfy({ $0 != IdentityFile.Mark() }) else { continue }
            if let old = pairs[folder], old.marks == marks, old.problem == nil {
                present[folder] = old
                continue
            }
            do throws(SVIDFailure) {
                present[folder] = Pair(marks: marks, svid: try read(paths))
            } catch {
                // While a pair is being replaced its halves differ: the old one goes on.
                present[folder] = Pair(
                    marks: marks, svid: pairs[folder]?.svid, problem: error.message)
            }
        }
        pairs = present
        warnings = pairs.sorted { $0.key < $1.key }.compactMap(\.value.problem)
    }

    private func read(_ paths: [String]) throws(SVIDFailure) -> X509SVID {
        let chain = try IdentityFile.pem(paths[0], "CERTIFICATE")
        let leaf = try X509.Certificate(der: chain[0])
        let id: SPIFFEID
        do throws(SVIDFailure) {
            id = try SVIDCertificate.identity(of: leaf)
        } catch {
            throw SVIDFailure(error.reason, "\(paths[0]): \(error.message)")
        }
        let key = try IdentityFile.withDescriptor(paths[1]) { try SigningKey.read(from: $0) }
        guard key.matches(certificate: chain[0]) else {
            throw SVIDFailure(.mismatch, "\(paths[1]) does not belong to \(paths[0])")
        }
        return X509SVID(
            id: id, chain: chain, key: key, notBefore: leaf.notBeforeSeconds,
            notAfter: leaf.notAfterSeconds
        ).ending(below: anchors)
    }
}
