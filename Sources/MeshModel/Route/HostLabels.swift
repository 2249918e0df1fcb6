// How many labels the wildcards of a table have: only where a name has as many is its rest looked
// for, so that a name of many labels costs as much as its bytes and not their square.

/// Numbers of dots, of `.example.com` two.
public struct HostLabels: Sendable, BitwiseCopyable {
    /// Bytes of a name in DNS, without the dot at its end. RFC 1035 section 2.3.4.
    @inlinable public static var nameBytesMax: Int { 253 }

    /// A bit a number; the last one is for all that are higher.
    private var bits: UInt64 = 0

    public init() {}

    public var isEmpty: Bool { bits == 0 }

    /// - Parameter dots: of a wildcard's rest, that in front of it too.
    public mutating func insert(_ dots: Int) { bits |= Self.bit(dots) }

    public func contains(_ dots: Int) -> Bool { bits & Self.bit(dots) != 0 }

    private static func bit(_ dots: Int) -> UInt64 { 1 << UInt64(min(dots, 63)) }
}
