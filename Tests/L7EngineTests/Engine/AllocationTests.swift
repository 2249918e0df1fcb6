import AllocationCount
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("After warm-up a request allocates nothing (STYLE.md R21)", .serialized)
struct AllocationTests {
    private static let warmUp = 300
    private static let requests = 1000

    /// The worker's allocations over `requests` of these requests, after some that are not counted.
    private func allocations(_ request: String, readsLog: Bool) throws -> UInt64 {
        let origin = Origin.echo()
        let gateway = try Gateway(to: origin)
        defer { gateway.stop() }
        // Safe: a constant string.
        let worker = unsafe allocation_thread("malla-worker-0")
        #expect(worker > 0)
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        var before: UInt64 = 0
        for number in 0..<Self.warmUp + Self.requests {
            if number == Self.warmUp { before = allocation_count(worker) }
            Loopback.send(client, request)
            #expect(Loopback.message(client).hasPrefix("HTTP/1.1 200 OK"))
            if readsLog, number % 100 == 99 {
                #expect(!gateway.engine.takeAccessLog().isEmpty)
            }
        }
        #expect(before > 0)
        return allocation_count(worker) - before
    }

    @Test(arguments: [false, true])
    func `a GET on a kept connection`(readsLog: Bool) throws {
        #expect(
            try allocations("GET /a HTTP/1.1\r\nHost: shop\r\nX-A: 1\r\n\r\n", readsLog: readsLog)
                == 0)
    }

    @Test(arguments: [false, true])
    func `a POST with a body on a kept connection`(readsLog: Bool) throws {
        let body = String(repeating: "b", count: 5000)
        let request = "POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 5000\r\n\r\n\(body)"
        #expect(try allocations(request, readsLog: readsLog) == 0)
    }

    @Test func `the count counts`() {
        let before = allocation_count(0)
        let text = (0..<10).map { String(repeating: "x", count: 100 + $0) }
        #expect(allocation_count(0) >= before + 10)
        #expect(text.count == 10)
    }
}
