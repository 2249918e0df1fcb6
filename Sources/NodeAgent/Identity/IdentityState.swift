internal import CLinux
internal import L7Engine
internal import MeshModel

/// Identity as the agent sees it: none, or a source with what came of it.
///
/// - Threads: the agent's.
struct IdentityState {
    /// So long an agent that starts waits for what its source has: who takes another's place
    /// without a certificate fails what that one would have carried, and a source that never
    /// answers must not keep the node from all else.
    static let firstAnswerSecondsMax = 5
    /// A child behind another waits less: that one may have died, and nobody serves meanwhile.
    static let laterAnswerSecondsMax = 1
    /// Which of both it is here.
    private(set) var answerSecondsMax = Self.firstAnswerSecondsMax

    private(set) var identities: Identities?
    /// Whether the secure heap is what it should be; `nil` without identity.
    let heap: SecureHeap.State?
    /// A pod of this node that insists on mutual TLS, which nobody can speak here.
    private var closed: ObjectName?

    init(_ options: IdentityOptions) {
        let domain = options.trustDomain.domain
        if let ca = options.ca {
            identities = Identities(
                BuiltInAuthority(
                    directory: ca, trustDomain: domain, life: options.certTTL.seconds))
        } else if let svids = options.svids {
            identities = Identities(SVIDFiles(directory: svids, trustDomain: domain))
        } else if let endpoint = options.workloadAPI {
            identities = Identities(WorkloadAPI(endpoint: endpoint, trustDomain: domain))
        }
        heap = identities == nil ? nil : SecureHeap.open()
    }

    /// Readable when there is reason for a turn; negative: there is nothing to wait for.
    var bell: Int32 { identities?.bell ?? -1 }

    /// Waits for the source's first answer, be it that there is nothing.
    ///
    /// - Returns: a line for the log, if it waited in vain.
    mutating func awaitAnswer(isFirst: Bool) -> String? {
        let seconds = isFirst ? Self.firstAnswerSecondsMax : Self.laterAnswerSecondsMax
        answerSecondsMax = seconds
        guard let identities else { return nil }
        let end = ContinuousClock.now + .seconds(seconds)
        while !identities.hasAnswered() {
            guard .now < end else {
                return "identity: \(identities.title) has not answered within \(seconds) s: the "
                    + "agent serves, without certificates until it does"
            }
            // A connection that failed is made again meanwhile.
            if engine_await(bell, 100) != 0 { hear() }
        }
        return nil
    }

    /// Certificates wait to be asked for, and nothing else is waited for.
    var hasMore: Bool { identities?.hasMore ?? false }

    /// Takes the ring of `bell`.
    func hear() { engine_hear(bell) }

    /// One turn of the agent's loop.
    ///
    /// - Returns: lines for the log.
    mutating func turn(_ moment: Moment = .now) -> [String] { identities?.turn(moment) ?? [] }

    /// Certificates are for the accounts of this node's pods and Gateways, and for no other.
    mutating func follow(_ snapshot: Snapshot) {
        let pods = snapshot.mesh.workloads.filter { snapshot.isLocal($0) && $0.isMeshed }
        guard identities != nil else {
            closed = pods.first { snapshot.peerModes.modes(of: $0).insists }?.name
            return
        }
        var accounts = Set(pods.map { ObjectName($0.name.namespace, $0.serviceAccount) })
        accounts.formUnion(snapshot.ownListeners.map(\.account))
        identities?.follow(accounts)
    }

    /// `none`, or where certificates come from and how many there are.
    var summary: String {
        guard let identities else { return "none" }
        let held = identities.entries.values.count { $0.svid != nil }
        return "\(identities.title), trust domain \(identities.trustDomain), \(held) of "
            + "\(identities.entries.count) certificates"
    }

    /// Why the node is not ready: without a bundle nobody can be believed.
    var reasons: [String] {
        guard let identities, identities.bundles.isEmpty, let failure = identities.bundleFailure
        else { return [] }
        return ["identity: \(failure.message)"]
    }

    /// What is odd, for the log.
    var warnings: [String] {
        guard let identities else {
            return closed.map {
                [
                    "\($0) insists on mutual TLS, and this node has no identity: only pods of this "
                        + "node can reach it; give the agent --ca, --svids or --workload-api"
                ]
            } ?? []
        }
        return identities.warnings
            + (heap == .locked
                ? []
                : [
                    "keys are in memory that may be swapped: raise the limit of "
                        + "locked memory (RLIMIT_MEMLOCK) by \(SecureHeap.bytes >> 10) KiB"
                ])
    }
}
