import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("An endpoint goes, and what is open to it (docs/configuration.md)", .serialized)
struct EndpointChangeTests {
    /// What the clients speak, and how the engine comes to know it.
    enum Kind: CaseIterable { case opaque, upgraded, detected }

    /// Captured as in the engine's namespace: the engine dials from the client's own address.
    private static func mesh(
        _ port: UInt16, _ kind: Kind, _ endpoints: [Endpoint], name: String = "catalog"
    ) -> Mesh {
        let service = Service(
            name: ObjectName("shop", name), addresses: [.loopbackV4],
            ports: [
                ServicePort(
                    name: "p", port: port,
                    application: kind == .upgraded ? .http : .undeclared, endpoints: endpoints)
            ])
        let route = HTTPRoute(
            name: ObjectName("shop", "all"), attachments: [.service(0, port: 0)],
            rules: [HTTPRouteRule(backends: [Gateway.to(0)])], isTCP: kind == .opaque)
        return Mesh(
            workloads: [.client("shop", "web", "127.0.0.2")], services: [service],
            routes: kind == .upgraded ? [] : [route])
    }

    private static func endpoint(_ port: UInt16, isReady: Bool = true) -> Endpoint {
        Endpoint(address: SocketAddress(.loopbackV4, port), isReady: isReady)
    }

    /// Both ends of a connection that the engine has joined.
    private func joined(
        _ stepped: SteppedWorker, _ kind: Kind, at listener: Int32
    ) -> (client: Int32, server: Int32) {
        let client = Loopback.connect(stepped.port, from: 0x7f00_0002)
        if kind == .upgraded { ask(client) }
        let server = stepped.accepted(listener)
        if kind == .upgraded {
            #expect(stepped.message(server).hasPrefix("GET / "))
            switchProtocols(server)
            stepped.take { Loopback.isReadable(client, milliseconds: 0) }
            let answer = String(decoding: Loopback.receive(client), as: UTF8.self)
            #expect(answer.hasPrefix("HTTP/1.1 101 "), "\(answer)")
        }
        #expect(passes(stepped, client, server))
        return (client, server)
    }

    private func ask(_ client: Int32) {
        Loopback.send(
            client,
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    }

    private func switchProtocols(_ server: Int32) {
        Loopback.send(
            server,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                + "Upgrade: websocket\r\n\r\n")
    }

    private func passes(_ stepped: SteppedWorker, _ from: Int32, _ to: Int32) -> Bool {
        Loopback.send(from, "\0word")
        stepped.take { Loopback.isReadable(to, milliseconds: 0) }
        return Loopback.receive(to) == Array("\0word".utf8)
    }

    private func removed(_ stepped: SteppedWorker) -> UInt64 {
        stepped.worker.tally.value(Failure.endpointRemoved)
    }

    @Test(arguments: Kind.allCases, [true, false])
    func `what the service lists no more is reset at both ends, and nothing else is`(
        _ kind: Kind, isCompiledWhole: Bool
    ) throws {
        let (first, firstPort) = Loopback.listen()
        let (second, secondPort) = Loopback.listen()
        let stepped = try SteppedWorker(captured: ())
        var last: Snapshot?
        func adopt(_ endpoints: [Endpoint], _ version: UInt64) {
            let next = SnapshotCompiler.compile(
                Self.mesh(stepped.port, kind, endpoints), node: "n", version: version,
                after: isCompiledWhole ? nil : last)
            #expect(next.follows(last) == (last != nil && !isCompiledWhole))
            stepped.adopt(next)
            last = next
        }
        adopt([Self.endpoint(firstPort)], 2)
        let one = joined(stepped, kind, at: first)

        // Listed still, so it drains; who comes now is served by the other.
        adopt([Self.endpoint(firstPort, isReady: false), Self.endpoint(secondPort)], 3)
        let other = joined(stepped, kind, at: second)
        defer { for end in [first, second, other.client, other.server] { close(end) } }
        #expect(passes(stepped, one.client, one.server))
        #expect(passes(stepped, one.server, one.client))
        #expect(removed(stepped) == 0)

        adopt([Self.endpoint(secondPort)], 4)
        #expect(Loopback.ending(one.client) == ECONNRESET)
        #expect(Loopback.ending(one.server) == ECONNRESET)
        for end in [one.client, one.server] { close(end) }
        #expect(removed(stepped) == 1)

        adopt([Self.endpoint(secondPort, isReady: false)], 5)
        #expect(passes(stepped, other.client, other.server))
        #expect(passes(stepped, other.server, other.client))
        #expect(removed(stepped) == 1)
    }

    @Test(arguments: Kind.allCases, [true, false])
    func `a service that is deleted ends it, unless another has its address and endpoint`(
        _ kind: Kind, isReplaced: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        let stepped = try SteppedWorker(captured: ())
        let mesh = Self.mesh(stepped.port, kind, [Self.endpoint(port)])
        stepped.adopt(mesh, version: 2)
        let (client, server) = joined(stepped, kind, at: listener)
        defer { for end in [listener, client, server] { close(end) } }

        let next =
            isReplaced
            ? Self.mesh(stepped.port, kind, [Self.endpoint(port)], name: "stock")
            : Mesh(workloads: mesh.workloads)
        stepped.adopt(next, version: 3)

        if isReplaced {
            #expect(passes(stepped, client, server))
        } else {
            #expect(Loopback.ending(client) == ECONNRESET)
            #expect(Loopback.ending(server) == ECONNRESET)
        }
    }

    @Test func `a Gateway's upgraded connections end likewise`() throws {
        let (listener, port) = Loopback.listen()
        let stepped = try SteppedWorker([port])
        let (client, server) = joined(stepped, .upgraded, at: listener)
        defer { for end in [listener, client, server] { close(end) } }
        // Whatever else changes.
        stepped.adopt(SteppedWorker.mesh([port], stepped.port, nil), version: 2)
        #expect(passes(stepped, client, server))

        stepped.adopt(SteppedWorker.mesh([], stepped.port, nil), version: 3)

        #expect(Loopback.ending(client) == ECONNRESET)
        #expect(Loopback.ending(server) == ECONNRESET)
        let log = stepped.worker.accessLog.taken()
        #expect(log.contains("\"flags\":\"LR\"") && log.contains("endpoint_removed"), "\(log)")
    }

    @Test(arguments: [true, false])
    func `a request in flight ends with its answer, but nothing is upgraded any more`(
        isUpgrade: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        let stepped = try SteppedWorker([port])
        let client = Loopback.connect(stepped.port)
        ask(client)
        let server = stepped.accepted(listener)
        defer { for end in [listener, client, server] { close(end) } }
        #expect(stepped.message(server).hasPrefix("GET / "))

        stepped.adopt(SteppedWorker.mesh([], stepped.port, nil), version: 2)
        if isUpgrade {
            switchProtocols(server)
        } else {
            Loopback.send(server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }

        let answer = stepped.message(client)
        #expect(answer.hasPrefix("HTTP/1.1 \(isUpgrade ? 503 : 200) "), "\(answer)")
        #expect(answer.contains("reason: endpoint_removed") == isUpgrade, "\(answer)")
    }

    @Test func `a connection on which nobody has spoken gets another endpoint`() throws {
        let (first, firstPort) = Loopback.listen()
        let (second, secondPort) = Loopback.listen()
        let stepped = try SteppedWorker(captured: ())
        stepped.adopt(
            Self.mesh(stepped.port, .detected, [Self.endpoint(firstPort)]), version: 2)
        let client = Loopback.connect(stepped.port, from: 0x7f00_0002)
        let silent = stepped.accepted(first)
        let isHeard = stepped.take {
            stepped.worker.timers.all().contains {
                $0.it.role == .downstream && $0.it.phase == .sensing && !$0.it.partner.isNone
                    && $0.it.partner.it.phase == .sensing
            }
        }
        #expect(isHeard)

        stepped.adopt(
            Self.mesh(stepped.port, .detected, [Self.endpoint(secondPort)]), version: 3)

        let server = stepped.accepted(second)
        defer { for end in [first, second, client, silent, server] { close(end) } }
        #expect(Loopback.receive(silent).isEmpty)
        #expect(passes(stepped, server, client))
        #expect(passes(stepped, client, server))
        #expect(removed(stepped) == 0)
    }
}
