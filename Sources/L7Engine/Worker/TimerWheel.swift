// Deadlines of connections. Each connection has at most one place in the wheel; moving a deadline
// later costs one store, because the place is looked at again when its tick comes.

@safe struct TimerWheel: ~Copyable {
    static let slots = 512
    /// 2^24 ns: 16.8 ms.
    static let tickShift: UInt64 = 24

    private var heads: [Link]
    /// A bit for each slot: something is in it.
    private var taken: [UInt64]
    private var tick: UInt64
    private(set) var count = 0

    init(now: UInt64) {
        heads = Array(repeating: .none, count: Self.slots)
        taken = Array(repeating: 0, count: Self.slots / 64)
        tick = now >> Self.tickShift
    }

    /// Sets the connection's deadline; `.max`: none.
    mutating func arm(_ link: Link, at deadline: UInt64) {
        link.it.deadline = deadline
        guard deadline != .max else { return }
        let wanted = max(deadline >> Self.tickShift + 1, tick + 1)
        if link.it.timerSlot >= 0 {
            if link.it.timerTick <= wanted { return }
            remove(link)
        }
        place(link, at: wanted)
    }

    private mutating func place(_ link: Link, at wanted: UInt64) {
        let at = min(wanted, tick + UInt64(Self.slots - 1))
        let slot = Int(at & UInt64(Self.slots - 1))
        link.it.timerTick = at
        link.it.timerSlot = Int32(slot)
        link.it.timerPrevious = .none
        link.it.timerNext = heads[slot]
        if !heads[slot].isNone { heads[slot].it.timerPrevious = link }
        heads[slot] = link
        taken[slot >> 6] |= 1 << UInt64(slot & 63)
        count += 1
    }

    mutating func remove(_ link: Link) {
        guard link.it.timerSlot >= 0 else { return }
        let (previous, next) = (link.it.timerPrevious, link.it.timerNext)
        if previous.isNone {
            let slot = Int(link.it.timerSlot)
            heads[slot] = next
            if next.isNone { taken[slot >> 6] &= ~(1 << UInt64(slot & 63)) }
        } else {
            previous.it.timerNext = next
        }
        if !next.isNone { next.it.timerPrevious = previous }
        link.it.timerSlot = -1
        count -= 1
    }

    /// The next connection whose deadline has come; call until it answers `none`.
    mutating func expire(now: UInt64) -> Link {
        let nowTick = now >> Self.tickShift
        while tick <= nowTick {
            let slot = Int(tick & UInt64(Self.slots - 1))
            let link = heads[slot]
            if link.isNone {
                if tick == nowTick { break }
                tick += 1
                continue
            }
            remove(link)
            if link.it.deadline == .max { continue }
            if link.it.deadline <= now { return link }
            place(link, at: max(link.it.deadline >> Self.tickShift + 1, nowTick + 1))
        }
        return .none
    }

    /// Every connection that has a place.
    func all() -> [Link] {
        var links: [Link] = []
        for head in heads {
            var link = head
            while !link.isNone {
                links.append(link)
                link = link.it.timerNext
            }
        }
        return links
    }

    /// Milliseconds until something may expire; -1: nothing waits.
    func milliseconds(now: UInt64) -> Int32 {
        guard count > 0 else { return -1 }
        // Asked before every wait: 64 slots a step.
        var at = tick
        while at < tick + UInt64(Self.slots) {
            let slot = Int(at & UInt64(Self.slots - 1))
            let ahead = taken[slot >> 6] >> UInt64(slot & 63)
            if ahead != 0 {
                at += UInt64(ahead.trailingZeroBitCount)
                break
            }
            at += UInt64(64 - slot & 63)
        }
        let due = at << Self.tickShift
        guard due > now else { return 1 }
        return Int32((due - now) / 1_000_000) + 1
    }
}
