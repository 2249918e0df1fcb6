// Identity: where certificates of the node's accounts come from, and when they are replaced.
//
// Receives: the accounts of this node's pods, the time. Hands on: `Credentials`, one value for the
// engine with every change. `SVIDSource` is the seam: the built-in authority (BuiltInAuthority),
// files (SVIDFiles) or a SPIFFE Workload API (WorkloadAPI). `Identities` decides when to ask;
// nothing here serves traffic.

internal import L7Engine
internal import MeshModel

/// Why there is no certificate or no bundle: a label, and a sentence for people.
struct SVIDFailure: Error, Hashable {
    enum Reason: String, CaseIterable {
        /// A file cannot be read or made.
        case unreadable
        /// What a file holds is not what it should be.
        case invalid
        /// Certificate and key do not belong together, for now or for good.
        case mismatch
        case expired
        case revoked
        /// It does not lead to a root of the bundle.
        case untrusted
        /// An account whose name no SPIFFE ID can hold.
        case name
        case signing
        /// The source has none for this identity.
        case missing
        /// The source refuses to be asked at all: it is no such source, or asked wrongly.
        case refused
    }

    var reason: Reason
    var message: String

    init(_ reason: Reason, _ message: String) {
        self.reason = reason
        self.message = message
    }
}

/// Where SVIDs and bundles come from.
protocol SVIDSource {
    /// For people: `authority in /etc/malla/ca`.
    var title: String { get }
    var trustDomain: TrustDomain { get }
    /// Whether it makes certificates when asked. If not they appear by themselves, are asked for at
    /// every turn, and are given up when the source says that there is none (`missing`).
    var issues: Bool { get }
    /// What is odd but stops nothing, one line each.
    var warnings: [String] { get }

    /// What it signs with itself: certificates on the way to a root that are none. DER, the signing
    /// one first.
    var signers: [[UInt8]] { get }

    /// Why parts of it are not in force, while all else is.
    var refused: [SVIDFailure] { get }

    /// Readable when it has something new; -1: it never says so, and is looked at now and then.
    var bell: Int32 { get }

    /// Whether it can say by now what it has, if anything. Asked again and again at the start.
    func hasAnswered() -> Bool

    /// What is trusted now, looked at anew.
    ///
    /// - Parameter now: seconds since 1970.
    mutating func bundles(at now: Int64) throws(SVIDFailure) -> [TrustBundle]

    /// A certificate for `id` other than `current`; `nil`: there is no other yet.
    mutating func certificate(
        for id: SPIFFEID, after current: X509SVID?, at now: Int64
    ) throws(SVIDFailure) -> X509SVID?
}

extension SVIDSource {
    var refused: [SVIDFailure] { [] }
    var signers: [[UInt8]] { [] }
    var bell: Int32 { -1 }
    func hasAnswered() -> Bool { true }
}
