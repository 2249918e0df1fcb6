import Testing

@testable import L7Engine

@Suite("An exchange decides, and performs nothing")
struct ExchangeTests {
    private func run(_ events: [Exchange.Event]) -> [Exchange.Action] {
        var exchange = Exchange(attemptsMax: 3)
        return events.map { exchange.on($0) }
    }

    @Test func `a request is dialled, sent, relayed and finished`() {
        #expect(
            run([.routed, .connected, .responseStarted, .responseEnded])
                == [.dial, .sendRequest, .relay, .finish])
    }

    @Test func `a failed connect is tried elsewhere, then answered with 503`() {
        let failed = Exchange.Event.connectFailed(isLate: false, isLast: false)

        let actions = run([.routed, failed, failed, failed])

        #expect(actions == [.dial, .dialAnew, .dialAnew, .reply(.retriesExceeded)])
        #expect(Failure.retriesExceeded.row.status == 503)
    }

    @Test(arguments: [false, true])
    func `the only endpoint is dialled once, and the answer says what it did`(isLate: Bool) {
        let only = Exchange.Event.connectFailed(isLate: isLate, isLast: true)
        let first = Exchange.Event.connectFailed(isLate: isLate, isLast: false)

        #expect(run([.routed, only]).last == .reply(isLate ? .connectTimeout : .connectFailed))
        #expect(run([.routed, first, only]).last == .reply(.retriesExceeded))
        let stale = Exchange.Event.upstreamEnded(wasReused: true, isResendable: true)
        #expect(
            run([.routed, .connected, stale, only]).last
                == .reply(isLate ? .connectTimeout : .connectFailed))
    }

    @Test func `a handshake that fails is tried at another endpoint, or is the last`() {
        let (first, last) = (
            Exchange.Event.handshakeFailed(isLast: false),
            Exchange.Event.handshakeFailed(isLast: true)
        )
        #expect(run([.routed, last]) == [.dial, .reply(.handshakeFailed)])
        #expect(run([.routed, first, last]) == [.dial, .dialAnew, .reply(.handshakeFailed)])
        #expect(run([.routed, first, first, first]).last == .reply(.handshakeFailed))
    }

    @Test func `when ports are used up another endpoint is tried, and the answer says why`() {
        let actions = run([.routed, .portsUsedUp, .portsUsedUp, .portsUsedUp])

        #expect(actions == [.dial, .dialAnew, .dialAnew, .reply(.portsUsedUp)])
        #expect(Failure.portsUsedUp.row.status == 503)
        #expect(run([.routed, .portsUsedUp, .connected]).last == .sendRequest)
    }

    @Test func `what policies deny is answered with 403, and no endpoint is asked twice`() {
        #expect(run([.routed, .denied(hasOthers: false)]) == [.dial, .reply(.deniedByPolicy)])
        let actions = run([.routed, .denied(hasOthers: true), .denied(hasOthers: false)])
        #expect(actions == [.dial, .dialAnew, .reply(.deniedByPolicy)])
        #expect(run([.routed, .denied(hasOthers: true), .connected]).last == .sendRequest)
        #expect(Failure.deniedByPolicy.row.status == 403)
    }

    @Test func `plain text to who insists on more is not sent, and is named`() {
        let last = Exchange.Event.denied(hasOthers: false, as: .plainRefused)
        #expect(run([.routed, last]) == [.dial, .reply(.plainRefused)])
        let first = Exchange.Event.denied(hasOthers: true, as: .plainRefused)
        #expect(run([.routed, first, .connected]) == [.dial, .dialAnew, .sendRequest])
        #expect(Failure.plainRefused.row.status == 503)
    }

    @Test func `what ends an exchange is known before it happens`() {
        var exchange = Exchange(attemptsMax: 2)
        _ = exchange.on(.routed)
        let before = exchange
        #expect(!exchange.ends(by: .portsUsedUp))
        #expect(exchange.ends(by: .denied(hasOthers: false)))
        #expect(exchange == before)
        _ = exchange.on(.portsUsedUp)
        #expect(exchange.ends(by: .portsUsedUp))
    }

    @Test func `a stale connection is replaced only for what is safe to send again`() {
        let safe = Exchange.Event.upstreamEnded(wasReused: true, isResendable: true)
        let unsafeToResend = Exchange.Event.upstreamEnded(wasReused: true, isResendable: false)
        let fresh = Exchange.Event.upstreamEnded(wasReused: false, isResendable: true)

        #expect(run([.routed, .connected, safe]).last == .dialAnew)
        #expect(run([.routed, .connected, unsafeToResend]).last == .reply(.upstreamEnded))
        #expect(run([.routed, .connected, fresh]).last == .reply(.upstreamEnded))
    }

    @Test func `a deadline is 504 until the response has begun, then an abort`() {
        #expect(run([.routed, .deadline]).last == .reply(.requestTimeout))
        #expect(run([.routed, .connected, .deadline]).last == .reply(.requestTimeout))
        #expect(
            run([.routed, .connected, .responseStarted, .deadline]).last == .abort(.requestTimeout))
        #expect(Failure.requestTimeout.row.status == 504)
    }

    @Test func `nothing happens after the end`() {
        #expect(
            run([.failed(.noRoute), .connected, .deadline, .responseEnded]).dropFirst() == [
                .none, .none, .none,
            ])
    }
}
