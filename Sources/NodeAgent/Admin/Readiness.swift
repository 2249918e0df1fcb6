internal import Synchronization

/// What `/readyz` says, by itself: whoever asks has a second, and the agent's thread may have to do
/// for longer (programs for hundreds of pods).
///
/// - Threads: any.
final class Readiness: Sendable {
    static let starting = "the configuration is being read for the first time"

    private let reasons = Mutex<[String]?>(nil)

    /// - Parameter reasons: why this node is not ready; none when it is.
    func publish(_ reasons: [String]) { self.reasons.withLock { $0 = reasons } }

    /// `nil`: nothing is known yet, whoever asks waits for the agent's thread.
    var answer: AdminAnswer? { reasons.withLock { $0 }.map(Self.answer) }

    static func answer(_ reasons: [String]) -> AdminAnswer {
        reasons.isEmpty
            ? .text(200, "ok\n") : .text(503, reasons.map { $0 + "\n" }.joined())
    }
}
