import CLinux
import CNghttp2
import Glibc
import Testing

/// Two ends of one HTTP/2 connection over a socket pair, moved step by step.
@safe final class TunnelPair {
    static let limits = hbone_limits(
        streams_max: 4, stream_window: 65_535, stream_window_max: 65_535,
        connection_window: 131_072, header_bytes_max: 4096, resets_max: 50,
        outgoing_bytes_max: 131_072, answers_bytes_max: 65_536, account_bytes_max: 1 << 20,
        total_bytes_max: 1 << 30)

    /// Optional, because either may be gone before the other.
    private(set) var client: TunnelEnd?
    private(set) var server: TunnelEnd?
    private let sockets: [Int32]
    private let scratch = UnsafeMutablePointer<UInt8>.allocate(capacity: 65_536)

    init(client: hbone_limits = limits, server: hbone_limits = limits) {
        var pair: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        unsafe socketpair(AF_UNIX, kind, 0, &pair)
        sockets = pair
        var limits = client
        self.client = unsafe hbone_tunnel_new(nil, pair[0], 0, &limits).map { unsafe TunnelEnd($0) }
        limits = server
        self.server = unsafe hbone_tunnel_new(nil, pair[1], 1, &limits).map { unsafe TunnelEnd($0) }
    }

    deinit {
        client?.free()
        server?.free()
        for socket in sockets { close(socket) }
        unsafe scratch.deallocate()
    }

    /// Moves bytes both ways until neither end has more to say.
    func settle() {
        for _ in 0..<64 {
            let before = waiting
            for end in ends { unsafe _ = hbone_tunnel_flush(end.pointer) }
            for end in ends {
                while unsafe hbone_tunnel_receive(end.pointer, scratch, 65_536) > 0 {}
            }
            if before == 0, waiting == 0 { return }
        }
    }

    private var waiting: Int {
        var bytes = 0
        for socket in sockets {
            var count: Int32 = 0
            unsafe _ = ioctl(socket, UInt(FIONREAD), &count)
            bytes += Int(count)
        }
        for end in ends { bytes += Int(unsafe hbone_tunnel_wants_flush(end.pointer)) }
        return bytes
    }

    private var ends: [TunnelEnd] { [client, server].compactMap { $0 } }

    /// The server reads what has come unless it is full; nobody reads at the client.
    func serve() {
        guard let server else { return }
        while !server.isFull, unsafe hbone_tunnel_receive(server.pointer, scratch, 65_536) > 0 {}
        unsafe _ = hbone_tunnel_flush(server.pointer)
    }

    /// Where the test is the client: it has said its preface and its settings.
    static func ofRawClient(_ limits: hbone_limits = limits) -> TunnelPair {
        let pair = TunnelPair(server: limits)
        pair.dropClientKeepingSocket()
        pair.sendRaw(toServer: RawFrame.preface + RawFrame.settings)
        return pair
    }

    /// Where the test is the server, which has said nothing.
    static func ofRawServer() -> TunnelPair {
        let pair = TunnelPair()
        pair.server?.free()
        pair.server = nil
        return pair
    }

    /// Bytes as they are, from a peer that does not keep to the rules.
    func sendRaw(toServer bytes: [UInt8]) { unsafe _ = send(sockets[0], bytes, bytes.count, 0) }
    func sendRaw(toClient bytes: [UInt8]) { unsafe _ = send(sockets[1], bytes, bytes.count, 0) }

    /// What such a peer has got.
    func receiveRaw() -> [RawFrame] {
        var bytes: [UInt8] = []
        while true {
            let count = unsafe recv(sockets[client == nil ? 0 : 1], scratch, 65_536, 0)
            // Safe: so many bytes of it were written.
            guard count > 0 else {
                let isFirst = bytes.starts(with: RawFrame.preface)
                return RawFrame.all(in: Array(bytes.dropFirst(isFirst ? 24 : 0)))
            }
            unsafe bytes += UnsafeBufferPointer(start: scratch, count: count)
        }
    }

    func dropClient() {
        dropClientKeepingSocket()
        shutdown(sockets[0], Int32(SHUT_RDWR))
    }

    /// What the client sends from now on fails.
    func muteClient() { shutdown(sockets[0], Int32(SHUT_WR)) }

    /// Its socket stays: what is sent there now is not HTTP/2.
    func dropClientKeepingSocket() {
        client?.free()
        client = nil
    }

    func open(_ authority: String, forwarded: String? = nil) -> TunnelStream? {
        guard let client else { return nil }
        let stream = unsafe hbone_stream_open(client.pointer, authority, forwarded, nil, 1)
        return unsafe stream.map { unsafe TunnelStream($0) }
    }

    /// Sends on a stream until nothing is taken, while nobody reads; how much was.
    func fill(_ stream: TunnelStream) -> Int {
        let block = [UInt8](repeating: 7, count: 50_000)
        var sent = 0
        while true {
            let count = stream.send(block)
            if count < 0 { return sent }
            sent += count
            settle()
        }
    }

    /// Sends so much on a stream that is read as it comes; how much arrived.
    func pass(_ count: Int, _ near: TunnelStream, _ far: TunnelStream) -> Int {
        let block = [UInt8](repeating: 3, count: 50_000)
        var (sent, got) = (0, 0)
        for _ in 0..<count where got < count {
            if sent < count {
                sent += max(0, near.send(Array(block.prefix(count - sent))))
            }
            settle()
            got += far.receive(65_536).bytes.count
            settle()
        }
        return got
    }

    /// The next stream that has news, with them.
    func nextAtServer() -> (stream: TunnelStream, news: UInt32)? { server?.next() }
    func nextAtClient() -> (stream: TunnelStream, news: UInt32)? { client?.next() }

    /// A stream that the server has accepted, both ends of it.
    func joined(_ authority: String = "10.0.0.1:80") throws -> (TunnelStream, TunnelStream) {
        let near = try #require(open(authority))
        settle()
        let far = try #require(nextAtServer()).stream
        far.accept()
        settle()
        while nextAtClient() != nil {}
        while nextAtServer() != nil {}
        return (near, far)
    }
}

/// One end of a tunnel.
@safe struct TunnelEnd {
    let pointer: OpaquePointer
    init(_ pointer: OpaquePointer) { unsafe self.pointer = pointer }

    var end: hbone_end { unsafe hbone_tunnel_end(pointer) }
    var streams: UInt32 { unsafe hbone_tunnel_streams(pointer) }
    var room: UInt32 { unsafe hbone_tunnel_room(pointer) }
    var isDraining: Bool { unsafe hbone_tunnel_is_draining(pointer) != 0 }
    var pings: UInt32 { unsafe hbone_tunnel_pings(pointer) }
    var isFull: Bool { unsafe hbone_tunnel_is_full(pointer) != 0 }
    /// Two words: of an account, and of all.
    func charge(_ words: UnsafeMutablePointer<UInt64>) {
        unsafe hbone_tunnel_charge(pointer, words, words + 1)
    }
    func ping() { unsafe hbone_tunnel_ping(pointer) }
    func drain() { unsafe hbone_tunnel_drain(pointer) }
    func free() { unsafe hbone_tunnel_free(pointer) }

    func next() -> (stream: TunnelStream, news: UInt32)? {
        guard let stream = unsafe hbone_tunnel_next(pointer) else { return nil }
        return unsafe (TunnelStream(stream), hbone_stream_news(stream))
    }
}

/// One end of a stream.
@safe struct TunnelStream: Equatable {
    let pointer: OpaquePointer
    init(_ pointer: OpaquePointer) { unsafe self.pointer = pointer }

    static func == (one: TunnelStream, other: TunnelStream) -> Bool {
        unsafe (one.pointer == other.pointer)
    }

    private var session: UnsafeMutablePointer<engine_session> {
        unsafe hbone_stream_session(pointer)
    }

    /// Bytes taken, or -errno.
    func send(_ bytes: [UInt8]) -> Int {
        unsafe bytes.withUnsafeBufferPointer { buffer in
            unsafe engine_session_send(session, buffer.baseAddress, buffer.count, nil, 0)
        }
    }

    /// Bytes, empty at the end, `nil` when there is nothing now; -errno as `failure`.
    func receive(_ room: Int = 65_536) -> (bytes: [UInt8], result: Int) {
        var bytes = [UInt8](repeating: 0, count: room)
        let count = unsafe bytes.withUnsafeMutableBufferPointer { buffer in
            unsafe engine_session_receive(session, buffer.baseAddress, buffer.count)
        }
        return (count > 0 ? Array(bytes[..<count]) : [], count)
    }

    var handshake: Int32 { unsafe engine_session_handshake(session) }
    var status: Int32 { unsafe hbone_stream_status(pointer) }
    var isUntouched: Bool { unsafe hbone_stream_is_untouched(pointer) != 0 }
    func mark() { unsafe hbone_stream_mark(pointer) }
    var isUnsent: Bool { unsafe hbone_stream_is_unsent(pointer) != 0 }
    var isCut: Bool { unsafe hbone_stream_is_cut(pointer) != 0 }
    func breakOff() { unsafe hbone_stream_break(pointer) }
    var isMistaken: Bool { unsafe hbone_stream_is_mistaken(pointer) != 0 }
    var isMalformed: Bool { unsafe hbone_stream_request(pointer).is_malformed != 0 }
    var isTooLong: Bool { unsafe hbone_stream_request(pointer).is_too_long != 0 }
    func end() { unsafe engine_session_end(session) }
    func free() { unsafe engine_session_free(session) }
    func accept() { unsafe hbone_stream_accept(pointer, 2) }
    func refuse(_ status: Int32, isWaste: Bool = true) {
        unsafe hbone_stream_refuse(pointer, status, isWaste ? 1 : 0)
    }

    var authority: String {
        let request = unsafe hbone_stream_request(pointer)
        return unsafe Self.text(request.authority, request.authority_bytes)
    }
    var forwarded: String {
        let request = unsafe hbone_stream_request(pointer)
        return unsafe Self.text(request.forwarded, request.forwarded_bytes)
    }

    private static func text(_ start: UnsafePointer<CChar>?, _ count: Int) -> String {
        guard let start = unsafe start else { return "" }
        return unsafe String(
            decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    }
}
