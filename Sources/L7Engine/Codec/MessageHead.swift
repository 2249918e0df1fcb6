// The head of an HTTP/1.x message as ranges over received bytes.

internal import MeshModel

/// Fields that the engine itself reads, as a byte of which the upper bits say what happens to them
/// when the message is forwarded.
enum FieldKind {
    static let other: UInt8 = 0
    static let host: UInt8 = 1
    static let contentLength: UInt8 = 2
    static let transferEncoding: UInt8 = 3
    static let expect: UInt8 = 4
    static let via: UInt8 = 5
    static let requestID: UInt8 = 6
    static let trailer: UInt8 = 7

    /// Belongs to one hop and is not forwarded (RFC 9110 section 7.6.1).
    static let hop: UInt8 = 0x80
    static let connection: UInt8 = 0x81
    static let upgrade: UInt8 = 0x82
    static let te: UInt8 = 0x83

    /// Says where a request came from: at the edge only we may say so.
    static let edge: UInt8 = 0x40
    /// Written anew by us, with what came appended or not.
    static let rewritten: UInt8 = 0x20
    static let forwardedFor: UInt8 = 0x61
    static let forwarded: UInt8 = 0x62
    static let forwardedOther: UInt8 = 0x40
    static let maxForwards: UInt8 = 0x20
    /// `X-Forwarded-Client-Cert`: nobody's word but ours.
    static let clientCertificate: UInt8 = 0x63
}

/// Which fields are left out when a head is passed on.
struct FieldDrop: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    /// What `FieldKind.rewritten` and `FieldKind.edge` mark.
    static let rewritten = FieldDrop(rawValue: FieldKind.rewritten)
    static let edge = FieldDrop(rawValue: FieldKind.edge)
    static let host = FieldDrop(rawValue: 1)
    static let framing = FieldDrop(rawValue: 2)
    static let expect = FieldDrop(rawValue: 4)
    static let requestID = FieldDrop(rawValue: 8)
    /// All of one hop are left out, but this one may stay.
    static let allButUpgrade = FieldDrop(rawValue: 16)

    @inline(__always)
    func drops(_ kind: UInt8) -> Bool {
        if kind == FieldKind.other { return false }
        if kind & FieldKind.hop != 0 {
            return !(kind == FieldKind.upgrade && contains(.allButUpgrade))
        }
        if kind & rawValue & (FieldKind.rewritten | FieldKind.edge) != 0 { return true }
        return switch kind {
        case FieldKind.host: contains(.host)
        case FieldKind.contentLength, FieldKind.transferEncoding, FieldKind.trailer:
            contains(.framing)
        case FieldKind.expect: contains(.expect)
        case FieldKind.requestID: contains(.requestID)
        default: false
        }
    }
}

/// What the parser found; one a worker, written anew for each message.
///
/// - Units: ranges count from the first byte of the parsed window.
@safe struct MessageHead {
    let fields: UnsafeMutablePointer<FieldRange>
    let fieldsMax: Int
    /// The whole head; the target of its first line.
    let bytesMax: Int
    let targetBytesMax: Int
    var fieldsCount = 0
    var method = ByteRange.empty
    var path = ByteRange.empty
    /// Without the `?`; `hasQuery` tells an empty one from none.
    var query = ByteRange.empty
    var hasQuery = false
    /// With the port; without it in `host`.
    var authority = ByteRange.empty
    var host = ByteRange.empty
    var requestID = ByteRange.empty
    var status = 0
    var statusLine = ByteRange.empty
    /// 0 or 1 of HTTP/1.x.
    var minor: UInt8 = 1
    /// -1: none.
    var contentLength: Int64 = -1
    /// How often an OPTIONS or TRACE may still be passed on (RFC 9110 section 7.6.2); -1: no limit.
    var maxForwards: Int64 = -1
    var isChunked = false
    /// The method is HEAD, so that the response has no body.
    var isHead = false
    /// The method is CONNECT: the target is an authority, and there is no path.
    var isConnect = false
    var closes = false
    var keepsAlive = false
    /// `Connection: upgrade`; and an `Upgrade` that may be passed on.
    var upgrades = false
    var hasUpgrade = false
    /// HTTP/2 behind our back: never passed on.
    var upgradesToHTTP2 = false
    var hasHost = false
    /// The target is an absolute form with the scheme `https`.
    var namesHTTPS = false
    var expects = false
    /// `TE: trailers`.
    var takesTrailers = false
    var prefersJSON = false
    /// An `X-Forwarded-Client-Cert` has come.
    var claimsIdentity = false
    /// Some option of `Connection` is the name of a field.
    var namesFields = false
    var connectionOptions: UInt16 = 0
    /// Where the head ends and the body begins.
    var end = 0

    init(
        fields: UnsafeMutablePointer<FieldRange>, fieldsMax: Int, bytesMax: Int = 32 * 1024,
        targetBytesMax: Int = 16 * 1024
    ) {
        unsafe self.fields = fields
        self.fieldsMax = fieldsMax
        self.bytesMax = bytesMax
        self.targetBytesMax = targetBytesMax
    }

    /// The client wants another protocol that may be passed on as it is.
    var wantsUpgrade: Bool { upgrades && hasUpgrade && !upgradesToHTTP2 && minor == 1 }

    @inline(__always)
    func field(_ index: Int) -> FieldRange {
        assert(index >= 0 && index < fieldsCount)
        // In range: the parser wrote `fieldsCount` of them.
        return unsafe fields[index]
    }

    /// Whether what came behind an incomplete head, from `added` on, ends a line or passes a limit.
    /// So a head is parsed once for each of its lines, not for each byte that a slow sender sends.
    func isWorthParsing(_ bytes: Bytes, _ start: Int, _ added: Int) -> Bool {
        for limit in [targetBytesMax + HTTP1Parser.methodBytesMax + 2, bytesMax]
        where added - start <= limit && bytes.count - start > limit {
            return true
        }
        for index in added..<bytes.count where bytes[index] == HTTP1Parser.lf { return true }
        return false
    }

    mutating func reset() {
        unsafe self = MessageHead(
            fields: fields, fieldsMax: fieldsMax, bytesMax: bytesMax,
            targetBytesMax: targetBytesMax)
    }
}
