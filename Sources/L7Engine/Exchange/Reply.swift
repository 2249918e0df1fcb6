// The one table of what a failure looks like from outside (R25): status, response flag, text.
// No other file writes a status code of a failure.

/// Envoy's response flags, as far as they can happen here.
enum ResponseFlag: UInt8, BitwiseCopyable {
    case none, noRoute, noCluster, noHealthy, connectFailed, connectionTermination, timeout
    case downstreamGone, downstreamInvalid, upstreamInvalid, overflow

    var label: StaticString {
        switch self {
        case .none: "-"
        case .noRoute: "NR"
        case .noCluster: "NC"
        case .noHealthy: "UH"
        case .connectFailed: "UF"
        case .connectionTermination: "UC"
        case .timeout: "UT"
        case .downstreamGone: "DC"
        case .downstreamInvalid: "DPE"
        case .upstreamInvalid: "UPE"
        case .overflow: "UO"
        }
    }
}

enum Failure: Equatable, BitwiseCopyable {
    case refused(Refusal)
    case noRoute
    case noListener
    case unresolvedBackend
    case unsupportedFilter
    case noEndpoints
    case connectFailed
    case connectTimeout
    case upstreamEnded
    case upstreamInvalid
    case requestTimeout
    case downstreamGone
    case tooLarge

    /// HTTP status, flag, body.
    var reply: (status: Int, flag: ResponseFlag, text: StaticString) {
        switch self {
        case .refused(.headTooLong), .refused(.fieldsTooMany):
            (431, .downstreamInvalid, "request head too large\n")
        case .refused(.version): (505, .downstreamInvalid, "HTTP version not supported\n")
        case .refused(.encodingUnknown):
            (501, .downstreamInvalid, "transfer encoding not supported\n")
        case .refused(.connectMethod): (405, .downstreamInvalid, "CONNECT is not served here\n")
        case .refused: (400, .downstreamInvalid, "malformed request\n")
        case .noRoute, .noListener: (404, .noRoute, "no route matches\n")
        case .unresolvedBackend: (500, .noCluster, "the route's backend cannot be resolved\n")
        case .unsupportedFilter: (500, .noCluster, "the route asks for an unsupported filter\n")
        case .noEndpoints: (503, .noHealthy, "no ready endpoint\n")
        case .connectFailed: (503, .connectFailed, "upstream connection failed\n")
        case .connectTimeout: (503, .connectFailed, "upstream connection timed out\n")
        case .upstreamEnded:
            (503, .connectionTermination, "upstream closed the connection without an answer\n")
        case .upstreamInvalid: (502, .upstreamInvalid, "upstream answered what is no HTTP\n")
        case .requestTimeout: (504, .timeout, "request timed out\n")
        case .downstreamGone: (0, .downstreamGone, "")
        case .tooLarge: (500, .overflow, "the rewritten head is too large\n")
        }
    }
}

/// The reason phrases of the statuses that Malla itself answers.
func reasonPhrase(_ status: Int) -> StaticString {
    switch status {
    case 301: "Moved Permanently"
    case 302: "Found"
    case 303: "See Other"
    case 307: "Temporary Redirect"
    case 308: "Permanent Redirect"
    case 400: "Bad Request"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    case 505: "HTTP Version Not Supported"
    default: "Error"
    }
}
