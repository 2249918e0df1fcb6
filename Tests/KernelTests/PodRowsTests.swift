// KernelRows against the kernel's own maps: which rows a change writes. Every row is marked behind
// the loader's back; one that is written afterwards has lost its mark.

internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("Rows of pods, identities and policies", .enabled(if: isRoot, "needs root"))
struct PodRowsTests {
    @Test func `are few identities for many pods, and a change of one pod writes its own`() throws {
        let place = try BPFMount()
        let kernel = try Kernel(place.load())
        kernel.mesh = Self.mesh()
        _ = try kernel.apply()
        #expect(kernel.identities == 4, "app1 or not, team a or not")
        #expect(try kernel.apply() == [:], "the same objects, read again")

        for pod in [5, 30] {
            kernel.mesh.workloads[pod].labels["pod-template-hash"] = "other"
            #expect(try kernel.apply() == [:], "no policy selects that label")
        }
        // It is elsewhere, and as others are by now.
        kernel.mesh.workloads[30].labels["app"] = "app1"
        let other = try kernel.apply()
        #expect(other == ["identities": Self.blocks(30)])
        // It is here.
        kernel.mesh.workloads[5].labels["app"] = "app1"
        let own = try kernel.apply()
        #expect(own == ["identities": Self.blocks(5), "pods": Self.addresses(5)])
        kernel.mesh.workloads[4].exclusions = Exclusions(ports: [3306], blocks: [])
        let excluded = try kernel.apply()
        #expect(excluded["pods"] == Self.addresses(4))
        #expect(excluded["exclusions"]?.count == 1 && excluded.count == 2, "\(excluded)")
        #expect(kernel.identities == 4)
    }

    @Test func `a pod that comes, goes or is dialled elsewhere writes and removes its own`() throws
    {
        let place = try BPFMount()
        let kernel = try Kernel(place.load())
        kernel.mesh = Self.mesh()
        let all = kernel.mesh.workloads
        kernel.mesh.workloads = Array(all.dropLast())
        _ = try kernel.apply()
        let last = all.count - 1
        kernel.mesh.workloads = all
        let elsewhere = ["identities": Self.blocks(last), "peers": Self.addresses(last)]
        #expect(try kernel.apply() == elsewhere, "it comes")
        kernel.mesh.workloads.removeLast()
        #expect(try kernel.apply() == elsewhere, "it goes")

        let pod = kernel.mesh.workloads.remove(at: 5)
        let here = [
            "identities": Self.blocks(5), "pods": Self.addresses(5), "places": ["105"],
        ]
        #expect(try kernel.apply() == here, "one of this node goes")
        kernel.mesh.workloads.append(pod)
        #expect(try kernel.apply() == here, "it is back")
        // It has started again.
        kernel.mesh.workloads[kernel.mesh.workloads.count - 1].addresses = Self.pair(200)
        let both = [
            "identities": Self.blocks(5).union(Self.blocks(200)),
            "pods": Self.addresses(5).union(Self.addresses(200)), "places": ["105"],
        ]
        #expect(try kernel.apply() == both)
    }

    @Test func `a change of one policy writes its own rows, and no pod's`() throws {
        let place = try BPFMount()
        let kernel = try Kernel(place.load())
        kernel.mesh = Self.mesh()
        _ = try kernel.apply()
        let sets = kernel.sets
        try #require(sets.count == 2)
        kernel.mesh.policies[1].ingress?[0].ports = [PolicyPort(.tcp, .range(81...81))]
        let touched = try kernel.apply()
        let rows = try #require(touched["policies"])
        #expect(touched.count == 1, "\(touched)")
        let own = Set(rows.compactMap { $0.split(separator: " ").first })
        #expect(own.count == 1 && sets.count == 2 && kernel.sets == sets, "\(rows)")
    }

    // MARK: The mesh

    private static func pair(_ index: Int) -> [IPAddress] {
        [
            IPAddress(v4: 0x0a01_0000 + UInt32(index)),
            IPAddress(high: 0xfd10 << 48, low: UInt64(index)),
        ]
    }

    /// As keys are named below.
    private static func addresses(_ index: Int) -> Set<String> {
        Set(pair(index).map(\.description))
    }

    private static func blocks(_ index: Int) -> Set<String> {
        Set(pair(index).map { IPPrefix($0).description })
    }

    /// Sixty pods, the first twenty of this node; `x/one` and `y/two` each select some of both.
    private static func mesh() -> Mesh {
        var mesh = Mesh(
            nodes: [Node(name: "n1", addresses: [IPAddress("10.0.0.1")!, IPAddress("fd00::1")!])])
        mesh.namespaces = ["x": ["team": "a"], "y": ["team": "b"]]
        mesh.workloads = (0..<60).map { index in
            Workload(
                name: ObjectName(index % 2 == 0 ? "x" : "y", "p\(index)"), serviceAccount: "s",
                node: index < 20 ? "n1" : "n2",
                labels: ["app": "app\(index / 2 % 4)", "pod-template-hash": "h\(index)"],
                addresses: pair(index), interface: "v\(index)", isMeshed: true,
                workloadName: "p\(index)")
        }
        let peer = PolicyPeer.pods(
            PodSelection(.selected(LabelSelector(["team": "a"])), LabelSelector(["app": "app1"])))
        mesh.policies = [("x", "one"), ("y", "two")].map { space, name in
            NetworkPolicy(
                name: ObjectName(space, name),
                subject: PodSelection(.named(space), LabelSelector(["app": "app0"])),
                ingress: [PolicyRule(peers: [peer], ports: [PolicyPort(.tcp, .range(80...80))])],
                egress: [
                    PolicyRule(peers: [.network(IPPrefix("192.0.2.0/24")!, except: []), peer])
                ])
        }
        return mesh
    }
}

/// The rows of a mesh that changes.
private final class Kernel {
    var mesh = Mesh()
    private var rows: KernelRows
    private var snapshot: Snapshot?
    private var version: UInt64 = 0

    init(_ object: borrowing BPFObject) throws { rows = try KernelRows(object) }

    /// How many numbers the addresses of pods have.
    var identities: Int {
        let pods = UInt32(MALLA_IDENTITY_LABELS.rawValue)..<UInt32(MALLA_IDENTITY_LOCAL.rawValue)
        return Set(rows.policies.heldIdentities.values.map(\.identity).filter(pods.contains)).count
    }

    var sets: Set<UInt32> { Set(rows.policies.heldSets.keys) }

    /// Puts the mesh in force: which keys of which maps were written or removed.
    func apply() throws -> [String: Set<String>] {
        let marked = try look(marking: true)
        version += 1
        let next = SnapshotCompiler.compile(mesh, node: "n1", version: version, after: snapshot)
        snapshot = next
        let interfaces = Dictionary(
            uniqueKeysWithValues: (0..<60).map { ("v\($0)", UInt32(100 + $0)) })
        let desired = MapRows(
            next, interfaces: interfaces, after: rows.current, hasTunnels: true)
        let problems = try rows.apply(desired)
        try #require(problems.isEmpty, "\(problems)")
        let found = try look(marking: false)
        var touched: [String: Set<String>] = [:]
        for (map, keys) in found {
            let gone = marked[map]?.all.subtracting(keys.all) ?? []
            let both = gone.union(keys.all.subtracting(keys.marked))
            if !both.isEmpty { touched[map] = both }
        }
        return touched
    }

    private struct Keys {
        var all: Set<String> = []
        var marked: Set<String> = []
    }

    /// - Parameter marking: marks every row.
    private func look(marking: Bool) throws -> [String: Keys] {
        [
            "pods": try Self.look(
                rows.pods, malla_address(), malla_pod(), \.flags, marking
            ) { "\(IPAddress($0))" },
            "places": try Self.look(rows.places, 0, 0, \.self, marking) { "\($0)" },
            "exclusions": try Self.look(rows.exclusions, malla_exclude(), 0, \.self, marking) {
                "\($0)"
            },
            "identities": try Self.look(
                rows.policies.identities, malla_prefix(), malla_identity(), \.flags, marking
            ) { "\(IPPrefix($0))" },
            "policies": try Self.look(
                rows.policies.policies, malla_policy_key(), malla_policy(), \.rule, marking
            ) { "\($0.set_be) \($0)" },
            "sets": try Self.look(
                rows.policies.sets, 0, malla_set(), \.policies, marking
            ) { "\($0)" },
            "modes": try Self.look(rows.tunnels.modes, malla_mode_key(), 0, \.self, marking) {
                "\($0)"
            },
            "peers": try Self.look(rows.tunnels.peers, malla_address(), 0, \.self, marking) {
                "\(IPAddress($0))"
            },
        ]
    }

    private static func look<Key: BitwiseCopyable, Value: BitwiseCopyable>(
        _ map: borrowing BPFMap<Key, Value>, _ key: Key, _ row: Value,
        _ field: WritableKeyPath<Value, UInt32>, _ marking: Bool, _ name: (Key) -> String
    ) throws -> Keys {
        let mark: UInt32 = 1 << 31
        var found: [(key: Key, row: Value)] = []
        map.forEach(key: key, value: row) { found.append(($0, $1)) }
        var keys = Keys()
        for (key, var row) in found {
            keys.all.insert(name(key))
            if row[keyPath: field] & mark != 0 { keys.marked.insert(name(key)) }
            guard marking else { continue }
            row[keyPath: field] |= mark
            try map.set(key, to: row)
        }
        return keys
    }
}
