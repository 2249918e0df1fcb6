// One call of FetchX509SVID: gRPC over HTTP/2 over a Unix socket, answered by a message whenever
// something changes. NIO's own HTTP/2 carries it; gRPC adds five bytes before each message.

internal import L7Engine
internal import NIOCore
internal import NIOHPACK
internal import NIOHTTP2

/// Takes messages out of gRPC's frames, as a value.
///
/// - Source: grpc.io, "gRPC over HTTP2": a byte that says whether it is compressed, four of length.
struct GRPCFrames {
    /// Some hundred identities with their chains and keys; SPIRE's own limit is 4 MiB too.
    static let messageBytesMax = 4 << 20

    private var buffer: [UInt8] = []

    mutating func add(_ bytes: some Collection<UInt8>) {
        let needed = buffer.count + bytes.count
        if needed > buffer.capacity {
            // An array that grows by itself leaves what it held where it was.
            var larger: [UInt8] = []
            larger.reserveCapacity(max(needed, 2 * buffer.capacity))
            larger += buffer
            Secret.wipe(&buffer)
            buffer = larger
        }
        buffer += bytes
    }

    /// Overwrites what is not complete yet.
    mutating func wipe() { Secret.wipe(&buffer) }

    /// The next whole message, to be wiped by whoever gets it; `nil`: more is needed.
    mutating func next() throws(SVIDFailure) -> [UInt8]? {
        guard buffer.count >= 5 else { return nil }
        let count = buffer[1..<5].reduce(0) { $0 << 8 | Int($1) }
        guard buffer[0] == 0, count <= Self.messageBytesMax else {
            throw SVIDFailure(
                .invalid,
                "the Workload API sent a message that is compressed or larger than "
                    + "\(Self.messageBytesMax >> 20) MiB")
        }
        guard buffer.count >= 5 + count else { return nil }
        let message = Array(buffer[5..<5 + count])
        // Keys are in it: what stays of the buffer is made anew, what was is overwritten.
        let rest = Array(buffer[(5 + count)...])
        Secret.wipe(&buffer)
        buffer = rest
        return message
    }
}

/// Between the socket and HTTP/2: overwrites what was read, once that has copied it.
///
/// - Source: swift-nio-http2, HTTP2FrameParser: it keeps the first buffer that it is given, and
///   appends all later ones to one of its own.
/// - Threads: its event loop's.
final class WipedReads: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private var isFirst = true

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        context.fireChannelRead(data)
        if !isFirst {
            // Safe: nobody reads it any more, as said above.
            unsafe unwrapInboundIn(data).withUnsafeReadableBytes { unsafe Secret.wipe($0) }
        }
        isFirst = false
    }
}

/// Behind HTTP/2: ends a connection whose framing is broken, which NIO tells of and leaves open,
/// with a call that hears nothing more.
///
/// - Threads: its event loop's.
final class BrokenConnection: ChannelInboundHandler {
    typealias InboundIn = HTTP2Frame

    private let onEnd: @Sendable (SVIDFailure) -> Void

    init(onEnd: @escaping @Sendable (SVIDFailure) -> Void) { self.onEnd = onEnd }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        onEnd(SVIDFailure(.unreadable, "the connection to the Workload API is closed: \(error)"))
        context.close(promise: nil)
    }
}

/// The client's side of the call.
///
/// - Threads: its event loop's.
final class WorkloadAPIStream: ChannelInboundHandler {
    typealias InboundIn = HTTP2Frame.FramePayload
    typealias OutboundOut = HTTP2Frame.FramePayload

    private let onMessage: @Sendable ([UInt8]) -> Void
    private let onEnd: @Sendable (SVIDFailure) -> Void
    private var frames = GRPCFrames()
    private var hasEnded = false

    init(
        onMessage: @escaping @Sendable ([UInt8]) -> Void,
        onEnd: @escaping @Sendable (SVIDFailure) -> Void
    ) {
        self.onMessage = onMessage
        self.onEnd = onEnd
    }

    func channelActive(context: ChannelHandlerContext) {
        let headers: HPACKHeaders = [
            ":method": "POST", ":scheme": "http", ":authority": "localhost",
            ":path": "/SpiffeWorkloadAPI/FetchX509SVID",
            "content-type": "application/grpc", "te": "trailers",
            // Without it the server refuses: it tells a call from a request that was tricked.
            "workload.spiffe.io": "true",
        ]
        context.write(wrapOutboundOut(.headers(.init(headers: headers))), promise: nil)
        // X509SVIDRequest has no fields: an empty message.
        let empty = context.channel.allocator.buffer(bytes: [0, 0, 0, 0, 0])
        context.writeAndFlush(
            wrapOutboundOut(.data(.init(data: .byteBuffer(empty), endStream: true))), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .headers(let headers): read(headers.headers, context)
        case .data(let data):
            guard case .byteBuffer(let bytes) = data.data else { return }
            frames.add(bytes.readableBytesView)
            // Safe: NIO has handed these bytes out, and reads them no more.
            unsafe bytes.withUnsafeReadableBytes { unsafe Secret.wipe($0) }
            do throws(SVIDFailure) {
                while var message = try frames.next() {
                    onMessage(message)
                    Secret.wipe(&message)
                }
            } catch {
                end(error, context)
            }
        default: break
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        end(SVIDFailure(.unreadable, "the Workload API closed the connection"), context)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        end(SVIDFailure(.unreadable, "the Workload API cannot be spoken to: \(error)"), context)
    }

    /// The head of the answer, or its trailers.
    private func read(_ headers: HPACKHeaders, _ context: ChannelHandlerContext) {
        if let status = headers.first(name: ":status"), status != "200" {
            end(SVIDFailure(.unreadable, "the Workload API answers \(status)"), context)
        }
        guard let code = headers.first(name: "grpc-status") else { return }
        let message = headers.first(name: "grpc-message") ?? ""
        let text =
            "the Workload API answers gRPC status \(code)"
            + (message.isEmpty ? "" : ": \(message.prefix(200))")
        switch code {
        // INVALID_ARGUMENT, UNIMPLEMENTED.
        case "3", "12":
            let minutes = WorkloadAPIConnection.refusedSeconds / 60
            let next = "; it is called again after \(minutes) min, or when its socket is another"
            end(SVIDFailure(.refused, text + next), context)
        // PERMISSION_DENIED: nobody registered this agent.
        case "7": end(SVIDFailure(.missing, text), context)
        default: end(SVIDFailure(.unreadable, text), context)
        }
    }

    private func end(_ failure: SVIDFailure, _ context: ChannelHandlerContext) {
        guard !hasEnded else { return }
        hasEnded = true
        frames.wipe()
        onEnd(failure)
        context.close(promise: nil)
    }
}
