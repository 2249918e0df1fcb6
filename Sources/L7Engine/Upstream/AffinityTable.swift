// sessionAffinity ClientIP where the engine chooses: which endpoint has served a client last, and
// until when the client keeps it. Shared by all workers, because a client's connections come to any
// of them; one word an entry, so that none is ever half of one client's and half of another's.
//
// An entry does not name client and endpoint. It holds a tag of the client, and of what the client
// draws of the endpoint (ClientAffinity) so many bits that who looks for an endpoint finds his own.
// What is lost, to a client whose place is the same or with the process, is drawn anew: all workers
// draw the same.

internal import CLinux
internal import Glibc
internal import MeshModel

/// - Owns: a block that lives as long as the engine.
/// - Threads: any; of two that write one entry at the same time one is heard.
/// - Limits: `Limits.affinitiesMax` entries, in groups of eight: a cache line.
@safe final class AffinityTable: @unchecked Sendable {
    static let ways = 8
    /// Kubernetes' bound of `timeoutSeconds`.
    private static let secondsMax: UInt32 = 86_400
    // Of a word, from below: the second at which it runs out, modulo 2^20; 28 bits of the draw; a
    // tag that is never 0.
    private static let clock: UInt64 = 1 << 20 - 1
    private static let drawn: UInt64 = (1 << 28 - 1) << 20

    /// Where a client of a service's port is looked for.
    struct Place: BitwiseCopyable {
        fileprivate let group: Int
        fileprivate let tag: UInt64
    }

    private let words: UnsafeMutablePointer<UInt64>
    private let groups: Int

    init(entriesMax: Int) {
        groups = max(1, entriesMax / Self.ways)
        // Zeroed pages, which take up memory when they are first written.
        guard let block = unsafe calloc(groups * Self.ways, 8) else {
            preconditionFailure("there is memory for a table of affinities")
        }
        unsafe words = block.assumingMemoryBound(to: UInt64.self)
    }

    deinit { unsafe free(words) }

    /// - Parameter port: its number in the metrics, which outlives configurations.
    func place(of client: IPAddress, port: UInt32) -> Place {
        let hash = ClientAffinity.draw(client, SocketAddress(IPAddress(v4: port), 0))
        return Place(
            group: Int(hash % UInt64(groups)), tag: (hash >> 48 | 1) << 48)
    }

    /// What the client drew of the endpoint that it keeps, as `bits` has it.
    ///
    /// - Parameters:
    ///   - way: 0 to 7; there may be an entry at each.
    ///   - seconds: how long this service's clients keep theirs.
    ///   - now: by the engine's clock, nanoseconds.
    func entry(_ place: Place, _ way: Int, seconds: UInt32, now: UInt64) -> UInt64? {
        let word = load(place, way)
        guard word & ~(Self.clock | Self.drawn) == place.tag,
            Self.left(word, now) > 0, Self.left(word, now) <= seconds + 1
        else { return nil }
        return word & Self.drawn
    }

    /// Of a draw what an entry holds.
    @inline(__always)
    static func bits(_ draw: UInt64) -> UInt64 { draw & drawn }

    /// The endpoint has served the client; `false`: another client was forgotten for it before its
    /// time was over.
    func keep(_ place: Place, _ draw: UInt64, seconds: UInt32, now: UInt64) -> Bool {
        // Begun seconds count, so it holds for `seconds` at least.
        let end = (now / 1_000_000_000 + UInt64(seconds) + 1) & Self.clock
        let wanted = place.tag | Self.bits(draw) | end
        var (worst, least) = (0, UInt32.max)
        for way in 0..<Self.ways {
            let word = load(place, way)
            // One store a second and client: the others read only.
            if word == wanted { return true }
            if word & ~(Self.clock | Self.drawn) == place.tag {
                store(place, way, wanted)
                return true
            }
            let left = word == 0 ? 0 : Self.left(word, now)
            if left < least { (worst, least) = (way, left) }
        }
        store(place, worst, wanted)
        return least == 0
    }

    /// Seconds until an entry runs out; 0: it has.
    private static func left(_ word: UInt64, _ now: UInt64) -> UInt32 {
        let left = UInt32((word &- now / 1_000_000_000) & clock)
        return left <= secondsMax + 1 ? left : 0
    }

    private func load(_ place: Place, _ way: Int) -> UInt64 {
        // In range: a group is below `groups`, a way below `ways`.
        unsafe engine_load_acquire(words + place.group * Self.ways + way)
    }

    private func store(_ place: Place, _ way: Int, _ word: UInt64) {
        // In range, as above.
        unsafe engine_store_release(words + place.group * Self.ways + way, word)
    }
}
