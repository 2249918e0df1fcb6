// The few fields that say where a message ends, whom it is for, what happens to the connection and
// from where it came.

internal import MeshModel

enum FieldReader {
    /// Options of all `Connection` fields of a message together. Each that names a field is
    /// compared with every field: without a limit, a head of names would buy much of our time.
    static let connectionOptionsMax: UInt16 = 32

    /// What is more than this is passed on as this: no path is so long.
    static let maxForwardsMax: Int64 = 1000

    /// What kind of field this is; `nil`: the message must be refused (`refusal` says why).
    @inline(__always)
    static func read(
        _ base: UnsafeMutablePointer<UInt8>, _ name: ByteRange, _ value: ByteRange,
        _ head: inout MessageHead, isRequest: Bool
    ) -> UInt8? {
        switch name.count {
        case 2:
            guard unsafe isWord(base, name, "te") else { return 0 }
            return isRequest ? unsafe te(base, value, &head) : FieldKind.hop
        case 4: return unsafe isRequest && isWord(base, name, "host") ? host(value, &head) : 0
        case 14:
            if unsafe isWord(base, name, "content-length") {
                return unsafe contentLength(base, value, &head)
            }
            return unsafe isWord(base, name, "http2-settings") ? FieldKind.hop : 0
        case 17:
            if unsafe isWord(base, name, "transfer-encoding") {
                return unsafe transferEncoding(base, value, &head)
            }
            return unsafe isWord(base, name, "x-forwarded-proto") ? FieldKind.forwardedOther : 0
        case 10:
            if unsafe isWord(base, name, "connection") {
                return unsafe connection(base, value, &head)
            }
            return unsafe isWord(base, name, "keep-alive") ? FieldKind.hop : 0
        case 7:
            if unsafe isWord(base, name, "upgrade") { return unsafe upgrade(base, value, &head) }
            return unsafe isWord(base, name, "trailer") ? FieldKind.trailer : 0
        case 16:
            if unsafe isWord(base, name, "proxy-connection") { return FieldKind.hop }
            return unsafe isWord(base, name, "x-forwarded-host")
                || isWord(base, name, "x-forwarded-port") ? FieldKind.forwardedOther : 0
        default: return isRequest ? unsafe readRequest(base, name, value, &head) : 0
        }
    }

    /// Fields that mean something to us in a request only.
    private static func readRequest(
        _ base: UnsafeMutablePointer<UInt8>, _ name: ByteRange, _ value: ByteRange,
        _ head: inout MessageHead
    ) -> UInt8? {
        switch name.count {
        case 3: return unsafe isWord(base, name, "via") ? FieldKind.via : 0
        case 6:
            if unsafe isWord(base, name, "accept") {
                head.prefersJSON = unsafe head.prefersJSON || namesJSON(base, value)
                return 0
            }
            guard unsafe isWord(base, name, "expect") else { return 0 }
            guard unsafe isWord(base, value, "100-continue") else { return nil }
            head.expects = true
            return FieldKind.expect
        case 9:
            if unsafe isWord(base, name, "forwarded") { return FieldKind.forwarded }
            return unsafe isWord(base, name, "x-real-ip") ? FieldKind.forwardedOther : 0
        case 12:
            guard unsafe isWord(base, name, "x-request-id") else {
                return unsafe isWord(base, name, "max-forwards")
                    ? maxForwards(base, value, &head) : 0
            }
            // Of two nobody can say which is meant. No id holds what stands behind a value.
            let isFirst = head.requestID == .empty
            head.requestID = isFirst ? value : ByteRange(name.lower, value.upper + 1)
            return FieldKind.requestID
        case 15:
            return unsafe isWord(base, name, "x-forwarded-for") ? FieldKind.forwardedFor : 0
        case 23:
            // Envoy's and Istio's: who the client is.
            guard unsafe isWord(base, name, "x-forwarded-client-cert") else { return 0 }
            head.claimsIdentity = true
            return FieldKind.clientCertificate
        default: return 0
        }
    }

    /// Why `read` answered `nil` for this field.
    static func refusal(
        _ base: UnsafeMutablePointer<UInt8>, _ name: ByteRange, _ value: ByteRange,
        _ head: MessageHead
    ) -> Refusal {
        switch name.count {
        case 4: return .hostDuplicate
        case 6: return .expectation
        case 10: return .connectionOptions
        case 12: return .maxForwards
        case 14:
            if head.contentLength >= 0 { return .contentLengthDuplicate }
            for index in value.lower..<value.upper where unsafe base[index] &- 48 >= 10 {
                return .contentLengthInvalid
            }
            return value.count <= 18 ? .contentLengthInvalid : .contentLengthTooLarge
        default: return head.isChunked ? .encodingDuplicate : .encodingUnknown
        }
    }

    private static func host(_ value: ByteRange, _ head: inout MessageHead) -> UInt8? {
        if head.hasHost { return nil }
        head.hasHost = true
        head.authority = value
        return FieldKind.host
    }

    /// Means something to OPTIONS and TRACE only (RFC 9110 section 7.6.2).
    private static func maxForwards(
        _ base: UnsafeMutablePointer<UInt8>, _ value: ByteRange, _ head: inout MessageHead
    ) -> UInt8? {
        guard unsafe isSpelt(base, head.method, "OPTIONS") || isSpelt(base, head.method, "TRACE")
        else { return 0 }
        guard head.maxForwards < 0, !value.isEmpty else { return nil }
        var most: Int64 = 0
        for index in value.lower..<value.upper {
            let digit = unsafe base[index] &- 48
            guard digit < 10 else { return nil }
            most = min(most * 10 + Int64(digit), maxForwardsMax)
        }
        head.maxForwards = most
        return FieldKind.maxForwards
    }

    private static func contentLength(
        _ base: UnsafeMutablePointer<UInt8>, _ value: ByteRange, _ head: inout MessageHead
    ) -> UInt8? {
        // Two of them are refused even when they agree: a list is nothing that one sender writes.
        guard head.contentLength < 0, (1...18).contains(value.count), unsafe isBare(base, value)
        else { return nil }
        var length: Int64 = 0
        for index in value.lower..<value.upper {
            let digit = unsafe base[index] &- 48
            guard digit < 10 else { return nil }
            length = length * 10 + Int64(digit)
        }
        head.contentLength = length
        return FieldKind.contentLength
    }

    private static func transferEncoding(
        _ base: UnsafeMutablePointer<UInt8>, _ value: ByteRange, _ head: inout MessageHead
    ) -> UInt8? {
        guard !head.isChunked, unsafe isWord(base, value, "chunked"), unsafe isBare(base, value)
        else { return nil }
        head.isChunked = true
        return FieldKind.transferEncoding
    }

    /// No tab before the value and no white space behind it. They are no part of a value, but a
    /// reader that takes them for one (llhttp does) would frame the message otherwise.
    private static func isBare(_ base: UnsafePointer<UInt8>, _ value: ByteRange) -> Bool {
        // Both in range: a colon stands before every value, and a carriage return behind it.
        unsafe base[value.lower - 1] != 9 && base[value.upper] == HTTP1Parser.cr
    }

    private static func te(
        _ base: UnsafeMutablePointer<UInt8>, _ value: ByteRange, _ head: inout MessageHead
    ) -> UInt8 {
        var items = ListItems(value)
        while let item = unsafe items.item(base) {
            if unsafe isWord(base, item, "trailers") { head.takesTrailers = true }
        }
        return FieldKind.te
    }

    private static func upgrade(
        _ base: UnsafeMutablePointer<UInt8>, _ value: ByteRange, _ head: inout MessageHead
    ) -> UInt8 {
        head.hasUpgrade = head.hasUpgrade || !value.isEmpty
        var items = ListItems(value)
        while let item = unsafe items.item(base) {
            // What passes after an upgrade is not looked at: HTTP/2 would pass all policy by.
            let name = ByteRange(item.lower, min(item.upper, item.lower + 3))
            let isWhole = unsafe item.count == 3 || (item.count > 3 && base[name.upper] == 0x2f)
            if isWhole, unsafe isWord(base, name, "h2c") { head.upgradesToHTTP2 = true }
        }
        return FieldKind.upgrade
    }

    /// Whether the client asked for JSON by name; `*/*` asks for nothing.
    private static func namesJSON(_ base: UnsafeMutablePointer<UInt8>, _ value: ByteRange) -> Bool {
        let count = 16
        var index = value.lower
        while index + count <= value.upper {
            let place = ByteRange(index, index + count)
            if unsafe base[index] | 0x20 == 0x61, unsafe isWord(base, place, "application/json") {
                return true
            }
            index += 1
        }
        return false
    }

    /// The options of `Connection`; any that names a field makes that field hop-by-hop too.
    private static func connection(
        _ base: UnsafeMutablePointer<UInt8>, _ value: ByteRange, _ head: inout MessageHead
    ) -> UInt8? {
        // What most servers say, at once.
        if head.connectionOptions == 0, unsafe isWord(base, value, "keep-alive") {
            head.connectionOptions = 1
            head.keepsAlive = true
            return FieldKind.connection
        }
        var items = ListItems(value)
        while let option = unsafe items.item(base) {
            head.connectionOptions += 1
            guard head.connectionOptions <= connectionOptionsMax else { return nil }
            if unsafe isWord(base, option, "close") {
                head.closes = true
            } else if unsafe isWord(base, option, "keep-alive") {
                head.keepsAlive = true
            } else if unsafe isWord(base, option, "upgrade") {
                head.upgrades = true
            } else {
                head.namesFields = true
            }
        }
        return FieldKind.connection
    }

    /// Marks the fields that `Connection` names. Fields that frame or address the message, or say
    /// where it came from, stay: naming them is an attack, not a wish.
    static func markNamed(_ base: UnsafeMutablePointer<UInt8>, _ head: inout MessageHead) {
        for index in 0..<head.fieldsCount where head.field(index).kind == FieldKind.connection {
            var items = ListItems(head.field(index).value)
            while let name = unsafe items.item(base) { unsafe mark(base, name, &head) }
        }
    }

    private static func mark(
        _ base: UnsafeMutablePointer<UInt8>, _ name: ByteRange, _ head: inout MessageHead
    ) {
        for index in 0..<head.fieldsCount {
            let field = head.field(index)
            let mayBeNamed = field.kind == FieldKind.other || field.kind == FieldKind.trailer
            guard mayBeNamed, field.name.count == name.count else { continue }
            var isSame = true
            for offset in 0..<name.count
            where unsafe lowerCase(base[field.name.lower + offset])
                != lowerCase(base[name.lower + offset])
            {
                isSame = false
                break
            }
            // In range: `index` is below `fieldsCount`.
            if isSame { unsafe head.fields[index].kind = FieldKind.hop }
        }
    }
}
