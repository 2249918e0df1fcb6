import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Connections go by a TCPRoute", .serialized)
struct TCPRouteServingTests {
    private static func named(_ name: String) -> Origin {
        Origin { connection, _ in Loopback.send(connection, name) }
    }

    /// A listener of TCP whose route has these backends.
    private struct Edge {
        let engine: Engine
        let port: UInt16
        private let descriptor: Int32

        init(_ origins: [UInt16], _ backends: [RouteBackend]) throws {
            (descriptor, port) = Loopback.listen()
            engine = try Engine(EngineOptions(workers: 1))
            try engine.start()
            let services = origins.map { origin in
                Service(
                    name: ObjectName("shop", "s\(origin)"), addresses: [],
                    ports: [
                        ServicePort(
                            name: "p", port: 80,
                            endpoints: [Endpoint(address: SocketAddress(.loopbackV4, origin))])
                    ])
            }
            let listener = Listener(
                gateway: ObjectName("shop", "edge"), name: "sql", addresses: [.loopbackV4],
                port: port, hostname: nil, isTCP: true)
            let route = HTTPRoute(
                name: ObjectName("shop", "sql"), attachments: [.listener(0, hostnames: ["*"])],
                rules: [HTTPRouteRule(backends: backends)], isTCP: true)
            let mesh = Mesh(
                services: services, listeners: [listener], routes: backends.isEmpty ? [] : [route])
            engine.adopt(
                SnapshotCompiler.compile(mesh, node: "n", version: 1), sockets: [[descriptor]])
        }

        func word() -> String {
            let client = Loopback.connect(port)
            defer { close(client) }
            return String(decoding: Loopback.rest(client), as: UTF8.self)
        }

        /// How a connection ends.
        func ending() -> Int32 {
            let client = Loopback.connect(port)
            defer { close(client) }
            return Loopback.ending(client)
        }

        func stop() {
            engine.drain(seconds: 1)
            close(descriptor)
        }
    }

    @Test func `by weight, with the backend's name in metrics and the route's in the log`() throws {
        let (one, two) = (Self.named("one"), Self.named("two"))
        let edge = try Edge(
            [one.port, two.port], [Gateway.to(0, weight: 3), Gateway.to(1, weight: 1)])
        defer { edge.stop() }
        let words = (0..<200).map { _ in edge.word() }
        let ones = words.count { $0 == "one" }
        #expect(words.count { $0 == "two" } == 200 - ones)
        #expect(ones > 110 && ones < 190, "\(ones) of 200")
        #expect(
            Loopback.eventually {
                edge.engine.exposition().contains("malla_connections_active 0\n")
            })
        #expect(edge.engine.exposition().contains("destination_service_name=\"s\(two.port)\""))
        let line = edge.engine.takeAccessLog().first ?? ""
        #expect(
            line.contains("\"route\":\"shop/sql/0\"") && line.contains("\"protocol\":\"tcp\""),
            "\(line)")
    }

    @Test func `a backend that cannot be resolved, and no route at all, are resets`() throws {
        let unresolved = try Edge([], [RouteBackend(target: .unresolved("no such Service"))])
        #expect(unresolved.ending() == ECONNRESET)
        #expect(
            unresolved.engine.exposition().contains(
                "malla_requests_failed_total{reason=\"no_backend\"} 1"))
        unresolved.stop()
        let bare = try Edge([], [])
        #expect(bare.ending() == ECONNRESET)
        #expect(
            bare.engine.exposition().contains("malla_requests_failed_total{reason=\"no_route\"} 1"))
        bare.stop()
    }
}
