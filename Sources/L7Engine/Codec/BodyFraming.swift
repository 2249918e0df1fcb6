internal import MeshModel

/// Where a body ends (RFC 9112 section 6.3). Told of bytes, answers how many of them are the
/// body's; chunks pass through as they are, checked.
struct BodyFraming: BitwiseCopyable {
    enum Kind: UInt8, BitwiseCopyable { case none, length, chunked, untilClose }
    private enum ChunkState: UInt8, BitwiseCopyable {
        case size, sizeDigits, extensions, sizeLineFeed, data, dataReturn, dataLineFeed
        case trailerStart, trailer, trailerLineFeed, lastLineFeed
    }

    private(set) var kind = Kind.none
    private(set) var isDone = true
    private var state = ChunkState.size
    private var digits: UInt8 = 0
    /// Bytes of the length or of the chunk that are still to come.
    private var remaining: UInt64 = 0
    /// Bytes of the chunk's line or of the trailers.
    private var overhead: UInt32 = 0

    static let overheadBytesMax: UInt32 = 8192

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

    private mutating func advanceChunks(
        _ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int
    ) -> Int {
        var index = start
        while index < end {
            if state == .data {
                let taken = min(UInt64(end - index), remaining)
                remaining -= taken
                index += Int(taken)
                if remaining == 0 { state = .dataReturn }
                continue
            }
            guard unsafe step(base[index]) else { return -1 }
            index += 1
            if isDone { return index }
        }
        return index
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
            return count() && (byte >= 0x20 || byte == 9) && byte != 0x7f
        case .sizeLineFeed:
            state = remaining == 0 ? .trailerStart : .data
            overhead = 0
            return byte == 10
        case .data: return false
        case .dataReturn:
            state = .dataLineFeed
            return byte == 13
        case .dataLineFeed:
            state = .size
            digits = 0
            return byte == 10
        case .trailerStart:
            if byte == 13 {
                state = .lastLineFeed
                return true
            }
            state = .trailer
            return count() && isToken(byte)
        case .trailer:
            if byte == 13 {
                state = .trailerLineFeed
                return true
            }
            return count() && (byte >= 0x20 || byte == 9) && byte != 0x7f
        case .trailerLineFeed:
            state = .trailerStart
            return byte == 10
        case .lastLineFeed:
            isDone = true
            return byte == 10
        }
    }

    private mutating func sizeDigit(_ byte: UInt8) -> Bool {
        if let digit = hexDigit(byte) {
            // Fifteen digits: no sum of sizes overflows.
            guard digits < 15 else { return false }
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

    private mutating func count() -> Bool {
        overhead += 1
        return overhead <= Self.overheadBytesMax
    }
}
