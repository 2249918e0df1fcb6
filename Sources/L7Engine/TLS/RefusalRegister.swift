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

    /// Pods of one peer that are named for a reason: who dials many takes no other peer's place.
    public static let podsMax = 4

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
///   will be, costs two hashes, at most `keptMax` and `RefusedTunnel.podsMax` loads and a count,
///   and no memory.
/// - Limits: `keptMax`, `RefusedTunnel.podsMax`.
final class RefusalRegister: Sendable {
    /// Peers of one reason, between two questions: each once, whatever it claims to be.
    static let keptMax = 8

    private enum Taken { case now, before, byAnother }

    private final class Place: Sendable {
        /// Whose it is: a hash of it; 0: nobody's.
        private let holder = Atomic<UInt64>(0)

        func take(_ key: UInt64) -> Taken {
            var held = holder.load(ordering: .relaxed)
            if held == 0 {
                let (isTaken, before) = holder.compareExchange(
                    expected: 0, desired: key, ordering: .acquiringAndReleasing)
                if isTaken { return .now }
                held = before
            }
            return held == key ? .before : .byAnother
        }

        func clear() { holder.store(0, ordering: .releasing) }
    }

    private final class PeerPlace: Sendable {
        let peer = Place()
        let pods = (0..<RefusedTunnel.podsMax).map { _ in Place() }
    }

    private final class Row: Sendable {
        let label: StaticString
        let places = (0..<RefusalRegister.keptMax).map { _ in PeerPlace() }
        let others = Atomic<Int>(0)

        init(_ label: StaticString) { self.label = label }

        /// Whether `peer` has got a place for `pod` now; else it is counted.
        func gives(_ peer: UInt64, _ pod: UInt64) -> Bool {
            let mine = places.first { $0.peer.take(peer) != .byAnother }
            for place in mine?.pods ?? [] {
                let taken = place.take(pod)
                if taken == .now { return true }
                if taken == .before { break }
            }
            others.add(1, ordering: .relaxed)
            return false
        }
    }

    /// By `RefusalReason.number`.
    private let rows = RefusalReason.all.map { Row($0.label) }
    private let kept = Mutex<[RefusedTunnel]>([])

    /// - Parameters:
    ///   - pod: as `RefusedTunnel` has it.
    ///   - make: called where it is kept, only.
    func note(
        _ reason: RefusalReason, of peer: IPAddress, at pod: IPAddress, isOurs: Bool = false,
        _ make: (String) -> RefusedTunnel
    ) {
        // Seeded: no peer can seek an address that takes another's place.
        var hasher = Hasher()
        hasher.combine(peer)
        hasher.combine(isOurs)
        let peerOnly = hasher
        hasher.combine(pod)
        guard rows[reason.number].gives(Self.key(peerOnly), Self.key(hasher)) else { return }
        let tunnel = make("\(reason.label)")
        // No request that is in order comes here: it is a refusal, or brought a forged field, and
        // its peer is one of the first `keptMax` of that reason.
        kept.withLock { $0.append(tunnel) }
    }

    private static func key(_ hasher: Hasher) -> UInt64 {
        UInt64(bitPattern: Int64(hasher.finalize())) | 1
    }

    /// All since the last call.
    func take() -> RefusedTunnels {
        var refused = RefusedTunnels()
        for row in rows {
            for place in row.places {
                place.peer.clear()
                for pod in place.pods { pod.clear() }
            }
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
        let dialled = link.it.target.address
        register.refusals.note(.forgedClientCert, of: link.it.peer.address, at: dialled) {
            let carrier = link.it.carrier
            return RefusedTunnel(
                peer: link.it.peer, pod: dialled, asked: link.it.target, reason: $0,
                claim: carrier.isNone ? "" : self.claim(of: carrier))
        }
    }

    private func tell(_ carrier: Link, _ reason: RefusalReason, _ asked: SocketAddress?) {
        let (peer, isOurs) = (carrier.it.peer, !carrier.it.isServer)
        let pod = isOurs ? carrier.it.pool.it.source : carrier.it.target.address
        register.refusals.note(reason, of: peer.address, at: pod, isOurs: isOurs) {
            RefusedTunnel(
                isOurs: isOurs, peer: peer, pod: pod, asked: asked, reason: $0,
                claim: self.claim(of: carrier))
        }
    }
}
