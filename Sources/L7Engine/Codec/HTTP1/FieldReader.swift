// The few fields that say where a message ends, whom it is for and what happens to the connection.

internal import MeshModel

enum FieldReader {
    /// What kind of field this is; `nil`: the message must be refused (`refusal` says why).
    @inline(__always)
    static func read(
        _ base: UnsafeMutablePointer<UInt8>, _ name: ByteRange, _ value: ByteRange,
        _ head: inout MessageHead, isRequest: Bool
    ) -> UInt8? {
        switch name.count {
        case 4: return unsafe isRequest && isWord(base, name, "host") ? host(value, &head) : 0
        case 2: return unsafe isWord(base, name, "te") ? FieldKind.hop : 0
        case 6:
            guard unsafe isWord(base, name, "expect") else { return 0 }
            head.expects = true
            return FieldKind.expect
        case 7:
            if unsafe isWord(base, name, "upgrade") { return FieldKind.upgrade }
            return unsafe isWord(base, name, "trailer") ? 0 : 0
        case 10:
            if unsafe isWord(base, name, "connection") {
                return unsafe connection(base, value, &head)
            }
            return unsafe isWord(base, name, "keep-alive") ? FieldKind.hop : 0
        case 14:
            if unsafe isWord(base, name, "content-length") {
                return unsafe contentLength(base, value, &head)
            }
            return unsafe isWord(base, name, "http2-settings") ? FieldKind.hop : 0
        case 15:
            return unsafe isWord(base, name, "x-forwarded-for") ? FieldKind.forwardedFor : 0
        case 16: return unsafe isWord(base, name, "proxy-connection") ? FieldKind.hop : 0
        case 17:
            guard unsafe isWord(base, name, "transfer-encoding") else { return 0 }
            guard !head.isChunked, unsafe isWord(base, value, "chunked") else { return nil }
            head.isChunked = true
            return FieldKind.transferEncoding
        default: return 0
        }
    }

    /// Why `read` answered `nil` for this field.
    static func refusal(
        _ base: UnsafeMutablePointer<UInt8>, _ name: ByteRange, _ value: ByteRange,
        _ head: MessageHead
    ) -> Refusal {
        switch name.count {
        case 4: .hostDuplicate
        case 14: head.contentLength >= 0 ? .contentLengthDuplicate : .contentLengthInvalid
        default: .encodingUnknown
        }
    }

    private static func host(_ value: ByteRange, _ head: inout MessageHead) -> UInt8? {
        if head.hasHost { return nil }
        head.hasHost = true
        head.authority = value
        return FieldKind.host
    }

    private static func contentLength(
        _ base: UnsafeMutablePointer<UInt8>, _ value: ByteRange, _ head: inout MessageHead
    ) -> UInt8? {
        // Two of them are refused even when they agree: a list is nothing that one sender writes.
        guard head.contentLength < 0, (1...18).contains(value.count) else { return nil }
        var length: Int64 = 0
        for index in value.lower..<value.upper {
            let digit = unsafe base[index] &- 48
            guard digit < 10 else { return nil }
            length = length * 10 + Int64(digit)
        }
        head.contentLength = length
        return FieldKind.contentLength
    }

    /// The options of `Connection`; any that names a field makes that field hop-by-hop too.
    private static func connection(
        _ base: UnsafeMutablePointer<UInt8>, _ value: ByteRange, _ head: inout MessageHead
    ) -> UInt8 {
        var start = value.lower
        while start < value.upper {
            var end = start
            while end < value.upper, unsafe base[end] != 0x2c { end += 1 }
            let next = end + 1
            while start < end, unsafe base[start] == 0x20 || base[start] == 9 { start += 1 }
            while end > start, unsafe base[end - 1] == 0x20 || base[end - 1] == 9 { end -= 1 }
            let option = ByteRange(start, end)
            if unsafe isWord(base, option, "close") {
                head.closes = true
            } else if unsafe isWord(base, option, "keep-alive") {
                head.keepsAlive = true
            } else if unsafe isWord(base, option, "upgrade") {
                head.upgrades = true
            } else if end > start {
                head.namesFields = true
            }
            start = next
        }
        return FieldKind.connection
    }

    /// Marks the fields that `Connection` names. Fields that frame or address the message stay:
    /// naming them is an attack, not a wish.
    static func markNamed(_ base: UnsafeMutablePointer<UInt8>, _ head: inout MessageHead) {
        for index in 0..<head.fieldsCount where head.field(index).kind == FieldKind.connection {
            let value = head.field(index).value
            var start = value.lower
            while start < value.upper {
                var end = start
                while end < value.upper, unsafe base[end] != 0x2c { end += 1 }
                let next = end + 1
                while start < end, unsafe base[start] == 0x20 || base[start] == 9 { start += 1 }
                while end > start, unsafe base[end - 1] == 0x20 || base[end - 1] == 9 { end -= 1 }
                unsafe mark(base, ByteRange(start, end), &head)
                start = next
            }
        }
    }

    private static func mark(
        _ base: UnsafeMutablePointer<UInt8>, _ name: ByteRange, _ head: inout MessageHead
    ) {
        for index in 0..<head.fieldsCount {
            let field = head.field(index)
            guard field.kind == FieldKind.other, field.name.count == name.count else { continue }
            var isSame = true
            for offset in 0..<name.count
            where unsafe base[field.name.lower + offset] | 0x20
                != base[name.lower + offset] | 0x20
            {
                isSame = false
            }
            // In range: `index` is below `fieldsCount`.
            if isSame { unsafe head.fields[index].kind = FieldKind.hop }
        }
    }
}
