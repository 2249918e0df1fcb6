internal import CLinux
internal import Glibc
internal import Synchronization

/// The one way into a worker: the newest configuration, and the word to drain. Ringing is a write
/// to an eventfd; the worker takes what lies there at the top of its next turn and says so.
///
/// - Owns: two eventfds.
/// - Threads: any; `take` and `acknowledge` are the worker's.
final class Mailbox: Sendable {
    struct Mail: Sendable {
        var config: WorkerConfig?
        /// Monotonic nanoseconds.
        var drainUntil: UInt64?
        /// Whether anybody waits for `acknowledge`.
        var wantsAnswer = false
    }

    let bell: Int32
    private let answer: Int32
    private let mail = Mutex(Mail())
    private let failure = Mutex<Int32>(0)

    init() throws(EngineError) {
        bell = engine_bell(0)
        answer = engine_bell(0)
        guard bell >= 0, answer >= 0 else {
            throw .refused(call: "eventfd", errno: -min(bell, answer))
        }
    }

    deinit {
        close(bell)
        close(answer)
    }

    /// Leaves mail; with `waits` returns once the worker has acted on it, or after ten seconds.
    func post(waits: Bool, _ change: (inout Mail) -> Void) {
        mail.withLock {
            change(&$0)
            $0.wantsAnswer = $0.wantsAnswer || waits
        }
        engine_ring(bell)
        if waits { _ = waitForAnswer() }
    }

    /// `false`: ten seconds have passed.
    func waitForAnswer() -> Bool {
        guard engine_await(answer, 10_000) != 0 else { return false }
        engine_hear(answer)
        return true
    }

    func take() -> Mail {
        engine_hear(bell)
        return mail.withLock {
            let taken = $0
            $0 = Mail()
            return taken
        }
    }

    func acknowledge() { engine_ring(answer) }

    /// What kept the worker from starting: a positive errno, or 0.
    var startError: Int32 { failure.withLock { $0 } }
    func fail(_ code: Int32) { failure.withLock { $0 = code } }
}
