// Who was refused a tunnel, or brought a forged field, out of the workers to the agent, which tells
// its log: whether requests are logged or not. A flood costs a count each: a few peers of a reason
// are kept, the rest is a number.

public import MeshModel
internal import Synchronization

/// A tunnel that this node refused, or a CONNECT on one; or one that it dialled and gave up. Or a
/// request whose word of who it is from was taken out (`forgedClientCert`), by a tunnel or not.
public struct RefusedTunnel: Sendable, Hashable {
    /// The reason of a request that went on without its `x-forwarded-client-cert`.
    public static let forgedClientCert = "forged_client_cert"

    /// This node dialled.
    public var isOurs: Bool
    /// Who dialled this node; whom it dialled.
    public var peer: SocketAddress
    /// The pod, of a request the address, that was dialled; of ours who dials, `::` where that is a
    /// Gateway.
    public var pod: IPAddress
    /// What a CONNECT named, or a request's client dialled; `nil`: none came, or it named no
    /// address.
    public var asked: SocketAddress?
    /// As in the access log.
    public var reason: String
    /// Whom the peer's certificate names, believed or not; empty: it showed none that names one.
    public var claim: String

    public init(
        isOurs: Bool = false, peer: SocketAddress, pod: IPAddress, asked: SocketAddress? = nil,
        reason: String, claim: String = ""
    ) {
        self.isOurs = isOurs
        self.peer = peer
        self.pod = pod
        self.asked = asked
        self.reason = reason
        self.claim = claim
    }
}

/// What the register has had since it was last asked.
public struct RefusedTunnels: Sendable, Equatable {
    public var tunnels: [RefusedTunnel] = []
    /// How many more there were, by reason.
    public var others: [String: Int] = [:]
    public init() {}
}

/// Why somebody is told of.
enum RefusalReason {
    case handshake(TLSFailure)
    case connect(TunnelRefusal)
    case forgedClientCert

    /// By `number`.
    static let all: [RefusalReason] =
        [RefusalReason.forgedClientCert] + TunnelRefusal.allCases.map(RefusalReason.connect)
        + TLSFailure.allCases.map(RefusalReason.handshake)

    var number: Int {
        switch self {
        case .forgedClientCert: 0
        case .connect(let status): 1 + Int(status.code - TunnelRefusal.firstCode)
        case .handshake(let why): 1 + TunnelRefusal.allCases.count + Int(why.rawValue)
        }
    }

    /// As in the access log.
    var label: StaticString {
        switch self {
        case .forgedClientCert: "forged_client_cert"
        case .connect(let status): status.label
        case .handshake(let why): why.label
        }
    }
}

/// - Threads: any. The lock is for what is kept: a peer that is, and whoever comes when no more
///   will be, costs a hash, at most `keptMax` loads and a count, and no memory.
/// - Limits: `keptMax`.
final class RefusalRegister: Sendable {
    /// Peers of one reason, between two questions: each once, whatever it claims to be.
    static let keptMax = 8

    /// Whose place this is: a hash of it; 0: nobody's.
    private final class Place: Sendable {
        let peer = Atomic<UInt64>(0)
    }

    private final class Row: Sendable {
        let label: StaticString
        let places: [Place]
        let others = Atomic<Int>(0)

        init(_ label: StaticString) {
            self.label = label
            places = (0..<RefusalRegister.keptMax).map { _ in Place() }
        }

        /// Whether `peer` has got a place now; else it is counted.
        func gives(_ peer: UInt64) -> Bool {
            for place in places {
                var held = place.peer.load(ordering: .relaxed)
                if held == 0 {
                    let (isTaken, before) = place.peer.compareExchange(
                        expected: 0, desired: peer, ordering: .acquiringAndReleasing)
                    if isTaken { return true }
                    held = before
                }
                if held == peer { break }
            }
            others.add(1, ordering: .relaxed)
            return false
        }
    }

    /// By `RefusalReason.number`.
    private let rows = RefusalReason.all.map { Row($0.label) }
    private let kept = Mutex<[RefusedTunnel]>([])

    /// - Parameter make: called where it is kept, only.
    func note(
        _ reason: RefusalReason, of peer: IPAddress, isOurs: Bool = false,
        _ make: (String) -> RefusedTunnel
    ) {
        // Seeded: no peer can seek an address that takes another's place.
        var hasher = Hasher()
        hasher.combine(peer)
        hasher.combine(isOurs)
        let key = UInt64(bitPattern: Int64(hasher.finalize())) | 1
        guard rows[reason.number].gives(key) else { return }
        let tunnel = make("\(reason.label)")
        // No request that is in order comes here: it is a refusal, or brought a forged field, and
        // its peer is one of the first `keptMax` of that reason.
        kept.withLock { $0.append(tunnel) }
    }

    /// All since the last call.
    func take() -> RefusedTunnels {
        var refused = RefusedTunnels()
        for row in rows {
            for place in row.places { place.peer.store(0, ordering: .releasing) }
            let count = row.others.exchange(0, ordering: .acquiringAndReleasing)
            if count > 0 { refused.others["\(row.label)"] = count }
        }
        refused.tunnels = kept.withLock { kept in
            defer { kept = [] }
            return kept
        }
        return refused
    }
}

extension TLSFailure {
    /// Somebody was refused: not one who went away, or was too slow, or of too many.
    fileprivate var isRefusal: Bool {
        switch self {
        case .none, .resumed, .truncated, .timeout, .overload: false
        default: true
        }
    }
}

extension Worker {
    /// A handshake has failed.
    func noteRefused(_ carrier: Link, _ why: TLSFailure) {
        guard why.isRefusal else { return }
        tell(carrier, .handshake(why), nil)
    }

    /// A CONNECT is answered otherwise than by 200.
    func noteRefused(_ carrier: Link, _ status: TunnelRefusal, _ asked: SocketAddress?) {
        // A limit: whose it is, is counted and told elsewhere.
        guard status != .unavailable else { return }
        tell(carrier, .connect(status), asked)
    }

    /// A CONNECT that was in order is answered otherwise than by 200: the pod was dialled for it.
    func noteUnanswered(_ link: Link) {
        let carrier = link.it.carrier
        switch link.it.failure {
        case Failure.deniedByPolicy.code:
            tell(carrier, .connect(.denied), link.it.target)
        case Failure.connectFailed.code, Failure.connectTimeout.code,
            Failure.retriesExceeded.code:
            tell(carrier, .connect(.unavailable), link.it.target)
        default:
            // It went away itself, or is one of too many.
            break
        }
    }

    /// A request has come with an `x-forwarded-client-cert`, which goes no further.
    func noteForged(_ link: Link) {
        register.refusals.note(.forgedClientCert, of: link.it.peer.address) {
            let carrier = link.it.carrier
            return RefusedTunnel(
                peer: link.it.peer, pod: link.it.target.address, asked: link.it.target, reason: $0,
                claim: carrier.isNone ? "" : self.claim(of: carrier))
        }
    }

    private func tell(_ carrier: Link, _ reason: RefusalReason, _ asked: SocketAddress?) {
        let (peer, isOurs) = (carrier.it.peer, !carrier.it.isServer)
        register.refusals.note(reason, of: peer.address, isOurs: isOurs) {
            RefusedTunnel(
                isOurs: isOurs, peer: peer,
                pod: isOurs ? carrier.it.pool.it.source : carrier.it.target.address, asked: asked,
                reason: $0, claim: self.claim(of: carrier))
        }
    }
}
