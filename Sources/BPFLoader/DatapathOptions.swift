// What the datapath is told once, as it is loaded.

public struct DatapathOptions: Sendable {
    /// The cgroup v2 subtree of pods and agent.
    public var cgroupPath: String
    /// A bpffs mount; pins go to PATH/malla/v<ABI>/.
    public var bpffsPath: String
    /// Interface index of the node's side of the engine's veth; 0: no engine.
    public var engineInterface: UInt32
    /// A descriptor of the engine's network namespace, for sk_lookup.
    public var engineNamespace: Int32?
    /// Whether the node reaches its own pods (probes) whatever their policies say.
    public var isHostAllowed = true
    /// Of new flows that are admitted, one of so many is an event; 0: none.
    public var flowSample: UInt32 = 0
    /// Whether the engine serves the port at which nodes meet (HBONE), of local pods in the mesh:
    /// it has an identity to show there.
    public var capturesHBONE = false
    /// Whether TCP between pods of different nodes takes the node's routes without its stack.
    public var takesRoutes = true
    /// Whose sockets below `cgroupPath` are silent until a snapshot knows them.
    public var heldPods = HeldPods.none
    /// Whether it is a problem that the kernel cannot hold them.
    public var mustHold = false
    /// Names of the uplinks; empty: see `Uplinks`.
    public var uplinks: [String]
    /// Rows of the maps, where they are made anew; pinned maps keep their own.
    public var limits: DatapathLimits

    public init(
        cgroupPath: String, bpffsPath: String, engineInterface: UInt32 = 0,
        engineNamespace: Int32? = nil, uplinks: [String] = [],
        limits: DatapathLimits = DatapathLimits()
    ) {
        self.cgroupPath = cgroupPath
        self.bpffsPath = bpffsPath
        self.engineInterface = engineInterface
        self.engineNamespace = engineNamespace
        self.uplinks = uplinks
        self.limits = limits
    }
}
