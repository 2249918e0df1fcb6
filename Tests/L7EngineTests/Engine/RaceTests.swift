import CLinux
import Glibc
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("Who serves when two endpoints are dialled at once", .serialized)
struct RaceTests {
    /// A request whose first dial hangs, once it has company; its client, and the first dial.
    private func race(_ stepped: SteppedWorker, _ first: UInt16) throws -> (Int32, Link, Link) {
        let worker = stepped.worker
        // Which endpoint is dialled first is random.
        for _ in 0..<60 {
            let client = Loopback.connect(stepped.port, from: 0x7f00_0002)
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let races = worker.tally.value(.races)
            func dials() -> [Link] {
                worker.timers.all().filter {
                    $0.it.role == .upstream && !$0.it.partner.isNone
                        && ($0.it.phase == .connecting || $0.it.phase == .handshaking)
                }
            }
            stepped.take { !dials().isEmpty }
            let dial = try #require(dials().first)
            let link = dial.it.partner
            if dial.it.pool.it.endpoint.port == first, dial.it.phase == .connecting,
                link.it.triedCount == 1,
                stepped.take(until: { worker.tally.value(.races) > races })
            {
                return (client, link, dial)
            }
            // Its end alone would be one of sending.
            engine_end_by_reset(client)
            close(client)
            stepped.take { worker.connectionsOpen == 0 }
        }
        throw Failed()
    }

    private struct Failed: Error {}

    @Test func `the second is a pooled connection: what came of a body meanwhile goes by it`()
        throws
    {
        let hole = BlackHole()
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([hole.port, port]) { $0.raceNanoseconds = 20_000_000 }
        let worker = stepped.worker
        let client = Loopback.connect(stepped.port, from: 0x7f00_0002)
        defer { close(client) }
        // The body comes at once, not when the kernel has acknowledged the head.
        var one: Int32 = 1
        // Safe: the call reads one number.
        unsafe _ = setsockopt(client, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        let server = try stepped.pooledServer(of: client, at: listener)
        defer { close(server) }
        let link = try #require(worker.timers.all().first { $0.it.role == .downstream })

        // Which endpoint is dialled first is random.
        var hasRaced = false
        for _ in 0..<60 where !hasRaced {
            let races = worker.tally.value(.races)
            Loopback.send(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
            #expect(stepped.take { link.it.phase == .body && !link.it.partner.isNone })
            let isHeldUp = link.it.partner.it.phase == .connecting
            Loopback.send(client, "bo")
            // The worker is told of it while nobody can take it.
            if isHeldUp, stepped.take(until: { link.it.canRead }) {
                #expect(stepped.take { worker.tally.value(.races) > races })
                hasRaced = true
            }
            var text = ""
            func takes(_ body: String) -> Bool {
                stepped.take {
                    if Loopback.isReadable(server, milliseconds: 0) {
                        text += String(decoding: Loopback.receive(server), as: UTF8.self)
                    }
                    return text.hasPrefix("POST / ") && text.hasSuffix("\r\n\r\n" + body)
                }
            }
            try #require(takes("bo"), "\(text)")
            // A part of it must never be taken for the whole, and sent again.
            #expect(link.it.request.isEmpty)
            Loopback.send(client, "dy")
            try #require(takes("body"), "\(text)")
            Loopback.send(server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            #expect(stepped.message(client).hasSuffix("ok"))
        }
        #expect(hasRaced)
    }

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

    /// Its dial is the first one again, and nothing else is said of it.
    private func expectWaits(_ link: Link, for first: Link, _ port: UInt16, _ worker: Worker) {
        #expect(link.it.partner == first)
        #expect(link.it.exchange.isDialing && link.it.waiter.isNone)
        guard link.it.partner == first else { return }
        #expect(self.port(link, worker) == port)
        #expect(link.it.upstreamPeer.port == port)
        #expect(busy(link, worker).reduce(0, +) == 1)
    }

    @Test func `no room for a second dial: the first goes on, and nobody is shed`() throws {
        let holes = [BlackHole(), BlackHole()]
        defer { withExtendedLifetime(holes) {} }
        let stepped = try SteppedWorker(holes.map(\.port)) {
            $0.raceNanoseconds = 20_000_000
            $0.dialsMax = 1
        }
        let (client, link, first) = try race(stepped, holes[0].port)
        defer { close(client) }

        expectWaits(link, for: first, holes[0].port, stepped.worker)
        #expect(stepped.worker.tally.sheds(.dials) == 0)
    }

    /// Policies let in at one of the endpoints only.
    private func walled(_ stepped: SteppedWorker, _ holes: [BlackHole], to open: Int) -> Mesh {
        var mesh = SteppedWorker.mesh(holes.map(\.port), stepped.port, nil)
        mesh.workloads = [.client("shop", "web", "127.0.0.1")]
        let port = PolicyPort(.tcp, .range(holes[open].port...holes[open].port))
        mesh.policies = [
            NetworkPolicy(
                name: ObjectName("shop", "one"), subject: PodSelection(.named("shop")),
                ingress: [PolicyRule(ports: [port])])
        ]
        return mesh
    }

    @Test func `policies that deny the second from now on: the first goes on`() throws {
        let holes = [BlackHole(), BlackHole()]
        defer { withExtendedLifetime(holes) {} }
        let stepped = try SteppedWorker(holes.map(\.port)) { $0.raceNanoseconds = 20_000_000 }
        let (client, link, first) = try race(stepped, holes[0].port)
        defer { close(client) }

        stepped.adopt(walled(stepped, holes, to: 0), version: 2)

        expectWaits(link, for: first, holes[0].port, stepped.worker)
    }

    @Test func `policies that deny the first from now on end it beside the second`() throws {
        let holes = [BlackHole(), BlackHole()]
        defer { withExtendedLifetime(holes) {} }
        let stepped = try SteppedWorker(holes.map(\.port)) { $0.raceNanoseconds = 20_000_000 }
        let (client, link, first) = try race(stepped, holes[0].port)
        defer { close(client) }
        #expect(first.it.phase == .connecting)

        stepped.adopt(walled(stepped, holes, to: 1), version: 2)

        #expect(first.it.phase == .dead)
        #expect(port(link, stepped.worker) == holes[1].port)
        #expect(link.it.exchange.isDialing && busy(link, stepped.worker).reduce(0, +) == 1)
    }

    @Test func `policies deny the second: the first goes on`() throws {
        let holes = [BlackHole(), BlackHole()]
        defer { withExtendedLifetime(holes) {} }
        let stepped = try SteppedWorker(holes.map(\.port)) { $0.raceNanoseconds = 20_000_000 }
        stepped.adopt(walled(stepped, holes, to: 0), version: 2)
        let (client, link, first) = try race(stepped, holes[0].port)
        defer { close(client) }

        expectWaits(link, for: first, holes[0].port, stepped.worker)
    }

    @Test func `the second was refused: a third is dialled before the first is waited for`()
        throws
    {
        let hole = BlackHole()
        let closed = (0..<2).map { _ in Loopback.listen() }
        for one in closed { close(one.descriptor) }
        let stepped = try SteppedWorker([hole.port] + closed.map(\.port)) {
            $0.raceNanoseconds = 20_000_000
        }
        let (client, link, first) = try race(stepped, hole.port)
        defer { close(client) }

        #expect(stepped.take { link.it.partner == first })
        expectWaits(link, for: first, hole.port, stepped.worker)
        #expect(link.it.triedCount == 3)
    }

    @Test func `a dial that hangs behind one that was refused gets company, too`() throws {
        let holes = [BlackHole(), BlackHole()]
        defer { withExtendedLifetime(holes) {} }
        let (descriptor, closed) = Loopback.listen()
        close(descriptor)
        let stepped = try SteppedWorker(holes.map(\.port) + [closed]) {
            $0.raceNanoseconds = 20_000_000
            $0.connectNanosecondsMax = 400_000_000
        }
        let tally = stepped.worker.tally
        var wasRefused = false
        // Which endpoint is dialled first is random.
        for _ in 0..<60 where !wasRefused {
            let client = Loopback.connect(stepped.port)
            let (races, retries) = (tally.value(.races), tally.value(.retries))
            let failures = tally.value(.dialFailures)
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            stepped.take {
                tally.value(.races) > races || tally.value(.dialFailures) > failures + 1
            }
            wasRefused = tally.value(.retries) > retries
            #expect(tally.value(.races) > races)
            engine_end_by_reset(client)
            close(client)
            stepped.take { stepped.worker.connectionsOpen == 0 }
        }
        #expect(wasRefused)
    }

    @Test func `the second has won and its handshake fails: the first goes on`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let hole = BlackHole()
        let (listener, port) = Loopback.listen()
        let stepped = try SteppedWorker(
            [hole.port, port],
            backend: OriginationTests.policy([.host("a.example")], .bundle(authority.bundle))
        ) { $0.raceNanoseconds = 20_000_000 }
        let (client, link, first) = try race(stepped, hole.port)
        defer { close(client) }
        try #require(stepped.take { link.it.partner.it.phase == .handshaking })

        // Resets whom nobody has accepted.
        close(listener)

        #expect(stepped.take { link.it.partner == first })
        expectWaits(link, for: first, hole.port, stepped.worker)
    }

    @Test func `the first has won and its handshake fails: the second goes on`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let holes = [BlackHole(), BlackHole()]
        defer { withExtendedLifetime(holes) {} }
        let stepped = try SteppedWorker(
            holes.map(\.port),
            backend: OriginationTests.policy([.host("a.example")], .bundle(authority.bundle))
        ) { $0.raceNanoseconds = 20_000_000 }
        let worker = stepped.worker
        let (client, link, first) = try race(stepped, holes[0].port)
        defer { close(client) }
        let second = link.it.partner
        worker.raceEnded(first)
        try #require(link.it.partner == first && first.it.phase == .handshaking)

        worker.handshakeFailed(first, isLate: true)

        expectWaits(link, for: second, holes[1].port, worker)
    }

    /// Two dials to servers that want TLS and never answer; the first is connected and has its
    /// handshake.
    private final class Handshaking {
        let stepped: SteppedWorker
        private let client: Int32
        private var isClientThere = true
        let link: Link
        let first: Link
        let second: Link
        /// Where the second is dialled, of two.
        let port: UInt16
        private let holes: [BlackHole]
        private let authority: TestAuthority
        var worker: Worker { stepped.worker }

        init(_ tests: RaceTests, holes count: Int = 2) throws {
            let holes = (0..<count).map { _ in BlackHole() }
            authority = try TestAuthority()
            stepped = try SteppedWorker(
                holes.map(\.port),
                backend: OriginationTests.policy([.host("a.example")], .bundle(authority.bundle))
            ) { $0.raceNanoseconds = 20_000_000 }
            (client, link, first) = try tests.race(stepped, holes[0].port)
            second = link.it.partner
            port = holes[1].port
            self.holes = holes
            stepped.worker.raceEnded(first)
            try #require(link.it.partner == first && first.it.phase == .handshaking)
        }

        func endClient() {
            engine_end_by_reset(client)
            close(client)
            isClientThere = false
        }

        deinit {
            if isClientThere { close(client) }
            authority.remove()
        }
    }

    @Test func `both have connected and the first's handshake fails: the second serves`() throws {
        let both = try Handshaking(self)
        defer { withExtendedLifetime(both) {} }

        // As if both had answered by now.
        both.worker.raceEnded(both.second)
        try #require(both.second.it.phase == .standingBy)
        both.worker.handshakeFailed(both.first, isLate: false)

        try #require(both.link.it.partner == both.second && both.second.it.phase == .handshaking)
        #expect(port(both.link, both.worker) == both.port)
        #expect(both.link.it.exchange.isDialing && both.link.it.waiter.isNone)
        #expect(busy(both.link, both.worker).reduce(0, +) == 1)
        #expect(both.worker.dialsOpen == 1)
    }

    @Test func `both have connected and the first's handshake fails: no third is dialled`() throws {
        let both = try Handshaking(self, holes: 3)
        defer { withExtendedLifetime(both) {} }
        both.worker.raceEnded(both.second)
        let dials = both.worker.tally.value(.dials)

        both.worker.handshakeFailed(both.first, isLate: false)

        #expect(both.link.it.partner == both.second && both.second.it.phase == .handshaking)
        #expect(both.worker.tally.value(.dials) == dials)
    }

    @Test func `who stands by and is reset meanwhile is not waited for`() throws {
        let both = try Handshaking(self)
        defer { withExtendedLifetime(both) {} }
        both.worker.raceEnded(both.second)

        both.worker.dispatchStream(both.second, EPOLLIN.rawValue | EPOLLRDHUP.rawValue)

        #expect(both.second.it.phase == .dead)
        #expect(
            both.worker.otherDial(of: both.link).isNone && both.link.it.partner == both.first)
        #expect(both.worker.dialsOpen == 1)
    }

    @Test func `who has ended when it connects does not stand by`() throws {
        let both = try Handshaking(self)
        defer { withExtendedLifetime(both) {} }

        // One event tells of both, and no other follows.
        both.second.it.isEnding = true
        both.second.it.canRead = true
        both.worker.raceEnded(both.second)

        #expect(both.second.it.phase == .dead)
    }

    @Test func `the client goes: who stands by for it is closed, too`() throws {
        let both = try Handshaking(self)
        defer { withExtendedLifetime(both) {} }
        both.worker.raceEnded(both.second)
        try #require(both.second.it.phase == .standingBy)

        both.endClient()

        #expect(both.stepped.take { both.second.it.phase == .dead })
        #expect(both.worker.dialsOpen == 0)
    }

    @Test func `the second is served: the first, connected meanwhile, is closed`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let hole = BlackHole()
        let origin = try SecureOrigin(authority, try authority.issue("DNS:back.example"))
        defer { origin.stop() }
        let stepped = try SteppedWorker(
            [hole.port, origin.port],
            backend: OriginationTests.policy([.host("back.example")], .bundle(authority.bundle))
        ) {
            $0.raceNanoseconds = 20_000_000
            $0.idleUpstreamsMax = 0
        }
        let (client, link, first) = try race(stepped, hole.port)
        defer { close(client) }
        try #require(stepped.take { link.it.partner.it.phase == .handshaking })
        // As if it had answered by now.
        stepped.worker.raceEnded(first)
        try #require(first.it.phase == .standingBy)

        #expect(stepped.message(client).hasPrefix("HTTP/1.1 200 "))

        #expect(first.it.phase == .dead)
        #expect(stepped.worker.dialsOpen == 0)
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
