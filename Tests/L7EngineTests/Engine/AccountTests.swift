import CLinux
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Accounts: who costs what, and who is next", .serialized)
struct AccountTests {
    private func worker(_ limits: Limits) throws -> Worker {
        Worker(
            number: 0, limits: limits, mailbox: try Mailbox(),
            tally: Tally(seriesMax: limits.seriesMax), accessLog: AccessLog(capacity: 1),
            accounts: Accounts(count: limits.accountsMax), nodeSockets: nil, capturedListener: -1)
    }

    private func connections(_ count: Int, account: Int32, of worker: Worker) -> [Link] {
        (0..<count).map { _ in
            let link = worker.makeConnection(-1, .downstream)
            // Nothing happens to a connection that waits for its upstream.
            link.it.phase = .waiting
            link.it.account = account
            return link
        }
    }

    @Test func `one that comes late waits for a quantum of the one that floods, not for its queue`()
        throws
    {
        var limits = Limits()
        // Each event is more than a quantum, and a turn serves one.
        limits.quantumMicroseconds = 0
        limits.turnMicroseconds = 0
        let worker = try worker(limits)
        let flood = connections(100, account: 1, of: worker)
        let late = connections(2, account: 2, of: worker)
        for link in flood + late { worker.note(link, 0) }

        for _ in 0..<2 { worker.serve() }
        #expect(flood.count { $0.it.isReady } == 99)
        #expect(late.map(\.it.isReady) == [false, true])
        // Who is served while both wait has used no more than the other.
        while late[1].it.isReady {
            let used = (worker.accounts[1].cycles, worker.accounts[2].cycles)
            worker.serve()
            #expect(late[1].it.isReady ? used.0 <= used.1 : used.1 <= used.0)
        }

        for _ in 0..<99 { worker.serve() }
        #expect(!worker.hasReady)
    }

    @Test func `one event that took long is paid back before its account is served again`() throws {
        var limits = Limits()
        limits.turnMicroseconds = 0
        let worker = try worker(limits)
        let heavy = connections(2, account: 1, of: worker)
        let light = connections(50, account: 2, of: worker)
        for link in heavy + light { worker.note(link, 0) }
        worker.accounts[1].deficit = -worker.debtMax

        for _ in 0..<50 { worker.serve() }
        #expect(light.allSatisfy { !$0.it.isReady })
        #expect(heavy.allSatisfy { $0.it.isReady })
        // Nobody waits for a debt where nobody else waits.
        for _ in 0..<2 { worker.serve() }
        #expect(!worker.hasReady)
    }

    @Test func `where all owe, the one that owes least is next, and time pays a debt`() throws {
        var limits = Limits()
        limits.turnMicroseconds = 0
        let worker = try worker(limits)
        let links = (1...3).map { connections(1, account: $0, of: worker)[0] }
        for link in links { worker.note(link, 0) }
        for (index, owed) in [9, 5, 7].enumerated() {
            worker.accounts[Int32(index + 1)].deficit = -Int64(owed) * worker.debtMax / 10
        }
        for served in [1, 2, 0] {
            worker.serve()
            #expect(!links[served].it.isReady, "\(served)")
        }
        // The account has had nothing to do since the processor's clock began.
        worker.accounts[1].deficit = -worker.debtMax
        worker.accounts[1].restedAt = 0
        worker.note(links[0], 0)
        #expect(worker.accounts[1].deficit == worker.quantum)
    }

    @Test func `what is done for an account that rests does not take away what its rest has paid`()
        throws
    {
        let worker = try worker(Limits())
        worker.accounts[1].deficit = -worker.debtMax
        worker.accounts[1].restedAt = 0
        worker.spend(1, 10, at: engine_cycles())
        #expect(worker.accounts[1].deficit == -10)
    }

    @Test func `within its quantum an account goes on`() throws {
        var limits = Limits()
        limits.quantumMicroseconds = 1_000_000
        limits.turnMicroseconds = 0
        let worker = try worker(limits)
        let first = connections(3, account: 1, of: worker)
        let second = connections(3, account: 2, of: worker)
        for link in first + second { worker.note(link, 0) }
        for _ in 0..<3 { worker.serve() }
        #expect(first.map(\.it.isReady) == [false, false, false])
        #expect(second.map(\.it.isReady) == [true, true, true])
    }

    @Test func `who is quarantined is listed, with what it cost or nothing, and until when`() throws
    {
        let accounts = Accounts(count: 512)
        for number: Int32 in [1, 7, AccountNumbers.outsideCount] {
            accounts[number].cycles = 1 << 40
            accounts[number].requests = UInt64(number)
        }
        var numbers = AccountNumbers()
        var mesh = Mesh()
        // A pod's name may be longer than the black box's places.
        let long = String(repeating: "l", count: 200)
        mesh.workloads = [
            .client("shop", "web", "127.0.0.1"), .client("shop", "cart", "127.0.0.2"),
            .client("shop", long, "127.0.0.3"),
        ]
        _ = numbers.follow(
            SnapshotCompiler.compile(mesh, node: "n", version: 1), max: 64,
            isFree: { _, _ in true }, words: { _ in Accounts.none })

        let totals = Exposition.accounts(
            [accounts], numbers,
            quarantine: [
                Quarantine(name: "shop/cart", untilMilliseconds: 9_000),
                Quarantine(name: "outside/group-7", untilMilliseconds: 1_000),
                Quarantine(name: "shop/gone", untilMilliseconds: 0),
                Quarantine(name: BlackBox.kept("shop/\(long)"), untilMilliseconds: 6_000),
            ], at: 4_000)

        let lines = totals.map {
            "\($0.namespace)/\($0.workload) \($0.requests) \($0.isQuarantined) "
                + "\($0.quarantineMilliseconds.map { String($0) } ?? "-")"
        }
        #expect(
            lines == [
                "unknown/unknown 1 false -", "shop/web 256 false -", "shop/cart 0 true 5000",
                "shop/\(long) 0 true 2000",
                "outside/group-7 7 true -3000", "shop/gone 0 true -",
            ])
    }

    @Test func `blocks are charged to the account that is served`() throws {
        let worker = try worker(Limits())
        var buffer = ByteBuffer()
        worker.charge(3)
        #expect(worker.buffers.reserve(&buffer, 100))
        #expect(worker.accounts[3].bufferBytes == 1024)
        worker.buffers.release(&buffer)
        #expect(worker.accounts[3].bufferBytes == 0)
    }

    @Test func `requests, bytes and connections are counted for the client's workload`() throws {
        let origin = Origin.echo()
        let gateway = try Gateway(
            origins: [origin.port], rules: [HTTPRouteRule(backends: [Gateway.to(0)])],
            workloads: [.client("shop", "web", "127.0.0.1")])
        defer { gateway.stop() }
        let client = Loopback.connect(gateway.port)
        defer { close(client) }
        for _ in 0..<3 {
            Loopback.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            #expect(Loopback.message(client).hasPrefix("HTTP/1.1 200"))
        }

        var account: AccountTotals?
        #expect(
            Loopback.eventually {
                account = gateway.engine.accounts().first { $0.workload == "web" }
                return account?.requests == 3
            })
        #expect(account?.namespace == "shop")
        let labels = [
            "source_workload=\"web\"", "source_app=\"shop-web\"", "source_version=\"v2\"",
            "source_canonical_service=\"shop-web\"", "source_canonical_revision=\"v2\"",
            "source_principal=\"unknown\"", "destination_workload=\"web\"",
            "destination_service_name=\"s\(origin.port)\"", "response_code=\"200\"",
        ]
        for label in labels { #expect(gateway.engine.exposition().contains(label)) }
        #expect(account?.receivedBytes == 15)
        #expect(account?.connections == 1)
        #expect((account?.cpuNanoseconds ?? 0) > 1000)
        #expect(
            gateway.engine.exposition().contains(
                "malla_account_requests_total{workload=\"web\",namespace=\"shop\"} 3\n"))
    }
}
