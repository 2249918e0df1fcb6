internal import AdminAPI
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import Synchronization

/// The HTTP server of metrics, probes and listings: one thread, two listening sockets.
///
/// - Threads: NIO's; questions go to the agent's own thread through `Questions`, but for probes.
final class AdminServer: Sendable {
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let questions: Questions
    private let flows: FlowReader
    private let readiness: Readiness

    private let listening = Mutex<[any Channel]>([])
    private let crowds = Mutex<[AdminCrowd]>([])

    init(_ questions: Questions, _ flows: FlowReader, _ readiness: Readiness) {
        self.questions = questions
        self.flows = flows
        self.readiness = readiness
    }

    /// Lets go of the listening sockets, which another process has too; open connections go on.
    func stopListening() {
        for channel in listening.withLock({ $0 }) { channel.close(promise: nil) }
    }

    /// Connections that were ended, for the limit and for want of use.
    var ended: (limit: UInt64, idle: UInt64) {
        crowds.withLock { $0 }.map(\.ended).reduce((0, 0)) { ($0.0 + $1.limit, $0.1 + $1.idle) }
    }

    private func newCrowd() -> AdminCrowd {
        let crowd = AdminCrowd()
        crowds.withLock { $0.append(crowd) }
        group.next().scheduleRepeatedTask(initialDelay: .seconds(30), delay: .seconds(30)) { _ in
            crowd.endIdle(at: AdminCrowd.now)
        }
        return crowd
    }

    /// Serves on a listening socket, which is NIO's from now on.
    ///
    /// - Parameter mayChange: whether who can connect may also tell the agent to do something.
    func serve(_ socket: Int32, mayChange: Bool = false) throws {
        let crowd = newCrowd()
        let questions = self.questions
        let flows = self.flows
        let readiness = self.readiness
        let channel = try ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 128)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.configureHTTPServerPipeline()
                    try pipeline.addHandler(AdminGuest(crowd, channel))
                    try pipeline.addHandler(
                        AdminConnection(questions, flows, readiness, mayChange: mayChange))
                }
            }
            .withBoundSocket(socket).wait()
        listening.withLock { $0.append(channel) }
    }
}

/// One connection: reads a request, asks the agent, writes the answer.
private final class AdminConnection: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let questions: Questions
    private let mayChange: Bool
    private var head: HTTPRequestHead?
    /// Requests carry no body that means anything; more than this ends the connection.
    private static let bodyBytesMax = 65_536
    private var bodyBytes = 0
    private let flows: FlowReader
    private let readiness: Readiness
    private var stream: FlowStream?

    init(
        _ questions: Questions, _ flows: FlowReader, _ readiness: Readiness, mayChange: Bool
    ) {
        self.questions = questions
        self.flows = flows
        self.readiness = readiness
        self.mayChange = mayChange
    }

    func channelInactive(context: ChannelHandlerContext) {
        stream?.end()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
            bodyBytes = 0
        case .body(let bytes):
            bodyBytes += bytes.readableBytes
            if bodyBytes > Self.bodyBytesMax { context.close(promise: nil) }
        case .end: ask(context)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func ask(_ context: ChannelHandlerContext) {
        guard let head else { return }
        let path = String(head.uri.prefix { $0 != "?" })
        let query = String(head.uri.dropFirst(path.count + 1))
        let isChange = path.hasPrefix(AdminAPI.flowFlushPrefix)
        guard isChange || head.method == .GET || head.method == .HEAD else {
            return write(.text(405, "only GET and HEAD\n"), context, head)
        }
        guard !isChange || (head.method == .POST && mayChange) else {
            let text = "only POST, and only to the agent's Unix socket\n"
            return write(.text(405, text), context, head)
        }
        if path == "/livez" { return write(.text(200, "ok\n"), context, head) }
        if path == "/readyz", let answer = readiness.answer {
            return write(answer, context, head)
        }
        if path == AdminAPI.flowEvents.path { return observe(query, context, head) }
        let promise = context.eventLoop.makePromise(of: AdminAnswer.self)
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        promise.futureResult.whenComplete { result in
            let (connection, context) = bound.value
            let answer = (try? result.get()) ?? .text(503, "the agent is ending\n")
            connection.write(answer, context, head)
        }
        questions.ask(Question(path: path, query: query, answer: promise))
    }

    /// Events do not need the agent's thread; who follows them stays.
    private func observe(
        _ query: String, _ context: ChannelHandlerContext, _ head: HTTPRequestHead
    ) {
        do throws(FlowQuestion.Fault) {
            let question = try FlowQuestion(query)
            guard question.follows else {
                return write(flows.history.answer(question), context, head)
            }
            guard mayChange, head.method == .GET else {
                return write(
                    .text(405, "follow by GET, at the agent's Unix socket\n"), context, head)
            }
            guard let stream = FlowStream(question, flows, context, head.version) else {
                return write(.text(503, "too many follow already\n"), context, head)
            }
            self.stream = stream
        } catch {
            write(.text(400, error.text + "\n"), context, head)
        }
    }

    private func write(
        _ answer: AdminAnswer, _ context: ChannelHandlerContext, _ request: HTTPRequestHead
    ) {
        guard context.channel.isActive else { return }
        let body = context.channel.allocator.buffer(bytes: answer.body)
        var headers = HTTPHeaders()
        headers.add(name: "content-type", value: answer.contentType)
        headers.add(name: "content-length", value: "\(body.readableBytes)")
        headers.add(name: "cache-control", value: "no-store")
        let keepsAlive = request.isKeepAlive
        if !keepsAlive { headers.add(name: "connection", value: "close") }
        let head = HTTPResponseHead(
            version: request.version, status: HTTPResponseStatus(statusCode: answer.status),
            headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if request.method != .HEAD {
            context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        }
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in
            if !keepsAlive { bound.value.close(promise: nil) }
        }
    }
}
