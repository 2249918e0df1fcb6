// What the policies of a large mesh cost from objects to the kernel, in seconds of one processor. A
// measurement, made while MALLA_BENCH is set; only its counts are tested.

internal import Glibc
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

private let isMeasuring = unsafe getenv("MALLA_BENCH") != nil

@Suite(
    "5 000 pods, 1 000 policies (MALLA_BENCH=1)",
    .enabled(if: isRoot && isMeasuring, "set MALLA_BENCH to measure"),
    .serialized)
struct PolicyScaleTests {
    @Test(arguments: [110, 250, 1000])
    func `compiled and loaded`(_ local: Int) throws {
        let mount = try BPFMount()
        let object = try mount.load([
            "malla_policy": 1_048_576, "malla_ipcache": 262_144, "malla_pod": 16384,
            "malla_share": 16384, "malla_quota": 16384,
        ])
        var rows = try KernelRows(object)
        let first = Self.mesh(local: local, version: 0)
        var snapshot = SnapshotCompiler.compile(Mesh(), node: "n1", version: 0)
        let compiling = Self.seconds {
            snapshot = SnapshotCompiler.compile(first, node: "n1", version: 1)
        }
        let loading = try Self.seconds { try Self.load(snapshot, &rows) }
        let count = rows.policies.rowCount
        let addresses = rows.policies.identityCount

        let second = Self.mesh(local: local, version: 1)
        var next = snapshot
        let compilingOne = Self.seconds {
            next = SnapshotCompiler.compile(second, node: "n1", version: 2, after: snapshot)
        }
        let loadingOne = try Self.seconds { try Self.load(next, &rows) }
        var same = next
        let compilingNone = Self.seconds {
            same = SnapshotCompiler.compile(
                Self.mesh(local: local, version: 1), node: "n1", version: 3, after: next)
        }
        print(
            """
            \(local) local pods: \(count) rows, \(addresses) addresses, \
            \(snapshot.policy.sets.count) sets
              full: compiled in \(compiling) s, loaded in \(loading) s
              one pod changed: compiled in \(compilingOne) s, loaded in \(loadingOne) s
              nothing changed (mesh built anew): \(compilingNone) s
            """)
        #expect(same.policy === next.policy)
        #expect(count > local)
    }

    /// Of this thread, so that what else the machine does counts less.
    private static func seconds(_ body: () throws -> Void) rethrows -> Double {
        func now() -> Double {
            var time = timespec()
            // The call fills one struct.
            _ = unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
            return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
        }
        let start = now()
        try body()
        return now() - start
    }

    private static func load(_ snapshot: Snapshot, _ rows: inout KernelRows) throws {
        let desired = MapRows(snapshot, interfaces: ["lo": 1], after: rows.current)
        let problems = try rows.apply(desired)
        try #require(problems.isEmpty, "\(problems)")
    }

    /// 50 namespaces of 100 pods and 20 policies each.
    static func mesh(local: Int, version: Int) -> Mesh {
        var mesh = Mesh(nodes: [Node(name: "n1", addresses: [IPAddress(v4: 0x0a00_0001)])])
        let spaces = 50
        for space in 0..<spaces { mesh.namespaces["ns\(space)"] = ["team": "t\(space % 10)"] }
        for index in 0..<5000 {
            let app = index == 4700 && version > 0 ? 0 : (index / spaces) % 20
            mesh.workloads.append(
                Workload(
                    name: ObjectName("ns\(index % spaces)", "p\(index)"), serviceAccount: "d",
                    node: index < local ? "n1" : "n\(index % 50 + 2)",
                    labels: ["app": "app\(app)", "pod-template-hash": "h\(index)"],
                    addresses: [
                        IPAddress(v4: 0x0a4d_0000 + UInt32(index)),
                        IPAddress(high: 0xfd00_0077_0000_0000, low: UInt64(index)),
                    ],
                    interface: "lo", isMeshed: true, workloadName: "w",
                    ports: [NamedPort("http", .tcp, 8080)]))
        }
        mesh.policies = (0..<1000).map { policy($0, spaces: spaces) }
        return mesh
    }

    private static func policy(_ index: Int, spaces: Int) -> NetworkPolicy {
        let space = "ns\(index % spaces)"
        let app = (index / spaces) % 20
        func pods(_ number: Int) -> LabelSelector { LabelSelector(["app": "app\(number % 20)"]) }
        let team = LabelSelector(["team": "t\(index % 10)"])
        let office = IPPrefix(IPAddress(v4: 0x0a00_0000 + UInt32(index % 200) << 16), length: 112)
        let metadata = IPPrefix(IPAddress(v4: 0xa9fe_a9fe))
        return NetworkPolicy(
            name: ObjectName(space, "np\(index)"), subject: PodSelection(.named(space), pods(app)),
            ingress: [
                PolicyRule(
                    peers: [
                        .pods(PodSelection(.named(space), pods(app + 1))),
                        .pods(PodSelection(.selected(team), pods(app + 3))),
                        .network(office, except: []),
                    ],
                    ports: [
                        PolicyPort(.tcp, .range(8000...8100)), PolicyPort(.tcp, .named("http")),
                    ])
            ],
            egress: [
                PolicyRule(
                    peers: [.network(.allIPv4, except: [metadata])],
                    ports: [PolicyPort(.tcp, .range(443...443))]),
                PolicyRule(
                    peers: [.pods(PodSelection(.selected(.everything), pods(5)))],
                    ports: [PolicyPort(.udp, .range(53...53))]),
            ])
    }
}
