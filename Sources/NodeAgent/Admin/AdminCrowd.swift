// Who is connected to one socket of the admin server. A scraper that forgets its connections must
// not take the descriptors that clients of the mesh need, nor keep probes out.

internal import NIOCore
internal import NIOHTTP1
internal import Synchronization

/// - Threads: any.
/// - Limits: `connectionsMax`; one more ends the one that was used longest ago.
final class AdminCrowd: Sendable {
    /// Of each socket; half of what the engine keeps from its clients (`Limits`) is for both.
    static let connectionsMax = 32
    /// Without a request, or with an answer that nobody takes.
    static let idleNanosecondsMax: UInt64 = 300_000_000_000

    /// Nanoseconds of the monotonic clock.
    static var now: UInt64 { NIODeadline.now().uptimeNanoseconds }

    private struct Guest {
        var usedAt: UInt64
        /// It waits for an answer, or follows events.
        var isBusy = false
        let end: @Sendable () -> Void
    }

    private struct State {
        var guests: [Int: Guest] = [:]
        var entered = 0
        var endedForLimit: UInt64 = 0
        var endedIdle: UInt64 = 0
    }

    private let state = Mutex(State())

    /// - Parameter end: closes the connection.
    /// - Returns: its number.
    func enter(at now: UInt64, _ end: @escaping @Sendable () -> Void) -> Int {
        let (number, one) = state.withLock { state in
            var one: Guest?
            if state.guests.count >= Self.connectionsMax, let key = Self.longestUnused(state) {
                one = state.guests.removeValue(forKey: key)
                state.endedForLimit += 1
            }
            state.entered += 1
            state.guests[state.entered] = Guest(usedAt: now, end: end)
            return (state.entered, one)
        }
        one?.end()
        return number
    }

    /// A request has come (`isBusy`), or its answer is written.
    func use(_ number: Int, isBusy: Bool, at now: UInt64) {
        state.withLock {
            $0.guests[number]?.isBusy = isBusy
            $0.guests[number]?.usedAt = now
        }
    }

    func leave(_ number: Int) {
        state.withLock { _ = $0.guests.removeValue(forKey: number) }
    }

    /// Ends those that have not been used for too long.
    func endIdle(at now: UInt64) {
        let idle = state.withLock { state in
            let idle = state.guests.filter {
                !$1.isBusy && now >= $1.usedAt + Self.idleNanosecondsMax
            }
            for key in idle.keys { state.guests[key] = nil }
            state.endedIdle += UInt64(idle.count)
            return idle
        }
        for one in idle.values { one.end() }
    }

    var count: Int { state.withLock { $0.guests.count } }

    /// Connections that were ended, for the limit and for want of use.
    var ended: (limit: UInt64, idle: UInt64) {
        state.withLock { ($0.endedForLimit, $0.endedIdle) }
    }

    private static func longestUnused(_ state: State) -> Int? {
        state.guests.min {
            ($0.value.isBusy ? 1 : 0, $0.value.usedAt) < ($1.value.isBusy ? 1 : 0, $1.value.usedAt)
        }?.key
    }
}

/// Tells the crowd what one connection does.
final class AdminGuest: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private let crowd: AdminCrowd
    private let number: Int

    init(_ crowd: AdminCrowd, _ channel: any Channel) {
        self.crowd = crowd
        let number = crowd.enter(at: AdminCrowd.now) { channel.close(promise: nil) }
        self.number = number
        // Also of one that never became active, and was told so of nothing.
        channel.closeFuture.whenComplete { _ in crowd.leave(number) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .end = unwrapInboundIn(data) { use(isBusy: true) }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        if case .end = unwrapOutboundIn(data) { use(isBusy: false) }
        context.write(data, promise: promise)
    }

    private func use(isBusy: Bool) { crowd.use(number, isBusy: isBusy, at: AdminCrowd.now) }
}
