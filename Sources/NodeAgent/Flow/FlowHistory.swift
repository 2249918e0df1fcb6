// The last flow events of this node, and whoever wants to hear of the next ones.

internal import AdminAPI
internal import Synchronization

/// - Threads: any. Those who follow are called one at a time, on the thread that appends, and must
///   not wait.
final class FlowHistory: Sendable {
    /// Who may follow at a time; each costs a copy of every event that it asks for.
    static let followersMax = 16

    private struct State {
        /// A ring: the oldest is at `oldest` once it is full.
        var events: [FlowEventItem] = []
        var oldest = 0
        var counts: [String: UInt64] = [:]
        var followers: [Int: Follower] = [:]
        var nextFollower = 0
    }

    private struct Follower {
        var question: FlowQuestion
        var deliver: @Sendable ([FlowEventItem]) -> Void
    }

    let limit: Int
    private let state = Mutex(State())

    /// - Parameter limit: events that are kept, at least 1.
    init(limit: Int) { self.limit = max(1, limit) }

    func append(_ items: [FlowEventItem]) {
        state.withLock { state in
            for item in items {
                state.counts[item.verdict, default: 0] += item.verdict == "lost" ? 0 : 1
                if state.events.count < limit {
                    state.events.append(item)
                } else {
                    state.events[state.oldest] = item
                    state.oldest = (state.oldest + 1) % limit
                }
            }
            for follower in state.followers.values {
                let wanted = items.filter(follower.question.admits)
                if !wanted.isEmpty { follower.deliver(wanted) }
            }
        }
    }

    /// The last events that the question admits, the oldest first.
    func last(_ question: FlowQuestion) -> [FlowEventItem] {
        state.withLock { Self.last(question, $0) }
    }

    /// The last events as `last` answers them, and from then on every new one to `deliver`, until
    /// `unfollow`. `nil`: too many follow already.
    func follow(
        _ question: FlowQuestion, _ deliver: @escaping @Sendable ([FlowEventItem]) -> Void
    ) -> (past: [FlowEventItem], follower: Int)? {
        state.withLock { state in
            guard state.followers.count < Self.followersMax else { return nil }
            let number = state.nextFollower
            state.nextFollower += 1
            state.followers[number] = Follower(question: question, deliver: deliver)
            return (Self.last(question, state), number)
        }
    }

    func unfollow(_ follower: Int) { state.withLock { $0.followers[follower] = nil } }

    /// Events so far, by verdict.
    var counts: [String: UInt64] { state.withLock { $0.counts } }

    private static func last(_ question: FlowQuestion, _ state: State) -> [FlowEventItem] {
        var found: [FlowEventItem] = []
        let count = state.events.count
        for age in 0..<count where found.count < question.last {
            let item = state.events[(state.oldest + count - 1 - age) % count]
            if question.admits(item) { found.append(item) }
        }
        return found.reversed()
    }
}
