// Credentials -> contexts for mutual TLS between workloads. Runs on the agent's thread when a
// certificate or a bundle changes; what did not change keeps its contexts.

internal import COpenSSL
internal import MeshModel

/// What one identity of this node shows, towards servers and towards clients.
///
/// - Threads: any; immutable.
final class MeshContexts: Sendable {
    /// Never the same for another certificate or bundle, so that connections do not mix.
    let number: UInt32
    let id: SPIFFEID
    /// The same in bytes.
    let name: [UInt8]
    /// Seconds since 1970: afterwards nothing new begins with it.
    let notAfter: Int64
    let client: TLSContext
    let server: TLSContext

    init(number: UInt32, svid: X509SVID, client: TLSContext, server: TLSContext) {
        self.number = number
        id = svid.id
        name = Array(svid.id.description.utf8)
        notAfter = svid.notAfter
        self.client = client
        self.server = server
    }
}

/// What a worker gets of the node's identities.
final class MeshTable: Sendable {
    /// By identity.
    let contexts: [SPIFFEID: MeshContexts]
    /// For the names of peers in this mesh; `nil` until the node has had a certificate: the last
    /// pod may leave the mesh, and what it has open goes on.
    let trustDomain: TrustDomain?
    /// What peers are believed by; another one with every change of a bundle.
    let trust: MeshTrust

    init(contexts: [SPIFFEID: MeshContexts], trustDomain: TrustDomain?, trust: MeshTrust) {
        self.contexts = contexts
        self.trust = trust
        self.trustDomain = trustDomain
    }
}

/// Makes contexts, and keeps those of certificates that stay.
///
/// - Threads: one at a time (`Engine.adopt` sees to it).
struct MeshStore {
    private var known: [SPIFFEID: (svid: X509SVID, contexts: MeshContexts)] = [:]
    private var bundles: [TrustDomain: TrustBundle] = [:]
    private var trust = MeshTrust([:])
    private var made: UInt32 = 0
    private(set) var table: MeshTable?

    /// - Complexity: linear in identities; contexts are made for what is new only.
    mutating func adopt(_ credentials: Credentials) {
        if credentials.bundles != bundles {
            bundles = credentials.bundles
            trust = MeshTrust(bundles)
            known = [:]
        }
        var next: [SPIFFEID: (svid: X509SVID, contexts: MeshContexts)] = [:]
        for (id, svid) in credentials.svids {
            guard !svid.chain.isEmpty else { continue }
            // An intermediate may be another above the same leaf.
            if let old = known[id], old.svid.isSame(as: svid) {
                next[id] = old
            } else if let contexts = make(svid) {
                next[id] = (svid, contexts)
            }
        }
        known = next
        // Without any certificate there is a table, too: nothing goes in plain text meanwhile.
        table = MeshTable(
            contexts: known.mapValues(\.contexts),
            trustDomain: credentials.svids.keys.first?.trustDomain ?? table?.trustDomain,
            trust: trust)
    }

    private mutating func make(_ svid: X509SVID) -> MeshContexts? {
        guard let client = trust.context(for: svid, isServer: false),
            let server = trust.context(for: svid, isServer: true)
        else { return nil }
        made += 1
        return MeshContexts(number: made, svid: svid, client: client, server: server)
    }
}

/// Roots and revocation lists as OpenSSL holds them.
///
/// - Owns: one reference; contexts hold others.
@safe final class MeshTrust: @unchecked Sendable {
    private let pointer: OpaquePointer?

    init(_ bundles: [TrustDomain: TrustBundle]) {
        unsafe pointer = tls_trust_new()
        for bundle in bundles.values {
            let (roots, lists) = (bundle.roots.flatMap(\.self), bundle.revocations.flatMap(\.self))
            // Safe: the call copies the name and parses two arrays, each with its size. What cannot
            // be read was refused by the source; a domain without roots trusts nobody.
            let result = unsafe tls_trust_add(
                pointer, bundle.trustDomain.name, roots, roots.count, lists, lists.count)
            if result != 0 { _ = TLSError() }
        }
    }

    deinit { unsafe tls_trust_release(pointer) }

    /// `.none`: it would still believe the peer of a session, whatever the time; else why not.
    ///
    /// - Complexity: a comparison where the session was judged by it, else a signature.
    func judge(_ session: Session) -> TLSFailure {
        guard let session = unsafe session.pointer else { return .other }
        // Safe: the call reads both, and the session is of the worker that asks.
        return TLSFailure(unsafe tls_session_recheck(session, pointer))
    }

    func context(for svid: X509SVID, isServer: Bool) -> TLSContext? {
        let chain = svid.chain.flatMap(\.self)
        // Safe: the context takes references of its own to key and trust, and parses the array.
        guard
            let made = unsafe tls_mesh_context(
                isServer ? 1 : 0, svid.key.pointer, chain, chain.count, pointer)
        else {
            _ = TLSError()
            return nil
        }
        return unsafe TLSContext(adopting: made)
    }
}
