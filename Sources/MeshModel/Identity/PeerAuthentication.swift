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

    /// As people are told of it.
    public var title: String { "PeerAuthentication \(name)" }

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

    /// Some port takes no plain text.
    public var insists: Bool { mode == .strict || ports.values.contains(.strict) }
}

/// PeerAuthentication objects in the order in which they count: mesh < namespace < workload < port.
///
/// - Source: Istio's PeerAuthentication reference, and what istiod makes of it: one object a scope
///   (the oldest), UNSET inherits, a selector in the root namespace selects nothing, and ports
///   without a selector mean nothing.
/// - Threads: any; immutable.
public struct PeerModes: Hashable, Sendable {
    /// What an object without a selector says.
    private struct Scope: Hashable {
        var mode: MutualTLSMode
        var origin: String
    }

    private let mesh: Scope
    private let namespaces: [String: Scope]
    /// Each in order of precedence.
    private let selected: [String: [PeerAuthentication]]

    public init(_ policies: [PeerAuthentication] = [], rootNamespace: String = "istio-system") {
        var mesh: Scope?
        var hasMesh = false
        var namespaces: [String: Scope?] = [:]
        var selected: [String: [PeerAuthentication]] = [:]
        for policy in policies.sorted(by: PeerAuthentication.precedes) {
            let space = policy.name.namespace
            let scope = policy.mode.map { Scope(mode: $0, origin: policy.title) }
            switch (policy.selector, space == rootNamespace) {
            case (nil, true):
                if !hasMesh { mesh = scope }
                hasMesh = true
            case (nil, false):
                if namespaces[space] == nil { namespaces[space] = .some(scope) }
            case (_, true):
                break
            case (_, false):
                selected[space, default: []].append(policy)
            }
        }
        self.mesh = mesh ?? Scope(mode: .permissive, origin: "no PeerAuthentication")
        self.namespaces = namespaces.compactMapValues(\.self)
        self.selected = selected
    }

    /// What holds for a workload.
    public func modes(of workload: Workload) -> WorkloadModes {
        let inherited = scope(of: workload).mode
        guard let own = own(workload) else { return WorkloadModes(inherited) }
        let mode = own.mode ?? inherited
        return WorkloadModes(mode, ports: own.ports.mapValues { $0 ?? mode })
    }

    /// Which object says what holds for a port: `PeerAuthentication shop/strict`.
    public func origin(of workload: Workload, port: UInt16) -> String {
        guard let own = own(workload) else { return scope(of: workload).origin }
        if let mode = own.ports[port], mode != nil { return "\(own.title) port \(port)" }
        return own.mode == nil ? scope(of: workload).origin : own.title
    }

    private func scope(of workload: Workload) -> Scope {
        namespaces[workload.name.namespace] ?? mesh
    }

    private func own(_ workload: Workload) -> PeerAuthentication? {
        selected[workload.name.namespace]?.first {
            $0.selector?.selects(workload.labels) == true
        }
    }

    /// What holds for one port of a workload.
    public func mode(of workload: Workload, port: UInt16) -> MutualTLSMode {
        modes(of: workload).mode(ofPort: port)
    }
}
