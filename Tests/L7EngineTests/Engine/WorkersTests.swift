import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Several workers", .serialized)
struct WorkersTests {
    @Test func `connections spread evenly over workers that share a port`() throws {
        let (first, port) = Loopback.listen()
        let (second, _) = Loopback.listen(port: port)
        defer {
            close(first)
            close(second)
        }
        let engine = try Engine(EngineOptions(workers: 2))
        try engine.start()
        defer { engine.drain(seconds: 1) }
        let listener = Listener(
            gateway: ObjectName("shop", "edge"), name: "web", addresses: [.loopbackV4], port: port,
            hostname: nil)
        let mesh = Mesh(listeners: [listener])
        engine.adopt(
            SnapshotCompiler.compile(mesh, node: "n", version: 1), sockets: [[first, second]])

        var clients: [Int32] = []
        defer { for client in clients { close(client) } }
        for _ in 0..<200 { clients.append(Loopback.connect(port)) }

        #expect(Loopback.eventually { engine.totals().connections == 200 })
        // The kernel chooses by hash: five standard deviations of 200 coins.
        for tally in engine.tallies {
            #expect((65...135).contains(tally.value(.connections)))
        }
    }
}
