internal import L7Engine
internal import MeshModel

/// The authority of stand-alone nodes: a directory that they share.
struct BuiltInAuthority: SVIDSource {
    let files: AuthorityFiles
    /// Seconds that what it issues lives.
    let life: Int64
    private var bundleFiles: BundleFiles
    private var authority: Authority?
    private var known: [TrustBundle] = []
    private var marks: [String: IdentityFile.Mark] = [:]
    /// Why the authority of the files cannot be used: the last good one goes on.
    private var stale: SVIDFailure?

    init(directory: String, trustDomain: TrustDomain, life: Int64) {
        files = AuthorityFiles(directory: directory, trustDomain: trustDomain)
        bundleFiles = BundleFiles(directory: directory, trustDomain: trustDomain)
        self.life = life
    }

    var title: String { "authority in \(files.directory)" }
    var trustDomain: TrustDomain { files.trustDomain }
    var issues: Bool { true }
    var signers: [[UInt8]] { authority?.signers ?? [] }
    var refused: [SVIDFailure] { (stale.map { [$0] } ?? []) + bundleFiles.refused }
    var warnings: [String] {
        files.isKeyExposed ? ["\(files.keyPath) can be read by others: chmod 600"] : []
    }

    /// Reads the directory again if any of its files changed. An authority that cannot be used is
    /// tried again at the next turn; the last good one goes on signing, and meanwhile what is
    /// revoked is, as what is federated.
    mutating func bundles(at now: Int64) throws(SVIDFailure) -> [TrustBundle] {
        // Later a file that is missing is being replaced.
        if authority == nil { _ = try files.make(at: now) }
        var present: [String: IdentityFile.Mark] = [:]
        for path in bundleFiles.paths { present[path] = IdentityFile.mark(path) }
        guard present != marks || stale != nil else { return known }
        let isRead = try readAuthority()
        guard present != marks || isRead, let authority else { return known }
        known = bundleFiles.read(roots: authority.roots, others: authority.chain)
        marks = present
        return known
    }

    /// `false`: it is the last good one still.
    private mutating func readAuthority() throws(SVIDFailure) -> Bool {
        do throws(SVIDFailure) {
            authority = try files.read()
            stale = nil
            return true
        } catch {
            if authority == nil { throw error }
            stale = error
            return false
        }
    }

    mutating func certificate(
        for id: SPIFFEID, after current: X509SVID?, at now: Int64
    ) throws(SVIDFailure) -> X509SVID? {
        guard let authority else {
            throw SVIDFailure(.missing, "there is no authority yet")
        }
        guard authority.end > now + Rotation.marginSeconds else {
            throw SVIDFailure(.expired, "\(files.certificatePath) has expired: replace it")
        }
        do {
            return try SVIDCertificate.issue(id, by: authority, at: now, life: life)
        } catch {
            throw SVIDFailure(.signing, "a certificate for \(id) cannot be made: \(error)")
        }
    }
}
