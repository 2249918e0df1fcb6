internal import CLinux
internal import Foundation
internal import Glibc
internal import L7Engine
internal import MeshModel
internal import NIOCore
internal import NIOHTTP2
internal import NIOPosix
internal import Synchronization

/// Certificates that a SPIFFE Workload API gives, such as SPIRE's agent: all those that this agent
/// is entitled to, pushed whenever one changes.
///
/// - Owns: one thread of NIO's and one connection, made again when it ends.
/// - Threads: the agent's; what NIO's leaves is behind a lock.
struct WorkloadAPI: SVIDSource {
    let socket: String
    let trustDomain: TrustDomain
    let connection: WorkloadAPIConnection
    /// As the last turn found it: certificates and bundles are of one message.
    private var state = WorkloadAPIConnection.State()

    /// - Parameter endpoint: a path, or `unix:` and a path as SPIFFE_ENDPOINT_SOCKET has it.
    init(endpoint: String, trustDomain: TrustDomain) {
        socket = Self.path(endpoint)
        self.trustDomain = trustDomain
        connection = WorkloadAPIConnection(socket: socket)
    }

    static func path(_ endpoint: String) -> String {
        guard endpoint.hasPrefix("unix:") else { return endpoint }
        let rest = endpoint.dropFirst(5)
        return String(rest.hasPrefix("//") ? rest.dropFirst(2) : rest)
    }

    var title: String { "Workload API at \(socket)" }
    var issues: Bool { false }
    var bell: Int32 { connection.bell }

    func hasAnswered() -> Bool {
        let state = connection.turn()
        return state.message != nil || state.isAnswered || state.denial != nil || state.isRefused
    }

    /// What came before stays meanwhile.
    var refused: [SVIDFailure] {
        guard state.message != nil, let refusal = state.refusal else { return [] }
        return [refusal]
    }

    var warnings: [String] {
        guard let message = state.message else { return [] }
        let foreign = message.svids.filter { $0.id.trustDomain != trustDomain }.map {
            "the Workload API gives \($0.id), which is not of --trust-domain \(trustDomain)"
        }
        let failure = state.isRefused ? nil : state.failure
        return (failure.map { [$0.message + "; what came before stays"] } ?? []) + foreign
    }

    mutating func bundles(at now: Int64) throws(SVIDFailure) -> [TrustBundle] {
        state = connection.turn()
        if let message = state.message { return message.bundles }
        throw state.failure ?? SVIDFailure(.missing, "the Workload API has not answered yet")
    }

    mutating func certificate(
        for id: SPIFFEID, after current: X509SVID?, at now: Int64
    ) throws(SVIDFailure) -> X509SVID? {
        if let found = state.message?.svids.first(where: { $0.id == id }) {
            return found.isSame(as: current) ? nil : found
        }
        // What the last message does not name is withdrawn, whatever became of the stream since.
        guard state.message == nil else {
            throw SVIDFailure(.missing, "the Workload API gives no certificate for \(id)")
        }
        throw state.denial ?? state.failure
            ?? SVIDFailure(.missing, "the Workload API has not answered yet")
    }
}

/// The connection, and what came of it last.
///
/// - Threads: `turn` the agent's, the rest NIO's.
final class WorkloadAPIConnection: Sendable {
    struct State {
        /// Stays in force while the connection is away.
        var message: WorkloadAPIMessage?
        /// Why there is nothing newer; `nil` once a message came.
        var failure: SVIDFailure?
        /// That the server had no identity for us, when it last said anything.
        var denial: SVIDFailure?
        /// That a server refused the call, or that its last message was refused here, until one
        /// says what it has, or that it has nothing: one that is gone since is no better.
        var refusal: SVIDFailure?
        /// It has refused the call itself just now, which another try would not mend.
        var isRefused: Bool { failure?.reason == .refused }
        /// Of the socket that was called last.
        var mark: SocketMark?
        var isOpen = false
        /// A message, or why there is none, came by the connection that is open.
        var isAnswered = false
        /// The steady clock.
        var retryAt = ContinuousClock.now
        var attempts = 0
    }

    static let retrySecondsMax = 30
    /// A server that refuses the call is another's bug, or another program: it is called again when
    /// its socket is another, or so rarely that it costs nobody anything.
    ///
    /// - Deviates: SPIFFE Workload Endpoint, appendix A: "do not retry". Nobody would start the
    ///   agent anew because a server was mended in place.
    static let refusedSeconds = 300
    /// A server says at once what it has, so one that says nothing is asked anew.
    static let answerSecondsMax = 10

    private let socket: String
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let shared = Shared()

    init(socket: String) { self.socket = socket }

    deinit { group.shutdownGracefully { _ in } }

    var state: State { shared.guarded.withLock { $0 } }

    /// Readable once something came.
    var bell: Int32 { shared.bell }

    /// Connects unless it is or has just tried; answers what is known.
    func turn() -> State {
        let mayConnect = shared.guarded.withLock { state in
            guard !state.isOpen else { return false }
            let mark = SocketMark(of: socket)
            guard .now >= state.retryAt || state.isRefused && mark != state.mark else {
                return false
            }
            state.mark = mark
            state.isOpen = true
            state.isAnswered = false
            return true
        }
        if mayConnect { connect() }
        return state
    }

    private func connect() {
        let shared = self.shared
        ClientBootstrap(group: group).connectTimeout(.seconds(5))
            .channelInitializer { channel in
                // All before anything is read: a server speaks first if it is quick.
                channel.eventLoop.makeCompletedFuture {
                    let streams = HTTP2StreamMultiplexer(
                        mode: .client, channel: channel, inboundStreamInitializer: nil)
                    try channel.pipeline.syncOperations.addHandlers([
                        WipedReads(), NIOHTTP2Handler(mode: .client), streams,
                        BrokenConnection { shared.ended($0) },
                    ])
                }
            }
            .connect(unixDomainSocketPath: socket)
            .flatMap { channel in
                channel.closeFuture.whenComplete { _ in
                    shared.ended(
                        SVIDFailure(.unreadable, "the Workload API closed the connection"))
                }
                let patience = TimeAmount.seconds(Int64(Self.answerSecondsMax))
                let deadline = channel.eventLoop.scheduleTask(in: patience) {
                    guard !shared.guarded.withLock(\.isAnswered) else { return }
                    shared.ended(
                        SVIDFailure(
                            .unreadable,
                            "the Workload API has said nothing for \(Self.answerSecondsMax) s"))
                    channel.close(promise: nil)
                }
                channel.closeFuture.whenComplete { _ in deadline.cancel() }
                return Self.call(on: channel, shared)
            }
            .whenFailure { [socket] error in
                shared.ended(
                    SVIDFailure(
                        .unreadable, "the Workload API at \(socket) cannot be reached: \(error)"))
            }
    }
}

/// Tells a socket from another that was made in its place.
struct SocketMark: Equatable {
    private var number: Int?
    private var made: Date?

    /// Of none: what all are that are not there.
    init(of path: String) {
        // The attributes would be a link's own.
        let target = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
        let found = try? FileManager.default.attributesOfItem(atPath: target)
        number = found?[.systemFileNumber] as? Int
        made = found?[.modificationDate] as? Date
    }
}

extension WorkloadAPIConnection {
    /// On the event loop of a channel that speaks HTTP/2.
    fileprivate static func call(
        on channel: any Channel, _ shared: Shared
    ) -> EventLoopFuture<any Channel> {
        do {
            let streams = try channel.pipeline.syncOperations.handler(
                type: HTTP2StreamMultiplexer.self)
            return streams.createStreamChannel { stream in
                stream.eventLoop.makeCompletedFuture {
                    try stream.pipeline.syncOperations.addHandler(
                        WorkloadAPIStream(
                            onMessage: { shared.took($0) },
                            onEnd: { failure in
                                shared.ended(failure)
                                channel.close(promise: nil)
                            }))
                }
            }
        } catch {
            return channel.eventLoop.makeFailedFuture(error)
        }
    }
}

/// What the event loop leaves for the agent's thread.
///
/// - Owns: an eventfd, or none where there was none to be had.
private final class Shared: Sendable {
    let guarded = Mutex<WorkloadAPIConnection.State>(.init())
    let bell = engine_bell(0)

    deinit { if bell >= 0 { close(bell) } }

    func took(_ bytes: [UInt8]) {
        defer { engine_ring(bell) }
        let read: Result<WorkloadAPIMessage, SVIDFailure>
        var named: Set<String>?
        do throws(SVIDFailure) {
            read = .success(try WorkloadAPIMessage(bytes))
        } catch {
            read = .failure(error)
            named = WorkloadAPIMessage.names(in: bytes)
        }
        // At once: who hears that it has answered finds what it said.
        guarded.withLock { state in
            state.isAnswered = true
            switch read {
            case .success(let message):
                state.message = message
                (state.failure, state.denial, state.refusal) = (nil, nil, nil)
                state.attempts = 0
            // What cannot be used changes nothing, but what it names no more is withdrawn; the next
            // message may be better.
            case .failure(let failure):
                state.failed(failure)
                if state.message != nil { state.refusal = failure }
                if let named { state.message?.keep(named) }
            }
        }
    }

    /// Once for each connection: later ones find it closed.
    func ended(_ failure: SVIDFailure) {
        defer { engine_ring(bell) }
        guarded.withLock { state in
            guard state.isOpen else { return }
            state.isOpen = false
            state.failed(failure)
            if state.isRefused {
                state.retryAt = .now + .seconds(WorkloadAPIConnection.refusedSeconds)
                return
            }
            let wait = min(1 << min(state.attempts, 5), WorkloadAPIConnection.retrySecondsMax)
            state.retryAt = .now + .milliseconds(wait * Int.random(in: 500...1_000))
            state.attempts += 1
        }
    }
}

extension WorkloadAPIConnection.State {
    /// Who denies every identity takes them away; a connection that broke does not.
    fileprivate mutating func failed(_ failure: SVIDFailure) {
        self.failure = failure
        if failure.reason == .refused { refusal = failure }
        guard failure.reason == .missing else { return }
        message = nil
        denial = failure
        refusal = nil
    }
}
