internal import CLinux
internal import Glibc

/// Plain counters of a worker.
enum Counter: Int, CaseIterable {
    case connections, connectionsClosed, requests, dials, dialFailures, reuses, retries
    case accessLogDropped, seriesDropped, acceptPaused, races, upstreamsConnecting, upstreamsIdle
    case upstreamsActive, pipesRefused, accountPipesRefused, affinitiesForgotten
    /// Requests with an `X-Forwarded-Client-Cert`.
    case identitiesForged
    /// TLS connections cut for what they sent that was no data.
    case clientFloods, upstreamFloods

    static func floods(_ side: HandshakeSide) -> Counter {
        side == .downstream ? .clientFloods : .upstreamFloods
    }
}

/// Whose handshake it was.
enum HandshakeSide: Int, CaseIterable {
    case downstream, upstream
    var label: StaticString { self == .downstream ? "downstream" : "upstream" }
}

/// Counts of one worker. The worker alone writes; a scrape reads words that may be one event apart.
///
/// - Owns: three blocks that live as long as the engine.
/// - Threads: one writer, any readers.
/// - Limits: `Limits.seriesMax` label sets; more are counted as dropped.
@safe final class Tally: @unchecked Sendable {
    /// Upper bounds in milliseconds: Istio's.
    static let bounds: [Double] = [
        0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300_000,
        600_000, 1_800_000, 3_600_000,
    ]
    /// Words of a series: two of key, count, sum in ns, 19 buckets and one beyond.
    static let words = 24

    private let counters: UnsafeMutablePointer<UInt64>
    private let refusals: UnsafeMutablePointer<UInt64>
    /// By `Failure.code`.
    private let failures: UnsafeMutablePointer<UInt64>
    private let shedCounts: UnsafeMutablePointer<UInt64>
    /// By side and result.
    private let handshakes: UnsafeMutablePointer<UInt64>
    private let tunnels: UnsafeMutablePointer<UInt64>
    private let series: UnsafeMutablePointer<UInt64>
    private let places: UnsafeMutablePointer<Int32>
    private let seriesMax: Int
    /// No destination has more than one of so many parts of the series.
    static let sharesCount = 4
    /// Series that a destination has.
    private var shares: [UInt64: Int] = [:]
    private let placesCount: Int
    /// Published with release when a new series' key is written.
    private let used: UnsafeMutablePointer<UInt64>

    init(seriesMax: Int) {
        self.seriesMax = seriesMax
        // A power of two, at least twice as many.
        placesCount = 1 << (Int.bitWidth - (seriesMax * 2 - 1).leadingZeroBitCount)
        unsafe counters = .allocate(capacity: Counter.allCases.count)
        unsafe counters.initialize(repeating: 0, count: Counter.allCases.count)
        unsafe refusals = .allocate(capacity: Refusal.allCases.count)
        unsafe refusals.initialize(repeating: 0, count: Refusal.allCases.count)
        unsafe failures = .allocate(capacity: 256)
        unsafe failures.initialize(repeating: 0, count: 256)
        unsafe shedCounts = .allocate(capacity: Shed.allCases.count)
        unsafe shedCounts.initialize(repeating: 0, count: Shed.allCases.count)
        let results = HandshakeSide.allCases.count * TLSFailure.allCases.count
        unsafe handshakes = .allocate(capacity: results)
        unsafe handshakes.initialize(repeating: 0, count: results)
        unsafe tunnels = .allocate(capacity: TunnelCount.places)
        unsafe tunnels.initialize(repeating: 0, count: TunnelCount.places)
        unsafe series = .allocate(capacity: seriesMax * Self.words)
        unsafe places = .allocate(capacity: placesCount)
        unsafe places.initialize(repeating: -1, count: placesCount)
        unsafe used = .allocate(capacity: 1)
        unsafe used.initialize(to: 0)
    }

    deinit {
        unsafe counters.deallocate()
        unsafe refusals.deallocate()
        unsafe failures.deallocate()
        unsafe shedCounts.deallocate()
        unsafe handshakes.deallocate()
        unsafe tunnels.deallocate()
        unsafe series.deallocate()
        unsafe places.deallocate()
        unsafe used.deallocate()
    }

    @inline(__always)
    func count(_ counter: Counter) { unsafe counters[counter.rawValue] &+= 1 }

    func countShed(_ reason: Shed) { unsafe shedCounts[reason.rawValue] &+= 1 }

    func sheds(_ reason: Shed) -> UInt64 {
        unsafe engine_load_acquire(shedCounts + reason.rawValue)
    }

    func adjust(_ counter: Counter, by difference: Int) {
        unsafe counters[counter.rawValue] &+= UInt64(bitPattern: Int64(difference))
    }

    func count(_ refusal: Refusal) { unsafe refusals[Int(refusal.rawValue)] &+= 1 }

    func count(_ failure: Failure) { unsafe failures[Int(failure.code)] &+= 1 }

    func value(_ failure: Failure) -> UInt64 {
        unsafe engine_load_acquire(failures + Int(failure.code))
    }

    func value(_ counter: Counter) -> UInt64 {
        unsafe engine_load_acquire(counters + counter.rawValue)
    }

    func value(_ refusal: Refusal) -> UInt64 {
        unsafe engine_load_acquire(refusals + Int(refusal.rawValue))
    }

    private func place(_ side: HandshakeSide, _ result: TLSFailure) -> Int {
        side.rawValue * TLSFailure.allCases.count + Int(result.rawValue)
    }

    func count(_ side: HandshakeSide, _ result: TLSFailure) {
        unsafe handshakes[place(side, result)] &+= 1
    }

    func value(_ side: HandshakeSide, _ result: TLSFailure) -> UInt64 {
        unsafe engine_load_acquire(handshakes + place(side, result))
    }

    func count(_ tunnel: TunnelCount, by difference: Int = 1) {
        unsafe tunnels[tunnel.place] &+= UInt64(bitPattern: Int64(difference))
    }

    /// For who counts a tunnel's bytes where they pass. Valid as long as the tally.
    func word(_ tunnel: TunnelCount) -> UnsafeMutablePointer<UInt64> {
        unsafe tunnels + tunnel.place
    }

    func value(_ tunnel: TunnelCount) -> UInt64 {
        unsafe engine_load_acquire(tunnels + tunnel.place)
    }

    /// How a tunnel was part of what is counted; in the series' words beside status and flag.
    enum Tunnel: UInt64, BitwiseCopyable {
        case none = 0
        /// It left by one.
        case out = 0x100_0000
        /// It came by one, to the destination's node.
        case into = 0x200_0000
    }

    /// A status that is registered, else what stands for its class, so that a server cannot fill
    /// the table. Source: RFC 9110, section 15 (x00; no class: a 5xx); IANA, HTTP Status Codes.
    static func known(_ status: UInt16) -> UInt16 {
        switch status {
        case 0, 100...104, 200...208, 226, 300...308, 400...418, 421...426, 428, 429, 431, 451,
            500...508, 510, 511:
            status
        case 100..<600: status / 100 * 100
        default: 500
        }
    }

    /// One finished request.
    func record(
        source: UInt32, port: UInt32, status: UInt16, flag: ResponseFlag, destination: UInt32,
        duration: UInt64, tunnel: Tunnel = .none
    ) {
        let first = UInt64(source) << 32 | UInt64(port)
        let second =
            UInt64(destination) << 32 | tunnel.rawValue | UInt64(Self.known(status)) << 8
            | UInt64(flag.rawValue)
        guard let index = find(first, second) else {
            count(.seriesDropped)
            return
        }
        let words = unsafe series + index * Self.words
        unsafe words[2] &+= 1
        unsafe words[3] &+= duration
        unsafe words[4 + Self.bucket(duration)] &+= 1
    }

    /// In the place of a status: the series is one of connections, not of requests.
    static let opaqueMark: UInt64 = 1 << 31

    /// What is new of opaque connections. Words of such a series: opened, closed, sent, received.
    struct OpaqueChange {
        var opened: UInt64 = 0
        var closed: UInt64 = 0
        var sent: UInt64 = 0
        var received: UInt64 = 0
    }

    func record(
        source: UInt32, port: UInt32, destination: UInt32, flag: ResponseFlag,
        tunnel: Tunnel = .none, _ change: OpaqueChange
    ) {
        let first = UInt64(source) << 32 | UInt64(port)
        let second =
            UInt64(destination) << 32 | Self.opaqueMark | tunnel.rawValue | UInt64(flag.rawValue)
        guard let index = find(first, second) else {
            count(.seriesDropped)
            return
        }
        let words = unsafe series + index * Self.words
        unsafe words[2] &+= change.opened
        unsafe words[3] &+= change.closed
        unsafe words[4] &+= change.sent
        unsafe words[5] &+= change.received
    }

    private static func bucket(_ duration: UInt64) -> Int {
        // Most requests end in the first bucket.
        if duration <= 500_000 { return 0 }
        let milliseconds = Double(duration) / 1e6
        var index = 1
        while index < bounds.count, milliseconds > bounds[index] { index += 1 }
        return index
    }

    private func find(_ first: UInt64, _ second: UInt64) -> Int? {
        var hash = (first ^ second &* 0x9e37_79b9_7f4a_7c15) &* 0xff51_afd7_ed55_8ccd
        hash ^= hash >> 32
        var place = Int(hash & UInt64(placesCount - 1))
        while unsafe places[place] >= 0 {
            let index = unsafe Int(places[place])
            let words = unsafe series + index * Self.words
            if unsafe words[0] == first, unsafe words[1] == second { return index }
            place = (place + 1) & (placesCount - 1)
        }
        let index = unsafe Int(used.pointee)
        // By workload; what is none, by port.
        let holder = second >> 32 != 0 ? second >> 32 : first & 0xffff_ffff | 1 << 32
        guard index < seriesMax, shares[holder, default: 0] < seriesMax / Self.sharesCount else {
            return nil
        }
        shares[holder, default: 0] += 1
        let words = unsafe series + index * Self.words
        unsafe words.initialize(repeating: 0, count: Self.words)
        unsafe words[0] = first
        unsafe words[1] = second
        unsafe places[place] = Int32(index)
        unsafe engine_store_release(used, UInt64(index + 1))
        return index
    }

    /// The words of every series, for a scrape.
    func forEachSeries(_ body: ([UInt64]) -> Void) {
        let count = unsafe Int(engine_load_acquire(used))
        for index in 0..<count {
            let words = unsafe series + index * Self.words
            body((0..<Self.words).map { unsafe words[$0] })
        }
    }
}
