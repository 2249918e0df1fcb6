internal import Glibc
internal import MeshModel

/// The name of one request in logs, answers and upstreams: the client's, or a random UUID of ours.
///
/// - Owns: nothing; the bytes are the connection's.
@safe struct RequestID {
    private let bytes: UnsafePointer<UInt8>
    let count: Int

    /// A UUID has 36.
    static let bytesMax = 64

    init(_ bytes: UnsafePointer<UInt8>, count: Int) {
        unsafe self.bytes = bytes
        self.count = count
    }

    func write(_ writer: inout ByteWriter) { unsafe writer.append(bytes, count) }

    /// Whether the client's own id is kept: short, and nothing that a log or JSON must escape.
    static func isKept(_ bytes: Bytes, _ range: ByteRange) -> Bool {
        guard (1...bytesMax).contains(range.count) else { return false }
        for index in range.lower..<range.upper {
            let byte = bytes[index]
            let isPlain =
                byte &- 48 < 10 || (byte | 0x20) &- 97 < 26 || byte == 0x2d || byte == 0x2e
                || byte == 0x5f || byte == 0x3a || byte == 0x2b || byte == 0x2f || byte == 0x3d
            guard isPlain else { return false }
        }
        return true
    }

    /// Writes a UUID of version 4 (RFC 9562) to `place`, which has room for 36 bytes. It names, and
    /// proves nothing: the random numbers are fast ones.
    static func make(_ place: UnsafeMutablePointer<UInt8>, _ high: UInt64, _ low: UInt64) {
        let first = high & ~0xf000 | 0x4000
        let second = low & ~(0b11 << 62) | 0b10 << 62
        var at = 0
        for index in 0..<32 {
            if index == 8 || index == 12 || index == 16 || index == 20 {
                unsafe place[at] = 0x2d
                at += 1
            }
            let word = index < 16 ? first : second
            let digit = UInt8(truncatingIfNeeded: word >> UInt64(60 - 4 * (index & 15))) & 15
            unsafe place[at] = digit < 10 ? 48 + digit : 87 + digit
            at += 1
        }
    }
}
