import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Session affinity where the engine chooses (docs/configuration.md)", .serialized)
struct AffinityTests {
    private static let client = IPAddress(v4: 0x7f00_0002)

    /// Two workers behind a Gateway's port, and a service with affinity.
    private struct Fixture {
        let engine: Engine
        let port: UInt16
        private let descriptors: [Int32]
        private let seconds: UInt32
        private var version: UInt64 = 0

        init(seconds: UInt32) throws {
            let (first, port) = Loopback.listen()
            descriptors = [first, Loopback.listen(port: port).descriptor]
            self.port = port
            self.seconds = seconds
            engine = try Engine(EngineOptions(workers: 2))
            try engine.start()
        }

        /// From now on these are the service's endpoints.
        mutating func serve(_ origins: Origin...) {
            let service = Service(
                name: ObjectName("shop", "web"), addresses: [],
                traffic: ServiceTraffic(affinitySeconds: seconds),
                ports: [
                    ServicePort(
                        name: "http", port: 80, application: .http,
                        endpoints: origins.map { Endpoint(address: AffinityTests.address($0)) })
                ])
            let listener = Listener(
                gateway: ObjectName("shop", "edge"), name: "web", addresses: [.loopbackV4],
                port: port, hostname: nil)
            let route = HTTPRoute(
                name: ObjectName("shop", "all"), attachments: [.listener(0, hostnames: ["*"])],
                rules: [HTTPRouteRule(backends: [Gateway.to(0)])])
            version += 1
            engine.adopt(
                SnapshotCompiler.compile(
                    Mesh(services: [service], listeners: [listener], routes: [route]), node: "n",
                    version: version),
                sockets: [descriptors])
            #expect(Loopback.eventually { engine.hasAdopted })
        }

        /// Who answers so many calls, each by a connection of its own.
        func answers(_ count: Int = 20) -> Set<String> {
            Set(
                (0..<count).map { _ in
                    let descriptor = Loopback.connect(port, from: AffinityTests.client.v4)
                    defer { close(descriptor) }
                    Loopback.send(descriptor, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    return Loopback.field(Loopback.message(descriptor), "x-origin") ?? "nobody"
                })
        }

        func stop() {
            engine.drain(seconds: 1)
            for descriptor in descriptors { close(descriptor) }
        }
    }

    private static func address(_ origin: Origin) -> SocketAddress {
        SocketAddress(.loopbackV4, origin.port)
    }

    /// One that the client draws before all of those.
    private static func better(
        _ name: String, than others: Origin..., made: (String) -> Origin = { Origin.echo($0) }
    ) -> Origin {
        while true {
            let origin = made(name)
            let draw = ClientAffinity.draw(client, address(origin))
            if others.allSatisfy({ ClientAffinity.draw(client, address($0)) < draw }) {
                return origin
            }
        }
    }

    @Test func `a client stays when an endpoint is added, and when its own goes it stays anew`()
        throws
    {
        var fixture = try Fixture(seconds: 3600)
        defer { fixture.stop() }
        let first = Origin.echo("first")
        let second = Self.better("second", than: first)
        let third = Self.better("third", than: first, second)
        fixture.serve(first)
        #expect(fixture.answers() == ["first"])

        fixture.serve(second, first)
        #expect(fixture.answers() == ["first"])
        fixture.serve(third, second, first)
        #expect(fixture.answers() == ["first"])

        fixture.serve(third, second)
        #expect(fixture.answers() == ["third"])
        fixture.serve(second, first)
        #expect(fixture.answers() == ["second"])
        // Neither of those that were left is gone back to.
        fixture.serve(third, second, first)
        #expect(fixture.answers() == ["second"])
        #expect(fixture.engine.exposition().contains("malla_affinities_forgotten_total 0\n"))
    }

    @Test func `a client that was away for the service's time is free to go elsewhere`() throws {
        var fixture = try Fixture(seconds: 1)
        defer { fixture.stop() }
        let first = Origin.echo("first")
        let second = Self.better("second", than: first)
        fixture.serve(first)
        #expect(fixture.answers() == ["first"])
        fixture.serve(second, first)
        let begun = Worker.monotonic()
        // Each call begins the time anew.
        var seen: Set<String> = []
        while Worker.monotonic() < begun + 2_500_000_000 {
            seen.formUnion(fixture.answers(2))
            poll(nil, 0, 100)
        }
        #expect(seen == ["first"])
        let left = Worker.monotonic()
        #expect(Loopback.eventually { Worker.monotonic() > left + 2_000_000_000 })
        #expect(fixture.answers() == ["second"])
    }

    @Test func `an endpoint that does not take the client's call loses it to one that does`() throws
    {
        var fixture = try Fixture(seconds: 3600)
        defer { fixture.stop() }
        let first = Origin.echo("first")
        var second: Origin? = Self.better("second", than: first) { name in
            // It keeps no connection, so that each call is a dial.
            Origin { connection, _ in
                guard !Loopback.message(connection).isEmpty else { return }
                Loopback.send(
                    connection,
                    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n"
                        + "X-Origin: \(name)\r\n\r\n")
            }
        }
        fixture.serve(first, second ?? first)
        #expect(fixture.answers(3) == ["second"])
        let port = second?.port ?? 0
        second = nil
        #expect(
            Loopback.eventually {
                let probe = Loopback.connect(port)
                defer { close(probe) }
                return !Loopback.isConnected(probe)
            })
        #expect(fixture.answers() == ["first"])
    }

    // MARK: The table

    private static let second: UInt64 = 1_000_000_000

    private static func kept(
        _ table: AffinityTable, _ place: AffinityTable.Place, _ draw: UInt64, seconds: UInt32,
        at now: UInt64
    ) -> Bool {
        (0..<AffinityTable.ways).contains {
            table.entry(place, $0, seconds: seconds, now: now) == AffinityTable.bits(draw)
        }
    }

    /// The last clocks are those at which a word's clock begins anew.
    @Test(arguments: [0, 5, 86_400, (1 << 20) - 2, (1 << 20) - 1, 1 << 20, 3 << 20] as [UInt64])
    func `an entry holds for its seconds and no longer, whatever the clock`(_ begun: UInt64) {
        let draw = ClientAffinity.draw(Self.client, SocketAddress(.loopbackV4, 80))
        for seconds in [1, 10_800, 86_400] as [UInt32] {
            let table = AffinityTable(entriesMax: 64)
            let place = table.place(of: Self.client, port: 3)
            #expect(
                table.keep(place, draw, seconds: seconds, now: begun * Self.second + 999_999_999))
            for (later, isKept) in [
                (0, true), (UInt64(seconds), true), (UInt64(seconds) + 1, false),
                (UInt64(seconds) + 100_000, false),
            ] {
                let now = (begun + later) * Self.second
                #expect(
                    Self.kept(table, place, draw, seconds: seconds, at: now) == isKept,
                    "\(seconds) s, \(later) s later")
            }
            // Another port is another service's.
            let other = table.place(of: Self.client, port: 4)
            #expect(
                !Self.kept(table, other, draw, seconds: seconds, at: begun * Self.second))
        }
    }

    @Test func `where there is no room, who would go first is forgotten, and counted`() {
        let table = AffinityTable(entriesMax: AffinityTable.ways)
        let clients = (0...UInt32(AffinityTable.ways)).map { IPAddress(v4: 0x0a00_0001 + $0) }
        func keep(_ index: Int, at second: UInt64) -> Bool {
            table.keep(
                table.place(of: clients[index], port: 1), UInt64(index) << 20, seconds: 100,
                now: second * Self.second)
        }
        func has(_ index: Int, at second: UInt64) -> Bool {
            Self.kept(
                table, table.place(of: clients[index], port: 1), UInt64(index) << 20,
                seconds: 100, at: second * Self.second)
        }
        for index in 0..<AffinityTable.ways { #expect(keep(index, at: UInt64(index) + 1)) }
        #expect(keep(0, at: 20))

        #expect(!keep(AffinityTable.ways, at: 21))
        #expect(has(0, at: 21) && !has(1, at: 21) && has(2, at: 21))
        #expect(has(AffinityTable.ways, at: 21))
        // Whose time is over is nobody's loss.
        #expect(keep(1, at: 120))
    }
}
