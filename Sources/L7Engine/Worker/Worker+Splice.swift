// Large bodies and tunnels: pages move from socket to socket through a pipe, and nobody copies
// them. Only between plain connections, and of HTTP only what the framing knows to be a body.
// (docs/decisions/0006-splice.md)
//
// The pipe stands before the receiver's `output`: while it holds anything, the sender is not read.
// What it holds is charged to the receiver's account, and no account may hold more than its share
// of pipes and of bytes in them: beyond, its bodies are copied, and nobody else's.

internal import CLinux
internal import Glibc

/// Pipes of one worker, made when they are first needed.
///
/// - Owns: the descriptors that lie in it; those taken belong to the connection that has them.
/// - Limits: `Limits.pipesMax`, `Limits.pipesKeptMax`, `Limits.pipeBytesMax`.
struct PipePool: ~Copyable {
    private var free: [Pipe] = []
    private var made = 0
    /// Bytes in all that are taken, that a receiver has not taken.
    var heldBytes = 0

    init(keptMax: Int) { free.reserveCapacity(keptMax) }

    deinit { for pipe in free { Self.end(pipe) } }

    private static func end(_ pipe: Pipe) {
        Glibc.close(pipe.read)
        Glibc.close(pipe.write)
    }

    /// `none` when there are as many as may be, or no descriptors below `descriptorsMax`.
    mutating func take(_ limits: Limits, below descriptorsMax: Int32) -> Pipe {
        if heldBytes >= limits.pipeBytesMax { return .none }
        if let pipe = free.popLast() { return pipe }
        guard made < limits.pipesMax else { return .none }
        var pipe = Pipe.none
        // Safe: the call writes one number.
        pipe.read = unsafe engine_splice_pipe(Int32(limits.spliceBytesMax), &pipe.write)
        guard pipe.read >= 0 else { return .none }
        guard pipe.read < descriptorsMax, pipe.write < descriptorsMax else {
            Self.end(pipe)
            return .none
        }
        made += 1
        return pipe
    }

    /// One that holds bytes of a connection that is gone is closed: nobody may read them.
    mutating func give(_ pipe: Pipe, _ limits: Limits) {
        if pipe.held == 0, free.count < limits.pipesKeptMax {
            free.append(pipe)
        } else {
            Self.end(pipe)
            made -= 1
        }
    }
}

struct Pipe: BitwiseCopyable {
    var read: Int32 = -1
    var write: Int32 = -1
    /// Bytes in it.
    var held = 0
    /// Of those, charged to the account.
    var charged = 0
    var account: Int32 = 0
    static let none = Pipe()
    @inline(__always) var isNone: Bool { read < 0 }
}

enum Spliced { case moved, nothing, ended, broken, refused }

extension Worker {
    /// Whether what is left of the sender's body is worth a pipe.
    @inline(__always)
    func isSpliced(_ from: Link, _ to: Link) -> Bool {
        from.it.framing.spliceable >= UInt64(limits.spliceBytesMin) && from.it.session.isNone
            && to.it.session.isNone
    }

    /// Moves what the socket has of a body. The receiver must not be blocked.
    func spliceBody(_ from: Link, _ to: Link) -> (Spliced, Int) {
        let wanted = min(from.it.framing.spliceable, UInt64(limits.spliceBytesMax))
        let (result, count) = splice(from, to, Int(wanted))
        // Body bytes all: the framing only counts them.
        unsafe _ = from.it.framing.advance(scratch, 0, count)
        return (result, count)
    }

    /// Moves at most `wanted` bytes. The receiver must not be blocked.
    func splice(_ from: Link, _ to: Link, _ wanted: Int) -> (Spliced, Int) {
        guard to.it.pipe.held == 0, takePipe(to) else { return (.refused, 0) }
        let count = engine_splice(from.it.descriptor, to.it.pipe.write, wanted)
        guard count > 0 else {
            // It is of no use to who waits.
            dropPipe(to)
            from.it.canRead = false
            push(to)
            if count == -Int(EAGAIN) { return (.nothing, 0) }
            from.it.hasEnded = true
            if count < 0 { from.it.isBroken = true }
            return (.ended, 0)
        }
        to.it.pipe.held = count
        movedBytes += count
        to.it.isHeldBack = false
        return (drainPipe(to) ? .moved : .broken, count)
    }

    /// Gives the socket what the pipe holds; `false`: the connection is broken.
    func drainPipe(_ to: Link) -> Bool {
        while to.it.pipe.held > 0 {
            let sent = engine_splice(to.it.pipe.read, to.it.descriptor, to.it.pipe.held)
            if sent == -Int(EAGAIN) {
                chargePipe(to, to.it.pipe.held)
                return to.it.isWatched || watch(to)
            }
            guard sent > 0 else {
                noteReset(to, sent)
                return false
            }
            to.it.pipe.held -= sent
        }
        dropPipe(to)
        return true
    }

    /// `false`: there is none for this account now.
    private func takePipe(_ to: Link) -> Bool {
        let account = to.it.account
        if accounts[account].pipes >= Int32(limits.accountPipesMax)
            || accounts[account].pipeBytes >= UInt64(limits.accountPipeBytesMax)
        {
            tally.count(.accountPipesRefused)
            return false
        }
        to.it.pipe = pipes.take(limits, below: descriptorsMax)
        if to.it.pipe.isNone {
            tally.count(.pipesRefused)
            return false
        }
        to.it.pipe.account = account
        accounts[account].pipes += 1
        return true
    }

    /// Gives back what the connection has; what is in it is lost.
    func dropPipe(_ link: Link) {
        guard !link.it.pipe.isNone else { return }
        chargePipe(link, 0)
        accounts[link.it.pipe.account].pipes -= 1
        pipes.give(link.it.pipe, limits)
        link.it.pipe = .none
    }

    private func chargePipe(_ to: Link, _ bytes: Int) {
        let difference = bytes - to.it.pipe.charged
        if difference == 0 { return }
        to.it.pipe.charged = bytes
        pipes.heldBytes += difference
        accounts[to.it.pipe.account].pipeBytes &+= UInt64(bitPattern: Int64(difference))
    }

    /// Lets go what waits for more that has not come.
    @inline(__always)
    func push(_ to: Link) {
        guard to.it.isHeldBack else { return }
        to.it.isHeldBack = false
        engine_push(to.it.descriptor)
    }
}
