import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Who serves when two endpoints are dialled at once", .serialized)
struct RaceTests {
    /// A request whose first dial hangs, once it has company; its client, and the first dial.
    private func race(_ stepped: SteppedWorker, _ first: UInt16) throws -> (Int32, Link, Link) {
        let worker = stepped.worker
        // Which endpoint is dialled first is random.
        for _ in 0..<60 {
            let client = Loopback.connect(stepped.port)
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let races = worker.tally.value(.races)
            func dials() -> [Link] {
                worker.timers.all().filter {
                    $0.it.role == .upstream && $0.it.phase == .connecting && $0.it.waiter.isNone
                }
            }
            stepped.take { !dials().isEmpty }
            let dial = try #require(dials().first)
            let link = dial.it.partner
            if dial.it.pool.it.endpoint.port == first, link.it.triedCount == 1,
                stepped.take(until: { worker.tally.value(.races) > races })
            {
                return (client, link, dial)
            }
            close(client)
            stepped.take { worker.connectionsOpen == 0 }
        }
        throw Failed()
    }

    private struct Failed: Error {}

    private func port(_ link: Link, _ worker: Worker) -> UInt16 {
        worker.config(link).snapshot.endpoints[Int(link.it.endpoint)].address.port
    }

    private func busy(_ link: Link, _ worker: Worker) -> [Int32] {
        worker.configs[Int(link.it.configSlot)].busy
    }

    @Test func `the second was refused: the first is the destination, and busy`() throws {
        let hole = BlackHole()
        let (descriptor, closed) = Loopback.listen()
        close(descriptor)
        let stepped = try SteppedWorker([hole.port, closed]) { $0.raceNanoseconds = 20_000_000 }
        let (client, link, first) = try race(stepped, hole.port)
        defer { close(client) }

        #expect(stepped.take { link.it.partner == first })
        #expect(port(link, stepped.worker) == hole.port)
        #expect(link.it.upstreamPeer.port == hole.port)
        #expect(busy(link, stepped.worker).reduce(0, +) == 1)
    }

    @Test func `the first connects after all: it is the destination, and busy`() throws {
        let holes = [BlackHole(), BlackHole()]
        defer { withExtendedLifetime(holes) {} }
        let stepped = try SteppedWorker(holes.map(\.port)) { $0.raceNanoseconds = 20_000_000 }
        let (client, link, first) = try race(stepped, holes[0].port)
        defer { close(client) }
        #expect(port(link, stepped.worker) == holes[1].port)

        stepped.worker.raceEnded(first)

        #expect(link.it.partner == first)
        #expect(port(link, stepped.worker) == holes[0].port)
        #expect(busy(link, stepped.worker).reduce(0, +) == 1)
    }
}
