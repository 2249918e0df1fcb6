/// All threads of one child that show signs of life: its workers, and the agent's own.
struct Heartbeat {
    /// So much longer the agent's own thread may be silent: it waits that long for a worker.
    static let agentMore: Int64 = 10_000

    /// Which thread has been silent for too long.
    struct Finding: Equatable {
        /// `nil`: the agent's own.
        var worker: UInt32?
        var isStopped: Bool
        var milliseconds: Int64

        /// As a log line says it.
        var text: String {
            let who = worker.map { "worker \($0)" } ?? "the agent's own thread"
            let what = isStopped ? "is stopped" : "hangs"
            return "\(who) \(what): no sign of life for \(milliseconds / 1_000) s"
        }
    }

    private var workers: [Silence]
    private var agent = Silence(mayCompute: true)
    private var lookedAt: Int64?

    init(workers: Int) { self.workers = Array(repeating: Silence(), count: workers) }

    /// - Parameters:
    ///   - max: milliseconds that a worker may be silent.
    ///   - hasServed: until then the agent's own thread may wait as long as it likes.
    ///   - isHeard: somebody reads the log. The agent's own thread may wait for that as long as it
    ///     takes: workers serve.
    mutating func look(
        _ page: borrowing BlackBoxPage, of process: Int32, max: Int64, at time: Int64,
        hasServed: Bool, isHeard: Bool
    ) -> Finding? {
        let elapsed = lookedAt.map { time - $0 } ?? 0
        lookedAt = time
        for index in workers.indices {
            let (beat, thread) = page.pulse(ofWorker: UInt32(index))
            guard thread > 0 else { continue }
            var state: Silence.State?
            let silent = workers[index].look(beat, after: elapsed) {
                let sight = Self.sight(process, thread)
                state = sight?.state
                return sight
            }
            guard silent >= max else { continue }
            return Finding(
                worker: UInt32(index), isStopped: state == .isStopped, milliseconds: silent)
        }
        // A child of a program that knows nothing of it shows none.
        guard hasServed, page.agentPulse > 0 else { return nil }
        guard isHeard else {
            agent = Silence(mayCompute: true)
            return nil
        }
        let silent = agent.look(page.agentPulse, after: elapsed) { Self.sight(process, process) }
        guard silent >= max + Self.agentMore else { return nil }
        return Finding(worker: nil, isStopped: false, milliseconds: silent)
    }

    /// `nil`: there is no such thread, or the kernel does not tell.
    ///
    /// - Source: proc(5), `stat`; `schedstat` needs CONFIG_SCHED_INFO.
    private static func sight(_ process: Int32, _ thread: Int32) -> Silence.Sight? {
        let place = "/proc/\(process)/task/\(thread)/"
        // The name before it may hold anything.
        let behind = textFile(place + "stat", bytesMax: 1_024).split(separator: ")").last
        guard let letter = behind?.split(separator: " ").first?.first,
            let ran = textFile(place + "schedstat", bytesMax: 256).split(separator: " ").first
                .flatMap({ UInt64($0) })
        else { return nil }
        return Silence.Sight(state: Silence.State(letter), ranNanoseconds: ran)
    }
}
