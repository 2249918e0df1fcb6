import CLinux
import Glibc
import MeshModel
import Synchronization

@testable import L7Engine

/// The relay as a whole: bytes of a client through a real worker to an origin, and bytes of the
/// origin back. Whatever the client sent, the origin must see requests that cannot be read in two
/// ways; whatever the origin sent, the client sees HTTP; what the origin said unasked is nobody's
/// answer; and the worker goes on. Some paths are answered without the origin, and it keeps its
/// connections where its answer allows that.
final class FuzzRelay: Sendable {
    static let shared = FuzzRelay()

    private struct State {
        var answer: [UInt8] = []
        /// The origin has said more than its answer, and keeps the connection.
        var isSpoilt = false
    }
    private let state = Mutex(State())
    private let gateway: Gateway

    private init() {
        let hold = Hold()
        let server = Origin { connection, _ in hold.value.withLock { $0 }?.serve(connection) }
        guard
            let gateway = try? Gateway(
                origins: [server.port],
                rules: [
                    HTTPRouteRule(
                        matches: [HTTPRouteMatch(path: .prefix("/n"))],
                        backends: [RouteBackend(target: .unresolved("gone"))]),
                    HTTPRouteRule(
                        matches: [HTTPRouteMatch(path: .prefix("/r"))],
                        filters: [.redirect(.init(status: 302))]),
                    HTTPRouteRule(
                        matches: [HTTPRouteMatch(method: "CONNECT")], backends: [Gateway.to(0)]),
                    HTTPRouteRule(backends: [Gateway.to(0)]),
                ])
        else { fatalError("an engine starts on loopback") }
        self.gateway = gateway
        hold.origin.withLock { $0 = server }
        hold.value.withLock { $0 = self }
    }

    /// What the origin's threads reach the relay by, and what keeps the origin.
    private final class Hold: Sendable {
        let value = Mutex<FuzzRelay?>(nil)
        let origin = Mutex<Origin?>(nil)
    }

    /// The first byte says how much of the rest is the client's, and its lowest bits whether that
    /// comes once or many times in a row.
    func run(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return }
        let middle = 1 + (bytes.count - 1) * Int(first) / 255
        state.withLock { $0 = State(answer: Array(bytes[middle...])) }
        exchange(Array(bytes[1..<middle]), isMany: first & 7 == 7)
        // Whoever would ask such a connection does so now, so that this input is to blame.
        if state.withLock({ $0.isSpoilt }) {
            exchange(Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8), isMany: false)
        }
    }

    private func exchange(_ asked: [UInt8], isMany: Bool) {
        let client = Loopback.connect(gateway.port)
        guard Loopback.isConnected(client) else {
            // The system is out of ports, or of descriptors.
            close(client)
            return
        }
        Loopback.send(client, isMany ? Array(repeatElement(asked, count: 50).joined()) : asked)
        shutdown(client, Int32(SHUT_WR))
        var answer: [UInt8] = []
        while answer.count < 1 << 20 {
            let more = Loopback.receive(client)
            if more.isEmpty { break }
            answer += more
        }
        close(client)
        if answer.isEmpty {
            precondition(!Self.wantsAnswer(asked), "whoever asks is answered")
            return
        }
        let reading = Reading.of(answer, isResponse: true, limit: 64 * 1024)
        if case .refused(let refusal) = reading.result {
            preconditionFailure("the client gets HTTP: \(refusal)")
        }
        precondition(
            !Self.hasChunks(reading, asked) || Self.bodyEnd(answer, reading) != nil,
            "the client gets chunks, the origin's or ours, and no bad ones")
    }

    /// Whether what stands behind the head of the first answer is to be chunks.
    private static func hasChunks(_ answer: Reading, _ asked: [UInt8]) -> Bool {
        let method = Reading.of(asked, limit: 64 * 1024).method
        return answer.isChunked && answer.status >= 200 && answer.status != 204
            && answer.status != 304 && !["HEAD", "CONNECT"].contains(method)
    }

    /// What is a request with all of its body, or is refused.
    private static func wantsAnswer(_ asked: [UInt8]) -> Bool {
        let reading = Reading.of(asked, limit: 64 * 1024)
        if reading.result == .incomplete { return false }
        if reading.result != .complete { return true }
        guard let end = bodyEnd(asked, reading) else { return true }
        return end <= asked.count
    }

    private func serve(_ connection: Int32) {
        var bytes: [UInt8] = []
        var isSpoilt = false
        while true {
            precondition(bytes.isEmpty || !isSpoilt, "nobody asks whom he does not understand")
            let reading = Reading.of(bytes, limit: 64 * 1024)
            if case .refused(let refusal) = reading.result {
                preconditionFailure("the origin got what we refuse: \(refusal)")
            }
            if reading.result == .complete {
                guard let end = Self.bodyEnd(bytes, reading) else {
                    preconditionFailure("the origin got bad chunks")
                }
                if end <= bytes.count {
                    precondition(end == bytes.count, "the origin got one request at a time")
                    let answer = state.withLock { $0.answer }
                    let rest = Self.behind(answer, to: reading)
                    isSpoilt = (rest ?? 0) > 0
                    // Before its client has seen the end of it.
                    if isSpoilt { state.withLock { $0.isSpoilt = true } }
                    Loopback.send(connection, answer)
                    if rest == nil { return }
                    bytes = []
                    continue
                }
            }
            let more = Loopback.receive(connection)
            if more.isEmpty { return }
            bytes += more
        }
    }

    /// How many bytes lie behind the whole answer; `nil`: it is not whole, or ends its connection.
    private static func behind(_ answer: [UInt8], to request: Reading) -> Int? {
        let reading = Reading.of(answer, isResponse: true, limit: 64 * 1024)
        guard reading.result == .complete, reading.status >= 200, reading.minor == 1,
            request.method != "CONNECT",
            !reading.fields.contains(where: { $0.lowercased().hasPrefix("connection:") })
        else { return nil }
        let isEmpty =
            request.method == "HEAD" || reading.status == 204 || reading.status == 304
        if isEmpty { return answer.count - reading.end }
        guard reading.isChunked || reading.length >= 0, let end = bodyEnd(answer, reading),
            end <= answer.count
        else { return nil }
        return answer.count - end
    }

    /// Where the message ends, `.max` if it goes on; `nil`: bad chunks.
    private static func bodyEnd(_ bytes: [UInt8], _ reading: Reading) -> Int? {
        guard reading.isChunked else { return reading.end + Int(max(0, reading.length)) }
        var framing = BodyFraming.chunked()
        // Safe: the pointer stays inside the closure.
        let stop = unsafe bytes.withUnsafeBufferPointer {
            unsafe framing.advance($0.baseAddress!, reading.end, bytes.count)
        }
        if stop < 0 { return nil }
        return framing.isDone ? stop : .max
    }
}
