internal import MeshModel

/// Where a body ends (RFC 9112 section 6.3). Told of bytes, answers how many of them are the
/// body's; chunks pass through as they are, checked, or are taken apart for a peer that knows none.
struct BodyFraming: BitwiseCopyable {
    enum Kind: UInt8, BitwiseCopyable { case none, length, chunked, untilClose }
    private enum ChunkState: UInt8, BitwiseCopyable {
        case size, sizeDigits, extensions, sizeLineFeed, data, dataReturn, dataLineFeed
        case trailerStart, trailerName, trailer, trailerLineFeed, lastLineFeed
    }

    private(set) var kind = Kind.none
    private(set) var isDone = true
    /// The receiver knows no chunks: `take` takes them apart.
    var decodes = false
    /// The receiver is told the sender's end by chunks that the worker makes (Worker+Chunks).
    var encodes = false
    /// Why `advance` answered -1.
    private(set) var refusal = Refusal.chunk
    private var state = ChunkState.size
    private var digits: UInt8 = 0
    /// The chunk that is under way was so when `isOwing` was asked last.
    private var wasUnderWay = false
    /// Bytes of the length or of the chunk that are still to come.
    private var remaining: UInt64 = 0
    /// Bytes of extensions in the whole body, then bytes of trailers.
    private var extensions: UInt32 = 0
    private var trailers: UInt32 = 0
    /// FNV-1a of the trailer's name so far, in lower case.
    private var nameHash: UInt64 = 0

    /// No sum of sizes of so many digits overflows.
    static let sizeDigitsMax: UInt8 = 15
    /// Nobody uses them. A body of extensions would cost us and bring its sender nothing.
    static let extensionBytesMax: UInt32 = 4096
    static let trailerBytesMax: UInt32 = 8192

    init() {}

    static let untilClose: BodyFraming = {
        var framing = BodyFraming()
        framing.kind = .untilClose
        framing.isDone = false
        return framing
    }()

    init(length: Int64) {
        kind = .length
        remaining = UInt64(length)
        isDone = length == 0
    }

    static func chunked() -> BodyFraming {
        var framing = BodyFraming()
        framing.kind = .chunked
        framing.isDone = false
        return framing
    }

    static func request(_ head: MessageHead) -> BodyFraming {
        if head.isChunked { return .chunked() }
        return head.contentLength > 0 ? BodyFraming(length: head.contentLength) : BodyFraming()
    }

    static func response(_ head: MessageHead, toHead isHead: Bool) -> BodyFraming {
        if isHead || head.status < 200 || head.status == 204 || head.status == 304 {
            return BodyFraming()
        }
        if head.isChunked { return .chunked() }
        return head.contentLength >= 0 ? BodyFraming(length: head.contentLength) : .untilClose
    }

    /// Where in `base[start..<end]` this body stops (`end` if it goes on); -1: bad chunk.
    mutating func advance(_ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> Int {
        if isDone { return start }
        switch kind {
        case .none: return start
        case .untilClose: return end
        case .length:
            let taken = min(UInt64(end - start), remaining)
            remaining -= taken
            isDone = remaining == 0
            return start + Int(taken)
        case .chunked: return unsafe advanceChunks(base, start, end)
        }
    }

    /// How many of the next bytes are surely the body's and need no look: `.max` until the end.
    var spliceable: UInt64 {
        switch kind {
        case .length: remaining
        case .untilClose: isDone || encodes ? 0 : .max
        case .none, .chunked: 0
        }
    }

    /// Whether the sender owes what it had begun when this was asked last: the rest of a length, of
    /// a chunk from its size line on, or of the trailers. Between chunks it may rest.
    mutating func isOwing() -> Bool {
        guard kind == .chunked else { return kind == .length }
        let owes = wasUnderWay
        wasUnderWay = state != .size
        return owes
    }

    private mutating func advanceChunks(
        _ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int
    ) -> Int {
        var index = start
        while index < end {
            if state == .data {
                index += takeData(end - index)
                continue
            }
            guard unsafe step(base[index]) else { return -1 }
            index += 1
            if isDone { return index }
        }
        return index
    }

    /// As `advance`, for a peer that knows no chunks: moves what the chunks hold to
    /// `base[start..<start + kept]`. Trailers are dropped.
    mutating func decode(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int, kept: inout Int
    ) -> Int {
        kept = 0
        guard kind == .chunked else {
            let stop = unsafe advance(base, start, end)
            kept = max(0, stop - start)
            return stop
        }
        var index = start
        while index < end, !isDone {
            if state == .data {
                let count = takeData(end - index)
                // Moves towards the front, inside of what was given.
                unsafe (base + start + kept).update(from: base + index, count: count)
                kept += count
                index += count
                continue
            }
            guard unsafe step(base[index]) else { return -1 }
            index += 1
        }
        return index
    }

    /// `decode` or `advance`: in `base[start..<start + kept]` is what goes on.
    @inline(__always)
    mutating func take(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int, kept: inout Int
    ) -> Int {
        if decodes { return unsafe decode(base, start, end, kept: &kept) }
        let stop = unsafe advance(base, start, end)
        kept = max(0, stop - start)
        return stop
    }

    private mutating func takeData(_ count: Int) -> Int {
        let taken = min(UInt64(count), remaining)
        remaining -= taken
        if remaining == 0 { state = .dataReturn }
        return Int(taken)
    }

    /// One byte outside of the data; `false`: refused.
    private mutating func step(_ byte: UInt8) -> Bool {
        switch state {
        case .size, .sizeDigits: return sizeDigit(byte)
        case .extensions:
            if byte == 13 {
                state = .sizeLineFeed
                return true
            }
            extensions += 1
            return check(extensions <= Self.extensionBytesMax && isText(byte), .chunkExtension)
        case .sizeLineFeed:
            state = remaining == 0 ? .trailerStart : .data
            return byte == 10
        case .data: return false
        case .dataReturn:
            state = .dataLineFeed
            return byte == 13
        case .dataLineFeed:
            state = .size
            digits = 0
            wasUnderWay = false
            return byte == 10
        case .trailerStart, .trailerName, .trailer, .trailerLineFeed, .lastLineFeed:
            return trailerStep(byte)
        }
    }

    private mutating func sizeDigit(_ byte: UInt8) -> Bool {
        if let digit = hexDigit(byte) {
            guard check(digits < Self.sizeDigitsMax, .chunkSize) else { return false }
            remaining = (digits == 0 ? 0 : remaining) << 4 | UInt64(digit)
            digits += 1
            state = .sizeDigits
            return true
        }
        guard state == .sizeDigits else { return false }
        if byte == 13 {
            state = .sizeLineFeed
            return true
        }
        if byte == 0x3b {
            state = .extensions
            return true
        }
        return false
    }

    private mutating func trailerStep(_ byte: UInt8) -> Bool {
        trailers += 1
        guard check(trailers <= Self.trailerBytesMax, .trailersTooLong) else { return false }
        switch state {
        case .trailerStart where byte == 13:
            state = .lastLineFeed
            return true
        case .trailerStart:
            state = .trailerName
            nameHash = Self.hashStart
            return nameByte(byte)
        case .trailerName where byte == 0x3a:
            state = .trailer
            return check(!Self.refusedTrailers.contains(nameHash), .trailer)
        case .trailerName: return nameByte(byte)
        case .trailer where byte == 13:
            state = .trailerLineFeed
            return true
        case .trailer: return check(isText(byte), .trailer)
        case .trailerLineFeed:
            state = .trailerStart
            return check(byte == 10, .trailer)
        default:
            isDone = byte == 10
            return check(isDone, .trailer)
        }
    }

    private mutating func nameByte(_ byte: UInt8) -> Bool {
        nameHash = (nameHash ^ UInt64(lowerCase(byte))) &* Self.hashFactor
        return check(isToken(byte), .trailer)
    }

    private mutating func check(_ isGood: Bool, _ reason: Refusal) -> Bool {
        if !isGood { refusal = reason }
        return isGood
    }

    private func isText(_ byte: UInt8) -> Bool { (byte >= 0x20 || byte == 9) && byte != 0x7f }

    private static let hashStart: UInt64 = 0xcbf2_9ce4_8422_2325
    private static let hashFactor: UInt64 = 0x0000_0100_0000_01b3

    /// What frames or addresses a message, or says who asks, is decided when trailers come
    /// (RFC 9110 section 6.5.1): a server that merged them would be deceived. A hash that agrees
    /// by chance costs its sender an error.
    private static let refusedTrailers: Set<UInt64> = Set(
        [
            "content-length", "transfer-encoding", "host", "connection", "keep-alive", "te",
            "proxy-connection", "trailer", "upgrade", "expect", "authorization", "cookie",
            "set-cookie", "content-encoding", "content-type", "content-range", "forwarded",
            "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto",
            "x-forwarded-client-cert", "x-real-ip", "x-request-id", "via", "proxy-authorization",
            "proxy-authenticate", "www-authenticate", "max-forwards",
        ].map { $0.utf8.reduce(hashStart) { ($0 ^ UInt64($1)) &* hashFactor } })
}
