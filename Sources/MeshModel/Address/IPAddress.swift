// Addresses as values. IPv4 is held as the IPv4-mapped IPv6 address ::ffff:a.b.c.d, so that one
// type, one hash and one kernel record serve both families (as the eBPF programs hold them).

/// An IPv4 or IPv6 address.
///
/// - Units: sixteen bytes in network order, as two big-endian halves read into host integers.
/// - Source: RFC 4291 §2.5.5.2 (IPv4-mapped form), RFC 5952 (text form).
public struct IPAddress: Hashable, Sendable, Comparable, BitwiseCopyable {
    public let high: UInt64
    public let low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// - Parameter v4: host order, 10.0.0.1 is 0x0a000001.
    public init(v4: UInt32) {
        high = 0
        low = 0x0000_ffff_0000_0000 | UInt64(v4)
    }

    public static let anyV4 = IPAddress(v4: 0)
    public static let anyV6 = IPAddress(high: 0, low: 0)
    public static let loopbackV4 = IPAddress(v4: 0x7f00_0001)

    public var isIPv4: Bool { high == 0 && low >> 32 == 0xffff }

    /// The IPv4 address in host order; meaningless unless `isIPv4`.
    public var v4: UInt32 { UInt32(truncatingIfNeeded: low) }

    public var isUnspecified: Bool { self == .anyV4 || self == .anyV6 }

    public var isLoopback: Bool {
        isIPv4 ? v4 >> 24 == 127 : high == 0 && low == 1
    }

    /// 169.254.0.0/16 and fe80::/10.
    public var isLinkLocal: Bool { isIPv4 ? v4 >> 16 == 0xa9fe : high >> 54 == 0x3fa }

    /// 224.0.0.0/4, ff00::/8.
    public var isMulticast: Bool { isIPv4 ? v4 >> 28 == 0xe : high >> 56 == 0xff }

    /// The byte at `index` (0...15) in network order.
    public func byte(_ index: Int) -> UInt8 {
        let half = index < 8 ? high : low
        return UInt8(truncatingIfNeeded: half >> UInt64(56 - 8 * (index & 7)))
    }

    /// The 32-bit word at `index` (0...3), in host order; `.bigEndian` of it is what the kernel
    /// holds.
    public func word(_ index: Int) -> UInt32 {
        let half = index < 2 ? high : low
        return UInt32(truncatingIfNeeded: index & 1 == 0 ? half >> 32 : half)
    }

    public static func < (left: IPAddress, right: IPAddress) -> Bool {
        left.high != right.high ? left.high < right.high : left.low < right.low
    }
}

extension IPAddress {
    /// `0000:0000:0000:0000:0000:ffff:255.255.255.255`.
    static var textBytesMax: Int { 45 }

    /// Reads dotted-quad IPv4 or RFC 4291 IPv6 text. No zone, no port, no brackets; `nil`
    /// otherwise.
    public init?(_ text: some StringProtocol) {
        guard text.utf8.count <= Self.textBytesMax else { return nil }
        if text.utf8.contains(UInt8(ascii: ":")) {
            self.init(v6: text)
        } else {
            guard let v4 = Self.dottedQuad(text) else { return nil }
            self.init(v4: v4)
        }
    }

    private static func dottedQuad(_ text: some StringProtocol) -> UInt32? {
        var value: UInt32 = 0
        var part: UInt32 = 0
        var (parts, digits) = (0, 0)
        for byte in text.utf8 {
            if byte == UInt8(ascii: ".") {
                guard digits > 0, parts < 3 else { return nil }
                value = value << 8 | part
                (part, digits, parts) = (0, 0, parts + 1)
                continue
            }
            // A leading zero would be octal to some and decimal to others: refused.
            guard byte >= 48, byte <= 57, digits == 0 || part > 0 else { return nil }
            part = part * 10 + UInt32(byte - 48)
            digits += 1
            if part > 255 { return nil }
        }
        return parts == 3 && digits > 0 ? value << 8 | part : nil
    }

    private init?(v6 text: some StringProtocol) {
        var words: [UInt16] = []
        var gap: Int?
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count <= 9 else { return nil }
        for (index, part) in parts.enumerated() {
            if part.isEmpty {
                let isEdge = index == 0 || index == parts.count - 1
                if isEdge {
                    let neighbour = index == 0 ? 1 : parts.count - 2
                    guard parts.count > 2, parts[neighbour].isEmpty else { return nil }
                    if index != 0 { continue }
                    continue
                }
                guard gap == nil else { return nil }
                gap = words.count
            } else if part.contains(".") {
                guard index == parts.count - 1, let v4 = Self.dottedQuad(part) else { return nil }
                words.append(UInt16(v4 >> 16))
                words.append(UInt16(truncatingIfNeeded: v4))
            } else {
                // A sign is no digit: `+1`, `-0`.
                guard part.utf8.count <= 4, part.utf8.first.map({ $0 >= 48 }) ?? false,
                    let word = UInt16(part, radix: 16)
                else { return nil }
                words.append(word)
            }
        }
        if let gap {
            guard words.count < 8 else { return nil }
            words.insert(contentsOf: repeatElement(0, count: 8 - words.count), at: gap)
        }
        guard words.count == 8 else { return nil }
        high = words[0..<4].reduce(0) { $0 << 16 | UInt64($1) }
        low = words[4..<8].reduce(0) { $0 << 16 | UInt64($1) }
    }
}

extension IPAddress: CustomStringConvertible {
    /// RFC 5952 text: lower case, the longest run of zero words shortened.
    public var description: String {
        if isIPv4 {
            return "\(v4 >> 24).\(v4 >> 16 & 255).\(v4 >> 8 & 255).\(v4 & 255)"
        }
        let words = (0..<8).map { UInt16(byte(2 * $0)) << 8 | UInt16(byte(2 * $0 + 1)) }
        var best = 0..<0
        var start = 0
        while start < 8 {
            var end = start
            while end < 8, words[end] == 0 { end += 1 }
            if end - start > best.count, end - start > 1 { best = start..<end }
            start = max(end, start + 1)
        }
        func hex(_ range: Range<Int>) -> String {
            words[range].map { String($0, radix: 16) }.joined(separator: ":")
        }
        return best.isEmpty
            ? hex(0..<8) : hex(0..<best.lowerBound) + "::" + hex(best.upperBound..<8)
    }
}
