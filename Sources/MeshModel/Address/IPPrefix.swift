/// A block of addresses: `10.0.0.0/8`, `fd00::/8`. Bits behind the length are zero.
///
/// - Units: the length counts from the first of 128 bits, as the address is held: an IPv4 block
///   /8 has length 104. A block is of one family: `::/0` holds no IPv4 address.
public struct IPPrefix: Hashable, Sendable, Comparable, BitwiseCopyable {
    public let address: IPAddress
    /// 0...128.
    public let length: UInt8

    /// - Parameter length: of 128 bits; what lies behind it in `address` is cut off.
    public init(_ address: IPAddress, length: UInt8) {
        let bits = UInt64(min(length, 128))
        let high = bits >= 64 ? UInt64.max : ~(UInt64.max >> bits)
        let low = bits <= 64 ? 0 : bits == 128 ? UInt64.max : ~(UInt64.max >> (bits - 64))
        self.address = IPAddress(high: address.high & high, low: address.low & low)
        self.length = UInt8(bits)
    }

    /// One address.
    public init(_ address: IPAddress) {
        self.address = address
        length = 128
    }

    public static let allIPv4 = IPPrefix(.anyV4, length: 96)
    public static let allIPv6 = IPPrefix(.anyV6, length: 0)

    public var isIPv4: Bool { length >= 96 && address.isIPv4 }

    public func contains(_ other: IPAddress) -> Bool {
        other.isIPv4 == isIPv4 && IPPrefix(other, length: length).address == address
    }

    /// Whether all of `other` lies in this block.
    public func contains(_ other: IPPrefix) -> Bool {
        other.isIPv4 == isIPv4 && other.length >= length
            && IPPrefix(other.address, length: length).address == address
    }

    /// IPv6 first, then by address, blocks before what they contain.
    public static func < (left: IPPrefix, right: IPPrefix) -> Bool {
        if left.isIPv4 != right.isIPv4 { return !left.isIPv4 }
        return left.address != right.address
            ? left.address < right.address : left.length < right.length
    }
}

extension IPPrefix: CustomStringConvertible {
    /// Reads `ADDRESS/LENGTH`. Bits behind the length may be set, as in Kubernetes; they count for
    /// nothing. An IPv4 block in IPv6 form is refused, because readers differ on what it means.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(parts[0]),
            (1...3).contains(parts[1].utf8.count),
            parts[1].utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }),
            parts[1].utf8.count == 1 || parts[1].first != "0", let length = UInt8(parts[1])
        else { return nil }
        let isIPv4 = !parts[0].utf8.contains(UInt8(ascii: ":"))
        guard length <= (isIPv4 ? 32 : 128), isIPv4 || !address.isIPv4 else { return nil }
        self.init(address, length: isIPv4 ? length + 96 : length)
    }

    public var description: String { "\(address)/\(isIPv4 ? length - 96 : length)" }
}
