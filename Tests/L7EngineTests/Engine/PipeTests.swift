import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Pipes: who does not read holds his share of the kernel's memory", .serialized)
struct PipeTests {
    private static let bodyBytes = 32 << 20

    /// Sends a body that is worth a pipe, until the other side takes no more.
    private static func origin() -> Origin {
        Origin { connection, _ in
            while !Loopback.message(connection).isEmpty {
                Loopback.send(
                    connection, "HTTP/1.1 200 OK\r\nContent-Length: \(bodyBytes)\r\n\r\n")
                Loopback.send(connection, [UInt8](repeating: 7, count: bodyBytes))
            }
        }
    }

    private func value(_ gateway: Gateway, _ metric: String) -> Int {
        let line = gateway.engine.exposition().split(separator: "\n").first {
            $0.hasPrefix(metric + " ")
        }
        return line?.split(separator: " ").last.flatMap { Int($0) } ?? -1
    }

    private func ask(_ gateway: Gateway, from source: UInt32) -> Int32 {
        let client = Loopback.connect(gateway.port, from: source)
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        return client
    }

    /// Whether the whole answer comes.
    private func readsAll(_ client: Int32) -> Bool {
        var count = 0
        while count < Self.bodyBytes {
            let more = Loopback.receive(client, max: 1 << 20)
            if more.isEmpty { return false }
            count += more.count
        }
        return true
    }

    @Test(arguments: [true, false])
    func `one that reads nothing takes its share of pipes, and no other's`(isByCount: Bool) throws {
        let origin = Self.origin()
        let gateway = try TimeoutTests.gateway(
            [origin.port],
            workloads: [
                .client("shop", "greedy", "127.0.0.1"), .client("shop", "other", "127.0.0.2"),
            ]
        ) {
            $0.pipesMax = 3
            if isByCount { $0.accountPipesMax = 2 } else { $0.accountPipeBytesMax = 1 }
        }
        defer { gateway.stop() }
        let greedy = (0..<6).map { _ in ask(gateway, from: 0x7f00_0001) }
        defer { for client in greedy { close(client) } }

        // Each asked for more than its sockets hold.
        let held = "malla_account_pipe_bytes{workload=\"greedy\",namespace=\"shop\"}"
        #expect(Loopback.eventually { value(gateway, held) > 0 })
        let refused = "malla_pipes_refused_total{reason=\"account\"}"
        #expect(Loopback.eventually { value(gateway, refused) >= 4 })
        let most = (isByCount ? 2 : 1) * Limits().spliceBytesMax
        #expect(value(gateway, held) <= most)
        let totals = gateway.engine.accounts()
        let account = try #require(totals.first { $0.workload == "greedy" })
        #expect(account.bufferBytes >= account.pipeBytes && account.pipeBytes > 0)

        // The third pipe is another's.
        let other = ask(gateway, from: 0x7f00_0002)
        defer { close(other) }
        #expect(readsAll(other))
        #expect(value(gateway, "malla_pipes_refused_total{reason=\"worker\"}") == 0)

        // What was copied for want of a pipe is whole, too.
        for client in greedy { #expect(readsAll(client)) }
        #expect(Loopback.eventually { value(gateway, held) == 0 })
    }

    @Test func `a worker's pipes hold no more than they may, and what is beyond is copied`() throws
    {
        let origin = Self.origin()
        let gateway = try TimeoutTests.gateway([origin.port]) { $0.pipeBytesMax = 1 }
        defer { gateway.stop() }
        let slow = (0..<3).map { _ in ask(gateway, from: 0x7f00_0001) }
        defer { for client in slow { close(client) } }
        let refused = "malla_pipes_refused_total{reason=\"worker\"}"
        #expect(Loopback.eventually { value(gateway, refused) >= 2 })
        let held = "malla_account_pipe_bytes{workload=\"unknown\",namespace=\"unknown\"}"
        #expect(value(gateway, held) <= Limits().spliceBytesMax)
        for client in slow { #expect(readsAll(client)) }
    }

    @Test func `who leaves gives back what its pipe held`() throws {
        let origin = Self.origin()
        let gateway = try TimeoutTests.gateway(
            [origin.port], workloads: [.client("shop", "greedy", "127.0.0.1")]
        ) { _ in }
        defer { gateway.stop() }
        let held = "malla_account_pipe_bytes{workload=\"greedy\",namespace=\"shop\"}"
        for _ in 0..<3 {
            let client = ask(gateway, from: 0x7f00_0001)
            #expect(Loopback.eventually { value(gateway, held) > 0 })
            close(client)
            #expect(Loopback.eventually { value(gateway, held) == 0 })
        }
    }
}
