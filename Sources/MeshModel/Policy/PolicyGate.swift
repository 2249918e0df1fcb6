// What policies say of a connection that the engine makes from the node's address for somebody
// else, a Gateway's client most often: the kernel sees the node dial, so the engine asks here for
// whom it really dials.

/// - Threads: any; never changes after `init`.
public final class PolicyGate: Sendable {
    /// No policy selects a pod of this node: everybody is admitted.
    public let isOpen: Bool
    private let policy: CompiledPolicy
    private let workloads: [IPAddress: Int]
    private let isHostAllowed: Bool
    /// By `CompiledPolicy.sets`' index.
    private let peers: [PeerRows]

    /// - Parameters:
    ///   - isHostAllowed: whether the node reaches its pods whatever their policies say.
    ///   - previous: gives what it has of sets that are the same.
    public init(_ snapshot: Snapshot, isHostAllowed: Bool, after previous: PolicyGate? = nil) {
        policy = snapshot.policy
        workloads = snapshot.workloadsByAddress
        self.isHostAllowed = isHostAllowed
        isOpen = policy.sets.isEmpty
        var kept: [ObjectIdentifier: PeerRows] = [:]
        for each in previous?.peers ?? [] { kept[ObjectIdentifier(each.set)] = each }
        peers = policy.sets.map { kept[ObjectIdentifier($0)] ?? PeerRows($0) }
    }

    /// Whether a client may reach a pod's port by TCP. Of pods on other nodes nothing is known
    /// here: their nodes judge what arrives.
    ///
    /// - Parameter asksClient: also by the policies of the client, where it is a pod of this node.
    /// - Complexity: a few look-ups; nothing is allocated.
    public func admits(
        _ client: IPAddress, to target: SocketAddress, asksClient: Bool
    ) -> Bool {
        if isOpen { return true }
        let from = workloads[client]
        let to = workloads[target.address]
        // A pod always reaches itself.
        if let from, from == to { return true }
        if asksClient, let from, let set = policy.setOfWorkload[from],
            !peers[set].admits(policy.identity(of: target.address), target, .egress)
        {
            return false
        }
        guard let to, let set = policy.setOfWorkload[to] else { return true }
        let identity = policy.identity(of: client)
        if isHostAllowed, ReservedIdentity.isHost(identity) { return true }
        return peers[set].admits(identity, target, .ingress)
    }
}

extension ReservedIdentity {
    /// One of the node's own addresses.
    public static func isHost(_ identity: UInt32) -> Bool {
        identity == host || (firstOfHost..<firstOfPods).contains(identity)
    }
}

/// The rows of one set, found by peer.
private struct PeerRows: Sendable {
    let set: PolicySet
    /// By identity and direction, into `set.rows`: the compiler writes a peer's rows together.
    private let ranges: [UInt64: Range<Int>]

    init(_ set: PolicySet) {
        self.set = set
        var ranges: [UInt64: Range<Int>] = [:]
        var start = 0
        while start < set.rows.count {
            let key = Self.key(set.rows[start].key.identity, set.rows[start].key.direction)
            var end = start + 1
            while end < set.rows.count,
                Self.key(set.rows[end].key.identity, set.rows[end].key.direction) == key
            {
                end += 1
            }
            precondition(ranges[key] == nil, "a peer's rows stand together")
            ranges[key] = start..<end
            start = end
        }
        self.ranges = ranges
    }

    private static func key(_ identity: UInt32, _ direction: PolicyDirection) -> UInt64 {
        UInt64(identity) << 1 | UInt64(direction.number)
    }

    func admits(
        _ identity: UInt32, _ target: SocketAddress, _ direction: PolicyDirection
    ) -> Bool {
        let anyPeer =
            target.address.isIPv4 ? ReservedIdentity.anyIPv4 : ReservedIdentity.anyIPv6
        let decision =
            decision(identity, target.port, direction) ?? decision(anyPeer, target.port, direction)
            ?? set.defaults[Int(direction.number)]
        return decision.isAllowed || decision.isAudited
    }

    /// Of the rows that hold the port by TCP, the most specific one's.
    private func decision(
        _ identity: UInt32, _ port: UInt16, _ direction: PolicyDirection
    ) -> PolicyDecision? {
        guard let range = ranges[Self.key(identity, direction)] else { return nil }
        var bits = -1
        var found: PolicyDecision?
        for index in range {
            let row = set.rows[index]
            guard Int(row.key.bits) > bits, row.key.holds(TransportProtocol.tcp.number, port)
            else { continue }
            bits = Int(row.key.bits)
            found = row.decision
        }
        return found
    }
}
