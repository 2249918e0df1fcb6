internal import BPFLoader
internal import MeshModel

/// The datapath as the agent sees it: off, loaded, or failed and tried again.
///
/// - Threads: the agent's.
struct DatapathState {
    private(set) var mode: DatapathMode
    private(set) var options: DatapathOptions
    private(set) var datapath: Datapath?
    /// What is wrong as a whole, empty if nothing is.
    private(set) var failure = ""
    /// What of the last `apply` is not in force.
    private(set) var problems: [ApplyProblem] = []
    private(set) var appliesFailed: UInt64 = 0
    /// The last `apply` failed.
    private var hasRefused = false
    /// The last `apply` was left to another agent, whose datapath it is.
    private(set) var isOwed = false
    /// Since when other agents' programs have been there, and when one was last seen to start.
    private var succeeded: (since: ContinuousClock.Instant, started: ContinuousClock.Instant)?
    /// Once it was true, another agent may take over; until then this one takes over itself.
    private var hasApplied = false

    init(_ mode: DatapathMode, _ options: DatapathOptions) {
        self.mode = mode
        self.options = options
    }

    /// `on`, `off` or `failed`.
    var word: String { mode == .off ? "off" : failure.isEmpty ? "on" : "failed" }

    var message: String {
        guard failure.isEmpty else { return failure }
        return problems.map { "\($0.subject): \($0.message)" }.joined(separator: "; ")
    }

    /// Something is not in force, and may be at the next try.
    var isShort: Bool { !failure.isEmpty || !problems.isEmpty || datapath == nil }

    /// Loads or adopts programs and maps. Does nothing when that is done, or nothing is wanted.
    mutating func load(listeners: [Int32]) {
        guard mode == .on, datapath == nil else { return }
        do throws(BPFError) {
            let loaded = try Datapath(options)
            try loaded.serve(listeners: listeners)
            datapath = loaded
            failure = ""
        } catch {
            failure = "the datapath cannot be loaded: \(error)"
        }
    }

    /// Of the uplink that takes the shortest packets, bytes; 0: there is none.
    var uplinkMTU: UInt32 { datapath?.uplinkMTU ?? 0 }

    /// Of policies, that the kernel holds since before this agent.
    var numbersInUse: PolicyNumbersInUse { datapath?.policyNumbersInUse ?? PolicyNumbersInUse() }

    /// Takes out flows that are over.
    func collect() { datapath?.collect() }

    /// Looks whether the kernel still runs what it should, and puts it right.
    func verify() -> [Repair] { datapath?.verify() ?? [] }

    /// Looks whether interfaces of pods came, went, or are others.
    func lookAtInterfaces() -> [Repair] { datapath?.lookAtInterfaces() ?? [] }

    /// The engine's veth has another index now.
    mutating func moveEngine(to interface: UInt32) {
        options.engineInterface = interface
        guard let datapath else { return }
        do throws(BPFError) {
            try datapath.moveEngine(to: interface)
        } catch {
            appliesFailed += 1
            failure = "the datapath cannot be attached to the engine's veth: \(error)"
        }
    }

    /// How long another agent may take from its first program to serving, and to be told of here
    /// once it serves; then it is taken for dead, and what it has changed is put right.
    private static let successorMax = (start: Duration.seconds(60), word: Duration.seconds(5))

    /// Whether the datapath is another agent's, who is about to take this one's place: what it has
    /// changed there stays.
    mutating func isYielded() -> Bool {
        guard let datapath, datapath.hasSuccessor else {
            succeeded = nil
            return false
        }
        let now = ContinuousClock.now
        var seen = succeeded ?? (now, now)
        if datapath.isSuccessorStarting { seen.started = now }
        succeeded = seen
        if hasApplied, now - seen.since <= Self.successorMax.start,
            now - seen.started <= Self.successorMax.word
        {
            return true
        }
        do throws(BPFError) {
            try datapath.resume()
            succeeded = nil
            isOwed = true
        } catch {
            failure = "the datapath of an agent that has died cannot be taken back: \(error)"
        }
        return false
    }

    /// Brings the snapshot into force, as far as the kernel lets us.
    ///
    /// - Parameter isKept: see `Datapath.apply`.
    /// - Returns: whether the kernel has judged by older rows until now, because it refused newer,
    ///   or because another agent was about to take over.
    mutating func apply(_ snapshot: Snapshot, isKept: Bool) -> Bool {
        let isYielded = isYielded()
        let wasOwed = isOwed
        isOwed = isYielded
        guard let datapath, !isYielded else { return false }
        defer { hasRefused = !failure.isEmpty }
        do throws(BPFError) {
            problems = try datapath.apply(snapshot, isKept: isKept)
            failure = ""
            hasApplied = true
            return hasRefused || wasOwed
        } catch {
            appliesFailed += 1
            failure = "the datapath refused the configuration: \(error)"
            return false
        }
    }
}
