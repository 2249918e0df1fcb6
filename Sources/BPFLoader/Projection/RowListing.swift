// The rows of identities and policies for people, from the agent's copy of what the kernel holds.

internal import CMallaABI
public import MeshModel

/// A row of malla_ipcache: who is at an address.
public struct IdentityEntry: Sendable, Equatable {
    public var address: IPAddress
    /// Of the address's own family: 0...32 or 0...128.
    public var prefixBits: Int
    public var identity: UInt32

    public var block: IPPrefix {
        IPPrefix(address, length: UInt8(prefixBits + (address.isIPv4 ? 96 : 0)))
    }
}

/// A row of malla_policy, or what a set says where none matches.
public struct PolicyEntry: Sendable, Equatable {
    public var set: UInt32
    /// `ingress` or `egress`, seen from the pods that the set selects.
    public var direction: String
    /// Of the peer; 0: any that has no rows of its own.
    public var identity: UInt32
    /// IANA's number; `nil`: any protocol.
    public var protocolNumber: UInt8?
    /// `nil`: any port.
    public var ports: ClosedRange<UInt16>?
    /// `allow` or `deny`.
    public var verdict: String
    /// Only being tried: it is counted, and the packet passes.
    public var isAudited: Bool
    public var rule: UInt32
    /// What the set says where no row matches.
    public var isDefault: Bool
}

extension Datapath {
    /// Whether the local pod that has this address is in the kernel's map; packets of one that is
    /// not are dropped as not ready.
    public func isInForce(podAt address: IPAddress) -> Bool {
        rows.current.pods[malla_address(address)] != nil
    }

    /// Whether something of a service's port did not fit into the maps.
    public func isShort(
        _ service: ObjectName, port: UInt16, _ transport: TransportProtocol
    ) -> Bool {
        services.isShort(service, port: port, transport)
    }

    public func identityEntries() -> [IdentityEntry] {
        rows.policies.heldIdentities.map { key, row in
            let address = IPAddress(key.address)
            let isIPv4 = address.isIPv4 && key.prefix_bits >= 96
            return IdentityEntry(
                address: address, prefixBits: Int(key.prefix_bits) - (isIPv4 ? 96 : 0),
                identity: row.identity)
        }
    }

    public func policyEntries() -> [PolicyEntry] {
        let ofRows = rows.policies.heldRows.values.joined().map { key, row in
            PolicyEntry(
                set: UInt32(bigEndian: key.set_be), direction: Self.direction(key.direction),
                identity: UInt32(bigEndian: key.identity_be),
                protocolNumber: key.prefix_bits > UInt32(MALLA_POLICY_ANY_PROTOCOL_BITS)
                    ? key.protocol : nil,
                ports: Self.ports(key), verdict: Self.verdict(row.verdict),
                isAudited: row.flags & UInt8(MALLA_POLICY_AUDIT) != 0, rule: row.rule,
                isDefault: false)
        }
        let ofSets = rows.policies.heldSets.flatMap { number, set in
            [(UInt8(0), set.verdicts.0), (UInt8(1), set.verdicts.1)].map { direction, verdict in
                PolicyEntry(
                    set: number, direction: Self.direction(direction), identity: 0,
                    verdict: Self.verdict(verdict),
                    isAudited: set.flags & UInt8(MALLA_SET_AUDIT) != 0, rule: 0, isDefault: true)
            }
        }
        return ofRows + ofSets
    }

    /// The shares of the local pods, one an address.
    public func flowShares() -> [FlowShare] {
        rows.current.pods.map { address, pod in
            let share = flows.share(of: pod.endpoint)
            return FlowShare(
                address: IPAddress(address), held: share.held, max: UInt64(share.max),
                evicted: share.evicted)
        }
    }

    private static func direction(_ number: UInt8) -> String { number == 0 ? "ingress" : "egress" }

    private static func verdict(_ number: UInt8) -> String {
        number == UInt8(MALLA_POLICY_ALLOW.rawValue) ? "allow" : "deny"
    }

    private static func ports(_ key: malla_policy_key) -> ClosedRange<UInt16>? {
        guard key.prefix_bits > UInt32(MALLA_POLICY_ANY_PORT_BITS) else { return nil }
        let free = UInt32(MALLA_POLICY_EXACT_BITS) - key.prefix_bits
        let first = UInt16(bigEndian: key.port_be)
        return first...(first | UInt16(truncatingIfNeeded: (1 as UInt32) << free &- 1))
    }
}

extension Datapath {
    /// The set of policies of each local pod's address; 0: none selects it.
    public func podSets() -> [(address: IPAddress, set: UInt32)] {
        rows.current.pods.map { (address: IPAddress($0), set: $1.set) }
    }
}

extension Datapath {
    /// What the kernel's rows say, looked up as it does (bpf/lib/judge.h, policy.h).
    ///
    /// - Complexity: linear in the rows of the maps; for people.
    public func inForce(_ ask: PolicyAsk) -> PolicyInForce {
        guard let pod = rows.current.pods[malla_address(ask.pod)] else {
            return isSilent(ask.pod) ? .notReady : .unattached
        }
        guard pod.set != 0 else { return .open }
        let held = rows.policies.heldRows[pod.set] ?? [:]
        let anyPeer =
            ask.peer.isIPv4 ? ReservedIdentity.anyIPv4 : ReservedIdentity.anyIPv6
        for identity in [identity(of: ask.peer), anyPeer] {
            let found = held.filter { key, _ in
                UInt32(bigEndian: key.identity_be) == identity
                    && key.direction == ask.direction.number && Self.holds(key, ask)
            }.max { $0.key.prefix_bits < $1.key.prefix_bits }
            if let row = found?.value {
                return .decision(
                    Self.decision(
                        row.verdict, isAudited: row.flags & UInt8(MALLA_POLICY_AUDIT) != 0,
                        row.rule))
            }
        }
        guard let set = rows.policies.heldSets[pod.set] else { return .closed }
        let verdict = ask.direction == .ingress ? set.verdicts.0 : set.verdicts.1
        return .decision(
            Self.decision(verdict, isAudited: set.flags & UInt8(MALLA_SET_AUDIT) != 0, 0))
    }

    /// Pods whose policies are not in the maps: nothing passes.
    public func closedPods() -> [IPAddress] {
        rows.current.pods.filter { $1.set != 0 && rows.policies.heldSets[$1.set] == nil }
            .map { IPAddress($0.key) }
    }

    private func identity(of address: IPAddress) -> UInt32 {
        let key = malla_address(address)
        if let pod = rows.current.pods[key], pod.identity != 0 { return pod.identity }
        let rows = rows.policies.heldIdentities.filter { IPPrefix($0.key).contains(address) }
        return rows.max { $0.key.prefix_bits < $1.key.prefix_bits }?.value.identity
            ?? MALLA_IDENTITY_WORLD.rawValue
    }

    private static func holds(_ key: malla_policy_key, _ ask: PolicyAsk) -> Bool {
        guard key.prefix_bits > UInt32(MALLA_POLICY_ANY_PROTOCOL_BITS) else { return true }
        guard key.protocol == ask.transport else { return false }
        return ports(key)?.contains(ask.port) ?? true
    }

    private static func decision(
        _ verdict: UInt8, isAudited: Bool, _ rule: UInt32
    ) -> PolicyDecision {
        PolicyDecision(
            isAllowed: verdict == UInt8(MALLA_POLICY_ALLOW.rawValue), isAudited: isAudited,
            rule: rule)
    }
}
