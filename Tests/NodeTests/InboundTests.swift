import Glibc
import TestSupport
import Testing

@Suite("A pod that needs the engine for what others dial (docs/configuration.md)", .serialized)
struct InboundTests {
    /// A client, and how it GETs.
    struct Client {
        let name: String
        let v4: String
        let v6: String
        let get: (String) throws -> Response
    }

    /// `near` needs the engine; `open` is a node port that leads to it.
    private static func mesh() throws -> SmallMesh.Running { try SmallMesh.running(capture) }

    static func capture(_ bed: Testbed) throws {
        try bed.annotate("near", "malla.io/inbound: l7")
        try bed.configure("open.yaml", OpenMesh.service("open", pods: ["near"], at: 90))
    }

    /// Two pods, both nodes, and somebody outside.
    static func clients(_ mesh: SmallMesh.Running) -> [Client] {
        func pod(_ name: String) -> Client {
            let pod = mesh.bed[name]
            return Client(name: name, v4: pod.v4, v6: pod.v6) { try pod.curl($0, seconds: 4) }
        }
        func node(_ name: String) -> Client {
            let node = mesh.bed[node: name]
            return Client(name: name, v4: node.v4, v6: node.v6) { try ask(node, $0) }
        }
        let outside = Client(
            name: "outside", v4: Topology.outsideV4, v6: Topology.outsideV6,
            get: { Curl.response(try mesh.bed.outside(OpenMesh.ask + [$0])) })
        return [pod("client"), pod("far"), node("n1"), node("n2"), outside]
    }

    /// From the node's own address; by itself it would choose that of the pod's veth.
    static func ask(_ node: TestNode, _ url: String, seconds: Int = 4) throws -> Response {
        try node.curl(
            "--interface", url.contains("[") ? node.v6 : node.v4, url, seconds: seconds)
    }

    @Test func `whoever dials it meets the engine, and it sees who that is`() throws {
        let mesh = try Self.mesh()
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let service = SmallMesh.kernelNear
        var urls: [(url: String, isIPv4: Bool)] = [
            ("http://\(near.v4):8080/", true), ("http://[\(near.v6)]:8080/", false),
        ]
        var asked = 0.0
        func ask(_ client: Client, _ url: String, _ isIPv4: Bool) throws {
            let answer = try client.get(url)
            asked += 1
            #expect(
                answer.status == 200, "\(client.name) to \(url): \(answer.problem)\n\(mesh.logs)")
            #expect(answer.headers["x-pod"] == "near", "\(client.name) to \(url)")
            #expect(
                answer.headers["x-client"] == (isIPv4 ? client.v4 : client.v6),
                "\(client.name) to \(url)")
        }

        let before = try mesh.node.metric("malla_requests_total")
        for client in Self.clients(mesh) {
            for (url, isIPv4) in urls { try ask(client, url, isIPv4) }
        }
        // By a service, which leads to it without the engine otherwise; and by the node's own port.
        urls = zip(service.urls, [true, false]).map { ($0, $1) }
        for client in Self.clients(mesh) where ["client", "far", "n1"].contains(client.name) {
            for (url, isIPv4) in urls { try ask(client, url, isIPv4) }
        }
        for (node, isIPv4) in [(mesh.node.v4, true), ("[\(mesh.node.v6)]", false)] {
            try ask(Self.clients(mesh)[4], "http://\(node):30169/", isIPv4)
        }
        #expect(
            try mesh.node.metric("malla_requests_total") == before + asked,
            "each met the engine once")
        #expect(try mesh.node.metric("malla_upstream_dial_failures_total") == 0)
    }

    @Test func `ports and clients that it excludes pass the engine, and nothing else does`() throws
    {
        let mesh = try Self.mesh()
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let urls = ["http://\(near.v4):8080/", "http://[\(near.v6)]:8080/"]
        func passes(_ client: Client, _ url: String) throws -> Bool {
            let before = try mesh.node.metric("malla_requests_total")
            let answer = try client.get(url)
            #expect(answer.status == 200, "\(client.name): \(answer.problem)\n\(mesh.logs)")
            return try mesh.node.metric("malla_requests_total") == before
        }
        let clients = Self.clients(mesh)
        let text = try Command.shell("cat \(mesh.bed.configuration)/bed.yaml")
        func exclude(_ annotation: String) throws {
            try mesh.bed.configure(
                "bed.yaml",
                text.replacing("malla.io/inbound: l7", with: "malla.io/inbound: l7, " + annotation))
        }
        for client in clients { #expect(try !passes(client, urls[0]), "\(client.name)") }

        let block = "\(Topology.outsideV4)/32,\(mesh.client.v4)/32"
        try exclude("malla.io/exclude-inbound-cidrs: \"\(block)\"")
        try eventually("the block is in force") { try passes(clients[0], urls[0]) }
        for client in clients {
            let isExcluded = client.name == "client" || client.name == "outside"
            #expect(try passes(client, urls[0]) == isExcluded, "\(client.name)")
            #expect(try !passes(client, urls[1]), "\(client.name)")
        }

        try exclude("traffic.sidecar.istio.io/excludeInboundPorts: \"443,8080\"")
        try eventually("the port is in force") { try passes(clients[1], urls[0]) }
        for client in clients {
            for url in urls { #expect(try passes(client, url), "\(client.name) to \(url)") }
        }
    }

    @Test func `who a request says it is from is taken out, whoever sends it, and counted`() throws
    {
        let bed = try Testbed("n1: client, near")
        defer { bed.close() }
        let (client, near, node) = (bed["client"], bed["near"], bed[node: "n1"])
        _ = try near.serve(
            locations: "location /who { return 200 \"<$http_x_forwarded_client_cert>\"; }")
        try bed.describe([SmallMesh.engineNear])
        try Self.capture(bed)
        let log = bed.directory + "/access.log"
        let agent = try node.startAgent(more: ["--access-log", log])
        let claim = "By=me;URI=spiffe://cluster.local/ns/\(Testbed.space)/sa/client"
        let forged = "x-forwarded-client-cert: \(claim)"
        // As the pod sees what nobody takes out.
        let own = try near.curl("-H", forged, "http://127.0.0.1:8080/who")
        #expect(own.body == "<\(claim)>", "\(own)")

        var asked = 0.0
        for host in [
            "\(near.v4):8080", "[\(near.v6)]:8080", "\(node.v4):30169", "[\(node.v6)]:30169",
        ] {
            let url = "http://\(host)/who"
            for answer in [
                Curl.response(try bed.outside(OpenMesh.ask + ["-H", forged, url])),
                try client.curl("-H", forged, url, seconds: 4),
            ] {
                asked += 1
                #expect(answer.status == 200, "\(url): \(answer)\n\(agent.text.suffix(2000))")
                #expect(answer.body == "<>", "\(url): \(answer)")
            }
        }
        try eventually("each is counted") {
            try node.metric("malla_requests_forged_client_cert_total") == asked
        }
        try eventually("the agent's log explains it \(agent.text.suffix(2000))") {
            agent.text.contains(" brought an x-forwarded-client-cert, which was taken out (")
        }
        for source in ["\(Topology.outsideV4):", "[\(Topology.outsideV6)]:"] {
            try eventually("the access log names \(source) \(Command.text(log))") {
                Command.text(log).split(separator: "\n").contains {
                    $0.contains("\"source\":\"\(source)")
                        && $0.contains("\"forged_client_cert\":true")
                }
            }
        }
    }

    @Test func `a client's port among the engine's own is no hindrance`() throws {
        let mesh = try Self.mesh()
        defer { mesh.close() }
        let url = "http://\(mesh.bed["near"].v4):8080/"
        for port in [61000, 63268, 63300, 65535] {
            let answer = Curl.response(
                try mesh.bed.outside(OpenMesh.ask + ["--local-port", "\(port)", url]))
            #expect(answer.status == 200, "from \(port): \(answer.problem)\n\(mesh.logs)")
        }
    }

    @Test func `its policies see the real client, and without an engine it is closed`() throws {
        let mesh = try Self.mesh()
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let urls = ["http://\(near.v4):8080/", "http://[\(near.v6)]:8080/"]
        try mesh.bed.configure(
            "policy.yaml",
            """
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata: {name: near, namespace: \(Testbed.space)}
            spec:
              podSelector: {matchLabels: {app: near}}
              policyTypes: [Ingress]
              ingress:
              - from: [{podSelector: {matchLabels: {app: client}}}]
                ports: [{protocol: TCP, port: 8080}]
            """)
        try eventually("the policy is in force") {
            try mesh.bed["far"].curl(urls[0], seconds: 1).status == 0
        }
        for url in urls {
            #expect(try mesh.client.curl(url, seconds: 4).status == 200, "\(url)\n\(mesh.logs)")
            #expect(try mesh.bed["far"].curl(url, seconds: 1).status == 0, "\(url)")
            // Probes.
            #expect(try Self.ask(mesh.node, url).status == 200, "\(url)\n\(mesh.logs)")
            #expect(try mesh.node.curl(url, seconds: 4).status == 200, "from the veth's address")
        }
        try mesh.bed.configure("policy.yaml", "")

        kill(mesh.agents[0].pid, SIGKILL)
        try eventually("nobody serves", within: 5) {
            try mesh.client.curl(urls[0], seconds: 2).problem.contains("curl 7")
        }
        for url in urls {
            try EngineAbsence.expectRefusal(mesh.client, url)
            let node = try Self.ask(mesh.node, url, seconds: 2)
            #expect(node.problem.contains("curl 7"), "the node: \(node)")
            let outside = Curl.response(try mesh.bed.outside(OpenMesh.ask + [url]))
            // The policy that was in force is all that the kernel knows now.
            #expect(outside.status == 0, "\(outside)")
        }
    }
}
