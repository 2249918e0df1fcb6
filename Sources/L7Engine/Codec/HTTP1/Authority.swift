// `host[:port]` of `Host` and of targets (RFC 3986 section 3.2, RFC 9110 section 7.2).
//
// Narrower than a `reg-name`: a name that DNS can hold, with the underscores and tildes that are
// sent, and no dotted quad that is not everybody's address. Looked at once, byte by byte.

internal import MeshModel

enum Authority {
    /// Bytes of a host's name, without the dot at its end.
    static var hostBytesMax: Int { HostLabels.nameBytesMax }

    /// The host of `host[:port]`; `nil`: no such thing.
    static func host(
        _ base: UnsafePointer<UInt8>, _ authority: ByteRange
    ) -> ByteRange? {
        let start = authority.lower
        guard start < authority.upper else { return authority }
        let first = unsafe base[start]
        let end: Int?
        if first == 0x5b {
            end = unsafe endOfLiteral(base, start + 1, authority.upper)
        } else if first &- 48 < 10, let quad = unsafe quad(base, start, authority.upper) {
            end = quad.isAddress ? quad.end : nil
        } else {
            end = unsafe endOfName(base, start, authority.upper)
        }
        guard let end else { return nil }
        guard end < authority.upper else { return ByteRange(start, end) }
        guard unsafe isPort(base, end, authority.upper) else { return nil }
        return ByteRange(start, end)
    }

    /// A name with the root's dot is the same name, of routes as of certificates.
    static func withoutDot(_ base: UnsafePointer<UInt8>, _ host: ByteRange) -> ByteRange {
        guard host.count > 1, unsafe base[host.upper - 1] == 0x2e else { return host }
        return ByteRange(host.lower, host.upper - 1)
    }

    /// Where a name ends: labels of some bytes, at the end a dot or none.
    ///
    /// - Source: RFC 1035 section 2.3.4: 255 octets with the length of each label and the root's.
    private static func endOfName(
        _ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int
    ) -> Int? {
        var index = start
        var before: UInt8 = 0x2e
        while index < end {
            let byte = unsafe base[index]
            if byte == 0x3a { break }
            guard isNameByte(byte), byte != 0x2e || before != 0x2e else { return nil }
            before = byte
            index += 1
        }
        let count = before == 0x2e ? index - start - 1 : index - start
        // Below 1: a port of nothing.
        return (1...hostBytesMax).contains(count) ? index : nil
    }

    /// Letters, digits and `-._~`.
    private static func isNameByte(_ byte: UInt8) -> Bool {
        let mask: UInt64 = byte < 64 ? 0x03ff_6000_0000_0000 : 0x47ff_fffe_87ff_fffe
        return byte < 128 && mask >> UInt64(byte & 63) & 1 != 0
    }

    /// Where four numbers with dots between them end; `nil`: it is something else. Such a thing is
    /// an address or nothing (RFC 1123 section 2.1): with more than 255, or zeros in front that
    /// some take for octal, readers would not agree on which.
    private static func quad(
        _ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int
    ) -> (end: Int, isAddress: Bool)? {
        var index = start
        var (dots, digits) = (0, 0)
        var value: UInt32 = 0
        var isAddress = true
        while index < end {
            let digit = unsafe base[index] &- 48
            if digit < 10 {
                // The fourth is one too many, so nothing is lost if the value overflows.
                if digits > 0, value == 0 || digits > 2 { isAddress = false }
                value = value &* 10 &+ UInt32(digit)
                digits &+= 1
            } else if digit == 0x2e &- 48 {
                guard digits > 0, dots < 4 else { return nil }
                if value > 255 { isAddress = false }
                dots &+= 1
                (digits, value) = (0, 0)
            } else if digit == 0x3a &- 48 {
                break
            } else {
                return nil
            }
            index &+= 1
        }
        // With the root's dot it is no name either.
        guard digits > 0 ? dots == 3 : dots == 4 else { return nil }
        return (index, isAddress && value < 256)
    }

    /// Where an IPv6 address in brackets ends, behind its bracket.
    private static func endOfLiteral(
        _ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int
    ) -> Int? {
        // The longest is of six groups and a dotted quad.
        let most = min(end, start + 46)
        var index = start
        while index < most, unsafe base[index] != 0x5d { index += 1 }
        guard index < most, unsafe isIPv6(base, start, index) else { return nil }
        return index + 1
    }

    /// - Source: RFC 3986 section 3.2.2, `IPv6address`.
    private static func isIPv6(
        _ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int
    ) -> Bool {
        var index = start
        var groups = 0
        var hasGap = false
        if end - start >= 2, unsafe base[start] == 0x3a, unsafe base[start + 1] == 0x3a {
            hasGap = true
            index += 2
        }
        while index < end {
            let group = index
            while index < end, unsafe hexDigit(base[index]) != nil { index += 1 }
            if index < end, unsafe base[index] == 0x2e {
                // The last 32 bits as IPv4 writes them.
                guard unsafe base[end - 1] != 0x2e, let quad = unsafe quad(base, group, end),
                    quad.isAddress, quad.end == end
                else { return false }
                groups += 2
                break
            }
            guard (1...4).contains(index - group) else { return false }
            groups += 1
            if index == end { break }
            guard unsafe base[index] == 0x3a, index + 1 < end else { return false }
            index += 1
            if unsafe base[index] == 0x3a {
                guard !hasGap else { return false }
                hasGap = true
                index += 1
            }
        }
        // A gap stands for one group at least.
        return hasGap ? groups <= 7 : groups == 8
    }

    /// `:port` in `base[colon..<end]`; the number may be missing.
    private static func isPort(_ base: UnsafePointer<UInt8>, _ colon: Int, _ end: Int) -> Bool {
        guard unsafe base[colon] == 0x3a, end - colon <= 6 else { return false }
        var port = 0
        for index in colon + 1..<end {
            let digit = unsafe base[index] &- 48
            guard digit < 10 else { return false }
            port = port * 10 + Int(digit)
        }
        return port <= 65535
    }
}
