// Network policies as values: NetworkPolicy (networking.k8s.io/v1) and ClusterNetworkPolicy
// (policy.networking.k8s.io) are one type here, told apart by their tier. MeshConfig makes them,
// PolicyCompiler turns them into rows.

/// Pods by their namespace and their own labels.
public struct PodSelection: Hashable, Sendable {
    public enum Namespaces: Hashable, Sendable {
        case named(String)
        case selected(LabelSelector)
    }

    public var namespaces: Namespaces
    public var pods: LabelSelector

    public init(_ namespaces: Namespaces, _ pods: LabelSelector = .everything) {
        self.namespaces = namespaces
        self.pods = pods
    }
}

/// The other end of a connection, as a rule names it.
public enum PolicyPeer: Hashable, Sendable {
    case pods(PodSelection)
    /// Matches pods' and nodes' addresses too.
    case network(IPPrefix, except: [IPPrefix])
    /// The addresses of nodes with such labels.
    case nodes(LabelSelector)
    /// A peer that this build does not understand: an Accept rule does without it, any other rule
    /// that has one denies everything (ClusterNetworkPolicy: "fail closed").
    case unsupported
}

/// A port of the destination.
public struct PolicyPort: Hashable, Sendable {
    public enum Number: Hashable, Sendable {
        case any
        case range(ClosedRange<UInt16>)
        /// A port of the destination pod by its name; ends that are no pods have none.
        case named(String)
    }

    /// `nil`: of any protocol, for named ports of ClusterNetworkPolicy.
    public var transport: TransportProtocol?
    public var number: Number

    public init(_ transport: TransportProtocol?, _ number: Number) {
        self.transport = transport
        self.number = number
    }
}

/// One rule of one direction.
public struct PolicyRule: Hashable, Sendable {
    public enum Action: String, Sendable, Hashable {
        case accept = "Accept"
        case deny = "Deny"
        case pass = "Pass"
    }

    /// Of ClusterNetworkPolicy; empty: none.
    public var name: String
    public var action: Action
    /// `nil`: any peer.
    public var peers: [PolicyPeer]?
    /// `nil`: any protocol and port, ICMP included.
    public var ports: [PolicyPort]?

    public init(
        name: String = "", action: Action = .accept, peers: [PolicyPeer]? = nil,
        ports: [PolicyPort]? = nil
    ) {
        self.name = name
        self.action = action
        self.peers = peers
        self.ports = ports
    }
}

public enum PolicyDirection: String, Sendable, Hashable, CaseIterable {
    case ingress, egress

    /// As the datapath's rows hold it.
    public var number: UInt8 { self == .ingress ? 0 : 1 }
}

/// A NetworkPolicy or a ClusterNetworkPolicy.
public struct NetworkPolicy: Hashable, Sendable {
    /// In the order of evaluation.
    public enum Tier: Int, Sendable, Hashable, Comparable {
        case admin, namespaced, baseline

        public static func < (left: Tier, right: Tier) -> Bool { left.rawValue < right.rawValue }
    }

    /// Without namespace for ClusterNetworkPolicy.
    public var name: ObjectName
    public var tier: Tier
    /// 0...1000, the lower first; 0 for NetworkPolicy, whose order means nothing.
    public var priority: Int
    public var subject: PodSelection
    /// `nil`: the policy says nothing of this direction. A namespaced one without rules denies all.
    public var ingress: [PolicyRule]?
    public var egress: [PolicyRule]?
    /// Counted and reported, never enforced (annotation `malla.io/policy-mode`).
    public var isAudited: Bool

    public init(
        name: ObjectName, tier: Tier = .namespaced, priority: Int = 0, subject: PodSelection,
        ingress: [PolicyRule]? = nil, egress: [PolicyRule]? = nil, isAudited: Bool = false
    ) {
        self.name = name
        self.tier = tier
        self.priority = priority
        self.subject = subject
        self.ingress = ingress
        self.egress = egress
        self.isAudited = isAudited
    }

    public func rules(_ direction: PolicyDirection) -> [PolicyRule]? {
        direction == .ingress ? ingress : egress
    }

    public var kind: String { tier == .namespaced ? "NetworkPolicy" : "ClusterNetworkPolicy" }

    /// `NetworkPolicy shop/deny-all`, `ClusterNetworkPolicy no-internet`.
    public var title: String {
        tier == .namespaced ? "\(kind) \(name)" : "\(kind) \(name.name)"
    }

    /// The order of evaluation; where the API leaves it open (same tier and priority), by name.
    static func precedes(_ left: NetworkPolicy, _ right: NetworkPolicy) -> Bool {
        (left.tier, left.priority, left.name) < (right.tier, right.priority, right.name)
    }
}

/// A port of a pod that has a name. Source: core/v1 ContainerPort.
public struct NamedPort: Hashable, Sendable, Comparable {
    public var name: String
    public var transport: TransportProtocol
    public var number: UInt16

    public init(_ name: String, _ transport: TransportProtocol, _ number: UInt16) {
        self.name = name
        self.transport = transport
        self.number = number
    }

    public static func < (left: NamedPort, right: NamedPort) -> Bool {
        (left.name, left.transport.number, left.number)
            < (right.name, right.transport.number, right.number)
    }
}
