// What `malla bpf stats` shows: what the programs decided, and how full the maps are.

/// The node's datapath in numbers. Source: `GET /v1/bpf/stats`, kind `BPFStatsList`, one item;
/// none with the datapath off.
public struct BPFStatsItem: Codable, Sendable, Equatable {
    public var verdicts: [Verdict]
    public var maps: [Map]
    public var programs: [Program]

    public init(verdicts: [Verdict] = [], maps: [Map] = [], programs: [Program] = []) {
        self.verdicts = verdicts
        self.maps = maps
        self.programs = programs
    }

    /// How often a hook decided so, since the maps were made.
    public struct Verdict: Codable, Sendable, Equatable {
        public var hook: String
        public var verdict: String
        /// Packets at tc hooks; calls at cgroup and lookup hooks.
        public var packets: UInt64

        public init(hook: String, verdict: String, packets: UInt64) {
            self.hook = hook
            self.verdict = verdict
            self.packets = packets
        }
    }

    /// One map.
    public struct Map: Codable, Sendable, Equatable {
        public var name: String
        public var type: String
        public var entries: UInt64
        public var entriesMax: UInt64
        /// Rows refused because the map was full.
        public var refused: UInt64

        public init(
            name: String, type: String, entries: UInt64, entriesMax: UInt64, refused: UInt64 = 0
        ) {
            self.name = name
            self.type = type
            self.entries = entries
            self.entriesMax = entriesMax
            self.refused = refused
        }
    }

    /// One program. Run counts need `kernel.bpf_stats_enabled=1`; else they are 0.
    public struct Program: Codable, Sendable, Equatable {
        public var name: String
        public var id: UInt32
        public var attachedTo: String
        public var pinned: Bool
        /// Taken over from the agent before this one.
        public var adopted: Bool
        public var runCount: UInt64
        public var runNanoseconds: UInt64

        public init(
            name: String, id: UInt32, attachedTo: String, pinned: Bool, adopted: Bool,
            runCount: UInt64 = 0, runNanoseconds: UInt64 = 0
        ) {
            self.name = name
            self.id = id
            self.attachedTo = attachedTo
            self.pinned = pinned
            self.adopted = adopted
            self.runCount = runCount
            self.runNanoseconds = runNanoseconds
        }
    }
}
