internal import Glibc
internal import MeshModel
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import Synchronization

/// The node's answers to load balancers of services with `externalTrafficPolicy: Local`: one
/// listening socket a service, 200 while it has a ready endpoint here, else 503.
///
/// - Owns: one thread of NIO's, while there is a port.
/// - Threads: `follow` the agent's.
/// - Source: what kube-proxy answers, byte for byte but for the date.
final class HealthCheckPorts {
    private var group: MultiThreadedEventLoopGroup?
    private var channels: [UInt16: any Channel] = [:]
    private let answers = HealthAnswers()
    private var checks: [HealthCheck] = []
    /// Which ports are not served and why, by service; tried again at each `follow` and `retry`.
    private(set) var problems: [(service: ObjectName, message: String)] = []

    /// Opens, closes and answers as the snapshot says.
    func follow(_ checks: [HealthCheck]) {
        self.checks = checks
        answers.set(checks)
        let wanted = Set(checks.map(\.port))
        for (port, channel) in channels where !wanted.contains(port) {
            channel.close(promise: nil)
            channels[port] = nil
        }
        openMissing()
    }

    /// Opens what somebody else held; `true`: something is served now that was not.
    func retry() -> Bool {
        guard !problems.isEmpty else { return false }
        let before = channels.count
        openMissing()
        return channels.count != before
    }

    private func openMissing() {
        problems = []
        for check in checks where channels[check.port] == nil {
            do {
                channels[check.port] = try open(check.port)
            } catch {
                problems.append(
                    (
                        check.service,
                        "health check port \(check.port) cannot be opened: \(error)"
                    ))
            }
        }
        problems.sort { $0.service < $1.service }
    }

    private func open(_ port: UInt16) throws -> any Channel {
        let group = self.group ?? MultiThreadedEventLoopGroup(numberOfThreads: 1)
        self.group = group
        let answers = self.answers
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 128)
            // The child before this one may still drain.
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(
                ChannelOptions.Types.SocketOption(
                    level: .socket, name: NIOBSDSocket.Option(rawValue: SO_REUSEPORT)), value: 1
            )
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.configureHTTPServerPipeline()
                    try pipeline.addHandler(HealthConnection(answers, port: port))
                }
            }
        do {
            // By number: without IPv6 addresses on the node getaddrinfo(3) does not know "::".
            return try bootstrap.bind(to: .init(ipAddress: "::", port: Int(port))).wait()
        } catch let error as IOError where error.errnoCode == EAFNOSUPPORT {
            return try bootstrap.bind(to: .init(ipAddress: "0.0.0.0", port: Int(port))).wait()
        }
    }
}

/// What each port answers now.
///
/// - Threads: any.
private final class HealthAnswers: Sendable {
    private let byPort = Mutex<[UInt16: HealthCheck]>([:])

    func set(_ checks: [HealthCheck]) {
        byPort.withLock { ports in
            ports = Dictionary(
                checks.map { ($0.port, $0) }, uniquingKeysWith: { first, _ in first })
        }
    }

    func check(_ port: UInt16) -> HealthCheck? { byPort.withLock { $0[port] } }
}

extension HealthCheck {
    /// The body, as kube-proxy writes it.
    var body: String {
        """
        {
        \t"service": {
        \t\t"namespace": "\(service.namespace)",
        \t\t"name": "\(service.name)"
        \t},
        \t"localEndpoints": \(localEndpoints),
        \t"serviceProxyHealthy": true
        }
        """
    }
}

private final class HealthConnection: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let answers: HealthAnswers
    private let port: UInt16
    private var head: HTTPRequestHead?

    init(_ answers: HealthAnswers, port: UInt16) {
        self.answers = answers
        self.port = port
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): self.head = head
        case .body: break
        case .end: write(context)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func write(_ context: ChannelHandlerContext) {
        guard let head, let check = answers.check(port) else {
            return context.close(promise: nil)
        }
        let body = context.channel.allocator.buffer(string: check.body)
        var headers = HTTPHeaders()
        headers.add(name: "Content-Type", value: "application/json")
        headers.add(name: "X-Content-Type-Options", value: "nosniff")
        headers.add(name: "X-Load-Balancing-Endpoint-Weight", value: "\(check.localEndpoints)")
        headers.add(name: "Content-Length", value: "\(body.readableBytes)")
        headers.add(name: "Connection", value: "close")
        let answer = HTTPResponseHead(
            version: head.version, status: check.isHealthy ? .ok : .serviceUnavailable,
            headers: headers)
        context.write(wrapOutboundOut(.head(answer)), promise: nil)
        if head.method != .HEAD {
            context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        }
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in
            bound.value.close(promise: nil)
        }
    }
}
