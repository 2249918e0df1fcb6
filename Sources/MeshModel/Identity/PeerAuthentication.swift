// Who insists on mutual TLS: PeerAuthentication objects as values, and what they amount to for a
// port of a workload. Nothing is enforced here: the datapath and the engine ask.

/// Whether a port takes plain text, tunnels, or both.
///
/// - Source: istio.io PeerAuthentication.MutualTLS.Mode; UNSET is `nil` where it is inherited.
public enum MutualTLSMode: String, Sendable, Hashable, CaseIterable {
    /// Both: what holds where nothing is said.
    case permissive = "PERMISSIVE"
    /// Mutual TLS only: plain text is refused.
    case strict = "STRICT"
    /// Plain text only.
    case disable = "DISABLE"
}

/// One PeerAuthentication.
public struct PeerAuthentication: Hashable, Sendable {
    public var name: ObjectName
    /// Seconds since 1970; `Int64.max` if the object does not say.
    public var created: Int64
    /// `nil`: all workloads of its namespace, of all where that is the root namespace.
    public var selector: LabelSelector?
    /// `nil`: UNSET, inherited.
    public var mode: MutualTLSMode?
    /// By the workload's own port; `nil`: UNSET, the workload's.
    public var ports: [UInt16: MutualTLSMode?]

    public init(
        name: ObjectName, created: Int64 = .max, selector: LabelSelector? = nil,
        mode: MutualTLSMode? = nil, ports: [UInt16: MutualTLSMode?] = [:]
    ) {
        self.name = name
        self.created = created
        self.selector = selector
        self.mode = mode
        self.ports = ports
    }

    /// Of two of one scope the older counts; without a difference, by name. Istio says no more.
    public static func precedes(_ left: PeerAuthentication, _ right: PeerAuthentication) -> Bool {
        (left.created, left.name.name, left.name.namespace)
            < (right.created, right.name.name, right.name.namespace)
    }
}

/// The modes of one workload's ports.
public struct WorkloadModes: Hashable, Sendable {
    public var mode: MutualTLSMode
    /// Only ports that differ or were named.
    public var ports: [UInt16: MutualTLSMode]

    public init(_ mode: MutualTLSMode = .permissive, ports: [UInt16: MutualTLSMode] = [:]) {
        self.mode = mode
        self.ports = ports
    }

    public func mode(ofPort port: UInt16) -> MutualTLSMode { ports[port] ?? mode }
}

/// PeerAuthentication objects in the order in which they count: mesh < namespace < workload < port.
///
/// - Source: Istio's PeerAuthentication reference, and what istiod makes of it: one object a scope
///   (the oldest), UNSET inherits, a selector in the root namespace selects nothing, and ports
///   without a selector mean nothing.
/// - Threads: any; immutable.
public struct PeerModes: Hashable, Sendable {
    private let mesh: MutualTLSMode
    private let namespaces: [String: MutualTLSMode]
    /// Each in order of precedence.
    private let selected: [String: [PeerAuthentication]]

    public init(_ policies: [PeerAuthentication] = [], rootNamespace: String = "istio-system") {
        var mesh: MutualTLSMode?
        var hasMesh = false
        var namespaces: [String: MutualTLSMode?] = [:]
        var selected: [String: [PeerAuthentication]] = [:]
        for policy in policies.sorted(by: PeerAuthentication.precedes) {
            let space = policy.name.namespace
            switch (policy.selector, space == rootNamespace) {
            case (nil, true):
                if !hasMesh { mesh = policy.mode }
                hasMesh = true
            case (nil, false):
                if namespaces[space] == nil { namespaces[space] = .some(policy.mode) }
            case (_, true):
                break
            case (_, false):
                selected[space, default: []].append(policy)
            }
        }
        self.mesh = mesh ?? .permissive
        self.namespaces = namespaces.compactMapValues(\.self)
        self.selected = selected
    }

    /// What holds for a workload.
    public func modes(of workload: Workload) -> WorkloadModes {
        let space = workload.name.namespace
        let inherited = namespaces[space] ?? mesh
        let own = selected[space]?.first { $0.selector?.selects(workload.labels) == true }
        guard let own else { return WorkloadModes(inherited) }
        let mode = own.mode ?? inherited
        return WorkloadModes(mode, ports: own.ports.mapValues { $0 ?? mode })
    }

    /// What holds for one port of a workload.
    public func mode(of workload: Workload, port: UInt16) -> MutualTLSMode {
        modes(of: workload).mode(ofPort: port)
    }
}
