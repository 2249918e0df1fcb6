internal import AdminAPI
internal import BPFLoader
internal import Foundation
internal import MeshModel
internal import Synchronization

/// Reads the kernel's ring of flow events on a thread of its own, gives them names and keeps them.
///
/// - Threads: the agent's, but for the one that it starts.
final class FlowReader: Sendable {
    private struct Names {
        var current: FlowNames?
        /// Not the whole generation: two meshes would be kept.
        var before: CompiledPolicy?
        /// By the index of their interface.
        var pods: [UInt32: String] = [:]
    }

    /// What the kernel had lost when it was asked last.
    private struct Lost {
        var known: FlowEventCounts?
        var source: EventSource?
        var failure = ""
    }

    let history: FlowHistory
    let node: String
    private let names = Mutex(Names())
    private let state = Mutex(Lost())

    init(node: String, historyMax: Int) {
        self.node = node
        history = FlowHistory(limit: historyMax)
    }

    /// Events from now on are explained by this configuration.
    func follow(_ snapshot: Snapshot) {
        let previous = names.withLock { $0.current }
        guard previous?.snapshot !== snapshot else { return }
        let new = FlowNames(snapshot, after: previous)
        names.withLock {
            if previous?.snapshot.shape !== snapshot.shape { $0.before = previous?.snapshot.policy }
            $0.current = new
        }
    }

    /// The node's pods, by the index of their interface, as far as they have one now.
    func know(_ pods: [UInt32: String]) { names.withLock { $0.pods = pods } }

    /// Begins to read, once the process that read before has ended; does nothing the second time.
    func start(_ datapath: Datapath) {
        guard state.withLock({ $0.source == nil && $0.failure.isEmpty }) else { return }
        do throws(BPFError) {
            let source = try datapath.eventSource()
            state.withLock { $0.source = source }
            Thread.detachNewThread { self.read(source) }
        } catch {
            state.withLock { $0.failure = "flow events are not read: \(error)" }
        }
    }

    /// Lets another process read.
    func stop() { state.withLock { $0.source }?.stop() }

    /// Why nothing is read; empty if nothing is wrong.
    var failure: String { state.withLock { $0.failure } }

    private func read(_ source: EventSource) {
        do throws(BPFError) {
            let ring = try EventRing(source)
            while ring.wait() { take(ring.take()) }
        } catch {
            state.withLock { $0.failure = "flow events are not read: \(error)" }
        }
    }

    private func take(_ events: [FlowEvent]) {
        let names = self.names.withLock { $0 }
        guard !events.isEmpty, let current = names.current else { return }
        history.append(events.map { current.item($0, before: names.before, pods: names.pods) })
    }

    /// Says in the history how many events are missing there since the last time.
    func note(_ counts: FlowEventCounts) {
        let known = state.withLock { state in
            defer { state.known = counts }
            // What was lost before this process is nobody's news.
            return state.known ?? counts
        }
        let lost = [
            ("ring_full", counts.ringFull &- known.ringFull), ("rate", counts.rate &- known.rate),
        ].filter { $0.1 > 0 }
        history.append(lost.map { Self.lost(Int($0.1), $0.0, node: node) })
    }

    static func lost(_ count: Int, _ reason: String, node: String) -> FlowEventItem {
        let now = Int64(Date().timeIntervalSince1970 * 1_000_000) * 1_000
        return FlowEventItem(
            time: FlowNames.text(now), node: node, verdict: "lost", reason: reason, packets: count)
    }
}
