internal import CLinux
internal import Foundation
internal import MeshConfig
internal import Synchronization

/// Writes what is in force to the state directory, on a thread of its own, so that no disk delays
/// the configuration.
///
/// - Owns: the state directory's `config`.
/// - Threads: `keep`, `report` and `finish` any; `load` before the first `keep`.
final class LastGoodKeeper: Sendable {
    /// How long `finish` waits for the disk.
    static let finishSeconds = 3.0

    /// What there is to say about it.
    struct Report: Sendable, Equatable {
        /// Files of an earlier agent that could not be used.
        var readErrors: UInt64 = 0
        var writeErrors: UInt64 = 0
        var objects = 0
        var bytes = 0
        /// What is wrong now, one line each: what was ignored at the start, what is not kept.
        var problems: [String] { ignored + unkept }
        fileprivate(set) var ignored: [String] = []
        fileprivate(set) var unkept: [String] = []
    }

    private struct State: Sendable {
        var directory: LastGoodDirectory
        var next: LastGood?
        var isWriting = false
        var report = Report()
    }
    private let state: Mutex<State>

    init(_ directory: LastGoodDirectory) {
        state = Mutex(State(directory: directory))
    }

    var report: Report { state.withLock { $0.report } }

    /// Whether something is not kept that should be.
    var hasFailed: Bool { state.withLock { !$0.report.unkept.isEmpty } }

    /// What the agent before this one kept.
    func load() -> LastGood {
        // Not while it is locked: whoever asks for the report does not wait for the disk.
        var directory = state.withLock { $0.directory }
        let (lastGood, problems) = directory.load()
        state.withLock { state in
            state.directory = directory
            state.report.ignored = problems
            state.report.readErrors += UInt64(problems.count)
        }
        return lastGood
    }

    /// Writes it soon; of several, the newest.
    func keep(_ lastGood: LastGood) {
        let isIdle = state.withLock { state in
            var next = lastGood
            if let earlier = state.next { next.absorb(earlier) }
            state.next = next
            defer { state.isWriting = true }
            return !state.isWriting
        }
        guard isIdle else { return }
        Thread.detachNewThread { self.write() }
    }

    /// Waits, for a moment at most, until all is written.
    func finish() {
        let end = ContinuousClock.now + .seconds(Self.finishSeconds)
        while ContinuousClock.now < end, state.withLock({ $0.isWriting }) {
            Thread.sleep(forTimeInterval: 0.01)
        }
    }

    /// Until nothing new is there: one write for all that came meanwhile.
    private func write() {
        while let (lastGood, before) = take() {
            var directory = before
            let isFirst = !directory.isLoaded
            var ignored: [String] = []
            if isFirst { ignored = directory.load().problems }
            let outcome = directory.keep(lastGood)
            if lastGood.isWhole { malla_trim() }
            state.withLock { state in
                state.directory = directory
                if isFirst {
                    state.report.ignored = ignored
                    state.report.readErrors += UInt64(ignored.count)
                }
                state.report.unkept = outcome.problems
                state.report.writeErrors += UInt64(outcome.problems.count)
                state.report.objects = outcome.objects
                state.report.bytes = outcome.bytes
            }
        }
    }

    private func take() -> (LastGood, LastGoodDirectory)? {
        state.withLock { state in
            guard let next = state.next else {
                state.isWriting = false
                return nil
            }
            state.next = nil
            return (next, state.directory)
        }
    }
}
