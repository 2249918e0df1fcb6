// Who is served next: deficit round-robin over accounts. What the kernel reports, and what a turn
// made possible, waits in the queue of its account; each account gets a quantum of time in turn, so
// that one that floods delays the others by its quantum and not by its queue.
//
// - Source: Shreedhar and Varghese, "Efficient Fair Queuing using Deficit Round Robin", 1995.

internal import CLinux
internal import Glibc

extension Worker {
    /// Takes note of an event; it is served in `serve`.
    @inline(__always)
    func note(_ link: Link, _ events: UInt32) {
        guard link.it.phase != .dead else { return }
        link.it.events |= events
        makeReady(link)
    }

    func makeReady(_ link: Link) {
        guard !link.isNone, !link.it.isReady, link.it.phase != .dead else { return }
        link.it.isReady = true
        link.it.readyNext = .none
        let index = link.it.account
        if accounts[index].first.isNone {
            accounts[index].first = link
            if !accounts[index].isActive {
                accounts[index].isActive = true
                accounts[index].deficit = min(accounts[index].deficit, 0) + quantum
                appendActive(index)
            }
        } else {
            accounts[index].last.it.readyNext = link
        }
        accounts[index].last = link
    }

    var hasReady: Bool { activeFirst >= 0 }

    private func appendActive(_ index: Int32) {
        accounts[index].next = -1
        if activeFirst < 0 {
            activeFirst = index
        } else {
            accounts[activeLast].next = index
        }
        activeLast = index
    }

    /// Serves accounts in turn, until nothing is left or the turn is over: then the kernel may know
    /// of somebody who came meanwhile.
    func serve() {
        guard hasReady else { return }
        var at = engine_cycles()
        askedAt = at
        let end = at &+ UInt64(turn)
        defer { slot.rest() }
        while activeFirst >= 0 {
            let index = activeFirst
            let link = accounts[index].first
            accounts[index].first = link.it.readyNext
            link.it.isReady = false
            if link.it.phase != .dead {
                charge(index)
                slot.serve(index)
                let events = link.it.events
                link.it.events = 0
                movedBytes = 0
                servedAt = at
                dispatchStream(link, events)
                if !link.it.isWatched { settle(link) }
            }
            let now = engine_cycles()
            let spent = now &- at
            at = now
            accounts[index].cycles &+= spent
            accounts[index].deficit -= Int64(truncatingIfNeeded: spent)
            if accounts[index].first.isNone {
                // What it owes it will pay when it comes again, but not for ever.
                accounts[index].deficit = max(accounts[index].deficit, -4 * quantum)
                accounts[index].isActive = false
                activeFirst = accounts[index].next
            } else if accounts[index].deficit <= 0 {
                accounts[index].deficit = max(accounts[index].deficit, -4 * quantum) + quantum
                if accounts[index].next >= 0 {
                    activeFirst = accounts[index].next
                    appendActive(index)
                }
            }
            if at > end { return }
        }
    }

    /// Blocks taken and given from here on are the account's.
    @inline(__always)
    func charge(_ index: Int32) {
        let account = unsafe accounts.bufferBytes(index)
        unsafe buffers.charged = unsafe account
        unsafe wire.charge(account, streamBytes)
    }

    /// One connection has moved its share of bytes, or used its account's share of time: the
    /// others first.
    @inline(__always)
    func yields(_ link: Link) -> Bool {
        guard movedBytes > limits.turnBytesMax || engine_cycles() &- servedAt > UInt64(quantum)
        else { return false }
        makeReady(link)
        return true
    }

    /// Whether the kernel was asked for news so long ago that it may have some.
    var isNewsOld: Bool { engine_cycles() &- askedAt > UInt64(turn) }
}
