internal import CBPF
internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

/// A map that refuses for another reason than being full: it takes no more writes (BPF_MAP_FREEZE).
@Suite("An apply that breaks off", .enabled(if: isRoot, "needs root"))
struct BrokenApplyTests {
    private static func freeze(_ object: borrowing BPFObject, _ map: String) throws {
        let descriptor = try object.map(map)
        try #require(bpf_map_freeze(descriptor.number) == 0, "\(map)")
    }

    private static func mesh(isDenied: Bool, excludes: Bool) -> Mesh {
        var mesh = Mesh(workloads: [
            Workload(
                name: ObjectName("t", "a"), serviceAccount: "", node: "n1", labels: [:],
                addresses: [IPAddress("10.1.0.1")!], interface: "v1", isMeshed: true,
                workloadName: "a")
        ])
        mesh.policies = [
            NetworkPolicy(
                name: ObjectName("t", "one"),
                subject: PodSelection(.named("t"), LabelSelector.everything),
                ingress: isDenied ? [] : [PolicyRule(peers: [], ports: [])], egress: nil)
        ]
        if excludes { mesh.workloads[0].exclusions = Exclusions(ports: [3306], blocks: []) }
        return mesh
    }

    @Test func `leaves flows to be judged anew, at once and when the next one comes to its end`()
        throws
    {
        let place = try BPFMount()
        let object = try place.load()
        var rows = try KernelRows(object)
        var snapshot = SnapshotCompiler.compile(
            Self.mesh(isDenied: false, excludes: false), node: "n1", version: 1)
        func desired(_ previous: MapRows) -> MapRows {
            MapRows(snapshot, interfaces: ["v1": 7], after: previous)
        }
        _ = try rows.apply(desired(rows.current))
        let before = rows.changes
        try Self.freeze(object, "malla_exclude")

        snapshot = SnapshotCompiler.compile(
            Self.mesh(isDenied: true, excludes: true), node: "n1", version: 2, after: snapshot)
        #expect(throws: BPFError.self) { try rows.apply(desired(rows.current)) }
        let broken = rows.changes
        #expect(broken != before, "the policy is in force")

        snapshot = SnapshotCompiler.compile(
            Self.mesh(isDenied: true, excludes: false), node: "n1", version: 3, after: snapshot)
        let problems = try rows.apply(desired(rows.current))
        #expect(problems.isEmpty)
        let healed = rows.changes
        #expect(healed != broken)
        _ = try rows.apply(desired(rows.current))
        let last = rows.changes
        #expect(last == healed, "nothing is left to be told")
    }

    /// What the broken one found stale is wanted by the one that takes its place.
    @Test func `takes no row of a policy that is back`() throws {
        let place = try BPFMount()
        let object = try place.load()
        var rows = try KernelRows(object)
        let first = SnapshotCompiler.compile(
            Self.mesh(isDenied: false, excludes: false), node: "n1", version: 1)
        _ = try rows.apply(MapRows(first, interfaces: ["v1": 7], after: rows.current))
        let held = rows.policies.rowCount
        #expect(held > 0)
        try Self.freeze(object, "malla_exclude")

        let second = SnapshotCompiler.compile(
            Self.mesh(isDenied: true, excludes: true), node: "n1", version: 2, after: first)
        let wanted = MapRows(second, interfaces: ["v1": 7], after: rows.current)
        #expect(throws: BPFError.self) { try rows.apply(wanted) }
        for version in UInt64(3)...4 {
            let back = SnapshotCompiler.compile(
                Self.mesh(isDenied: false, excludes: false), node: "n1", version: version,
                after: second)
            _ = try rows.apply(MapRows(back, interfaces: ["v1": 7], after: rows.current))
            let has = rows.policies.rowCount
            #expect(has == held, "version \(version)")
        }
    }

    @Test func `forgets no endpoint that is gone`() throws {
        let place = try BPFMount()
        let object = try place.load()
        var rows = try ServiceRows(object)
        _ = try rows.apply(ServiceRowsTests.snapshot(services: 2, endpoints: 2))
        try Self.freeze(object, "malla_node")
        let next = ServiceRowsTests.snapshot(
            services: 2, endpoints: 2, replacing: "10.1.1.2", by: "10.9.9.9")
        var outside = next.mesh
        outside.services[0].ports[0].nodePort = 30080
        let refused = SnapshotCompiler.compile(outside, node: "n1", version: 2)
        #expect(throws: BPFError.self) { try rows.apply(refused) }
        let outcome = try rows.apply(
            SnapshotCompiler.compile(next.mesh, node: "n1", version: 3))
        #expect(outcome.gone.map(\.socket.description) == ["10.1.1.2:8080"])
        let last = try rows.apply(SnapshotCompiler.compile(next.mesh, node: "n1", version: 4))
        #expect(last.gone.isEmpty)
    }
}
