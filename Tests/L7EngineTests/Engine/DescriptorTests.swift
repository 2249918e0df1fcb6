import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Descriptors run out: the last ones are the agent's own (docs/operations.md)", .serialized)
struct DescriptorTests {
    @Test func `clients and dials are turned away before the last are taken`() throws {
        var old = rlimit()
        // Safe: the calls read and write these records.
        unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &old)
        defer { unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &old) }
        let origin = Origin { connection, _ in
            guard !Loopback.message(connection).isEmpty else { return }
            Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
        // Those that other tests have left open lie anywhere below the limit.
        var (limit, free) = (Int32(0), 0)
        while free < 120 {
            if fcntl(limit, F_GETFD) < 0 { free += 1 }
            limit += 1
        }
        var few = rlimit(rlim_cur: rlim_t(limit), rlim_max: old.rlim_max)
        unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &few)
        let stepped = try SteppedWorker([origin.port]) { $0.descriptorsReserved = 12 }
        var clients: [Int32] = []
        defer { for client in clients { close(client) } }

        // Each takes two: its own end is here, too.
        var answer = ""
        for _ in 0..<120 where answer.isEmpty {
            let client = Loopback.connect(stepped.port)
            clients.append(client)
            let open = stepped.worker.connectionsOpen
            stepped.take {
                stepped.worker.connectionsOpen > open
                    || Loopback.isReadable(client, milliseconds: 0)
            }
            if stepped.worker.connectionsOpen == open { answer = Loopback.message(client) }
        }
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains("Retry-After: 1"))
        #expect(clients.count > 20)
        let own = (0..<8).map { _ in dup(0) }
        #expect(own.allSatisfy { $0 >= 0 })

        // Nor does a request of who is there already take one of those.
        Loopback.send(clients[0], "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        let shed = stepped.message(clients[0])
        #expect(shed.hasPrefix("HTTP/1.1 503 ") && shed.contains("reason: overloaded"))
        #expect(stepped.worker.tally.sheds(.descriptors) == 2)

        for descriptor in own + clients[1..<clients.count - 1] { close(descriptor) }
        clients = [clients[0], clients[clients.count - 1]]
        #expect(stepped.take { stepped.worker.connectionsOpen == 1 })
        Loopback.send(clients[0], "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(stepped.message(clients[0]).hasSuffix("ok"))
    }
}
