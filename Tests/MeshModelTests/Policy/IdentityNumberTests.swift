import MeshModel
import Testing

@Suite("Identities are as few as policies can tell apart")
struct IdentityNumberTests {
    /// Of four apps in three namespaces of two teams; each has a label that no other one has.
    private static let mesh: Mesh = {
        var mesh = Mesh()
        for (index, team) in ["a", "a", "b"].enumerated() {
            mesh.namespaces["ns\(index)"] = ["team": team, "number": "\(index)"]
        }
        mesh.workloads = (0..<600).map { index in
            Workload(
                name: ObjectName("ns\(index % 3)", "p\(index)"), serviceAccount: "s\(index)",
                node: "n\(index % 5)",
                labels: ["app": "app\(index / 3 % 4)", "pod-template-hash": "h\(index)"],
                addresses: [
                    IPAddress(v4: 0x0a4d_0000 + UInt32(index)),
                    IPAddress(high: 0xfd00_0077_0000_0000, low: UInt64(index)),
                ], interface: nil, isMeshed: true, workloadName: "p\(index)",
                ports: [NamedPort("http", .tcp, UInt16(8000 + index))])
        }
        return mesh
    }()

    private static func policy(_ name: String, _ peers: [PolicyPeer]) -> NetworkPolicy {
        NetworkPolicy(
            name: ObjectName("ns0", name), subject: PodSelection(.named("ns0")),
            ingress: [PolicyRule(peers: peers)], egress: [PolicyRule(peers: peers)])
    }

    /// Each pod's numbers, by IPv4 and by IPv6.
    private static func numbers(_ policies: [NetworkPolicy]) -> [[UInt32]] {
        var mesh = mesh
        mesh.policies = policies
        let policy = PolicyCompiler.compile(mesh, node: "n1")
        return mesh.workloads.map { $0.addresses.map { policy.identity(of: $0) } }
    }

    private static let ofApp = policy(
        "app",
        [
            .pods(
                PodSelection(
                    .selected(LabelSelector(["team": "a"])), LabelSelector(["app": "app1"])))
        ])

    @Test func `pods that differ only in labels that no policy selects share one, both families`()
        throws
    {
        #expect(Set(Self.numbers([]).joined()).count == 1)

        let numbers = Self.numbers([Self.ofApp])
        // app1 or not, team a or not.
        #expect(Set(numbers.joined()).count == 4)
        #expect(numbers.allSatisfy { $0[0] == $0[1] }, "one for both addresses")
        func number(_ index: Int) -> UInt32 { numbers[index][0] }
        #expect(number(3) == number(4) && number(3) == number(15), "app1 of team a")
        #expect(number(0) == number(1) && number(0) == number(6), "other apps of team a")
        #expect(Set([number(0), number(2), number(3), number(5)]).count == 4)
    }

    @Test func `a label value that a policy comes to name makes one more, and only of its pods`()
        throws
    {
        let before = Self.numbers([Self.ofApp])
        let one = Self.policy(
            "one",
            [.pods(PodSelection(.named("ns0"), LabelSelector(["pod-template-hash": "h3"])))])
        let after = Self.numbers([Self.ofApp, one])
        let alone = after[3]
        #expect(alone[0] == alone[1])
        #expect(after.count { $0 == alone } == 1)
        #expect(Set(after.joined()).count > Set(before.joined()).count)
        // ns0 is named by now: at most that, app1 and h3 are told apart.
        #expect(Set(after.joined()).count <= 8)
    }

    @Test func `a policy's block tells apart the addresses inside of it, of its own family`()
        throws
    {
        let narrow = try #require(IPPrefix("10.77.0.0/25"))
        let wide = try #require(IPPrefix("fd00:77::/120"))
        let numbers = Self.numbers([
            Self.ofApp,
            Self.policy("blocks", [.network(narrow, except: []), .network(wide, except: [])]),
        ])
        #expect(Set(numbers.map { $0[0] }).count == 8, "by IPv4")
        #expect(Set(numbers.map { $0[1] }).count == 8, "by IPv6")
        for (index, each) in numbers.enumerated() {
            // Outside of both blocks there is one number for both addresses.
            #expect((each[0] == each[1]) == (index >= 256), "\(index)")
        }
    }
}
