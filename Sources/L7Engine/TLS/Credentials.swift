// What the identity side hands to the engine: one immutable value with everything that mutual TLS
// needs, replaced whole (a pointer swap in a worker). Its version goes up with every change.

internal import COpenSSL
public import MeshModel

/// A certificate of a workload with its key.
public struct X509SVID: Sendable {
    public let id: SPIFFEID
    /// DER, leaf first, without the root.
    public let chain: [[UInt8]]
    public let key: SigningKey
    /// Seconds since 1970, of the leaf.
    public let notBefore: Int64
    /// The same, of the first certificate to end of those that lead to a root.
    public let notAfter: Int64

    public init(
        id: SPIFFEID, chain: [[UInt8]], key: SigningKey, notBefore: Int64, notAfter: Int64
    ) {
        self.id = id
        self.chain = chain
        self.key = key
        self.notBefore = notBefore
        self.notAfter = notAfter
    }

    /// Whether it shows what another does, for as long.
    public func isSame(as other: X509SVID?) -> Bool {
        chain == other?.chain && notAfter == other?.notAfter
    }
}

/// Who may sign for a trust domain, and what they have revoked.
public struct TrustBundle: Sendable, Hashable {
    public let trustDomain: TrustDomain
    /// DER. Not all need be self-signed: verify with X509_V_FLAG_PARTIAL_CHAIN.
    public let roots: [[UInt8]]
    /// Certificate revocation lists in DER.
    public let revocations: [[UInt8]]

    public init(trustDomain: TrustDomain, roots: [[UInt8]], revocations: [[UInt8]] = []) {
        self.trustDomain = trustDomain
        self.roots = roots
        self.revocations = revocations
    }

    public enum Verdict: Sendable, Hashable {
        case good, unreadable, untrusted, expired, notYetValid, revoked
    }

    /// Whether a chain (DER, leaf first) leads to one of the roots at `now`, seconds since 1970.
    ///
    /// Says nothing of the SPIFFE ID: ask the bundle of the ID's own trust domain, and no other.
    /// - Complexity: reads all certificates and lists anew; not for the hot path.
    public func verify(_ chain: [[UInt8]], at now: Int64) -> Verdict {
        let (leafs, anchors, lists) = (chain.flatMap(\.self), roots.flatMap(\.self), joinedLists)
        // Safe: the call reads three arrays, each with its size.
        let result = unsafe malla_chain_check(
            leafs, leafs.count, anchors, anchors.count, lists, lists.count, now)
        switch result {
        case MALLA_CHAIN_GOOD: return .good
        case MALLA_CHAIN_UNTRUSTED: return .untrusted
        case MALLA_CHAIN_EXPIRED: return .expired
        case MALLA_CHAIN_NOT_YET: return .notYetValid
        case MALLA_CHAIN_REVOKED: return .revoked
        default: return .unreadable
        }
    }

    public enum ListVerdict: Sendable, Hashable {
        case good, unreadable
        /// None of the authorities has signed it.
        case foreign
    }

    /// Whether a revocation list in DER is one of these authorities', whatever its dates.
    ///
    /// - Complexity: a signature for each authority of its name.
    public static func judge(list: [UInt8], by authorities: [[UInt8]]) -> ListVerdict {
        let signers = authorities.flatMap(\.self)
        // Safe: the call reads two arrays, each with its size.
        switch unsafe malla_list_check(list, list.count, signers, signers.count) {
        case MALLA_LIST_GOOD: return .good
        case MALLA_LIST_FOREIGN: return .foreign
        default: return .unreadable
        }
    }

    private var joinedLists: [UInt8] { revocations.flatMap(\.self) }
}

/// All that the node may show and believe, at one moment.
///
/// - Threads: any; immutable.
public final class Credentials: Sendable {
    /// Goes up by one with every change.
    public let version: UInt64
    /// By identity; none of them has expired when this was made. Whoever uses one later looks at
    /// `notAfter`.
    public let svids: [SPIFFEID: X509SVID]
    /// By trust domain, the node's own and federated ones.
    public let bundles: [TrustDomain: TrustBundle]

    public init(
        version: UInt64 = 0, svids: [SPIFFEID: X509SVID] = [:],
        bundles: [TrustDomain: TrustBundle] = [:]
    ) {
        self.version = version
        self.svids = svids
        self.bundles = bundles
    }
}

extension Certificate {
    /// As OpenSSL reads it: from when its first certificate is valid to when the first ends of all
    /// but roots that are sent, too; seconds since 1970; empty, at 0, where there is none that can
    /// be read.
    public var life: Range<Int64> {
        // Safe: the calls read the array.
        let begin = unsafe malla_credential_begin(chain, chain.count)
        let end = unsafe malla_credential_expiry(chain, chain.count)
        return min(begin, end)..<end
    }
}
