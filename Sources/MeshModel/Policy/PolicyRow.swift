// What the compiler answers: identities, sets, rows. All of it flat, and in the datapath's terms.

/// Numbers that mean the same everywhere. Source: Cilium's reserved identities.
public enum ReservedIdentity {
    /// In rows: any IPv4 peer whose own identity no row names.
    public static let anyIPv4: UInt32 = 0
    /// The same of IPv6 peers.
    public static let anyIPv6: UInt32 = 11
    public static let host: UInt32 = 1
    public static let worldIPv4: UInt32 = 9
    public static let worldIPv6: UInt32 = 10
    /// The node's own addresses inside of blocks that policies name: up to 255.
    public static let firstOfHost: UInt32 = 16
    /// Numbers of pods begin here.
    public static let firstOfPods: UInt32 = 256
    /// Numbers of blocks of addresses begin here.
    public static let firstOfBlocks: UInt32 = 1 << 24
}

/// What policies can tell apart: the labels and named ports that some policy asks for, and the
/// narrowest block of some policy around the address.
public struct PolicyIdentity: Hashable, Sendable {
    public enum Kind: String, Sendable, Hashable {
        case pod, host, world
    }

    public var number: UInt32
    public var kind: Kind
    /// `namespace:KEY=VALUE`, `pod:KEY=VALUE`, `port:NAME=TCP/80`; `*` is a value that no policy
    /// names.
    public var labels: [String]
    /// The narrowest block of a policy that contains its addresses.
    public var block: IPPrefix?

    /// Kind, labels and block, as people read them.
    public var words: [String] { [kind.rawValue] + labels + (block.map { ["block:\($0)"] } ?? []) }
}

/// Who decided, as people read it.
public struct RuleReference: Hashable, Sendable {
    public enum Part: Hashable, Sendable {
        /// `spec.ingress[index]` or `spec.egress[index]`; `name` as ClusterNetworkPolicy gives it.
        case rule(index: Int, name: String)
        /// No rule allows it, and a NetworkPolicy selects the pod.
        case defaultDeny
        /// No policy has a word on it.
        case defaultAllow
    }

    /// Empty where no policy is to name.
    public var policy: String
    public var direction: PolicyDirection
    public var part: Part

    public init(policy: String, direction: PolicyDirection, part: Part) {
        self.policy = policy
        self.direction = direction
        self.part = part
    }
}

extension RuleReference: CustomStringConvertible {
    /// `NetworkPolicy shop/web ingress[0]`, `default deny (ingress)`.
    public var description: String {
        switch part {
        case .rule(let index, let name):
            "\(policy) \(direction.rawValue)[\(index)]" + (name.isEmpty ? "" : " (\(name))")
        case .defaultDeny: "default deny (\(direction.rawValue))"
        case .defaultAllow: "no policy (\(direction.rawValue))"
        }
    }
}

/// Where a row applies. The longest match decides.
public struct PolicyRowKey: Hashable, Sendable {
    /// With a port of its own.
    public static let exactBits: UInt8 = 96
    public static let anyPortBits: UInt8 = 80
    public static let anyProtocolBits: UInt8 = 72

    public var set: UInt32
    /// `ReservedIdentity.anyIPv4` and `anyIPv6`: any other peer of that family.
    public var identity: UInt32
    public var direction: PolicyDirection
    /// 0 where any protocol is meant.
    public var transport: UInt8
    /// Bits behind the prefix are zero.
    public var port: UInt16
    /// 72: any protocol; 80: any port; 80 + n: ports whose first n bits are given.
    public var bits: UInt8

    public init(
        set: UInt32, identity: UInt32, direction: PolicyDirection, transport: UInt8 = 0,
        port: UInt16 = 0, bits: UInt8
    ) {
        self.set = set
        self.identity = identity
        self.direction = direction
        self.transport = transport
        self.port = port
        self.bits = bits
    }
}

public struct PolicyDecision: Hashable, Sendable {
    public var isAllowed: Bool
    /// Denied by policies that are only being tried: counted, passed.
    public var isAudited: Bool
    /// Into `CompiledPolicy.rules`.
    public var rule: UInt32

    public init(isAllowed: Bool, isAudited: Bool = false, rule: UInt32) {
        self.isAllowed = isAllowed
        self.isAudited = isAudited
        self.rule = rule
    }
}

public struct PolicyRow: Hashable, Sendable {
    public var key: PolicyRowKey
    public var decision: PolicyDecision

    public init(key: PolicyRowKey, decision: PolicyDecision) {
        self.key = key
        self.decision = decision
    }
}
