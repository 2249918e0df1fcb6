/// A block of addresses, as CIDR notation writes it. IPv4 blocks are held as IPv4-mapped ones.
///
/// - Units: `prefixBits` counts from the first of 128 bits; 10.0.0.0/8 has 104.
public struct AddressRange: Hashable, Sendable, BitwiseCopyable {
    public let address: IPAddress
    public let prefixBits: Int

    /// Reads `10.0.0.0/8` or `fd00::/8`; bits behind the prefix are cleared. `nil` otherwise.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(parts[0]), let bits = Int(parts[1]),
            parts[1].utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }),
            (0...(address.isIPv4 ? 32 : 128)).contains(bits)
        else { return nil }
        prefixBits = address.isIPv4 ? 96 + bits : bits
        self.address = address.masked(prefixBits)
    }

    public func contains(_ other: IPAddress) -> Bool { other.masked(prefixBits) == address }
}

extension AddressRange: CustomStringConvertible {
    public var description: String {
        "\(address)/\(address.isIPv4 ? prefixBits - 96 : prefixBits)"
    }
}

extension IPAddress {
    /// The first `bits` (0...128) of it, zeros behind.
    public func masked(_ bits: Int) -> IPAddress {
        func mask(_ bits: Int) -> UInt64 {
            bits <= 0 ? 0 : bits >= 64 ? .max : ~(UInt64.max >> UInt64(bits))
        }
        return IPAddress(high: high & mask(bits), low: low & mask(bits - 64))
    }
}
