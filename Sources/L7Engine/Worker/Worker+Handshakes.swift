// Handshakes of clients, and of peers that open tunnels: how many are under way. Nobody knows
// before who will go on with one, so nobody is refused for those who do not: where there are too
// many, the one that has stood still for longest goes, of the account that has most of them. Peers
// have a number of their own: strangers at a Gateway do not keep nodes apart.

internal import Glibc

/// An account's, in the order in which they went on; linked by `idleNext` and `idlePrevious`.
struct HandshakeQueue: BitwiseCopyable {
    private(set) var count: Int32 = 0
    private(set) var first = Link.none
    private var last = Link.none

    mutating func append(_ link: Link) {
        count += 1
        link.it.idleNext = .none
        link.it.idlePrevious = last
        if last.isNone { first = link } else { last.it.idleNext = link }
        last = link
    }

    mutating func remove(_ link: Link) {
        count -= 1
        let (previous, next) = (link.it.idlePrevious, link.it.idleNext)
        if previous.isNone { first = next } else { previous.it.idleNext = next }
        if next.isNone { last = previous } else { next.it.idlePrevious = previous }
        link.it.idleNext = .none
        link.it.idlePrevious = .none
    }
}

extension Worker {
    func handshakeBegins(_ link: Link) {
        if isPeer(link) { greetingsOpen += 1 } else { handshakesOpen += 1 }
        change(link) { $0.append(link) }
    }

    /// It is done, or the connection is.
    func handshakeEnded(_ link: Link) {
        if isPeer(link) { greetingsOpen -= 1 } else { handshakesOpen -= 1 }
        change(link) { $0.remove(link) }
    }

    /// One that was answered has gone on: those before it have not.
    func noteProgress(of link: Link) {
        guard !link.it.isShaking, hasAnswered(link) else { return }
        link.it.isShaking = true
        change(link) {
            $0.remove(link)
            $0.append(link)
        }
    }

    /// Before one more begins.
    func makeRoomForHandshake(of link: Link) {
        let isPeer = isPeer(link)
        let own = queue(link.it.account, isPeer)
        let open = isPeer ? greetingsOpen : handshakesOpen
        if own.count >= Int32(limits.accountHandshakesMax) {
            giveUp(own.first)
        } else if open >= limits.handshakesMax {
            giveUp(queue(holderOfMost(isPeer), isPeer).first)
        }
    }

    private func giveUp(_ link: Link) {
        guard !link.isNone else { return }
        if isPeer(link) {
            turnAway(link, .overload, .memory)
        } else {
            tally.count(.downstream, .overload)
            close(link)
        }
    }

    private func holderOfMost(_ isPeer: Bool) -> Int32 {
        var holder: Int32 = 0
        var most: Int32 = 0
        for index in 0..<Int32(accounts.count) {
            let count = queue(index, isPeer).count
            if count > most { (holder, most) = (index, count) }
        }
        return holder
    }

    private func isPeer(_ link: Link) -> Bool { link.it.role == .carrier }

    private func queue(_ account: Int32, _ isPeer: Bool) -> HandshakeQueue {
        isPeer ? accounts[account].greetings : accounts[account].handshakes
    }

    private func change(_ link: Link, _ body: (inout HandshakeQueue) -> Void) {
        let account = link.it.account
        if isPeer(link) {
            body(&accounts[account].greetings)
        } else {
            body(&accounts[account].handshakes)
        }
    }
}
