// The one table of what a failure looks like from outside (R25): label, status, response flag,
// whether it may be tried again, text. No other file writes a status code of a failure.
// docs/errors.md explains every row; a tidy test compares.

/// Envoy's response flags, as far as they can happen here.
enum ResponseFlag: UInt8, BitwiseCopyable {
    case none, noRoute, noCluster, noHealthy, connectFailed, connectionTermination, timeout
    case downstreamGone, downstreamInvalid, upstreamInvalid, overflow, retriesExceeded
    case streamIdle
    case overload
    case localReset

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
        case .retriesExceeded: "UF,URX"
        case .streamIdle: "SI"
        case .overload: "OM"
        case .localReset: "LR"
        }
    }
}

/// Whether a request that failed so may be sent to another endpoint.
enum RetryClass: UInt8, BitwiseCopyable {
    case never
    /// It may have been served: only what is safe to send twice.
    case resendable
    /// Nothing of it was sent.
    case always
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
    case retriesExceeded
    case handshakeFailed
    case tlsUnavailable
    case noIdentity
    case misdirected
    case listenerChanged
    case upstreamEnded
    case upstreamInvalid
    case requestTimeout
    case downstreamGone
    case headTimeout
    case bodyTimeout
    case slowReader
    case overloaded
    case tooLarge
    case quarantined
    case idleTimeout
    case drained
    case portsUsedUp
    case deniedByPolicy
    case plainHTTP
    case plainRefused
    case endpointRemoved
    case upstreamQuarantined
    case lengthRequired

    /// All but refusals, in the order of their counters.
    static let own: [Failure] = [
        .noRoute, .noListener, .unresolvedBackend, .unsupportedFilter, .noEndpoints,
        .connectFailed, .connectTimeout, .retriesExceeded, .upstreamEnded, .upstreamInvalid,
        .requestTimeout, .downstreamGone, .headTimeout, .bodyTimeout, .slowReader, .overloaded,
        .tooLarge, .handshakeFailed, .tlsUnavailable, .misdirected, .quarantined,
        .idleTimeout, .drained,
        .portsUsedUp, .deniedByPolicy, .plainHTTP, .noIdentity,
        .listenerChanged, .plainRefused, .endpointRemoved,
        .upstreamQuarantined, .lengthRequired,
    ]

    /// A number for counters and log records: 0 is none, refusals are from 128 on.
    var code: UInt8 {
        if case .refused(let refusal) = self { return 128 | refusal.rawValue }
        return UInt8((Self.own.firstIndex(of: self) ?? 0) + 1)
    }

    /// `nil`: nothing failed.
    static func label(ofCode code: UInt8) -> StaticString? {
        if code >= 128 { return Refusal(rawValue: code & 127)?.label }
        if code >= TunnelRefusal.firstCode { return TunnelRefusal.label(ofCode: code) }
        return code == 0 || Int(code) > own.count ? nil : own[Int(code) - 1].row.label
    }

    /// What the table says of one failure. `text` is for the client: nothing in it is ours alone.
    struct Row {
        let label: StaticString
        let status: Int
        let flag: ResponseFlag
        let retry: RetryClass
        let text: StaticString

        init(
            _ label: StaticString, _ status: Int, _ flag: ResponseFlag, _ retry: RetryClass,
            _ text: StaticString
        ) {
            self.label = label
            self.status = status
            self.flag = flag
            self.retry = retry
            self.text = text
        }
    }

    var row: Row {
        switch self {
        case .refused(let refusal): refusal.row
        case .noRoute: Row("no_route", 404, .noRoute, .never, "no route matches")
        case .noListener: Row("no_listener", 404, .noRoute, .never, "nothing is served here")
        case .unresolvedBackend:
            Row("no_backend", 500, .noCluster, .never, "the route's backend cannot be resolved")
        case .unsupportedFilter:
            Row("filter", 500, .noCluster, .never, "the route asks for an unsupported filter")
        case .noEndpoints: Row("no_endpoint", 503, .noHealthy, .never, "no endpoint is ready")
        case .connectFailed:
            Row("connect_failed", 503, .connectFailed, .always, "the upstream refused to connect")
        case .connectTimeout:
            Row("connect_timeout", 503, .connectFailed, .always, "the upstream did not connect")
        case .retriesExceeded:
            Row("retries_exceeded", 503, .retriesExceeded, .never, "no upstream tried connected")
        case .upstreamEnded:
            Row(
                "upstream_ended", 503, .connectionTermination, .resendable,
                "the upstream closed the connection without an answer")
        case .upstreamInvalid:
            Row(
                "upstream_invalid", 502, .upstreamInvalid, .never,
                "the upstream's answer is not HTTP")
        case .requestTimeout:
            Row("request_timeout", 504, .timeout, .never, "the request's time is over")
        case .downstreamGone:
            Row("downstream_gone", 0, .downstreamGone, .never, "the client went away")
        case .headTimeout:
            Row("head_timeout", 408, .streamIdle, .never, "the request did not come in time")
        case .bodyTimeout:
            Row("body_timeout", 408, .streamIdle, .never, "the request's body did not come in time")
        case .slowReader:
            Row("slow_reader", 0, .streamIdle, .never, "the client does not read the answer")
        case .portsUsedUp:
            Row("ports", 503, .overflow, .always, "no port is free towards the upstream")
        case .deniedByPolicy:
            Row(
                "denied_by_policy", 403, .connectFailed, .never,
                "a network policy does not allow this connection")
        case .overloaded:
            Row("overloaded", 503, .overflow, .never, "too busy; try again in a second")
        case .quarantined:
            Row(
                "quarantined", 503, .overload, .never,
                "this workload is not served now: the proxy failed while it served it")
        case .upstreamQuarantined:
            Row(
                "upstream_quarantined", 503, .overload, .always,
                "the upstream is not served now: the proxy failed while it served it")
        case .idleTimeout:
            Row("idle_timeout", 0, .streamIdle, .never, "neither side has sent anything for long")
        case .drained:
            Row("drained", 503, .localReset, .never, "the proxy ends before the answer has come")
        case .tooLarge:
            Row("rewritten_head", 500, .overflow, .never, "the rewritten head is too large")
        case .handshakeFailed:
            Row("upstream_tls", 503, .connectFailed, .always, "the upstream's TLS handshake failed")
        case .tlsUnavailable:
            Row(
                "upstream_tls_config", 503, .connectFailed, .never,
                "TLS to the upstream is asked for and cannot be configured")
        case .plainHTTP:
            Row(
                "plain_http", 400, .downstreamInvalid, .never, "this port is HTTPS, not plain HTTP")
        case .noIdentity:
            Row(
                "no_identity", 503, .connectFailed, .never,
                "the upstream is reached by mutual TLS only, and the client has no certificate")
        case .plainRefused:
            Row(
                "plain_refused", 503, .connectFailed, .never,
                "the upstream insists on mutual TLS, and nobody serves that there")
        case .endpointRemoved:
            Row(
                "endpoint_removed", 503, .localReset, .never,
                "the upstream is no endpoint of its service any more")
        case .lengthRequired:
            Row(
                "length_required", 411, .downstreamInvalid, .never,
                "the upstream takes no chunks, and the request's body is too large to be held")
        case .misdirected:
            Row("misdirected", 421, .noRoute, .never, "this connection was not made for that host")
        case .listenerChanged:
            Row(
                "listener_changed", 421, .noRoute, .never,
                "this port asks for something else since the connection was opened")
        }
    }
}

extension Refusal {
    fileprivate var row: Failure.Row {
        switch self {
        case .headTooLong: refused(431, "the request's head is too large")
        case .fieldsTooMany: refused(431, "the request has too many fields")
        case .trailersTooLong: refused(431, "the request's trailers are too large")
        case .targetTooLong: refused(414, "the request's target is too long")
        case .contentLengthTooLarge, .chunkSize: refused(413, "the request's body is too large")
        case .version: refused(505, "this version of HTTP is not served")
        case .encodingUnknown: refused(501, "this transfer coding is not known")
        case .expectation: refused(417, "this expectation cannot be met")
        case .connectMethod: refused(405, "no route allows CONNECT here")
        case .traceMethod: refused(405, "the proxy itself does not answer TRACE")
        case .malformedLine, .method, .target, .path, .fieldName, .fieldValue, .spaceBeforeColon,
            .bareLineFeed, .bareCarriageReturn, .nul, .foldedLine, .hostMissing, .hostDuplicate,
            .hostInvalid, .contentLengthInvalid, .contentLengthDuplicate, .lengthAndEncoding,
            .encodingInOldVersion, .chunk, .hostConflict, .encodingDuplicate, .connectionOptions,
            .chunkExtension, .trailer, .maxForwards:
            refused(400, "the request is malformed")
        }
    }

    private func refused(_ status: Int, _ text: StaticString) -> Failure.Row {
        Failure.Row(label, status, .downstreamInvalid, .never, text)
    }
}

/// The reason phrases of the statuses that Malla itself answers.
func reasonPhrase(_ status: Int) -> StaticString {
    switch status {
    case 200: "OK"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 303: "See Other"
    case 307: "Temporary Redirect"
    case 308: "Permanent Redirect"
    case 400: "Bad Request"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 411: "Length Required"
    case 413: "Content Too Large"
    case 414: "URI Too Long"
    case 417: "Expectation Failed"
    case 421: "Misdirected Request"
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
