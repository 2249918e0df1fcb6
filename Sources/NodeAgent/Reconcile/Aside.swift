internal import Foundation
internal import Synchronization

/// Work that takes long, on a thread of its own, so that the agent's can answer meanwhile.
final class Aside<Outcome: Sendable>: Sendable {
    private let result = Mutex<Outcome?>(nil)

    /// `nil` while it goes on; `questions` is woken when it is done.
    var outcome: Outcome? { result.withLock { $0 } }

    init(_ questions: Questions, _ work: @escaping @Sendable () -> Outcome) {
        let thread = Thread {
            let outcome = work()
            self.result.withLock { $0 = outcome }
            questions.wake()
        }
        // What the first thread of a process has: reading goes as deep as objects do.
        thread.stackSize = 8 << 20
        thread.start()
    }
}
