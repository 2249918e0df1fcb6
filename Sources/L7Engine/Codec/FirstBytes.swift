// What the first bytes of a connection say: HTTP or anything else. Receives what a client sent on
// a port whose protocol nobody declared and that HTTP routes name; answers as soon as it is sure.

internal import MeshModel

enum FirstBytes {
    enum Verdict: Equatable { case undecided, http, other }

    /// Decides on `bytes[start..<end]`. What a lenient server might still read as HTTP is HTTP, so
    /// that nobody gets past a route by a request that is a little wrong: it meets the parser.
    ///
    /// - Limits: undecided for at most the longest target of a request, then HTTP.
    static func judge(_ bytes: Bytes, _ start: Int, _ end: Int, targetBytesMax: Int) -> Verdict {
        if end - start > targetBytesMax { return .http }
        var index = start
        while index < end, isBlank(bytes[index]) { index += 1 }
        let method = index
        while index < end, index - method <= HTTP1Parser.methodBytesMax, isToken(bytes[index]) {
            index += 1
        }
        if index - method > HTTP1Parser.methodBytesMax { return .other }
        guard index < end else { return .undecided }
        if isKnown(bytes, method, index) { return .http }
        guard index > method, bytes[index] == 0x20 else { return .other }
        index += 1
        let target = index
        while index < end, bytes[index] > 0x20, bytes[index] < 0x7f { index += 1 }
        guard index < end else { return .undecided }
        guard index > target, bytes[index] == 0x20 else { return .other }
        return version(bytes, index + 1, end)
    }

    /// What stands behind the target of a request with a method that we do not know.
    private static func version(_ bytes: Bytes, _ start: Int, _ end: Int) -> Verdict {
        let wanted: StaticString = "http/"
        for offset in 0..<wanted.utf8CodeUnitCount {
            guard start + offset < end else { return .undecided }
            // Inside: the word is longer than `offset`.
            if unsafe lowerCase(bytes[start + offset]) != wanted.utf8Start[offset] { return .other }
        }
        return .http
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 9 || byte == HTTP1Parser.cr || byte == HTTP1Parser.lf
    }

    /// The methods that servers know, in any case, and the first word of HTTP/2.
    private static func isKnown(_ bytes: Bytes, _ start: Int, _ end: Int) -> Bool {
        switch end - start {
        case 3:
            isWord(bytes, start, "get") || isWord(bytes, start, "put")
                || isWord(bytes, start, "pri")
        case 4: isWord(bytes, start, "head") || isWord(bytes, start, "post")
        case 5: isWord(bytes, start, "patch") || isWord(bytes, start, "trace")
        case 6: isWord(bytes, start, "delete")
        case 7: isWord(bytes, start, "options") || isWord(bytes, start, "connect")
        default: false
        }
    }

    private static func isWord(_ bytes: Bytes, _ start: Int, _ word: StaticString) -> Bool {
        for offset in 0..<word.utf8CodeUnitCount {
            // Inside: as many bytes as the word has are there.
            let wanted = unsafe word.utf8Start[offset]
            if lowerCase(bytes[start + offset]) != wanted { return false }
        }
        return true
    }
}
