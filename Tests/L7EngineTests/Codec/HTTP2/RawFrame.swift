/// A frame of HTTP/2 as it is on the wire, for peers that do not keep to the rules.
///
/// - Source: RFC 9113 section 4.1.
struct RawFrame: Equatable {
    static let preface = [UInt8]("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    static let settings = RawFrame(4).bytes

    var kind: UInt8
    var flags: UInt8 = 0
    var stream: UInt32 = 0
    var payload: [UInt8] = []

    init(_ kind: UInt8, _ flags: UInt8 = 0, _ stream: UInt32 = 0, _ payload: [UInt8] = []) {
        self.kind = kind
        self.flags = flags
        self.stream = stream
        self.payload = payload
    }

    /// Whole ones, from the beginning of what came.
    static func all(in bytes: [UInt8]) -> [RawFrame] {
        var (frames, rest): ([RawFrame], _) = ([], bytes[...])
        while rest.count >= 9 {
            let head = Array(rest.prefix(9))
            let count = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
            guard rest.count >= 9 + count else { break }
            frames.append(
                RawFrame(
                    head[3], head[4], word(head[5...8]),
                    Array(rest.dropFirst(9).prefix(count))))
            rest = rest.dropFirst(9 + count)
        }
        return frames
    }

    var bytes: [UInt8] {
        Self.big(UInt32(payload.count)).dropFirst() + [kind, flags] + Self.big(stream) + payload
    }

    /// A HEADERS frame whose fields stand as literals (RFC 7541 section 6.2.2). Flags: 1 is
    /// END_STREAM, 4 END_HEADERS.
    static func head(_ fields: [(String, String)], _ stream: UInt32 = 1, flags: UInt8 = 4)
        -> RawFrame
    {
        RawFrame(1, flags, stream, fields.flatMap { [0] + text($0.0) + text($0.1) })
    }

    static func connect(_ stream: UInt32 = 1, flags: UInt8 = 4) -> RawFrame {
        head([(":method", "CONNECT"), (":authority", "10.0.0.1:80")], stream, flags: flags)
    }

    static func reset(_ stream: UInt32) -> RawFrame { RawFrame(3, 0, stream, big(8)) }

    /// A string of HPACK, without Huffman's code.
    static func text(_ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        guard bytes.count >= 127 else { return [UInt8(bytes.count)] + bytes }
        var (head, rest): ([UInt8], _) = ([127], bytes.count - 127)
        while rest >= 128 {
            head.append(UInt8(rest & 127 | 128))
            rest >>= 7
        }
        return head + [UInt8(rest)] + bytes
    }

    static func big(_ word: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: word >> $0) }
    }

    /// The first four bytes of it.
    static func word(_ bytes: some Sequence<UInt8>) -> UInt32 {
        bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }
}
