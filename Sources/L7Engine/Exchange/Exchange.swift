/// One request and its response, as a value. Performs no I/O: it is told what happened and answers
/// with what to do next; ExchangeDriver (Worker+*.swift) obeys.
struct Exchange: BitwiseCopyable, Equatable {
    enum Event: Equatable {
        /// A rule and an endpoint were found.
        case routed
        /// No rule, no endpoint, a refused head: there is nothing to dial.
        case failed(Failure)
        case connected
        /// - Parameter isLast: no other endpoint is left to be tried.
        case connectFailed(isLate: Bool, isLast: Bool)
        /// No port is free from which to dial this endpoint.
        case portsUsedUp
        /// A network policy does not allow the connection to this endpoint, or no longer does:
        /// then with others only if the request can be sent again. Or it wants mutual TLS, and no
        /// tunnel leads there: `as` says which.
        case denied(hasOthers: Bool, as: Failure = .deniedByPolicy)
        /// The endpoint speaks no TLS that we want, or is not whom we want.
        /// - Parameter isLast: as above.
        case handshakeFailed(isLast: Bool)
        /// The upstream connection ended or broke.
        case upstreamEnded(wasReused: Bool, isResendable: Bool)
        case upstreamInvalid
        case responseStarted
        case switchedProtocols
        case responseEnded
        case deadline
        case downstreamGone
    }

    enum Action: Equatable {
        case none
        /// Take a pooled connection, or dial.
        case dial
        /// Dial, and do not take a pooled connection: the last one was stale.
        case dialAnew
        case sendRequest
        case relay
        case finish
        /// Answer the client ourselves.
        case reply(Failure)
        /// Too late to answer: close both sides.
        case abort(Failure)
    }

    private enum State: UInt8, BitwiseCopyable {
        case idle, dialing, awaiting, streaming, tunnel, done
    }

    private var state = State.idle
    private(set) var attempts: UInt8 = 0
    /// Endpoints that did not connect.
    private var failures: UInt8 = 0
    private var attemptsMax: UInt8 = 3

    init(attemptsMax: UInt8 = 3) { self.attemptsMax = attemptsMax }

    var isDialing: Bool { state == .dialing }
    var isActive: Bool { state != .idle && state != .done }

    /// An endpoint did not connect, and another is being dialled already.
    mutating func noteFailure() { failures += 1 }

    /// Whether nothing is left to be tried after the event.
    func ends(by event: Event) -> Bool {
        var after = self
        if case .reply = after.on(event) { return true }
        return false
    }

    mutating func on(_ event: Event) -> Action {
        switch state {
        case .idle: onIdle(event)
        case .dialing: onDialing(event)
        case .awaiting: onAwaiting(event)
        case .streaming: onStreaming(event)
        case .tunnel: onTunnel(event)
        case .done: .none
        }
    }

    private mutating func onIdle(_ event: Event) -> Action {
        switch event {
        case .routed:
            state = .dialing
            attempts = 1
            return .dial
        case .failed(let failure): return end(.reply(failure))
        case .deadline: return end(.reply(.requestTimeout))
        case .downstreamGone: return end(.abort(.downstreamGone))
        case .connected, .connectFailed, .denied, .portsUsedUp, .handshakeFailed, .upstreamEnded,
            .upstreamInvalid, .responseStarted, .switchedProtocols, .responseEnded:
            return .none
        }
    }

    private mutating func onDialing(_ event: Event) -> Action {
        switch event {
        case .connected:
            state = .awaiting
            return .sendRequest
        case .connectFailed(let isLate, let isLast):
            let failure = isLate ? Failure.connectTimeout : .connectFailed
            failures += 1
            if !isLast, mayRetry(failure, isResendable: false) {
                attempts += 1
                return .dialAnew
            }
            return end(.reply(failures > 1 ? .retriesExceeded : failure))
        case .denied(let hasOthers, let failure):
            if hasOthers, attempts < attemptsMax {
                attempts += 1
                return .dialAnew
            }
            return end(.reply(failure))
        case .handshakeFailed(let isLast):
            guard !isLast, attempts < attemptsMax else { return end(.reply(.handshakeFailed)) }
            attempts += 1
            return .dialAnew
        case .portsUsedUp:
            guard attempts < attemptsMax else { return end(.reply(.portsUsedUp)) }
            attempts += 1
            return .dialAnew
        case .failed(let failure): return end(.reply(failure))
        case .deadline: return end(.reply(.requestTimeout))
        case .downstreamGone: return end(.abort(.downstreamGone))
        case .upstreamEnded: return onDialing(.connectFailed(isLate: false, isLast: false))
        case .routed, .upstreamInvalid, .responseStarted, .switchedProtocols, .responseEnded:
            return .none
        }
    }

    private mutating func onAwaiting(_ event: Event) -> Action {
        switch event {
        case .responseStarted:
            state = .streaming
            return .relay
        case .switchedProtocols:
            state = .tunnel
            return .relay
        case .upstreamEnded(let wasReused, let isResendable):
            // A kept-alive connection may end just as we write: that request was not served.
            if wasReused, mayRetry(.upstreamEnded, isResendable: isResendable) {
                state = .dialing
                attempts += 1
                return .dialAnew
            }
            return end(.reply(.upstreamEnded))
        case .denied(let hasOthers, let failure):
            guard hasOthers, attempts < attemptsMax else { return end(.reply(failure)) }
            state = .dialing
            attempts += 1
            return .dialAnew
        case .upstreamInvalid: return end(.reply(.upstreamInvalid))
        case .failed(let failure): return end(.reply(failure))
        case .deadline: return end(.reply(.requestTimeout))
        case .downstreamGone: return end(.abort(.downstreamGone))
        case .routed, .connected, .connectFailed, .portsUsedUp, .handshakeFailed,
            .responseEnded:
            return .none
        }
    }

    private mutating func onStreaming(_ event: Event) -> Action {
        switch event {
        case .responseEnded: return end(.finish)
        case .upstreamEnded: return end(.abort(.upstreamEnded))
        case .upstreamInvalid: return end(.abort(.upstreamInvalid))
        case .failed(let failure): return end(.abort(failure))
        case .deadline: return end(.abort(.requestTimeout))
        case .downstreamGone: return end(.abort(.downstreamGone))
        case .routed, .connected, .connectFailed, .denied, .portsUsedUp, .handshakeFailed,
            .responseStarted,
            .switchedProtocols:
            return .none
        }
    }

    private mutating func onTunnel(_ event: Event) -> Action {
        switch event {
        case .responseEnded, .upstreamEnded, .downstreamGone: return end(.finish)
        case .deadline: return end(.abort(.requestTimeout))
        case .failed(let failure): return end(.abort(failure))
        case .routed, .connected, .connectFailed, .denied, .portsUsedUp, .handshakeFailed,
            .upstreamInvalid,
            .responseStarted, .switchedProtocols:
            return .none
        }
    }

    private func mayRetry(_ failure: Failure, isResendable: Bool) -> Bool {
        guard attempts < attemptsMax else { return false }
        return switch failure.row.retry {
        case .never: false
        case .resendable: isResendable
        case .always: true
        }
    }

    private mutating func end(_ action: Action) -> Action {
        state = .done
        return action
    }
}
