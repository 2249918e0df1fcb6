// Who was refused a tunnel, out of the workers to the agent, which tells its log: whether requests
// are logged or not. A flood costs a count each: a few of a reason are kept, the rest is a number.

public import MeshModel
internal import Synchronization

/// A tunnel that this node refused, or a CONNECT on one; or one that it dialled and gave up.
public struct RefusedTunnel: Sendable, Hashable {
    /// This node dialled.
    public var isOurs: Bool
    /// Who dialled this node; whom it dialled.
    public var peer: SocketAddress
    /// The pod that was dialled; of ours who dials, `::` where that is a Gateway.
    public var pod: IPAddress
    /// What a CONNECT named; `nil`: none came, or it named no address.
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

/// - Threads: any; a worker holds the lock once a refusal.
/// - Limits: `keptMax`.
final class RefusalRegister: Sendable {
    /// Of one reason, between two questions.
    static let keptMax = 8

    private struct State {
        var refused = RefusedTunnels()
        var counts: [String: Int] = [:]
    }

    private let state = Mutex(State())

    /// - Parameter make: called where it is kept, only.
    func note(_ reason: StaticString, _ make: (String) -> RefusedTunnel) {
        let reason = "\(reason)"
        let isKept = state.withLock { state in
            let count = state.counts[reason, default: 0]
            guard count < Self.keptMax else {
                state.refused.others[reason, default: 0] += 1
                return false
            }
            state.counts[reason] = count + 1
            return true
        }
        guard isKept else { return }
        let tunnel = make(reason)
        state.withLock { $0.refused.tunnels.append(tunnel) }
    }

    /// All since the last call.
    func take() -> RefusedTunnels {
        state.withLock { state in
            defer { state = State() }
            return state.refused
        }
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
        register.refusals.note(why.label) { self.refused(carrier, nil, $0) }
    }

    /// A CONNECT is answered otherwise than by 200.
    func noteRefused(_ carrier: Link, _ status: TunnelRefusal, _ asked: SocketAddress?) {
        // A limit: whose it is, is counted and told elsewhere.
        guard status != .unavailable else { return }
        register.refusals.note(status.label) { self.refused(carrier, asked, $0) }
    }

    private func refused(
        _ carrier: Link, _ asked: SocketAddress?, _ reason: String
    ) -> RefusedTunnel {
        let isOurs = !carrier.it.isServer
        return RefusedTunnel(
            isOurs: isOurs, peer: carrier.it.peer,
            pod: isOurs ? carrier.it.pool.it.source : carrier.it.target.address, asked: asked,
            reason: reason, claim: claim(of: carrier))
    }
}
