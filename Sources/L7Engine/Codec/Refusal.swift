/// Why a message was refused: the label of `malla_requests_refused_total`. What each looks like
/// from outside is in the table of failures.
enum Refusal: UInt8, CaseIterable {
    // The order is that of the counters; new ones are put at the end.
    case malformedLine, method, target, path, version, fieldName, fieldValue, spaceBeforeColon
    case bareLineFeed, bareCarriageReturn, nul, foldedLine, hostMissing, hostDuplicate, hostInvalid
    case contentLengthInvalid, contentLengthDuplicate, lengthAndEncoding, encodingUnknown
    case encodingInOldVersion, headTooLong, fieldsTooMany, chunk, connectMethod
    case targetTooLong, hostConflict, contentLengthTooLarge, encodingDuplicate, expectation
    case connectionOptions, chunkSize, chunkExtension, trailer, trailersTooLong
    case maxForwards, traceMethod

    var label: StaticString {
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
        case .targetTooLong: "target_too_long"
        case .hostConflict: "host_conflict"
        case .contentLengthTooLarge: "content_length_too_large"
        case .encodingDuplicate: "encoding_duplicate"
        case .expectation: "expectation"
        case .connectionOptions: "connection_options"
        case .chunkSize: "chunk_size"
        case .chunkExtension: "chunk_extension"
        case .trailer: "trailer"
        case .trailersTooLong: "trailers_too_long"
        case .maxForwards: "max_forwards"
        case .traceMethod: "trace_method"
        }
    }
}
