// Header and query conditions of a match: all of them must hold.

extension CompiledRoutes {
    func headersMatch(
        _ range: Candidates, _ head: RequestHead, _ text: Bytes
    ) -> Bool {
        for index in range.start..<range.end
        where !headerMatches(parts.conditions[Int(index)], head, text) {
            return false
        }
        return true
    }

    private func headerMatches(
        _ condition: Condition, _ head: RequestHead, _ text: Bytes
    ) -> Bool {
        var found = -1
        var isRepeated = false
        for index in 0..<head.fieldsCount {
            let field = head.field(index)
            guard isName(head.bytes, field.name, text, condition.name) else { continue }
            if found >= 0 { isRepeated = true } else { found = index }
        }
        guard found >= 0 else { return false }
        if isRepeated { return joinedMatches(condition, head, text) }
        let value = head.field(found).value
        if condition.expression >= 0 {
            return parts.expressions[Int(condition.expression)].matches(head.bytes, value)
        }
        guard value.count == condition.value.count else { return false }
        for offset in 0..<value.count
        where head.bytes[value.lower + offset] != text[condition.value.lower + offset] {
            return false
        }
        return true
    }

    private func isName(
        _ bytes: Bytes, _ name: ByteRange, _ text: Bytes, _ wanted: ByteRange
    ) -> Bool {
        guard name.count == wanted.count else { return false }
        for offset in 0..<name.count
        where lowered(bytes[name.lower + offset]) != text[wanted.lower + offset] {
            return false
        }
        return true
    }

    /// A repeated field is one list, its values joined by commas (RFC 9110 section 5.3). Allocates:
    /// only requests that repeat a field which a rule asks for come here.
    private func joinedMatches(
        _ condition: Condition, _ head: RequestHead, _ text: Bytes
    ) -> Bool {
        var joined: [UInt8] = []
        var isFirst = true
        for index in 0..<head.fieldsCount {
            let field = head.field(index)
            guard isName(head.bytes, field.name, text, condition.name) else { continue }
            if !isFirst { joined.append(UInt8(ascii: ",")) }
            isFirst = false
            for at in field.value.lower..<field.value.upper { joined.append(head.bytes[at]) }
        }
        if condition.expression < 0 {
            return joined.elementsEqual(
                (condition.value.lower..<condition.value.upper).lazy.map { text[$0] })
        }
        joined.append(0)
        // Safe: the pointer does not leave the closure.
        return unsafe joined.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return false }
            return unsafe parts.expressions[Int(condition.expression)].matches(
                Bytes(base, count: buffer.count), ByteRange(0, buffer.count - 1))
        }
    }

    func queryMatches(
        _ range: Candidates, _ head: RequestHead, _ text: Bytes
    ) -> Bool {
        for index in range.start..<range.end
        where !parameterMatches(parts.conditions[Int(index)], head, text) {
            return false
        }
        return true
    }

    /// The first parameter of that name decides.
    private func parameterMatches(
        _ condition: Condition, _ head: RequestHead, _ text: Bytes
    ) -> Bool {
        var start = head.query.lower
        let end = head.query.upper
        while start < end {
            var stop = start
            var equals = -1
            while stop < end, head.bytes[stop] != UInt8(ascii: "&") {
                if equals < 0, head.bytes[stop] == UInt8(ascii: "=") { equals = stop }
                stop += 1
            }
            let nameEnd = equals < 0 ? stop : equals
            if isDecoded(head.bytes, start, nameEnd, text, condition.name) {
                let valueStart = equals < 0 ? stop : equals + 1
                if condition.expression >= 0 {
                    return parts.expressions[Int(condition.expression)].matches(
                        head.bytes, ByteRange(valueStart, stop))
                }
                return isDecoded(head.bytes, valueStart, stop, text, condition.value)
            }
            start = stop + 1
        }
        return false
    }

    /// Compares while decoding `%41` and `+`.
    private func isDecoded(
        _ bytes: Bytes, _ start: Int, _ end: Int, _ text: Bytes, _ wanted: ByteRange
    ) -> Bool {
        var index = start
        var at = wanted.lower
        while index < end {
            var byte = bytes[index]
            if byte == UInt8(ascii: "+") {
                byte = UInt8(ascii: " ")
            } else if byte == UInt8(ascii: "%"), index + 2 < end,
                let high = hexDigit(bytes[index + 1]), let low = hexDigit(bytes[index + 2])
            {
                byte = high << 4 | low
                index += 2
            }
            guard at < wanted.upper, text[at] == byte else { return false }
            at += 1
            index += 1
        }
        return at == wanted.upper
    }
}

@inlinable public func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x37
    case 0x61...0x66: byte - 0x57
    default: nil
    }
}
