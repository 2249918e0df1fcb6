import CLinux
import Glibc
import MeshModel
import Synchronization

@testable import L7Engine

/// The relay as a whole: bytes of a client through a real worker to an origin, and bytes of the
/// origin back. Whatever the client sent, the origin must see requests that cannot be read in two
/// ways; whatever the origin sent, the client sees HTTP; and the worker goes on.
final class FuzzRelay: Sendable {
    static let shared = FuzzRelay()

    private struct State {
        var answer: [UInt8] = []
        var seen = 0
    }
    private let state = Mutex(State())
    private let gateway: Gateway

    private init() {
        let hold = Hold()
        let server = Origin { connection, _ in hold.value.withLock { $0 }?.serve(connection) }
        guard
            let gateway = try? Gateway(
                origins: [server.port], rules: [HTTPRouteRule(backends: [Gateway.to(0)])])
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

    /// The first byte says how much of the rest is the client's.
    func run(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return }
        let middle = 1 + (bytes.count - 1) * Int(first) / 255
        state.withLock { $0 = State(answer: Array(bytes[middle...])) }
        let client = Loopback.connect(gateway.port)
        Loopback.send(client, Array(bytes[1..<middle]))
        shutdown(client, Int32(SHUT_WR))
        var answer: [UInt8] = []
        while answer.count < 1 << 20 {
            let more = Loopback.receive(client)
            if more.isEmpty { break }
            answer += more
        }
        close(client)
        let prefix = Array("HTTP/1.1 ".utf8)
        let isHTTP = answer.isEmpty || answer.starts(with: prefix)
        precondition(isHTTP, "the client gets HTTP")
    }

    private func serve(_ connection: Int32) {
        var bytes: [UInt8] = []
        while true {
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
                    Loopback.send(connection, answer)
                    return
                }
            }
            let more = Loopback.receive(connection)
            if more.isEmpty { return }
            bytes += more
        }
    }

    /// Where the request ends, `.max` if it goes on; `nil`: bad chunks.
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
