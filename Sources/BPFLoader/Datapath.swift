// The façade of the datapath: load (or adopt), attach, apply a snapshot, count, detach.

public import MeshModel

public struct DatapathOptions: Sendable {
    /// The cgroup v2 subtree of pods and agent.
    public var cgroupPath: String
    /// A bpffs mount; pins go to PATH/malla/v<ABI>/.
    public var bpffsPath: String
    /// The agent's and supervisor's own cgroup id is exempt from socket load balancing.
    /// Interface index of the node's side of the engine's veth; 0: no engine.
    public var engineInterface: UInt32
    /// A descriptor of the engine's network namespace, for sk_lookup.
    public var engineNamespace: Int32?
    /// Names of the uplinks; empty: every interface that has a default route or is on the network
    /// of one of the other nodes' InternalIPs.
    public var uplinks: [String]

    public init(
        cgroupPath: String, bpffsPath: String, engineInterface: UInt32 = 0,
        engineNamespace: Int32? = nil, uplinks: [String] = []
    ) {
        self.cgroupPath = cgroupPath
        self.bpffsPath = bpffsPath
        self.engineInterface = engineInterface
        self.engineNamespace = engineNamespace
        self.uplinks = uplinks
    }
}

public enum BPFError: Error, Equatable {
    case placeholder
}

public struct VerdictCount: Sendable, Equatable {
    /// The hook's name (`connect4`, `from_pod`, …) and the verdict's, as the docs name them.
    public var hook: String
    public var verdict: String
    public var count: UInt64
}

public struct MapUsage: Sendable, Equatable {
    public var name: String
    public var type: String
    public var entries: UInt64
    public var entriesMax: UInt64
    /// Rows that were refused because the map was full, since this agent started.
    public var refused: UInt64
}

public struct ProgramState: Sendable, Equatable {
    public var name: String
    public var id: UInt32
    /// `cgroup PATH`, `tcx ingress IFNAME`, `netns engine`.
    public var attachedTo: String
    public var isPinned: Bool
    /// `true`: taken over from the agent before this one.
    public var isAdopted: Bool
    public var runCount: UInt64
    public var runNanoseconds: UInt64
}

/// What `apply` could not do; the rest is in force.
public struct ApplyProblem: Sendable, Equatable {
    /// `pod shop/cart`, `service shop/catalog`, `map malla_service`.
    public var subject: String
    public var message: String
}

/// The node's eBPF programs and maps.
///
/// - Threads: one at a time (the agent's reconcile loop).
public final class Datapath {
    public init(_ options: DatapathOptions) throws(BPFError) {
    }

    /// Attaches to the pods' interfaces and reconciles the maps: writes before removals.
    public func apply(_ snapshot: Snapshot) throws(BPFError) -> [ApplyProblem] { [] }

    /// The listening sockets that captured connections go to, one a worker; empty: none.
    public func serve(listeners: [Int32]) throws(BPFError) {}

    public func verdictCounts() -> [VerdictCount] { [] }
    public func mapUsage() -> [MapUsage] { [] }
    public func programs() -> [ProgramState] { [] }
}
