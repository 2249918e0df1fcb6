// HBONE as a worker holds it: a tunnel (one HTTP/2 connection over mutual TLS) and its streams,
// each a session that the rest of the engine reads and writes as if it were a connection.
//
// Receives: a connected session, what Worker+Carrier asks for. Hands on: streams with news. Decides
// nothing: who may connect to whom is Worker+Carrier's. The only folder that knows libnghttp2.

internal import CLinux
internal import CNghttp2
internal import MeshModel

/// How a tunnel ended: the label of a metric.
enum TunnelEnd: UInt8, CaseIterable, BitwiseCopyable {
    case none, closed, broken, protocolError, flood, memory
    // Ours.
    /// The peer did not prove to be whom we want, or is nobody that we may believe.
    case wrongPeer
    case handshake, timeout, noCredential, notHTTP2, drained, revoked, connect
    /// The peer does not take our answers.
    case slowReader

    init(_ end: hbone_end) { self = TunnelEnd(rawValue: UInt8(end.rawValue)) ?? .broken }

    var label: StaticString {
        switch self {
        case .none: "none"
        case .closed: "closed"
        case .broken: "connection_lost"
        case .protocolError: "protocol"
        case .flood: "flood"
        case .memory: "memory"
        case .wrongPeer: "wrong_identity"
        case .handshake: "handshake"
        case .timeout: "timeout"
        case .noCredential: "no_certificate"
        case .notHTTP2: "no_h2"
        case .drained: "drained"
        case .revoked: "not_allowed_any_more"
        case .connect: "connect"
        case .slowReader: "slow_reader"
        }
    }
}

/// What a CONNECT is refused with.
enum TunnelRefusal: Int, CaseIterable {
    /// It names no address, or is no request.
    case badAuthority = 400
    /// Network policies do not let the client reach the pod, as ztunnel says it.
    case denied = 401
    /// It names another address than the one that was dialled.
    case foreign = 403
    case notConnect = 405
    /// A limit, or the pod did not take the connection.
    case unavailable = 503
    /// Its head is longer than `Limits.tunnelHeadBytesMax`.
    case tooLong = 431
    /// An extended CONNECT (RFC 8441): a tunnel carries TCP and nothing else.
    case extended = 501

    var label: StaticString {
        switch self {
        case .badAuthority: "connect_no_address"
        case .denied: "denied_by_policy"
        case .foreign: "connect_elsewhere"
        case .notConnect: "connect_method"
        case .unavailable: "connect_unavailable"
        case .tooLong: "connect_too_long"
        case .extended: "connect_protocol"
        }
    }

    /// Numbers of the access log (`Failure.code` has those below): for CONNECTs, then for
    /// handshakes.
    static let firstCode: UInt8 = 64
    private static let firstHandshake: UInt8 = 80

    var code: UInt8 { Self.firstCode + UInt8(Self.allCases.firstIndex(of: self) ?? 0) }
    static func code(of handshake: TLSFailure) -> UInt8 { firstHandshake + handshake.rawValue }

    static func label(ofCode code: UInt8) -> StaticString? {
        if code >= firstHandshake { return TLSFailure(rawValue: code - firstHandshake)?.label }
        let index = Int(code - firstCode)
        return index < allCases.count ? allCases[index].label : nil
    }
}

/// What is new at a stream.
struct StreamNews: OptionSet, BitwiseCopyable {
    let rawValue: UInt32
    static let opened = StreamNews(rawValue: HBONE_NEWS_OPENED.rawValue)
    static let answered = StreamNews(rawValue: HBONE_NEWS_ANSWERED.rawValue)
    static let readable = StreamNews(rawValue: HBONE_NEWS_READABLE.rawValue)
    static let writable = StreamNews(rawValue: HBONE_NEWS_WRITABLE.rawValue)
    static let reset = StreamNews(rawValue: HBONE_NEWS_RESET.rawValue)
}

/// One HTTP/2 connection.
///
/// - Owns: nothing; the carrier's record does, until `free`.
/// - Threads: its worker's.
@safe struct HBONETunnel: BitwiseCopyable {
    enum Step { case again, nothing, ended }

    private let pointer: OpaquePointer?
    static var none: HBONETunnel { unsafe HBONETunnel(nil) }

    private init(_ pointer: OpaquePointer?) { unsafe self.pointer = pointer }

    /// Over a session that may still be in its handshake: nothing is sent before `flush`.
    ///
    /// - Parameters:
    ///   - descriptor: of the connection; only asked how long a round trip takes.
    ///   - windowMax: bytes that the peer may send ahead on a stream whose reader keeps up.
    init(
        over session: Session, _ descriptor: Int32, isServer: Bool, windowMax: Int,
        _ limits: Limits
    ) {
        var bounds = hbone_limits(
            streams_max: UInt32(limits.tunnelStreamsMax),
            stream_window: UInt32(limits.tunnelWindowBytes),
            stream_window_max: UInt32(windowMax),
            connection_window: UInt32(limits.tunnelWindowsBytesMax),
            header_bytes_max: UInt32(limits.tunnelHeadBytesMax),
            resets_max: UInt32(limits.tunnelResetsMax),
            outgoing_bytes_max: UInt32(limits.tunnelOutgoingBytesMax),
            answers_bytes_max: UInt32(limits.tunnelAnswersBytesMax),
            account_bytes_max: UInt64(limits.accountBufferBytesMax),
            total_bytes_max: UInt64(limits.bufferBytesMax))
        // Safe: the session outlives the tunnel: a carrier frees the tunnel first.
        unsafe pointer = hbone_tunnel_new(session.pointer, descriptor, isServer ? 1 : 0, &bounds)
    }

    var isNone: Bool { unsafe pointer == nil }

    /// Where memory for bytes that nobody has read is counted: of streams begun from now on, and of
    /// all. Both words outlive the tunnel and its streams.
    func charge(_ account: UnsafeMutablePointer<UInt64>, _ total: UnsafeMutablePointer<UInt64>) {
        unsafe hbone_tunnel_charge(pointer, account, total)
    }

    /// Where its bytes are counted: both words outlive it.
    func count(
        received: UnsafeMutablePointer<UInt64>, sent: UnsafeMutablePointer<UInt64>
    ) { unsafe hbone_tunnel_count(pointer, received, sent) }

    /// Cuts off the stream that holds most of it; `false`: none holds any.
    func relieve() -> Bool { unsafe hbone_tunnel_relieve(pointer) != 0 }

    /// Bytes of it.
    var held: Int { unsafe hbone_tunnel_held(pointer) }

    /// Streams that are open live on, reset, until their owners free them.
    func free() { unsafe hbone_tunnel_free(pointer) }

    func receive(_ scratch: UnsafeMutablePointer<UInt8>, _ room: Int) -> Step {
        let result = unsafe hbone_tunnel_receive(pointer, scratch, room)
        return result < 0 ? .ended : result > 0 ? .again : .nothing
    }

    /// `.nothing`: the socket is full.
    func flush() -> Step {
        let result = unsafe hbone_tunnel_flush(pointer)
        return result < 0 ? .ended : result > 0 ? .again : .nothing
    }

    /// The connection below is lost: all streams hear of it.
    func abort() { unsafe hbone_tunnel_abort(pointer) }

    /// The next stream that has news.
    func next() -> HBONEStream? {
        guard let stream = unsafe hbone_tunnel_next(pointer) else { return nil }
        return unsafe HBONEStream(stream)
    }

    /// The peer takes no bytes of any stream now.
    var isChoked: Bool { unsafe hbone_tunnel_is_choked(pointer) != 0 }
    /// It moves more bytes a second than that, which may be all that a core can; to be asked where
    /// a stream is to be opened.
    func isBusy(now: UInt64, bytesPerSecondMax: UInt64) -> Bool {
        unsafe hbone_tunnel_is_busy(pointer, now, bytesPerSecondMax) != 0
    }
    /// The peer takes nothing, so nothing more of it is to be read.
    var isFull: Bool { unsafe hbone_tunnel_is_full(pointer) != 0 }
    var wantsFlush: Bool { unsafe hbone_tunnel_wants_flush(pointer) != 0 }
    var end: TunnelEnd { unsafe TunnelEnd(hbone_tunnel_end(pointer)) }
    var streams: Int { Int(unsafe hbone_tunnel_streams(pointer)) }
    /// How many more streams it takes.
    var room: Int { Int(unsafe hbone_tunnel_room(pointer)) }
    /// It is over as soon as its streams are.
    var isDraining: Bool { unsafe hbone_tunnel_is_draining(pointer) != 0 }
    func drain() { unsafe hbone_tunnel_drain(pointer) }
    func ping() { unsafe hbone_tunnel_ping(pointer) }
    var pings: UInt32 { unsafe hbone_tunnel_pings(pointer) }

    /// - Complexity: allocates; once a connection, not once a request.
    func open(
        _ authority: String, forwarded: String?, baggage: String?, owner: Link
    ) -> HBONEStream? {
        let stream = unsafe hbone_stream_open(
            pointer, authority, forwarded, baggage, owner.token)
        return unsafe stream.map { unsafe HBONEStream($0) }
    }
}

/// One CONNECT: a session of a connection that has no socket of its own.
///
/// - Owns: nothing; freed as the connection's session, or by `refuse`.
@safe struct HBONEStream: BitwiseCopyable {
    private let pointer: OpaquePointer

    fileprivate init(_ pointer: OpaquePointer) { unsafe self.pointer = pointer }
    /// Of a connection whose session is a stream.
    init(_ session: Session) {
        // Safe: the session is the first member of a stream.
        unsafe pointer = OpaquePointer(session.pointer.unsafelyUnwrapped)
    }

    /// What was sent is not all: its end will be a reset.
    func breakOff() { unsafe hbone_stream_break(pointer) }

    var session: Session { unsafe Session(hbone_stream_session(pointer)) }
    var owner: Link { unsafe Link(token: hbone_stream_owner(pointer)) }
    /// What is new since the last call.
    func news() -> StreamNews { StreamNews(rawValue: unsafe hbone_stream_news(pointer)) }
    /// What was answered, 0 before.
    var status: Int { Int(unsafe hbone_stream_status(pointer)) }
    /// Nothing more goes either way, though not both ends have said their last.
    var isCut: Bool { unsafe hbone_stream_is_cut(pointer) != 0 }
    /// It was reset because its peer does not keep to RFC 9113.
    var isMistaken: Bool { unsafe hbone_stream_is_mistaken(pointer) != 0 }
    /// The peer never took it: it may be tried on another connection.
    var isUntouched: Bool { unsafe hbone_stream_is_untouched(pointer) != 0 }

    /// What is sent from now on is another request.
    func mark() { unsafe hbone_stream_mark(pointer) }
    /// Of which nothing has left, nor will if the stream is freed.
    var isUnsent: Bool { unsafe hbone_stream_is_unsent(pointer) != 0 }

    /// Whom what it holds is charged to.
    func charge(_ account: UnsafeMutablePointer<UInt64>) {
        unsafe hbone_stream_charge(pointer, account)
    }

    func own(_ owner: Link) { unsafe hbone_stream_own(pointer, owner.token) }
    func accept(_ owner: Link) { unsafe hbone_stream_accept(pointer, owner.token) }
    /// - Parameter isWaste: no peer should ask for this; many of them end the tunnel.
    func refuse(_ status: Int, isWaste: Bool = false) {
        unsafe hbone_stream_refuse(pointer, Int32(status), isWaste ? 1 : 0)
    }

    /// Why what is asked for is no CONNECT to an address, whatever address it names.
    var objection: TunnelRefusal? {
        let request = unsafe hbone_stream_request(pointer)
        if unsafe request.is_too_long != 0 { return .tooLong }
        if unsafe request.is_malformed != 0 { return .badAuthority }
        guard unsafe Self.text(request.method, request.method_bytes) == "CONNECT" else {
            return .notConnect
        }
        return unsafe request.protocol == nil ? nil : .extended
    }

    /// Where it wants to: an address and a port; `nil` where that is no such thing.
    var target: SocketAddress? {
        let request = unsafe hbone_stream_request(pointer)
        return unsafe SocketAddress(Self.text(request.authority, request.authority_bytes))
    }

    /// For whom it says to ask. Whether that is believed is not decided here.
    var client: IPAddress? {
        let request = unsafe hbone_stream_request(pointer)
        return unsafe ForwardedElement.address(
            Self.text(request.forwarded, request.forwarded_bytes))
    }

    private static func text(_ start: UnsafePointer<CChar>?, _ count: Int) -> String {
        guard let start = unsafe start else { return "" }
        return unsafe String(
            decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    }
}
