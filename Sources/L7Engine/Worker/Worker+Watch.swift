// Connections that are not in the epoll set yet. A client that connects, asks once and leaves would
// enter the set for nothing: its request has come when it is accepted, and its answer is the end.
// So a new plain connection is read at once, and enters the set when it turns out that something
// must be waited for: more bytes, the next request, a socket that takes no more, or an answer that
// is not there after `Limits.unwatchedNanosecondsMax` (its client may give up meanwhile).

internal import CLinux
internal import Glibc

/// In the order in which they were accepted, by `idleNext` and `idlePrevious`.
struct Unwatched: BitwiseCopyable {
    var first = Link.none
    var last = Link.none
}

extension Worker {
    /// What a connection is watched for: both directions, and the end of what comes.
    static var edges: UInt32 {
        EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
    }

    /// Enters the set; what is there already is reported. Ends the connection if it cannot.
    @discardableResult
    func watch(_ link: Link) -> Bool {
        if !link.it.isWatched { leaveUnwatched(link) }
        guard engine_watch(set, link.it.descriptor, Self.edges, link.token) == 0 else {
            close(link)
            return false
        }
        return true
    }

    /// Instead of `watch`, for a connection just accepted: it is read in this turn.
    func watchLater(_ link: Link) {
        link.it.isWatched = false
        link.it.openedAt = now
        link.it.idlePrevious = unwatched.last
        if unwatched.last.isNone {
            unwatched.first = link
        } else {
            unwatched.last.it.idleNext = link
        }
        unwatched.last = link
        note(link, EPOLLIN.rawValue)
    }

    /// After an unwatched connection was served: only one that waits for its last answer stays so.
    func settle(_ link: Link) {
        guard link.it.phase != .dead, !link.it.isWatched else { return }
        let isLast = link.it.phase == .waiting && !link.it.keepsAlive && !link.it.isBlocked
        if !isLast { watch(link) }
    }

    func leaveUnwatched(_ link: Link) {
        link.it.isWatched = true
        let (previous, next) = (link.it.idlePrevious, link.it.idleNext)
        if previous.isNone { unwatched.first = next } else { previous.it.idleNext = next }
        if next.isNone { unwatched.last = previous } else { next.it.idlePrevious = previous }
        link.it.idleNext = .none
        link.it.idlePrevious = .none
    }

    /// Those whose answer takes its time.
    func watchOverdue() {
        while !unwatched.first.isNone {
            let link = unwatched.first
            guard now &- link.it.openedAt >= limits.unwatchedNanosecondsMax else { return }
            watch(link)
        }
    }
}
