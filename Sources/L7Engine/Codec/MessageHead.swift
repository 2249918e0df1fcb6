// The head of an HTTP/1.x message as ranges over received bytes, and why one is refused.

internal import MeshModel

/// Fields that the engine itself reads. Those from `connection` on belong to one hop and are not
/// forwarded (RFC 9110 section 7.6.1).
enum FieldKind {
    static let other: UInt8 = 0
    static let host: UInt8 = 1
    static let contentLength: UInt8 = 2
    static let transferEncoding: UInt8 = 3
    static let expect: UInt8 = 4
    static let forwardedFor: UInt8 = 5
    static let hop: UInt8 = 0x80
    static let connection: UInt8 = 0x81
    static let upgrade: UInt8 = 0x82
}

/// Why a message was refused: the label of `malla_requests_refused_total`.
enum Refusal: UInt8, CaseIterable {
    case malformedLine, method, target, path, version, fieldName, fieldValue, spaceBeforeColon
    case bareLineFeed, bareCarriageReturn, nul, foldedLine, hostMissing, hostDuplicate, hostInvalid
    case contentLengthInvalid, contentLengthDuplicate, lengthAndEncoding, encodingUnknown
    case encodingInOldVersion, headTooLong, fieldsTooMany, chunk, connectMethod

    var label: String {
        switch self {
        case .malformedLine: "malformed_line"
        case .method: "method"
        case .target: "target"
        case .path: "path"
        case .version: "version"
        case .fieldName: "field_name"
        case .fieldValue: "field_value"
        case .spaceBeforeColon: "space_before_colon"
        case .bareLineFeed: "bare_line_feed"
        case .bareCarriageReturn: "bare_carriage_return"
        case .nul: "nul"
        case .foldedLine: "folded_line"
        case .hostMissing: "host_missing"
        case .hostDuplicate: "host_duplicate"
        case .hostInvalid: "host_invalid"
        case .contentLengthInvalid: "content_length_invalid"
        case .contentLengthDuplicate: "content_length_duplicate"
        case .lengthAndEncoding: "length_and_encoding"
        case .encodingUnknown: "encoding_unknown"
        case .encodingInOldVersion: "encoding_in_old_version"
        case .headTooLong: "head_too_long"
        case .fieldsTooMany: "fields_too_many"
        case .chunk: "chunk"
        case .connectMethod: "connect_method"
        }
    }
}

/// What the parser found; one a worker, written anew for each message.
///
/// - Units: ranges count from the first byte of the parsed window.
@safe struct MessageHead {
    let fields: UnsafeMutablePointer<FieldRange>
    let fieldsMax: Int
    var fieldsCount = 0
    var method = ByteRange.empty
    var path = ByteRange.empty
    /// Without the `?`; `hasQuery` tells an empty one from none.
    var query = ByteRange.empty
    var hasQuery = false
    /// With the port; without it in `host`.
    var authority = ByteRange.empty
    var host = ByteRange.empty
    var status = 0
    var statusLine = ByteRange.empty
    /// 0 or 1 of HTTP/1.x.
    var minor: UInt8 = 1
    /// -1: none.
    var contentLength: Int64 = -1
    var isChunked = false
    var closes = false
    var keepsAlive = false
    var upgrades = false
    var hasHost = false
    var expects = false
    var namesFields = false
    /// Where the head ends and the body begins.
    var end = 0

    init(fields: UnsafeMutablePointer<FieldRange>, fieldsMax: Int) {
        unsafe self.fields = fields
        self.fieldsMax = fieldsMax
    }

    @inline(__always)
    func field(_ index: Int) -> FieldRange {
        assert(index >= 0 && index < fieldsCount)
        // In range: the parser wrote `fieldsCount` of them.
        return unsafe fields[index]
    }

    mutating func reset() {
        fieldsCount = 0
        hasQuery = false
        method = .empty
        path = .empty
        query = .empty
        authority = .empty
        host = .empty
        status = 0
        minor = 1
        contentLength = -1
        isChunked = false
        closes = false
        keepsAlive = false
        upgrades = false
        hasHost = false
        expects = false
        namesFields = false
        end = 0
    }
}
