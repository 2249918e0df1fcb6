import TestSupport
import Testing

@Suite("A full map (ARCHITECTURE.md, docs/operations.md)", .serialized)
struct LimitTests {
    /// Two rows each, one a family, in either map: far more than the 64 of the test.
    static let extra = (0..<60).map { number in
        TestService("extra-\(number)", 20 + number, "tcp", to: ["near"])
    }

    @Test(arguments: ["malla_service", "malla_endpoint"])
    func `keeps what it holds at work, is named everywhere, and heals`(_ map: String) throws {
        let quiet = try SmallMesh.bed()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let agent = try node.startAgent(more: ["--map-entries", "\(map)=64"])
        try expectServed(quiet.bed, SmallMesh.services, agent)
        #expect(try node.metric("malla_map_refused_total") == 0)

        try quiet.bed.describe(SmallMesh.services + Self.extra)
        try eventually("malla status names \(map)") {
            try node.malla("status").output.contains("map \(map): full at 64 entries")
        }
        try expectServed(quiet.bed, SmallMesh.services, agent)
        let listed = try node.malla("services").output.split(separator: "\n")
        let short = listed.filter { $0.contains("not in force as a whole") }
        #expect(!short.isEmpty && short.allSatisfy { $0.contains("extra-") }, "\(listed)")
        let check = try node.malla("check").output
        #expect(check.contains("map \(map): full at 64 entries"), "\(check)")
        #expect(try node.metric("malla_map_refused_total{map=\"\(map)\"}") > 0)
        #expect(try node.metric("malla_map_entries{map=\"\(map)\"}") == 64)
        #expect(try node.metric("malla_map_entries_max{map=\"\(map)\"}") == 64)
        #expect(try node.metric("malla_datapath_problems") >= 1)
        let row =
            try node.malla("bpf", "stats").output.split(separator: "\n")
            .first { $0.contains(map) }.map { $0.split(separator: " ") } ?? []
        #expect(row.filter { $0 == "64" }.count == 2, "\(row)")
        #expect(row.last.flatMap { Int($0) } ?? 0 > 0, "\(row)")
        try eventually("the log names \(map)") { agent.text.contains("map \(map): full") }

        try quiet.bed.describe(SmallMesh.services + Self.extra.prefix(2))
        try eventually("the map has room again") {
            try !node.malla("status").output.contains("full at")
        }
        try expectServed(quiet.bed, SmallMesh.services + Self.extra.prefix(2), agent)
        #expect(try node.metric("malla_datapath_problems") == 0)
    }

    /// A trie says so by another number than a hash; all that came behind it was not in force.
    @Test(arguments: ["malla_ipcache", "malla_range"])
    func `a full trie keeps nothing else from coming into force`(_ map: String) throws {
        let quiet = try SmallMesh.bed()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let agent = try node.startAgent(more: ["--map-entries", "malla_ipcache=64"])
        let problem = "map \(map): full at"
        #expect(try !node.malla("status").output.contains(problem))

        try quiet.bed.configure(
            "full.yaml", map == "malla_range" ? Self.manyRanges : Self.manyBlocks)
        try eventually("malla status names \(map)") {
            try node.malla("status").output.contains(problem)
        }
        #expect(try node.metric("malla_map_refused_total{map=\"\(map)\"}") > 0)
        try quiet.bed.configure(
            "deny.yaml",
            """
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata: {name: deny, namespace: \(Testbed.space)}
            spec: {podSelector: {}, policyTypes: [Ingress]}
            """)
        let direct = "http://\(quiet.bed["near"].v4):8080/"
        try eventually("a policy that came behind is enforced") {
            try quiet.bed["client"].curl(direct, seconds: 1).status == 0
        }
        #expect(
            try node.malla("status").output.contains(problem), "told for as long as it does not fit"
        )

        for file in ["deny.yaml", "full.yaml"] { quiet.bed.unconfigure(file) }
        try eventually("the map has room again") {
            try !node.malla("status").output.contains(problem)
        }
        try expectServed(quiet.bed, SmallMesh.services, agent)
        #expect(try node.metric("malla_datapath_problems") == 0)
    }

    /// More rows than 64 in `malla_ipcache`.
    private static var manyBlocks: String {
        let blocks = (0..<80).map { "{ipBlock: {cidr: 198.51.\($0).0/24}}" }
        return """
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata: {name: blocks, namespace: \(Testbed.space)}
            spec:
              podSelector: {matchLabels: {app: client}}
              ingress: [{from: [\(blocks.joined(separator: ", "))]}]
            """
    }

    /// More than the 16 384 of `malla_range`.
    private static var manyRanges: String {
        let services = (1...18).map { number in
            let ranges = (0..<1000).map { "10.\(100 + number).\($0 / 250).\($0 % 250)/32" }
            return """
                apiVersion: v1
                kind: Service
                metadata: {name: lb-\(number), namespace: \(Testbed.space)}
                spec:
                  type: LoadBalancer
                  clusterIP: 10.96.1.\(number)
                  clusterIPs: [10.96.1.\(number)]
                  selector: {app: near}
                  loadBalancerSourceRanges: [\(ranges.joined(separator: ", "))]
                  ports: [{name: tcp, port: 80, targetPort: 8080}]
                status: {loadBalancer: {ingress: [{ip: 10.99.1.\(number)}]}}
                ---
                apiVersion: discovery.k8s.io/v1
                kind: EndpointSlice
                metadata:
                  name: lb-\(number)-1
                  namespace: \(Testbed.space)
                  labels: {kubernetes.io/service-name: lb-\(number)}
                addressType: IPv4
                endpoints: [{addresses: [10.77.1.11], nodeName: n1, conditions: {ready: true}}]
                ports: [{name: tcp, port: 8080, protocol: TCP}]
                """
        }
        return services.joined(separator: "\n---\n")
    }

    /// Two pods of two addresses each: one pod has no row.
    @Test func `a pod without a row is not called attached`() throws {
        let quiet = try SmallMesh.bed()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let agent = try node.startAgent(more: [
            "--map-entries", "malla_pod=2", "--hold-new-pods", "off",
        ])

        let listed = try node.malla("endpoints", "--local").output.split(separator: "\n")
            .dropFirst()
        #expect(listed.count { $0.contains("attached") } < listed.count, "\(listed)")
        #expect(
            listed.contains { $0.contains("not in the map malla_pod: its packets are dropped") },
            "\(listed)\n\(agent.text)")
        #expect(try node.malla("check").output.contains("map malla_pod: full at 2 entries"))
        // Nobody lies about his address: what is missing is said.
        for pod in ["client", "near"] {
            for address in [quiet.bed["far"].v4, "[\(quiet.bed["far"].v6)]"] {
                _ = try quiet.bed[pod].curl("http://\(address):8080/", seconds: 1)
            }
        }
        let verdicts = "malla_datapath_verdicts_total"
        #expect(try node.metric("\(verdicts){hook=\"from_pod\",reason=\"not_ready\"}") > 0)
        #expect(try node.metric("\(verdicts){hook=\"from_pod\",reason=\"spoofed\"}") == 0)
    }

    /// One of the two addresses of `far` has no row.
    @Test func `a pod that malla_peer has no room for is not reached in plain text`() throws {
        let mesh = try MutualTLSTests.running(more: ["--map-entries", "malla_peer=1"])
        defer { mesh.close() }
        let problem = "map malla_peer: full at 1 entries"
        #expect(try mesh.node.malla("status").output.contains(problem), "\(mesh.logs)")
        #expect(try mesh.node.metric("malla_map_refused_total{map=\"malla_peer\"}") > 0)
        #expect(try mesh.node.metric("malla_map_entries{map=\"malla_unlisted\"}") == 1)

        let far = mesh.bed["far"]
        let (_, file) = try MutualTLSTests.captured(mesh)
        for url in ["http://\(far.v4):8080/", "http://[\(far.v6)]:8080/"] {
            let answer = try mesh.client.curl(url + MutualTLSTests.marker)
            #expect(answer.status == 200, "\(url): \(answer)\n\(mesh.logs)")
        }
        for url in SmallMesh.kernelFar.urls + SmallMesh.engineFar.urls {
            let answer = try mesh.client.curl(url + "/" + MutualTLSTests.marker)
            #expect(answer.status == 200, "\(url): \(answer)\n\(mesh.logs)")
        }
        try MutualTLSTests.expectControl(mesh, in: file)
        let found = try Command.run(["grep", "-c", "-a", MutualTLSTests.marker, file])
        #expect(found.output == "0\n", "\(found)")
    }

    private func expectServed(
        _ bed: Testbed, _ services: [TestService], _ agent: TestProcess
    ) throws {
        for service in services where service.portName != "udp" {
            for url in service.urls {
                let answer = try bed["client"].curl(url + "/")
                #expect(answer.status == 200, "\(service.name): \(answer.problem)\n\(agent.text)")
            }
        }
    }
}
