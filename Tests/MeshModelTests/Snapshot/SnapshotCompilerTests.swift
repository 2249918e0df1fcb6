import MeshModel
import Testing

@Suite("A mesh becomes a snapshot")
struct SnapshotCompilerTests {
    private static let web = SocketAddress(IPAddress(v4: 0x0a60_0001), 80)
    private static let other = SocketAddress(IPAddress(v4: 0x0a60_0002), 80)

    private static func mesh(_ services: [(SocketAddress, ApplicationProtocol)]) -> Mesh {
        Mesh(
            services: services.map { end, application in
                Service(
                    name: ObjectName("shop", "s\(end.address)"), addresses: [end.address],
                    ports: [ServicePort(name: "", port: end.port, application: application)])
            })
    }

    @Test func `what was captured stays known to the engine, and is captured no more`() throws {
        let before = SnapshotCompiler.compile(
            Self.mesh([(Self.web, .http), (Self.other, .tcp)]), node: "n1", version: 1)
        #expect(Set(before.captures.keys) == [Self.web])

        // One begins to be captured, one ceases to, in one change.
        let after = SnapshotCompiler.compile(
            Self.mesh([(Self.web, .tcp), (Self.other, .http)]), node: "n1", version: 2,
            after: before)
        #expect(Set(after.captures.keys) == [Self.web, Self.other])
        #expect(after.ports.map(\.isCaptured) == [false, true])
        #expect(after.ports.allSatisfy { $0.routeTable != nil })

        // A service that is gone is not known any more, and nothing is kept of it.
        let last = SnapshotCompiler.compile(
            Self.mesh([(Self.other, .http)]), node: "n1", version: 3,
            after: after)
        #expect(Set(last.captures.keys) == [Self.other])
    }

    @Test func `a local pod that needs the engine is one port, whatever is dialled of it`() throws {
        var mesh = Self.mesh([(Self.web, .http)])
        let address = IPAddress(v4: 0x0a01_0001)
        for node in ["n1", "n2"] {
            mesh.workloads.append(
                Workload(
                    name: ObjectName("shop", "p-\(node)"), serviceAccount: "", node: node,
                    labels: [:], addresses: node == "n1" ? [address] : [IPAddress(v4: 9)],
                    interface: nil, isMeshed: true, workloadName: "p",
                    engineUse: EngineUse(isInbound: true)))
        }
        let snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        #expect(Set(snapshot.captures.keys) == [Self.web])
        #expect(snapshot.inbounds.count == 1)
        let index = try #require(snapshot.capture(at: SocketAddress(address, 4711)))
        let port = snapshot.ports[index.value]
        #expect(port.isInbound && port.routeTable != nil)
        #expect(snapshot.endpoints[port.endpoints].map(\.address) == [SocketAddress(address, 0)])

        // Connections on their way meet an engine that knows them.
        mesh.workloads[0].engineUse.isInbound = false
        let after = SnapshotCompiler.compile(mesh, node: "n1", version: 2, after: snapshot)
        #expect(after.capture(at: SocketAddress(address, 80)) != nil)
    }

    @Test func `a datagram port is never the engine's`() {
        var mesh = Self.mesh([(Self.web, .http)])
        let before = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        mesh.services[0].ports[0].transport = .udp
        let snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 2, after: before)
        #expect(snapshot.captures.isEmpty && snapshot.ports[0].routeTable == nil)
    }
}
