// What `malla status` shows: the node's agent, its datapath, its engine and its configuration.

/// The agent of one node. Source: `GET /v1/status`, kind `StatusList`, one item.
public struct StatusItem: Codable, Sendable, Equatable {
    public var node: String
    public var version: String
    /// The engine's process (the supervisor's child).
    public var pid: Int
    public var supervisorPID: Int
    /// How often the supervisor started a new child since it began.
    public var restarts: Int
    /// Of the child.
    public var uptimeSeconds: Int
    /// How long the child took from its start to serving.
    public var startMilliseconds: Int
    public var ready: Bool
    /// Why it is not ready, one line each; empty when it is.
    public var reasons: [String]
    public var datapath: Datapath
    public var engine: Engine
    /// `none`, or the source of identity, the trust domain and how many certificates are in force.
    public var identity: String
    public var config: Config
    public var listeners: [Listener]
    /// What was found broken and put right since the child began, by kind.
    public var repairs: [Repair]
    /// Workloads (`namespace/name`) that the engine refuses, for two of its crashes named them.
    public var quarantined: [String]

    public init(
        node: String, version: String, pid: Int, supervisorPID: Int, restarts: Int,
        uptimeSeconds: Int, startMilliseconds: Int = 0, ready: Bool, reasons: [String] = [],
        datapath: Datapath, engine: Engine,
        identity: String = "none", config: Config, listeners: [Listener] = [],
        repairs: [Repair] = [], quarantined: [String] = []
    ) {
        self.node = node
        self.version = version
        self.pid = pid
        self.supervisorPID = supervisorPID
        self.restarts = restarts
        self.uptimeSeconds = uptimeSeconds
        self.startMilliseconds = startMilliseconds
        self.ready = ready
        self.reasons = reasons
        self.datapath = datapath
        self.engine = engine
        self.identity = identity
        self.config = config
        self.listeners = listeners
        self.repairs = repairs
        self.quarantined = quarantined
    }

    /// Something of the datapath that another program broke.
    public struct Repair: Codable, Sendable, Equatable {
        /// The label of `malla_repairs_total`.
        public var what: String
        public var count: UInt64
        /// The last one: whose, what was wrong, and when (RFC 3339, UTC).
        public var subject: String
        public var message: String
        public var time: String

        public init(
            what: String, count: UInt64, subject: String, message: String, time: String
        ) {
            self.what = what
            self.count = count
            self.subject = subject
            self.message = message
            self.time = time
        }
    }

    /// The eBPF programs and maps of the node.
    public struct Datapath: Codable, Sendable, Equatable {
        /// `on`, `off` or `failed`.
        public var mode: String
        /// The version in the pins' path; 0 when off.
        public var abi: Int
        public var programs: Int
        public var maps: Int
        /// What is wrong, empty if nothing is.
        public var message: String
        /// The bpffs mount and the cgroup that it uses; empty when off.
        public var bpffs: String
        public var cgroup: String

        public init(
            mode: String, abi: Int = 0, programs: Int = 0, maps: Int = 0, message: String = "",
            bpffs: String = "", cgroup: String = ""
        ) {
            self.mode = mode
            self.abi = abi
            self.programs = programs
            self.maps = maps
            self.message = message
            self.bpffs = bpffs
            self.cgroup = cgroup
        }
    }

    /// Sums over the workers since the child began; `connectionsActive` is now.
    public struct Engine: Codable, Sendable, Equatable {
        public var workers: Int
        public var connections: UInt64
        public var connectionsActive: UInt64
        public var requests: UInt64

        public init(
            workers: Int = 0, connections: UInt64 = 0, connectionsActive: UInt64 = 0,
            requests: UInt64 = 0
        ) {
            self.workers = workers
            self.connections = connections
            self.connectionsActive = connectionsActive
            self.requests = requests
        }
    }

    /// The watched directory, as it was read last.
    public struct Config: Codable, Sendable, Equatable {
        public var directory: String
        /// Goes up by one with every change that took effect.
        public var generation: UInt64
        public var objects: Int
        /// Objects refused: their last good version stays in force.
        public var refused: Int
        public var warnings: Int
        /// Left alone on purpose: Gateways of other classes, kinds that are not for the mesh.
        public var ignored: Int
        /// Of each refused object, `kind namespace/name: what is wrong`.
        public var refusals: [String]
        public var unreadableFiles: [String]
        /// RFC 3339, UTC; empty if never.
        public var lastReload: String
        public var lastGood: LastGood

        public init(
            directory: String, generation: UInt64 = 0, objects: Int = 0, refused: Int = 0,
            warnings: Int = 0, ignored: Int = 0, refusals: [String] = [],
            unreadableFiles: [String] = [], lastReload: String = "",
            lastGood: LastGood = LastGood()
        ) {
            self.directory = directory
            self.generation = generation
            self.objects = objects
            self.refused = refused
            self.warnings = warnings
            self.ignored = ignored
            self.refusals = refusals
            self.unreadableFiles = unreadableFiles
            self.lastReload = lastReload
            self.lastGood = lastGood
        }
    }

    /// What is kept in the state directory for the next agent.
    public struct LastGood: Codable, Sendable, Equatable {
        public var objects: Int
        public var bytes: Int
        /// What of an earlier agent's was ignored, and what is not kept; one line each.
        public var problems: [String]

        public init(objects: Int = 0, bytes: Int = 0, problems: [String] = []) {
            self.objects = objects
            self.bytes = bytes
            self.problems = problems
        }
    }

    /// One listener of a Gateway on this node.
    public struct Listener: Codable, Sendable, Equatable {
        /// `namespace/name`.
        public var gateway: String
        public var listener: String
        /// `*`: all addresses of the node's namespace.
        public var address: String
        public var port: Int
        public var programmed: Bool
        /// Why it is not programmed.
        public var message: String

        public init(
            gateway: String, listener: String, address: String, port: Int, programmed: Bool,
            message: String = ""
        ) {
            self.gateway = gateway
            self.listener = listener
            self.address = address
            self.port = port
            self.programmed = programmed
            self.message = message
        }
    }
}
