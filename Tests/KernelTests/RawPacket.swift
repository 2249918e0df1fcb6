// IP packets byte by byte, right or wrong, in an Ethernet frame: fragments, options, extension
// headers, lengths that lie. Checksums are left at zero; the programs do not check them.

internal import CMallaABI

struct RawPacket {
    static let client4: [UInt8] = [10, 1, 0, 10]
    static let server4: [UInt8] = [10, 1, 0, 11]
    static let client6 = address6(0x10)
    static let server6 = address6(0x11)

    static func address6(_ last: UInt8) -> [UInt8] {
        [0xfd, 0x10, 0, 1] + [UInt8](repeating: 0, count: 11) + [last]
    }

    static func bytes(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }

    static func frame(_ type: UInt16, _ payload: [UInt8]) -> [UInt8] {
        [UInt8](repeating: 2, count: 12) + bytes(type) + payload
    }

    /// An IPv4 packet in a frame.
    ///
    /// - Parameter fragment: flags and offset, as the header bears them.
    /// - Parameter header: its length in 32-bit words, if it is to lie.
    /// - Parameter length: of the packet, if it is to lie.
    static func ip4(
        _ proto: UInt8, _ payload: [UInt8], options: [UInt8] = [], fragment: UInt16 = 0x4000,
        id: UInt16 = 7, version: UInt8 = 4, header: UInt8? = nil, length: UInt16? = nil,
        hops: UInt8 = 64, source: [UInt8] = client4, target: [UInt8] = server4
    ) -> [UInt8] {
        let words = header ?? UInt8(5 + options.count / 4)
        let total = length ?? UInt16(20 + options.count + payload.count)
        let start = [version << 4 | words, 0] + bytes(total) + bytes(id) + bytes(fragment)
        return frame(0x0800, start + [hops, proto, 0, 0] + source + target + options + payload)
    }

    static func ip6(
        _ next: UInt8, _ payload: [UInt8], hops: UInt8 = 64, version: UInt8 = 6,
        length: UInt16? = nil, source: [UInt8] = client6, target: [UInt8] = server6
    ) -> [UInt8] {
        let start = [version << 4, 0, 0, 0] + bytes(length ?? UInt16(payload.count))
        return frame(0x86dd, start + [next, hops] + source + target + payload)
    }

    static func tcp(
        _ flags: UInt8 = PacketBuilder.syn, from source: UInt16 = 40000, to target: UInt16 = 80,
        words: UInt8 = 5
    ) -> [UInt8] {
        bytes(source) + bytes(target) + [0, 0, 0, 1, 0, 0, 0, 0, words << 4, flags, 16, 0]
            + [0, 0, 0, 0]
    }

    static func udp(
        from source: UInt16 = 40000, to target: UInt16 = 53, length: UInt16? = nil,
        _ payload: [UInt8] = [1, 2, 3, 4]
    ) -> [UInt8] {
        bytes(source) + bytes(target) + bytes(length ?? UInt16(8 + payload.count)) + [0, 0]
            + payload
    }

    /// An ICMP or ICMPv6 message of eight bytes, an identifier where an echo has it.
    static func icmp(_ type: UInt8, id: UInt16 = 9, _ payload: [UInt8] = []) -> [UInt8] {
        [type, 0, 0, 0] + bytes(id) + [0, 1] + payload
    }

    /// One IPv6 extension header of eight bytes or more.
    static func extension6(next: UInt8, _ rest: [UInt8] = [0, 0, 0, 0, 0, 0]) -> [UInt8] {
        [next, UInt8((rest.count + 2) / 8 - 1)] + rest
    }

    static func fragment6(next: UInt8, offset: UInt16, more: Bool) -> [UInt8] {
        [next, 0] + bytes(offset << 3 | (more ? 1 : 0)) + [0, 0, 0, 7]
    }
}
