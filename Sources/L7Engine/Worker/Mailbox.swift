internal import CLinux
internal import Glibc
internal import Synchronization

/// The one way into a worker: the newest configuration, and the word to drain. Ringing is a write
/// to an eventfd; the worker takes what lies there at the top of its next turn and says so, by the
/// number of what it took.
///
/// - Owns: two eventfds.
/// - Threads: any; `take` and `acknowledge` are the worker's.
final class Mailbox: Sendable {
    struct Mail: Sendable {
        var config: WorkerConfig?
        /// The kernel judges by the configuration's policies now, what was dialled meanwhile too.
        var arePoliciesApplied = false
        /// What is open to endpoints and nodes serves no further request.
        var dialsAnew = false
        /// Monotonic nanoseconds.
        var drainUntil: UInt64?
        /// Until then new connections are still accepted and answered.
        var acceptsMeanwhile = false
        var number = Mailbox.started
    }

    /// What a worker acknowledges when its loop begins.
    static let started: UInt64 = 1
    /// What it acknowledges when its loop has ended: nothing posted later will be taken.
    static let ended = UInt64.max

    private struct State {
        var mail = Mail()
        var posted = Mailbox.started
        var taken: UInt64 = 0
    }

    let bell: Int32
    private let answer: Int32
    private let state = Mutex(State())
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

    /// Leaves mail; answers its number, for `waits`.
    @discardableResult
    func post(_ change: (inout Mail) -> Void) -> UInt64 {
        let number = state.withLock {
            $0.posted += 1
            change(&$0.mail)
            return $0.posted
        }
        engine_ring(bell)
        return number
    }

    func hasTaken(_ number: UInt64) -> Bool { state.withLock { $0.taken >= number } }

    /// Returns once the worker has acted on what was posted under the number; `false`: it has not
    /// within the time.
    func waits(for number: UInt64, milliseconds: Int) -> Bool {
        let end = Worker.monotonic() + UInt64(milliseconds) * 1_000_000
        while !hasTaken(number) {
            let now = Worker.monotonic()
            guard now < end else { return false }
            // Another who waits may have heard the ring.
            let wait = min(20, (end - now) / 1_000_000 + 1)
            if engine_await(answer, Int32(wait)) != 0 { engine_hear(answer) }
        }
        return true
    }

    func take() -> Mail {
        engine_hear(bell)
        return state.withLock {
            var taken = $0.mail
            taken.number = $0.posted
            $0.mail = Mail()
            return taken
        }
    }

    func acknowledge(_ number: UInt64) {
        state.withLock { $0.taken = max($0.taken, number) }
        engine_ring(answer)
    }

    /// What kept the worker from starting: a positive errno, or 0.
    var startError: Int32 { failure.withLock { $0 } }
    func fail(_ code: Int32) { failure.withLock { $0 = code } }
}
