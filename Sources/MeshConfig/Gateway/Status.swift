// Status conditions as values: what a controller would write into the objects' status, and what
// `malla status` and `malla routes` show.

public import MeshModel

/// One condition of Gateway API (metav1.Condition without its clock).
public struct Condition: Hashable, Sendable, Codable {
    public var type: String
    /// `True`, `False` or `Unknown`.
    public var status: Status
    public var reason: String
    public var message: String

    public enum Status: String, Hashable, Sendable, Codable {
        case isTrue = "True"
        case isFalse = "False"
        case unknown = "Unknown"
    }

    public init(_ type: String, _ status: Status, _ reason: String, _ message: String = "") {
        self.type = type
        self.status = status
        self.reason = reason
        self.message = message
    }
}

/// What became of one listener. Source: ListenerStatus.
public struct ListenerStatus: Hashable, Sendable {
    public var name: String
    public var port: UInt16
    public var hostname: String?
    public var attachedRoutes: Int
    public var supportedKinds: [String]
    public var conditions: [Condition]
}

/// What became of a Gateway of Malla's class. Source: GatewayStatus.
public struct GatewayStatus: Hashable, Sendable {
    public var name: ObjectName
    public var className: String
    /// Addresses it is reached at: its own, else the InternalIPs of all nodes.
    public var addresses: [IPAddress]
    public var conditions: [Condition]
    public var listeners: [ListenerStatus]
}

/// What became of one parentRef of a route. Source: RouteParentStatus.
public struct RouteParentStatus: Hashable, Sendable {
    /// `Gateway` or `Service`.
    public var kind: String
    public var name: ObjectName
    public var sectionName: String?
    public var port: UInt16?
    public var conditions: [Condition]

    /// Whether the route is attached to this parent.
    public var isAccepted: Bool {
        conditions.contains { $0.type == "Accepted" && $0.status == .isTrue }
    }
}

/// What became of a policy. Source: PolicyAncestorStatus; the same for every ancestor here.
public struct PolicyStatus: Hashable, Sendable {
    public var kind: String
    public var name: ObjectName
    /// Accepted, then ResolvedRefs.
    public var conditions: [Condition]

    /// The first reason of a condition stays.
    mutating func refuse(_ type: String, _ reason: String, _ message: String) {
        guard
            let index = conditions.firstIndex(where: { $0.type == type && $0.status == .isTrue })
        else { return }
        conditions[index] = Condition(type, .isFalse, reason, message)
    }
}

/// What became of a route. Parents of other controllers are left out.
public struct RouteStatus: Hashable, Sendable {
    /// `HTTPRoute` or `TCPRoute`.
    public var kind: String
    public var name: ObjectName
    public var hostnames: [String]
    public var ruleCount: Int
    public var parents: [RouteParentStatus]
    /// Set where the object is refused and no version of it is in force.
    public var refusal: Condition?
}
