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
        let parts = (
            digits(UInt32(truncatingIfNeeded: first >> 32)),
            digits(UInt32(truncatingIfNeeded: first)),
            digits(UInt32(truncatingIfNeeded: second >> 32)),
            digits(UInt32(truncatingIfNeeded: second))
        )
        let text = UnsafeMutableRawPointer(place)
        // Groups of 8, 4, 4, 4 and 12 digits; all stores end within 36 bytes.
        unsafe text.storeBytes(of: parts.0, as: UInt64.self)
        unsafe text.storeBytes(
            of: UInt32(truncatingIfNeeded: parts.1), toByteOffset: 9, as: UInt32.self)
        unsafe text.storeBytes(
            of: UInt32(truncatingIfNeeded: parts.1 >> 32), toByteOffset: 14, as: UInt32.self)
        unsafe text.storeBytes(
            of: UInt32(truncatingIfNeeded: parts.2), toByteOffset: 19, as: UInt32.self)
        unsafe text.storeBytes(
            of: UInt32(truncatingIfNeeded: parts.2 >> 32), toByteOffset: 24, as: UInt32.self)
        unsafe text.storeBytes(of: parts.3, toByteOffset: 28, as: UInt64.self)
        unsafe place[8] = 0x2d
        unsafe place[13] = 0x2d
        unsafe place[18] = 0x2d
        unsafe place[23] = 0x2d
    }

    /// Eight hexadecimal digits, the first in the lowest byte.
    private static func digits(_ value: UInt32) -> UInt64 {
        var spread = UInt64(value.byteSwapped)
        spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff
        spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff
        let low: UInt64 = 0x000f_000f_000f_000f
        let nibbles = spread >> 4 & low | (spread & low) << 8
        // Above 9 by a carry into the fifth bit: those are letters.
        let letters = (nibbles &+ 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101
        return nibbles &+ 0x3030_3030_3030_3030 &+ letters &* 0x27
    }
}
