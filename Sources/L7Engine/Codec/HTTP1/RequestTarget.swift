// The request target in its four forms (RFC 9112 section 3.2), checked against `Host`.

internal import MeshModel

enum RequestTarget {
    /// Splits the target into `head`; answers why it is refused, `nil` if it is not.
    static func read(
        _ base: UnsafeMutablePointer<UInt8>, _ target: ByteRange, _ head: inout MessageHead
    ) -> Refusal? {
        if head.method.count == 7, unsafe isWord(base, head.method, "connect") {
            // Whether another case of the letters is CONNECT, readers would not agree.
            guard unsafe isSpelt(base, head.method, "CONNECT") else { return .method }
            return unsafe connect(base, target, &head)
        }
        if head.minor == 1, !head.hasHost { return .hostMissing }
        let first = unsafe base[target.lower]
        let refusal: Refusal?
        if first == 0x2f {
            refusal = unsafe origin(base, target.lower, target.upper, &head)
        } else if first == 0x2a {
            refusal = unsafe asterisk(base, target, &head)
        } else {
            refusal = unsafe absolute(base, target, &head)
        }
        if let refusal { return refusal }
        guard let host = unsafe Authority.host(base, head.authority) else { return .hostInvalid }
        head.host = unsafe Authority.withoutDot(base, host)
        return nil
    }

    /// `/path?query` in `base[start..<end]`.
    private static func origin(
        _ base: UnsafeMutablePointer<UInt8>, _ start: Int, _ end: Int, _ head: inout MessageHead
    ) -> Refusal? {
        var question = start
        while question < end, unsafe base[question] != 0x3f { question += 1 }
        if question < end {
            head.hasQuery = true
            head.query = ByteRange(question + 1, end)
            // A fragment is never sent; some readers would cut the query there.
            for index in question + 1..<end where unsafe base[index] == 0x23 { return .target }
        }
        guard let path = unsafe PathNormalForm.make(base, ByteRange(start, question)) else {
            return .path
        }
        head.path = path
        return nil
    }

    /// `*`, which asks about the server as a whole and is for OPTIONS only.
    private static func asterisk(
        _ base: UnsafeMutablePointer<UInt8>, _ target: ByteRange, _ head: inout MessageHead
    ) -> Refusal? {
        guard target.count == 1, unsafe isOptions(base, head.method) else { return .target }
        head.path = target
        return nil
    }

    /// `http://authority/path?query`, or `https`. The authority must be what `Host` says.
    private static func absolute(
        _ base: UnsafeMutablePointer<UInt8>, _ target: ByteRange, _ head: inout MessageHead
    ) -> Refusal? {
        guard let authority = unsafe authorityOfAbsolute(base, target) else { return .target }
        if head.hasHost, unsafe !isSame(base, authority, head.authority) { return .hostConflict }
        head.authority = authority
        head.namesHTTPS = authority.lower - target.lower == 8
        let start = authority.upper
        if start < target.upper, unsafe base[start] == 0x2f {
            return unsafe origin(base, start, target.upper, &head)
        }
        // Without a path: the last byte of the scheme's `//` stands for it.
        let place = authority.lower - 1
        head.path = ByteRange(place, place + 1)
        if start == target.upper {
            if unsafe isOptions(base, head.method) { unsafe base[place] = 0x2a }
            return nil
        }
        guard unsafe base[start] == 0x3f else { return .target }
        head.hasQuery = true
        head.query = ByteRange(start + 1, target.upper)
        for index in start + 1..<target.upper where unsafe base[index] == 0x23 { return .target }
        return nil
    }

    /// `host:port`, and what follows the head belongs to no request (RFC 9110 section 9.3.6).
    private static func connect(
        _ base: UnsafeMutablePointer<UInt8>, _ target: ByteRange, _ head: inout MessageHead
    ) -> Refusal? {
        guard let host = unsafe Authority.host(base, target), !host.isEmpty,
            target.upper - host.upper > 1
        else { return .target }
        if head.minor == 1, !head.hasHost { return .hostMissing }
        if head.hasHost, unsafe !isSame(base, target, head.authority) { return .hostConflict }
        if head.contentLength >= 0 || head.isChunked { return .connectMethod }
        head.isConnect = true
        head.authority = target
        head.host = unsafe Authority.withoutDot(base, host)
        return nil
    }

    private static func isOptions(_ base: UnsafePointer<UInt8>, _ method: ByteRange) -> Bool {
        unsafe isSpelt(base, method, "OPTIONS")
    }

    private static func authorityOfAbsolute(
        _ base: UnsafeMutablePointer<UInt8>, _ target: ByteRange
    ) -> ByteRange? {
        var start = 0
        for scheme in ["http://", "https://"] as [StaticString] {
            let end = target.lower + scheme.utf8CodeUnitCount
            if end < target.upper, unsafe isWord(base, ByteRange(target.lower, end), scheme) {
                start = end
            }
        }
        guard start > 0 else { return nil }
        var index = start
        while index < target.upper, unsafe base[index] != 0x2f, unsafe base[index] != 0x3f {
            index += 1
        }
        return index > start ? ByteRange(start, index) : nil
    }

    private static func isSame(
        _ base: UnsafeMutablePointer<UInt8>, _ one: ByteRange, _ other: ByteRange
    ) -> Bool {
        guard one.count == other.count else { return false }
        for offset in 0..<one.count
        where unsafe lowerCase(base[one.lower + offset]) != lowerCase(base[other.lower + offset]) {
            return false
        }
        return true
    }
}
