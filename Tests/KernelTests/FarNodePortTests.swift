internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

/// n1 has 10.0.0.1 and runs the agent; n2 has 10.0.0.2 and fd00::2, n3 10.0.0.3.
@Suite(
    "Node ports at other nodes' addresses", .enabled(if: isRoot, "needs root"), .serialized)
struct FarNodePortTests {
    private static func mesh(policy: TrafficPolicy, endpoints: [(String, String)]) -> Mesh {
        var mesh = ServiceRowsTests.snapshot(services: 1, endpoints: 0).mesh
        mesh.nodes += [
            Node(name: "n2", addresses: ["10.0.0.2", "fd00::2"].map { IPAddress($0)! }),
            Node(name: "n3", addresses: [IPAddress("10.0.0.3")!]),
        ]
        mesh.services[0].traffic.externalPolicy = policy
        mesh.services[0].ports[0].nodePort = 30080
        mesh.services[0].ports[0].endpoints = ends(endpoints)
        return mesh
    }

    private static func ends(_ all: [(String, String)]) -> [Endpoint] {
        all.map { Endpoint(address: SocketAddress(IPAddress($0.0)!, 8080), node: $0.1) }
    }

    /// What is found at nodes' addresses: where, and to whom it leads from inside and outside.
    private static func listed(_ rows: borrowing ServiceRows) -> [String] {
        rows.entries().filter { $0.end.port != 80 && !$0.end.address.isUnspecified }.map {
            "\($0.end) \($0.inside.endpoints) \($0.outside.endpoints.count)"
        }.sorted()
    }

    @Test func `with policy Local each other node's address leads to that node's endpoints`() throws
    {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.mesh(
            policy: .local,
            endpoints: [("10.1.0.1", "n1"), ("10.1.0.2", "n2"), ("fd10::2", "n2")])
        let first = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        let problems = try rows.apply(first).problems
        #expect(problems.isEmpty, "\(problems)")
        let all = Self.listed(rows)
        #expect(
            all == [
                "10.0.0.2:30080 [10.1.0.2:8080] 0", "10.0.0.3:30080 [] 0",
                "[fd00::2]:30080 [[fd10::2]:8080] 0",
            ])
        let key = malla_end(SocketAddress(IPAddress("10.0.0.3")!, 30080), .tcp)
        let empty = rows.maps.services.value(of: key, placeholder: malla_service())
        #expect(empty?.inside.endpoints == 0 && empty?.inside.id != 0, "refused, not passed over")

        // Nothing but endpoints changes: one moves, and one only ends yet.
        mesh.services[0].ports[0].endpoints = Self.ends([("10.1.0.1", "n1"), ("10.1.0.3", "n3")])
        var ending = Self.ends([("10.1.0.4", "n2")])[0]
        ending.isReady = false
        ending.isServing = true
        ending.isTerminating = true
        mesh.services[0].ports[0].endpoints.append(ending)
        let second = SnapshotCompiler.compile(mesh, node: "n1", version: 2, after: first)
        #expect(second.follows(first))
        _ = try rows.apply(second)
        let moved = Self.listed(rows)
        #expect(
            moved == [
                "10.0.0.2:30080 [10.1.0.4:8080] 0", "10.0.0.3:30080 [10.1.0.3:8080] 0",
                "[fd00::2]:30080 [] 0",
            ])

        mesh.services[0].traffic.externalPolicy = .cluster
        _ = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 3))
        let none = Self.listed(rows)
        #expect(none.isEmpty, "the row of all nodes' addresses leads there")
        mesh.services = []
        _ = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 4))
        let counts = [rows.maps.services.count(), rows.maps.endpoints.count()]
        #expect(counts == [0, 0])
    }

    @Test func `a node port is found at other nodes though a host port of this one has its number`()
        throws
    {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.mesh(policy: .cluster, endpoints: [("10.1.0.1", "n1")])
        mesh.workloads = [Self.pod("n1")]
        let snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        let problems = try rows.apply(snapshot).problems
        #expect(problems.map(\.subject) == ["service t/s0"], "its own node's")
        let all = Self.listed(rows)
        #expect(
            all == [
                "10.0.0.2:30080 [10.1.0.1:8080] 0", "10.0.0.3:30080 [10.1.0.1:8080] 0",
            ])
    }

    @Test func `a host port of that node goes before, and is no problem`() throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.mesh(policy: .local, endpoints: [("10.1.0.2", "n2")])
        mesh.workloads = [Self.pod("n2")]
        let snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        let problems = try rows.apply(snapshot).problems
        #expect(problems.isEmpty, "\(problems)")
        let all = Self.listed(rows)
        #expect(
            all == [
                "10.0.0.2:30080 [10.1.0.9:443] 0", "10.0.0.3:30080 [] 0", "[fd00::2]:30080 [] 0",
            ])
    }

    @Test func `those that have no room in the map are named, and keep to their quarter`() throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load(["malla_service": 16]))
        var mesh = Self.mesh(policy: .local, endpoints: [("10.1.0.2", "n2")])
        mesh.nodes += (4...9).map {
            Node(name: "n\($0)", addresses: [IPAddress("10.0.0.\($0)")!])
        }
        let snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        let problems = try rows.apply(snapshot).problems
        #expect(problems.map(\.subject) == ["map malla_service"])
        #expect(problems.first?.message.contains("9 node ports") == true, "\(problems)")
        let count = Self.listed(rows).count
        #expect(count == 4)
    }

    /// With the host port 30080 in IPv4.
    private static func pod(_ node: String) -> Workload {
        Workload(
            name: ObjectName("t", "p"), serviceAccount: "default", node: node, labels: [:],
            addresses: [IPAddress("10.1.0.9")!], interface: nil, isMeshed: false,
            workloadName: "p", hostPorts: [HostPort(port: 30080, target: 443)])
    }
}
