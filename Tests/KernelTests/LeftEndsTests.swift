internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("Endpoints that services have lost", .enabled(if: isRoot, "needs root"))
struct LeftEndsTests {
    @Test func `TCP leaves a service that has lost its end, not what another has taken over`()
        throws
    {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = ServiceRowsTests.snapshot(services: 2, endpoints: 2, isDual: false).mesh
        mesh.services[0].ports[0].nodePort = 30080
        let keys = ["10.96.0.0", "10.0.0.1"].map { IPAddress($0)! }
        let dialled = zip(keys, [80, 30080] as [UInt16]).map {
            malla_end(SocketAddress($0, $1), .tcp)
        }
        let ends = mesh.services[0].ports[0].endpoints
        let first = malla_end(ends[0].address, .tcp)
        func next(_ version: UInt64) throws -> [Bool] {
            let outcome = try rows.apply(
                SnapshotCompiler.compile(mesh, node: "n1", version: version))
            return dialled.map { outcome.left.contains(first, of: $0) }
        }
        let atFirst = try next(1)
        #expect(atFirst == [false, false])
        // Another service has it too.
        mesh.services[1].ports[0].endpoints.append(ends[0])
        mesh.services[0].ports[0].endpoints[0].isReady = false
        mesh.services[0].ports[0].endpoints[0].isServing = false
        let resting = try next(2)
        #expect(resting == [false, false], "it is listed")
        mesh.services[0].ports[0].endpoints.removeFirst()
        let lost = try next(3)
        #expect(lost == [true, true])
        mesh.services[0].ports[0].endpoints.append(ends[0])
        let again = try next(4)
        #expect(again == [false, false])
        mesh.services[0].name = ObjectName("t", "renamed")
        let renamed = try next(5)
        #expect(renamed == [false, false], "its addresses lead there")
        mesh.services.removeFirst()
        let gone = try next(6)
        #expect(gone == [true, true])
    }

    @Test func `a connection by another node's port goes on when that serves its own pods only`()
        throws
    {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = ServiceRowsTests.snapshot(services: 1, endpoints: 1, isDual: false).mesh
        mesh.nodes.append(Node(name: "n2", addresses: [IPAddress("10.0.0.2")!]))
        mesh.services[0].ports[0].nodePort = 30080
        mesh.services[0].ports[0].endpoints[0].node = "n1"
        let end = malla_end(mesh.services[0].ports[0].endpoints[0].address, .tcp)
        let given = GivenEnd(
            endpoint: end,
            dialled: malla_end(SocketAddress(IPAddress("10.0.0.2")!, 30080), .tcp))
        _ = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
        mesh.services[0].traffic.externalPolicy = .local
        let local = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 2))
        #expect(!local.left.contains(end, of: given.dialled))
        #expect(rows.left([given], orGone: false).isEmpty, "nor after a restart")
        mesh.services[0].ports[0].endpoints = []
        _ = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 3))
        #expect(rows.left([given], orGone: false) == [given])
    }
}
