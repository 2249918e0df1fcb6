// What each workload costs a worker, and its place in the worker's order of service.

internal import CLinux
internal import Glibc
internal import MeshModel

/// One workload's account at one worker.
///
/// - Units: cycles of the processor's clock, bytes, counts.
@safe struct Account: BitwiseCopyable {
    // Words that a scrape reads.
    /// Held in blocks now; must be the first word.
    var bufferBytes: UInt64 = 0
    var cycles: UInt64 = 0
    var requests: UInt64 = 0
    var receivedBytes: UInt64 = 0
    var sentBytes: UInt64 = 0
    var connections: UInt64 = 0
    var connectionsClosed: UInt64 = 0
    var shed: UInt64 = 0
    /// Held in pipes now (Worker+Splice).
    var pipeBytes: UInt64 = 0

    /// Upstreams being dialled for it.
    var pending: Int32 = 0
    /// Under way: of its clients, and of peers' carriers.
    var handshakes = HandshakeQueue()
    var greetings = HandshakeQueue()
    /// Pipes that its connections have.
    var pipes: Int32 = 0
    /// What it may still use in this round; negative: it owes.
    var deficit: Int64 = 0
    /// Since when it has nothing to do, in cycles.
    var restedAt: UInt64 = 0
    /// Connections that have something to do, in the order in which it came.
    var first = Link.none
    var last = Link.none
    /// It is in the order of service: it has something to do, or is being served.
    var isActive = false
    /// The engine has died twice of serving it: it is refused unread.
    var isQuarantined = false
    /// The account served after it; -1: none.
    var next: Int32 = -1

    var connectionsOpen: UInt64 { connections &- connectionsClosed }
    static let words = 9
}

/// The accounts of one worker, by the numbers of `AccountNumbers`.
///
/// - Owns: a block that lives as long as the engine.
/// - Threads: one writer, the worker; a scrape reads words that may be one event apart.
/// - Limits: `Limits.accountsMax` of workloads.
@safe final class Accounts: @unchecked Sendable {
    private let block: UnsafeMutablePointer<Account>
    let count: Int
    let cyclesPerSecond = engine_cycles_per_second()

    init(count: Int) {
        self.count = count
        unsafe block = .allocate(capacity: count)
        unsafe block.initialize(repeating: Account(), count: count)
    }

    deinit { unsafe block.deallocate() }

    /// Words of an account that was never used.
    static let none = [UInt64](repeating: 0, count: Account.words)

    /// Whether words of an account say that nothing is open for it and nothing held.
    static func isIdle(_ words: [UInt64]) -> Bool {
        words[0] == 0 && words[8] == 0 && words[5] == words[6]
    }

    /// The worker's own view.
    subscript(_ index: Int32) -> Account {
        // In range: `AccountNumbers` made it.
        @inline(__always) unsafeAddress { unsafe UnsafePointer(block + Int(index)) }
        @inline(__always) unsafeMutableAddress { unsafe block + Int(index) }
    }

    /// Where blocks are charged to the account.
    func bufferBytes(_ index: Int32) -> UnsafeMutablePointer<UInt64> {
        // The first word of the record (its order is Swift's promise to nobody, so a test asks).
        unsafe UnsafeMutableRawPointer(block + Int(index)).assumingMemoryBound(to: UInt64.self)
    }

    /// The first words of an account, for a scrape.
    func words(_ index: Int) -> [UInt64] {
        precondition(index < count, "an account has a place")
        let words = unsafe UnsafeRawPointer(block + index).assumingMemoryBound(to: UInt64.self)
        return (0..<Account.words).map { unsafe engine_load_acquire(words + $0) }
    }
}
