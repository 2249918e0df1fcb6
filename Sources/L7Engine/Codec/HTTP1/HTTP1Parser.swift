// Bytes -> MessageHead, strictly (RFC 9112). What is ambiguous is refused with a reason, never
// repaired; a head that has not all arrived is `incomplete` and is parsed again from its beginning,
// so that one piece and many pieces cannot disagree.

internal import MeshModel

enum ParseResult: Equatable {
    case incomplete
    case complete
    case refused(Refusal)
}

enum HTTP1Parser {
    private static let cr: UInt8 = 13
    private static let lf: UInt8 = 10

    /// Parses a request's head in `base[start..<end]`; normalises the path in place.
    static func request(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int, _ head: inout MessageHead
    ) -> ParseResult {
        head.reset()
        var index = start
        // One empty line before a request is what old clients send (RFC 9112 section 2.2).
        if index < end, unsafe base[index] == cr {
            guard index + 1 < end else { return .incomplete }
            guard unsafe base[index + 1] == lf else { return .refused(.bareCarriageReturn) }
            index += 2
        }
        let methodStart = index
        while index < end, unsafe isToken(base[index]) { index += 1 }
        guard index < end else {
            return index - methodStart > 32 ? .refused(.method) : .incomplete
        }
        guard unsafe base[index] == 0x20, index > methodStart, index - methodStart <= 32 else {
            return .refused(unsafe reason(base[index], otherwise: .method))
        }
        head.method = ByteRange(methodStart, index)
        index += 1
        let targetStart = index
        while index < end, unsafe base[index] > 0x20, unsafe base[index] < 0x7f { index += 1 }
        guard index < end else { return .incomplete }
        guard unsafe base[index] == 0x20, index > targetStart else {
            return .refused(unsafe reason(base[index], otherwise: .target))
        }
        let target = ByteRange(targetStart, index)
        index += 1
        switch unsafe version(base, index, end) {
        case .incomplete: return .incomplete
        case .refused(let reason): return .refused(reason)
        case .complete: head.minor = unsafe base[index + 7] - 48
        }
        index += 8
        switch unsafe lineEnd(base, index, end) {
        case .complete: break
        case let other: return other
        }
        let result = unsafe fields(base, index + 2, end, &head, isRequest: true)
        guard result == .complete else { return result }
        if let refusal = checkFraming(head) { return .refused(refusal) }
        if let refusal = unsafe self.target(base, target, &head) { return .refused(refusal) }
        return .complete
    }

    /// Parses a response's head in `base[start..<end]`.
    static func response(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int, _ head: inout MessageHead
    ) -> ParseResult {
        head.reset()
        switch unsafe version(base, start, end) {
        case .incomplete: return .incomplete
        case .refused(let reason): return .refused(reason)
        case .complete: head.minor = unsafe base[start + 7] - 48
        }
        guard end - start >= 13 else { return .incomplete }
        guard unsafe base[start + 8] == 0x20 else { return .refused(.malformedLine) }
        for offset in 9...11 {
            let digit = unsafe base[start + offset] &- 48
            guard digit < 10 else { return .refused(.malformedLine) }
            head.status = head.status * 10 + Int(digit)
        }
        guard head.status >= 100 else { return .refused(.malformedLine) }
        var index = start + 12
        if unsafe base[index] == 0x20 {
            index += 1
            // The reason phrase: text, tabs, bytes of any charset.
            while index < end, unsafe base[index] >= 0x20 || base[index] == 9 { index += 1 }
        }
        switch unsafe lineEnd(base, index, end) {
        case .complete: break
        case let other: return other
        }
        head.statusLine = ByteRange(start, index + 2)
        let result = unsafe fields(base, index + 2, end, &head, isRequest: false)
        guard result == .complete else { return result }
        if let refusal = checkFraming(head) { return .refused(refusal) }
        return .complete
    }

    private static func reason(_ byte: UInt8, otherwise: Refusal) -> Refusal {
        switch byte {
        case 0: .nul
        case lf: .bareLineFeed
        case cr: .malformedLine
        default: otherwise
        }
    }

    /// `HTTP/1.0` or `HTTP/1.1`.
    private static func version(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int
    ) -> ParseResult {
        let wanted: StaticString = "HTTP/1."
        for offset in 0..<7 {
            guard start + offset < end else { return .incomplete }
            guard unsafe base[start + offset] == wanted.utf8Start[offset] else {
                return .refused(.version)
            }
        }
        guard start + 7 < end else { return .incomplete }
        let minor = unsafe base[start + 7]
        return minor == 48 || minor == 49 ? .complete : .refused(.version)
    }

    @inline(__always)
    private static func lineEnd(
        _ base: UnsafeMutablePointer<UInt8>, _ index: Int, _ end: Int
    ) -> ParseResult {
        guard index < end else { return .incomplete }
        guard unsafe base[index] == cr else {
            return .refused(unsafe reason(base[index], otherwise: .malformedLine))
        }
        guard index + 1 < end else { return .incomplete }
        return unsafe base[index + 1] == lf ? .complete : .refused(.bareCarriageReturn)
    }

    private static func fields(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int, _ head: inout MessageHead,
        isRequest: Bool
    ) -> ParseResult {
        var index = start
        while true {
            guard index < end else { return .incomplete }
            if unsafe base[index] == cr {
                guard index + 1 < end else { return .incomplete }
                guard unsafe base[index + 1] == lf else { return .refused(.bareCarriageReturn) }
                head.end = index + 2
                return .complete
            }
            let nameStart = index
            while index < end, unsafe isToken(base[index]) { index += 1 }
            guard index < end else { return .incomplete }
            guard unsafe base[index] == 0x3a, index > nameStart else {
                return .refused(unsafe nameReason(base[index], isFirst: index == nameStart))
            }
            let name = ByteRange(nameStart, index)
            index += 1
            while index < end, unsafe base[index] == 0x20 || base[index] == 9 { index += 1 }
            let valueStart = index
            index = unsafe scanValue(base, index, end)
            while index < end, unsafe base[index] == 9 {
                index = unsafe scanValue(base, index + 1, end)
            }
            switch unsafe lineEnd(base, index, end) {
            case .complete: break
            case .refused(.malformedLine): return .refused(.fieldValue)
            case let other: return other
            }
            var valueEnd = index
            while valueEnd > valueStart,
                unsafe base[valueEnd - 1] == 0x20 || base[valueEnd - 1] == 9
            {
                valueEnd -= 1
            }
            index += 2
            guard head.fieldsCount < head.fieldsMax else { return .refused(.fieldsTooMany) }
            let value = ByteRange(valueStart, valueEnd)
            let kind = unsafe FieldReader.read(base, name, value, &head, isRequest: isRequest)
            guard let kind else {
                return .refused(unsafe FieldReader.refusal(base, name, value, head))
            }
            // In range: compared with `fieldsMax` above.
            unsafe head.fields[head.fieldsCount] = FieldRange(name: name, value: value, kind: kind)
            head.fieldsCount += 1
        }
    }

    private static func nameReason(_ byte: UInt8, isFirst: Bool) -> Refusal {
        switch byte {
        case 0: .nul
        case lf: .bareLineFeed
        case 0x20, 9: isFirst ? .foldedLine : .spaceBeforeColon
        default: .fieldName
        }
    }

    /// What no two readers would agree on.
    private static func checkFraming(_ head: MessageHead) -> Refusal? {
        if head.isChunked {
            if head.contentLength >= 0 { return .lengthAndEncoding }
            if head.minor == 0 { return .encodingInOldVersion }
        }
        return nil
    }

    /// Splits the request target (RFC 9112 section 3.2) and checks it against `Host`.
    private static func target(
        _ base: UnsafeMutablePointer<UInt8>, _ target: ByteRange, _ head: inout MessageHead
    ) -> Refusal? {
        if unsafe isWord(base, head.method, "connect") { return .connectMethod }
        if head.minor == 1, !head.hasHost { return .hostMissing }
        var start = target.lower
        if unsafe base[start] == 0x2a {
            guard target.count == 1 else { return .target }
            head.path = target
        } else {
            if unsafe base[start] != 0x2f {
                guard let authority = unsafe absoluteForm(base, target) else { return .target }
                if head.hasHost, unsafe !isSame(base, authority, head.authority) {
                    return .hostInvalid
                }
                head.authority = authority
                start = authority.upper
            }
            var question = start
            while question < target.upper, unsafe base[question] != 0x3f { question += 1 }
            if question < target.upper {
                head.hasQuery = true
                head.query = ByteRange(question + 1, target.upper)
            }
            // An absolute form without a path: there is no `/` to point at, and nobody sends it.
            guard question > start else { return .target }
            guard let path = unsafe PathNormalForm.make(base, ByteRange(start, question)) else {
                return .path
            }
            head.path = path
        }
        guard let host = unsafe hostOnly(base, head.authority) else { return .hostInvalid }
        head.host = host
        return nil
    }

    private static func absoluteForm(
        _ base: UnsafeMutablePointer<UInt8>, _ target: ByteRange
    ) -> ByteRange? {
        let schemeEnd =
            unsafe isWord(
                base, ByteRange(target.lower, min(target.lower + 7, target.upper)), "http://")
            ? target.lower + 7
            : unsafe isWord(
                base, ByteRange(target.lower, min(target.lower + 8, target.upper)), "https://")
                ? target.lower + 8 : 0
        guard schemeEnd > 0 else { return nil }
        var index = schemeEnd
        while index < target.upper, unsafe base[index] != 0x2f, unsafe base[index] != 0x3f {
            index += 1
        }
        return index > schemeEnd ? ByteRange(schemeEnd, index) : nil
    }

    private static func isSame(
        _ base: UnsafeMutablePointer<UInt8>, _ one: ByteRange, _ other: ByteRange
    ) -> Bool {
        guard one.count == other.count else { return false }
        for offset in 0..<one.count
        where unsafe base[one.lower + offset] | 0x20 != base[other.lower + offset] | 0x20 {
            return false
        }
        return true
    }

    /// The host of `host[:port]`; `nil`: no such thing.
    private static func hostOnly(
        _ base: UnsafeMutablePointer<UInt8>, _ authority: ByteRange
    ) -> ByteRange? {
        var index = authority.lower
        if index < authority.upper, unsafe base[index] == 0x5b {
            while index < authority.upper, unsafe base[index] != 0x5d { index += 1 }
            guard index < authority.upper else { return nil }
            index += 1
        } else {
            while index < authority.upper, unsafe base[index] != 0x3a {
                let byte = unsafe base[index]
                let isName =
                    byte &- 48 < 10 || (byte | 0x20) &- 97 < 26 || byte == 0x2d || byte == 0x2e
                    || byte == 0x5f || byte == 0x7e
                guard isName else { return nil }
                index += 1
            }
        }
        let host = ByteRange(authority.lower, index)
        guard index < authority.upper else { return host }
        guard unsafe base[index] == 0x3a, authority.upper - index <= 6 else { return nil }
        for at in index + 1..<authority.upper where unsafe base[at] &- 48 >= 10 { return nil }
        return host
    }
}
