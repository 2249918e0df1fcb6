internal import Glibc
internal import MeshModel

/// Connections of one worker to one endpoint, dialled from one source, with one TLS identity.
@safe struct Pool: BitwiseCopyable {
    /// The address dialled from; `::` where there is none.
    var source: IPAddress
    var isNode: Bool
    var endpoint: SocketAddress
    /// Which TLS the connections speak; 0: none.
    var identity: UInt32
    var next = PoolLink.none
    /// Last in, first out: the connection most lately used is the least likely to be stale.
    var idle = Link.none
    var idleCount: Int32 = 0
    /// The last answer was a large one.
    var expectsLarge = false
    /// Idle ones and those in exchanges.
    var count: Int32 = 0
    var hash: UInt64
}

@safe struct PoolLink: BitwiseCopyable, Equatable {
    let pointer: UnsafeMutablePointer<Pool>?
    static var none: PoolLink { unsafe PoolLink(nil) }
    init(_ pointer: UnsafeMutablePointer<Pool>?) { unsafe self.pointer = pointer }
    var isNone: Bool { unsafe pointer == nil }
    static func == (one: PoolLink, other: PoolLink) -> Bool {
        unsafe (one.pointer == other.pointer)
    }
    /// The record; a pool lives while a connection belongs to it.
    var it: Pool {
        @inline(__always) unsafeAddress { unsafe UnsafePointer(pointer.unsafelyUnwrapped) }
        @inline(__always) nonmutating unsafeMutableAddress { unsafe pointer.unsafelyUnwrapped }
    }
}

/// The pools of one worker, hashed by source and endpoint.
///
/// - Threads: the worker's.
struct PoolTable: ~Copyable {
    private var buckets: [PoolLink]
    private(set) var count = 0
    private(set) var idleTotal = 0

    init() { buckets = Array(repeating: .none, count: 4096) }

    private static func hash(
        _ source: IPAddress, _ isNode: Bool, _ to: SocketAddress, _ identity: UInt32
    ) -> UInt64 {
        var hash = source.high ^ UInt64(identity) << 32 ^ (isNode ? 0x9e37_79b9_7f4a_7c15 : 0)
        hash = (hash ^ source.low) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ hash >> 32 ^ to.address.high) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ hash >> 32 ^ to.address.low) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ hash >> 32 ^ UInt64(to.port)) &* 0xff51_afd7_ed55_8ccd
        return hash ^ hash >> 32
    }

    /// The pool, made if there is none. One without connections must be given to `retire` later.
    mutating func pool(
        source: IPAddress, isNode: Bool, endpoint: SocketAddress, identity: UInt32
    ) -> PoolLink {
        let hash = Self.hash(source, isNode, endpoint, identity)
        let bucket = Int(hash & UInt64(buckets.count - 1))
        var link = buckets[bucket]
        while !link.isNone {
            if link.it.hash == hash, link.it.endpoint == endpoint, link.it.source == source,
                link.it.isNode == isNode, link.it.identity == identity
            {
                return link
            }
            link = link.it.next
        }
        let made = UnsafeMutablePointer<Pool>.allocate(capacity: 1)
        unsafe made.initialize(
            to: Pool(
                source: source, isNode: isNode, endpoint: endpoint, identity: identity,
                next: buckets[bucket], hash: hash))
        buckets[bucket] = unsafe PoolLink(made)
        count += 1
        return buckets[bucket]
    }

    /// Frees a pool that no connection belongs to.
    mutating func retire(_ pool: PoolLink) {
        guard pool.it.count == 0 else { return }
        let bucket = Int(pool.it.hash & UInt64(buckets.count - 1))
        if buckets[bucket] == pool {
            buckets[bucket] = pool.it.next
        } else {
            var link = buckets[bucket]
            while link.it.next != pool { link = link.it.next }
            link.it.next = pool.it.next
        }
        count -= 1
        unsafe pool.pointer?.deallocate()
    }

    /// A connection that is closed belongs to its pool no more, which may end with it.
    mutating func leave(_ link: Link) {
        let pool = link.it.pool
        link.it.pool = .none
        pool.it.count -= 1
        retire(pool)
    }

    mutating func putIdle(_ link: Link) {
        let pool = link.it.pool
        link.it.idlePrevious = .none
        link.it.idleNext = pool.it.idle
        if !pool.it.idle.isNone { pool.it.idle.it.idlePrevious = link }
        pool.it.idle = link
        pool.it.idleCount += 1
        idleTotal += 1
    }

    mutating func removeIdle(_ link: Link) {
        let pool = link.it.pool
        if link.it.idlePrevious.isNone {
            pool.it.idle = link.it.idleNext
        } else {
            link.it.idlePrevious.it.idleNext = link.it.idleNext
        }
        if !link.it.idleNext.isNone { link.it.idleNext.it.idlePrevious = link.it.idlePrevious }
        link.it.idleNext = .none
        link.it.idlePrevious = .none
        pool.it.idleCount -= 1
        idleTotal -= 1
    }
}
