import CLinux
import Glibc
import MeshModel
import Synchronization
import Testing

@testable import L7Engine

@Suite("What one workload does costs no other one a request", .serialized)
struct NeighbourTests {
    /// How the backend of the neighbour dies.
    enum Death: CaseIterable, Sendable {
        case refuses, endsUnasked, endsInAnswer, resetsInAnswer, hangsInAnswer
    }

    private static let workloads: [Workload] = [
        .client("shop", "bad", "127.0.0.2"), .client("shop", "good", "127.0.0.3"),
    ]

    private static func dying(_ death: Death) -> Origin {
        Origin { connection, _ in
            guard death != .endsUnasked, !Loopback.message(connection).isEmpty else { return }
            Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n")
            Loopback.send(connection, [UInt8](repeating: 7, count: 100_000))
            if death == .resetsInAnswer { Loopback.willReset(connection) }
            if death == .hangsInAnswer { _ = Loopback.receive(connection) }
        }
    }

    /// Asks once on a connection of its own; whether there was a whole answer.
    private static func isServed(_ port: UInt16, _ path: String, from source: UInt32) -> Bool {
        let client = Loopback.connect(port, from: source)
        defer { close(client) }
        Loopback.send(client, "GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n")
        return Loopback.message(client).hasSuffix("served")
    }

    private func shed(_ gateway: Gateway, _ workload: String) -> UInt64? {
        gateway.engine.accounts().first { $0.workload == workload }?.shed
    }

    private final class Counter: Sendable {
        private let count: Atomic<Int>
        init(_ start: Int) { count = Atomic(start) }
        var value: Int { count.load(ordering: .relaxed) }
        func add(_ number: Int) { count.add(number, ordering: .relaxed) }
    }

    @Test(arguments: Death.allCases)
    func `beside a backend that dies under load another service answers every request`(
        _ death: Death
    ) throws {
        let bad = Self.dying(death)
        let (descriptor, closed) = Loopback.listen()
        close(descriptor)
        let good = Origin { connection, _ in
            while !Loopback.message(connection).isEmpty {
                Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved")
            }
        }
        let gateway = try Gateway(
            origins: [death == .refuses ? closed : bad.port, good.port],
            rules: [
                HTTPRouteRule(
                    matches: [HTTPRouteMatch(path: .prefix("/bad"))], backends: [Gateway.to(0)]),
                HTTPRouteRule(backends: [Gateway.to(1)]),
            ], workloads: Self.workloads)
        defer { gateway.stop() }
        let isOver = Atomic(false)
        let (asked, running) = (Counter(0), Counter(8))
        let port = gateway.port
        for _ in 0..<8 {
            try Thread.start {
                while !isOver.load(ordering: .relaxed) {
                    let client = Loopback.connect(port, from: 0x7f00_0002)
                    Loopback.send(client, "GET /bad HTTP/1.1\r\nHost: a\r\n\r\n")
                    // A client goes when the first of it is there.
                    _ = Loopback.receive(client)
                    close(client)
                    asked.add(1)
                }
                running.add(-1)
            }
        }
        var (served, failed) = (0, 0)
        let kept = Loopback.connect(port, from: 0x7f00_0003)
        defer { close(kept) }
        while served + failed < 20_000,
            served + failed < 1000 || asked.value < 200
        {
            Loopback.send(kept, "GET /good HTTP/1.1\r\nHost: a\r\n\r\n")
            let isKept = Loopback.message(kept).hasSuffix("served")
            let isNew = Self.isServed(port, "/good", from: 0x7f00_0003)
            served += (isKept ? 1 : 0) + (isNew ? 1 : 0)
            failed += (isKept ? 0 : 1) + (isNew ? 0 : 1)
        }
        isOver.store(true, ordering: .relaxed)
        #expect(Loopback.eventually { running.value == 0 })

        #expect(failed == 0, "\(failed) of \(served + failed)")
        #expect(asked.value >= 200)
        #expect(shed(gateway, "good") == 0)
    }

    @Test func `a workload that leaks connections takes none of another's, and is counted`() throws
    {
        let good = Origin { connection, _ in
            while !Loopback.message(connection).isEmpty {
                Loopback.send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved")
            }
        }
        let gateway = try TimeoutTests.gateway([good.port], workloads: Self.workloads) {
            $0.connectionsMax = 100
            $0.accountConnectionsMax = 60
        }
        defer { gateway.stop() }
        // Those it has asked on, those that say nothing and those in a head; it closes none.
        let leaked = (0..<150).map { _ in Loopback.connect(gateway.port, from: 0x7f00_0002) }
        defer { for client in leaked { close(client) } }
        for (index, client) in leaked.enumerated() where index % 3 > 0 {
            let end = index % 3 == 1 ? "\r\n" : ""
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\(end)")
        }
        #expect(Loopback.eventually { shed(gateway, "bad") ?? 0 >= 90 })

        let others = (0..<30).map { _ in Loopback.connect(gateway.port, from: 0x7f00_0003) }
        defer { for client in others { close(client) } }
        for _ in 0..<5 {
            for client in others {
                Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(Loopback.message(client).hasSuffix("served"))
            }
        }

        #expect(shed(gateway, "bad") == 90)
        #expect(shed(gateway, "good") == 0)
        let text = gateway.engine.exposition()
        #expect(text.contains("malla_requests_shed_total{reason=\"account_connections\"} 90\n"))
        #expect(
            text.contains("malla_account_shed_total{workload=\"bad\",namespace=\"shop\"} 90\n"))
    }
}
