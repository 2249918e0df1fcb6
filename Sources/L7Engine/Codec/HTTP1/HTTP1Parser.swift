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
    static let cr: UInt8 = 13
    static let lf: UInt8 = 10
    /// The longest registered method has 18.
    static let methodBytesMax = 32

    /// Parses a request's head in `base[start..<end]`; normalises the path in place.
    static func request(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int, _ head: inout MessageHead
    ) -> ParseResult {
        head.reset()
        let limit = min(end, start + head.bytesMax)
        let result = unsafe requestHead(base, start, limit, &head)
        if result == .incomplete, limit < end { return .refused(.headTooLong) }
        return result
    }

    /// Parses a response's head in `base[start..<end]`.
    static func response(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int, _ head: inout MessageHead
    ) -> ParseResult {
        head.reset()
        let limit = min(end, start + head.bytesMax)
        let result = unsafe responseHead(base, start, limit, &head)
        if result == .incomplete, limit < end { return .refused(.headTooLong) }
        return result
    }

    private static func requestHead(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int, _ head: inout MessageHead
    ) -> ParseResult {
        var index = start
        // One empty line before a request is what old clients send (RFC 9112 section 2.2).
        if index < end, unsafe base[index] == cr {
            guard index + 1 < end else { return .incomplete }
            guard unsafe base[index + 1] == lf else { return .refused(.bareCarriageReturn) }
            index += 2
        }
        switch unsafe method(base, &index, end, &head) {
        case .complete: break
        case let other: return other
        }
        let targetStart = index
        let targetEnd = min(end, targetStart + head.targetBytesMax)
        while index < targetEnd, unsafe base[index] > 0x20, unsafe base[index] < 0x7f { index += 1 }
        guard index < targetEnd else {
            return targetEnd < end ? .refused(.targetTooLong) : .incomplete
        }
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
        if let refusal = unsafe RequestTarget.read(base, target, &head) {
            return .refused(refusal)
        }
        return .complete
    }

    /// `GET` and the space behind it.
    @inline(__always)
    private static func isGet(_ bytes: UnsafePointer<UInt8>) -> Bool {
        // Safe: the caller has seen four bytes.
        let word = unsafe UnsafeRawPointer(bytes).loadUnaligned(as: UInt32.self)
        return word == UInt32(littleEndian: 0x2054_4547)
    }

    /// Reads the method and the space behind it.
    private static func method(
        _ base: UnsafeMutablePointer<UInt8>, _ index: inout Int, _ end: Int,
        _ head: inout MessageHead
    ) -> ParseResult {
        let start = index
        if end - start > 4, unsafe isGet(base + start) {
            head.method = ByteRange(start, start + 3)
            index = start + 4
            return .complete
        }
        let most = min(end, start + methodBytesMax + 1)
        while index < most, unsafe isToken(base[index]) { index += 1 }
        guard index < most else {
            return index - start > methodBytesMax ? .refused(.method) : .incomplete
        }
        guard unsafe base[index] == 0x20, index > start else {
            return .refused(unsafe reason(base[index], otherwise: .method))
        }
        head.method = ByteRange(start, index)
        // Methods have a case. Whether `head` is HEAD decides where the response ends, and readers
        // differ: neither is guessed.
        if head.method.count == 4, unsafe isWord(base, head.method, "head") {
            guard unsafe isSpelt(base, head.method, "HEAD") else { return .refused(.method) }
            head.isHead = true
        }
        index += 1
        return .complete
    }

    private static func responseHead(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int, _ head: inout MessageHead
    ) -> ParseResult {
        switch unsafe version(base, start, end) {
        case .incomplete: return .incomplete
        case .refused(let reason): return .refused(reason)
        case .complete: head.minor = unsafe base[start + 7] - 48
        }
        guard start + 8 < end else { return .incomplete }
        guard unsafe base[start + 8] == 0x20 else { return .refused(.malformedLine) }
        for offset in 9...11 {
            guard start + offset < end else { return .incomplete }
            let digit = unsafe base[start + offset] &- 48
            guard digit < 10, offset > 9 || digit > 0 else { return .refused(.malformedLine) }
            head.status = head.status * 10 + Int(digit)
        }
        var index = start + 12
        guard index < end else { return .incomplete }
        if unsafe base[index] == 0x20 {
            index += 1
            // The reason phrase: text, tabs, bytes of any charset.
            index = unsafe scanValue(base, index, end)
            while index < end, unsafe base[index] == 9 {
                index = unsafe scanValue(base, index + 1, end)
            }
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

    /// `HTTP/1.0` or `HTTP/1.1`; another version only where it is one.
    private static func version(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int
    ) -> ParseResult {
        if end - start >= 8 {
            // Inside; the usual one at once.
            let word = unsafe UnsafeRawPointer(base + start).loadUnaligned(as: UInt64.self)
            if word == UInt64(littleEndian: 0x312e_312f_5054_5448) { return .complete }
        }
        let wanted: StaticString = "HTTP/"
        for offset in 0..<5 {
            guard start + offset < end else { return .incomplete }
            guard unsafe base[start + offset] == wanted.utf8Start[offset] else {
                return .refused(.malformedLine)
            }
        }
        guard start + 7 < end else { return .incomplete }
        let (major, dot, minor) = unsafe (base[start + 5], base[start + 6], base[start + 7])
        guard dot == 0x2e, major &- 48 < 10, minor &- 48 < 10 else {
            return .refused(.malformedLine)
        }
        return major == 49 && (minor == 48 || minor == 49) ? .complete : .refused(.version)
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
            index = unsafe scanToken(base, index, end)
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
}
