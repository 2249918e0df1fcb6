// Two sockets of one port: one of an address of its own, one of all others.

import CLinux
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("A connection belongs to the socket that accepted it", .serialized)
struct SocketTests {
    /// 127.0.0.5, in host order.
    static let own: UInt32 = 0x7f00_0005

    /// All addresses answer 500, 127.0.0.5 with 404.
    private final class TwoSockets {
        let engine: Engine
        let port: UInt16
        private let any: Int32
        private var specific: Int32 = -1

        init() throws {
            (any, port) = Loopback.listen(host: 0)
            engine = try Engine(EngineOptions(workers: 1))
            try engine.start()
        }

        func openOwn() {
            specific = Loopback.listen(port: port, host: SocketTests.own).descriptor
        }

        func adopt(_ version: UInt64, asksForAny: Bool = true, asksForOwn: Bool = true) {
            var mesh = Mesh()
            var sockets: [[Int32]] = []
            let broken = HTTPRouteRule(backends: [RouteBackend(target: .unresolved("gone"))])
            func add(_ name: String, _ addresses: [IPAddress], _ rules: [HTTPRouteRule]) {
                let index = mesh.listeners.count
                mesh.listeners.append(
                    Listener(
                        gateway: ObjectName("shop", name), name: "web", addresses: addresses,
                        port: port, hostname: nil))
                mesh.routes.append(
                    HTTPRoute(
                        name: ObjectName("shop", name),
                        attachments: [.listener(index, hostnames: ["*"])], rules: rules))
            }
            if asksForAny {
                add("any", [], [broken])
                sockets.append([any])
            }
            if asksForOwn {
                add("own", [IPAddress(v4: SocketTests.own)], [])
                sockets.append(specific >= 0 ? [specific] : [])
            }
            engine.adopt(
                SnapshotCompiler.compile(mesh, node: "n", version: version), sockets: sockets)
        }

        func stop() {
            engine.drain(seconds: 1)
            close(any)
            close(specific)
        }
    }

    private func ask(_ client: Int32) -> String {
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        return String(Loopback.message(client).prefix(12).suffix(3))
    }

    @Test func `each socket's connections meet its own routes, whatever address they came to`()
        throws
    {
        let sockets = try TwoSockets()
        defer { sockets.stop() }
        // The specific one is wanted, and is not to be had yet.
        sockets.adopt(1)
        let early = Loopback.connect(to: Self.own, sockets.port)
        #expect(ask(early) == "500")
        sockets.openOwn()
        sockets.adopt(2)
        let own = Loopback.connect(to: Self.own, sockets.port)
        let any = Loopback.connect(sockets.port)
        defer { for one in [early, own, any] { close(one) } }

        #expect(ask(own) == "404")
        #expect(ask(any) == "500")
        #expect(ask(early) == "500", "it stays whose it is")
        // Of a socket that is gone, connections go on where new ones would begin.
        sockets.adopt(3, asksForOwn: false)
        #expect(ask(own) == "500")
        sockets.adopt(4, asksForAny: false)
        #expect(ask(own) == "404" && ask(early) == "404")
    }

    @Test func `who waits at a listener when it goes is accepted first`() throws {
        let stepped = try SteppedWorker([])
        let clients = (0..<5).map { _ in Loopback.connect(stepped.port) }
        defer { for client in clients { close(client) } }

        stepped.adopt(Mesh(), version: 2)

        for client in clients {
            Loopback.send(client, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
            let answer = stepped.message(client)
            #expect(answer.hasPrefix("HTTP/1.1 404 ") && answer.contains("no_listener"))
            #expect(answer.contains("\r\nConnection: close\r\n"))
        }
    }

    @Test func `who comes to a listener that is about to go gets the one that takes its place`() {
        let (any, port) = Loopback.listen(host: 0)
        let (leaving, _) = Loopback.listen(port: port, host: Self.own)
        defer { close(any) }
        #expect(malla_listener_hush(leaving) == 0)
        let client = Loopback.connect(to: Self.own, port, waits: false)
        defer { close(client) }
        close(leaving)

        // It asks again after a second.
        #expect(Loopback.isReadable(any, milliseconds: 5_000))
        let accepted = accept(any, nil, nil)
        #expect(accepted >= 0 && Loopback.isConnected(client))
        close(accepted)
    }

    /// It was reset: its handshake ended between the last accept and the end of the socket.
    @Test func `who is half in at a listener that is about to go is known, and gets in`() {
        let (leaving, port) = Loopback.listen()
        defer { close(leaving) }
        // Its clients are half in until they say something.
        var seconds: Int32 = 10
        // The call reads one number.
        unsafe _ = setsockopt(leaving, Int32(IPPROTO_TCP), TCP_DEFER_ACCEPT, &seconds, 4)
        let client = Loopback.connect(port)
        defer { close(client) }
        #expect(malla_listener_hush(leaving) == 0)
        func hasHandshake(_ last: UInt8, isDual: Bool = false) -> Bool {
            let address: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, last]
            // The call reads 16 bytes.
            return unsafe malla_port_has_handshake(address, port, isDual) == 1
        }
        #expect(hasHandshake(1) && hasHandshake(9, isDual: true) && !hasHandshake(9))

        Loopback.send(client, "x")

        #expect(Loopback.isReadable(leaving, milliseconds: 5_000))
        #expect(!hasHandshake(1))
        let accepted = accept(leaving, nil, nil)
        #expect(accepted >= 0 && Loopback.isConnected(client))
        close(accepted)
    }
}
