import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Pools of upstream connections", .serialized)
struct UpstreamPoolTests {
    @Test func `a connection that is closed belongs to no pool, and the last one's is freed`()
        throws
    {
        let (listener, port) = Loopback.listen()
        let stepped = try SteppedWorker([port])
        let worker = stepped.worker
        let client = Loopback.connect(stepped.port)
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        let server = stepped.accepted(listener)
        defer { for end in [listener, client, server] { close(end) } }
        #expect(stepped.message(server).hasPrefix("GET / "))
        let link = try #require(
            worker.timers.all().first { $0.it.role == .downstream && $0.it.exchange.isActive })
        let upstream = link.it.partner
        let before = worker.pools.count
        #expect(before == 1)
        #expect(!upstream.it.pool.isNone)

        Loopback.send(
            server, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        #expect(stepped.message(client).hasSuffix("\r\n\r\nok"))

        let after = worker.pools.count
        #expect(after == 0)
        #expect(upstream.it.phase == .dead)
        #expect(upstream.it.pool.isNone)
    }
}
