// Ethernet frames with TCP inside, checksums right, for programs that read and rewrite them.

struct PacketBuilder {
    static let syn: UInt8 = 0x02
    static let rst: UInt8 = 0x04
    static let ack: UInt8 = 0x10

    /// Four bytes or sixteen: the family is theirs.
    var source: [UInt8]
    var sourcePort: UInt16
    var target: [UInt8]
    var targetPort: UInt16
    var flags: UInt8
    /// Time to live, or hop limit.
    var hops: UInt8 = 64

    static func bytes(_ value: UInt16) -> [UInt8] {
        [UInt8(value >> 8), UInt8(value & 255)]
    }

    var frame: [UInt8] {
        let tcp = segment
        let isIPv4 = source.count == 4
        // Loopback's address, which is where the kernel runs it.
        let ethernet =
            [UInt8](repeating: 0, count: 12) + (isIPv4 ? [0x08, 0x00] : [0x86, 0xdd])
        guard isIPv4 else {
            return ethernet + [0x60, 0, 0, 0] + Self.bytes(UInt16(tcp.count)) + [6, hops] + source
                + target + tcp
        }
        var header: [UInt8] =
            [0x45, 0] + Self.bytes(UInt16(20 + tcp.count)) + [0, 1, 0x40, 0, hops, 6, 0, 0] + source
            + target
        header.replaceSubrange(10..<12, with: Self.bytes(Self.checksum(header)))
        return ethernet + header + tcp
    }

    private var segment: [UInt8] {
        var tcp: [UInt8] =
            Self.bytes(sourcePort) + Self.bytes(targetPort) + [0, 0, 0, 1, 0, 0, 0, 2]
            + [0x50, flags, 0x10, 0, 0, 0, 0, 0] + Array("malla!".utf8)
        let pseudo = source + target + [0, 0, 0, UInt8(tcp.count), 0, 0, 0, 6]
        tcp.replaceSubrange(16..<18, with: Self.bytes(Self.checksum(pseudo + tcp)))
        return tcp
    }

    /// - Source: RFC 1071.
    static func checksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            let low = index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0
            sum += UInt32(bytes[index]) << 8 | low
        }
        while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
        return ~UInt16(sum)
    }
}
