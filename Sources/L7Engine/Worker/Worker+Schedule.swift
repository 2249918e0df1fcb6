// Who is served next: deficit round-robin over accounts. What the kernel reports, and what a turn
// made possible, waits in the queue of its account; each account gets a quantum of time in turn, so
// that one that floods delays the others by its quantum and not by its queue. An event cannot be
// interrupted: what it cost beyond the quantum its account owes, and pays by letting others pass.
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
                if accounts[index].deficit < 0 { payByWaiting(index) }
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
        var passedFirst: Int32 = -1
        while activeFirst >= 0 {
            let index = activeFirst
            if accounts[index].deficit < 0, passes(index, &passedFirst) { continue }
            passedFirst = -1
            let link = accounts[index].first
            accounts[index].first = link.it.readyNext
            fetch(link.it.readyNext)
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
                accounts[index].isActive = false
                accounts[index].restedAt = at
                activeFirst = accounts[index].next
            } else if accounts[index].deficit <= 0 {
                letPass(index)
            }
            if at > end { return }
        }
    }

    /// The records of whoever is served next come out of the far caches while the one before is
    /// served: of hundreds of connections that take turns none is still near.
    @inline(__always)
    private func fetch(_ link: Link) {
        guard !link.isNone else { return }
        unsafe engine_fetch(link.pointer, MemoryLayout<Connection>.size)
        let partner = link.it.partner
        if !partner.isNone {
            unsafe engine_fetch(partner.pointer, MemoryLayout<Connection>.size)
        }
    }

    /// The account's turn is over: the next one comes, if there is one.
    private func letPass(_ index: Int32) {
        accounts[index].deficit = max(accounts[index].deficit, -debtMax) + quantum
        guard accounts[index].next >= 0 else { return }
        activeFirst = accounts[index].next
        appendActive(index)
    }

    /// Whether an account that owes lets the others pass: one event may have cost it more than a
    /// quantum, and each turn that it forgoes pays one. Where all owe, nobody is held up: the one
    /// that owes least is served.
    private func passes(_ index: Int32, _ first: inout Int32) -> Bool {
        if accounts[index].next < 0 {
            accounts[index].deficit = 0
            return false
        }
        if first == index {
            forgive()
            first = -1
        } else {
            if first < 0 { first = index }
            letPass(index)
        }
        return true
    }

    /// All that are active owe: none owes less than before in comparison with the others.
    private func forgive() {
        var least = Int64.min
        var index = activeFirst
        while index >= 0 {
            least = max(least, accounts[index].deficit)
            index = accounts[index].next
        }
        guard least < 0 else { return }
        index = activeFirst
        while index >= 0 {
            accounts[index].deficit -= least
            index = accounts[index].next
        }
    }

    /// What an account owes is paid by the time in which it asked for nothing, too.
    private func payByWaiting(_ index: Int32) {
        let rest = engine_cycles() &- accounts[index].restedAt
        accounts[index].deficit =
            max(accounts[index].deficit, -debtMax) + Int64(min(rest, UInt64(debtMax)))
    }

    /// Notes what was done for an account outside of `serve`, up to the moment `at`.
    func spend(_ index: Int32, _ cycles: UInt64, at: UInt64) {
        accounts[index].cycles &+= cycles
        if !accounts[index].isActive {
            // The rest until now has paid.
            if accounts[index].deficit < 0 {
                payByWaiting(index)
                accounts[index].deficit = min(accounts[index].deficit, 0)
            }
            accounts[index].restedAt = at
        }
        accounts[index].deficit -= Int64(truncatingIfNeeded: cycles)
    }

    /// What is read from here on is the server's doing, where it has an account: the black box
    /// names it, and not who asked. Time and memory stay with who asked.
    @inline(__always)
    func blame(_ link: Link) {
        if link.it.server > 0 { slot.reads(link.it.server) }
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
