import CLinux
import Glibc
import MeshModel
import Synchronization
import TestSupport
import Testing

@testable import L7Engine

@Suite("Whom the engine has died of, and whom it would name", .serialized)
struct UnreadTests {
    private func mesh(_ stepped: SteppedWorker, _ origin: Origin, _ certificate: Certificate)
        -> Mesh
    {
        var mesh = SteppedWorker.mesh([origin.port], stepped.port, nil)
        mesh.certificates = [certificate]
        mesh.listeners[0].tls = ListenerTLS(certificates: [0], versionMin: .v12, clients: nil)
        return mesh
    }

    @Test func `a quarantined client's hello is not read`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let stepped = try SteppedWorker([origin.port])
        let worker = stepped.worker
        let certificate = try authority.issue("DNS:a.example").certificate()
        stepped.adopt(mesh(stepped, origin, certificate), version: 2)
        worker.accounts[worker.account(of: .loopbackV4)].isQuarantined = true
        worker.hasQuarantine = true

        let client = Loopback.connect(stepped.port)
        defer { close(client) }
        Loopback.send(client, ClientHello.bytes("a.example"))
        stepped.take { Loopback.isReadable(client, milliseconds: 0) }

        var byte: UInt8 = 0
        // Safe: one byte at most.
        let result = unsafe recv(client, &byte, 1, 0)
        #expect(result == -1 && errno == ECONNRESET)
        #expect(worker.handshakesOpen == 0 && worker.connectionsOpen == 0)
        let line = worker.accessLog.taken()
        #expect(line.contains("\"reason\":\"quarantined\"") && line.contains("\"flags\":\"OM\""))
    }

    /// A word that the worker writes and a thread of the test reads.
    private final class Word: Sendable {
        let value = Atomic<UInt64>(0)
        let most = Atomic<UInt64>(0)
        let isOver = Atomic<Bool>(false)
    }

    @Test func `what a timer does is done in the name of its account`() throws {
        let origin = Origin.echo()
        let stepped = try SteppedWorker([origin.port]) { $0.headNanosecondsMax = 200_000_000 }
        let worker = stepped.worker
        let place = UnsafeMutablePointer<UInt64>.allocate(capacity: 2)
        // Safe: the worker's slot and the thread that looks at it end before this does.
        unsafe place.initialize(repeating: 0, count: 2)
        unsafe worker.slot = BlackBoxSlot(place, server: place + 1)
        let address = UInt(bitPattern: place)
        let expected = UInt64(worker.account(of: .loopbackV4)) + 1
        let word = Word()
        for _ in 0..<20 where word.most.load(ordering: .relaxed) == 0 {
            let clients = (0..<100).map { _ in Loopback.connect(stepped.port) }
            defer { for client in clients { close(client) } }
            for client in clients { Loopback.send(client, "GET / HT") }
            let heads = {
                worker.timers.all().count { $0.it.role == .downstream && $0.it.needsMore }
            }
            #expect(stepped.take { heads() == 100 })
            word.isOver.store(false, ordering: .relaxed)
            // From here on there is nothing but timers.
            try Thread.start {
                // Whatever else runs here: nobody keeps it from looking.
                var first = sched_param(sched_priority: 1)
                _ = unsafe sched_setscheduler(0, SCHED_FIFO, &first)
                while !word.isOver.load(ordering: .relaxed) {
                    // Safe: as above.
                    guard let place = unsafe UnsafeMutablePointer<UInt64>(bitPattern: address)
                    else { return }
                    let seen = unsafe engine_load_acquire(place)
                    if seen > 0 { word.most.store(seen, ordering: .relaxed) }
                }
                word.value.store(1, ordering: .releasing)
            }
            stepped.take { heads() == 0 }
            word.isOver.store(true, ordering: .relaxed)
            while word.value.exchange(0, ordering: .acquiringAndReleasing) == 0 { sched_yield() }
        }
        #expect(word.most.load(ordering: .relaxed) == expected)
        worker.slot = .blank()
        unsafe place.deallocate()
    }

    @Test func `many that come due at once are charged, and served a turn's worth at a time`()
        throws
    {
        let origin = Origin.echo()
        let stepped = try SteppedWorker([origin.port]) {
            $0.headNanosecondsMax = 50_000_000
            // Less than one takes: one a turn.
            $0.turnMicroseconds = 0
        }
        let worker = stepped.worker
        let account = worker.account(of: .loopbackV4)
        let clients = (0..<20).map { _ in Loopback.connect(stepped.port) }
        defer { for client in clients { close(client) } }
        for client in clients { Loopback.send(client, "GET / HT") }
        #expect(stepped.take { worker.connectionsOpen == 20 })
        while worker.timers.all().contains(where: {
            $0.it.role == .downstream && $0.it.deadline > Worker.monotonic()
        }) { poll(nil, 0, 5) }

        var turns = 0
        let before = worker.accounts[account].cycles
        let wasAnswered = stepped.take {
            turns += 1
            return clients.allSatisfy { Loopback.isReadable($0, milliseconds: 0) }
        }
        #expect(wasAnswered)
        #expect(turns >= 20)
        #expect(worker.accounts[account].cycles > before)
    }
}
