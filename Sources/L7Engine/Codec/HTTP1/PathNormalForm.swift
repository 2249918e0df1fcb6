internal import MeshModel

/// The one spelling of a path that is matched, judged and forwarded.
///
/// 1. `%XX` of an unreserved character becomes the character; other escapes stay.
/// 2. `%00`, `%2F`, `%5C`, `\` and `#` are refused: readers disagree about them.
/// 3. Repeated slashes become one.
/// 4. `.` and `..` segments are resolved; one that leaves the root is refused, and so is one with
///    parameters (`..;x`), which some servers resolve and others do not.
///
/// - Source: RFC 3986 sections 6.2.2.2 and 5.2.4.
enum PathNormalForm {
    /// Rewrites the path in place, never longer than it was; `nil`: refused.
    static func make(_ base: UnsafeMutablePointer<UInt8>, _ path: ByteRange) -> ByteRange? {
        var previous: UInt8 = 0
        var index = path.lower
        var isPlain = true
        while index < path.upper {
            let byte = unsafe base[index]
            if byte == 0x25 || byte == 0x5c || byte == 0x23
                || (previous == 0x2f && (byte == 0x2f || byte == 0x2e))
            {
                isPlain = false
                break
            }
            previous = byte
            index += 1
        }
        if isPlain { return path }
        guard let end = unsafe decode(base, path) else { return nil }
        return unsafe resolve(base, path.lower, end)
    }

    private static func decode(_ base: UnsafeMutablePointer<UInt8>, _ path: ByteRange) -> Int? {
        var read = path.lower
        var write = path.lower
        while read < path.upper {
            let byte = unsafe base[read]
            if byte == 0x5c || byte == 0x23 { return nil }
            if byte == 0x25 {
                guard read + 2 < path.upper, let high = unsafe hexDigit(base[read + 1]),
                    let low = unsafe hexDigit(base[read + 2])
                else { return nil }
                let value = high << 4 | low
                if value == 0 || value == 0x2f || value == 0x5c { return nil }
                if isUnreserved(value) {
                    unsafe base[write] = value
                    write += 1
                } else {
                    for offset in 0..<3 { unsafe base[write + offset] = base[read + offset] }
                    write += 3
                }
                read += 3
                continue
            }
            unsafe base[write] = byte
            write += 1
            read += 1
        }
        return write
    }

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        byte &- 48 < 10 || (byte | 0x20) &- 97 < 26 || byte == 0x2d || byte == 0x2e || byte == 0x5f
            || byte == 0x7e
    }

    private static func resolve(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int
    ) -> ByteRange? {
        var read = start
        var write = start
        while read < end {
            // At a slash: look at the segment behind it.
            var stop = read + 1
            while stop < end, unsafe base[stop] != 0x2f { stop += 1 }
            let count = stop - read - 1
            let isLast = stop == end
            let isDot = unsafe count == 1 && base[read + 1] == 0x2e
            let isDots = unsafe count == 2 && base[read + 1] == 0x2e && base[read + 2] == 0x2e
            if unsafe hasParameters(base, read + 1, count) { return nil }
            if isDots {
                guard write > start else { return nil }
                write -= 1
                while unsafe base[write] != 0x2f { write -= 1 }
            }
            if isDot || isDots || (count == 0 && !isLast) {
                if isLast {
                    unsafe base[write] = 0x2f
                    write += 1
                }
            } else {
                for offset in 0...count { unsafe base[write + offset] = base[read + offset] }
                write += count + 1
            }
            read = stop
        }
        return ByteRange(start, write)
    }

    /// `.;` or `..;` at the beginning of a segment.
    private static func hasParameters(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ count: Int
    ) -> Bool {
        guard count >= 2, unsafe base[start] == 0x2e else { return false }
        if unsafe base[start + 1] == 0x3b { return true }
        return unsafe count >= 3 && base[start + 1] == 0x2e && base[start + 2] == 0x3b
    }
}
