// The façade of the engine: the agent starts it, gives it snapshots and listening sockets, reads
// its counters, drains it. Inside, one thread a worker and nothing shared between them.

public import MeshModel

/// What the engine needs before it can start.
public struct EngineOptions: Sendable {
    /// Threads, each with an epoll set, pools and counters of its own.
    public var workers: Int
    /// Listening sockets in the engine's network namespace, one for each worker, in order; empty
    /// where the datapath is off. Not closed by the engine.
    public var capturedListeners: [Int32]
    /// A descriptor of the engine's network namespace, which the workers enter; `nil`: stay here.
    public var engineNamespace: Int32?

    public init(workers: Int, capturedListeners: [Int32] = [], engineNamespace: Int32? = nil) {
        self.workers = workers
        self.capturedListeners = capturedListeners
        self.engineNamespace = engineNamespace
    }
}

public enum EngineError: Error, Equatable {
    /// A system call failed while the engine started.
    case refused(call: String, errno: Int32)
}

/// Serves the node's L7 connections.
///
/// - Threads: every method may be called from any thread; `start` once.
public final class Engine: Sendable {
    public init(_ options: EngineOptions) throws(EngineError) {
    }

    /// Starts the workers; returns once each of them is in its loop.
    public func start() throws(EngineError) {
    }

    /// Gives every worker the new configuration. `sockets[i]` are the listening descriptors of
    /// `snapshot.gatewaySockets[i]`, one for each worker (empty where it could not be opened).
    /// A worker accepts from its own; descriptors that are gone from the list are forgotten, not
    /// closed: the caller owns them and closes them after this returns (workers have let go then).
    public func adopt(_ snapshot: Snapshot, sockets: [[Int32]]) {
    }

    /// No new connections are kept alive, exchanges in flight may end until the deadline; returns
    /// when all are done or the time is over.
    public func drain(seconds: Int) {
    }

    /// The engine's metrics in Prometheus' text format 0.0.4.
    public func exposition() -> String { "" }

    /// Access log lines (without line end) since the last call, at most `max`.
    public func takeAccessLog(max: Int) -> [String] { [] }

    /// For `malla status`: sums over the workers.
    public struct Totals: Sendable, Equatable {
        public var connections: UInt64 = 0
        public var connectionsActive: UInt64 = 0
        public var requests: UInt64 = 0
        public init() {}
    }
    public func totals() -> Totals { Totals() }
}
