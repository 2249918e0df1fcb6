import Foundation
import TestSupport
import Testing

/// A Gateway on both nodes; `far` is on the second, clients are outside. Pods insist on mutual TLS.
@Suite("A Gateway reaches pods of other nodes by tunnels, as itself (docs/hbone.md)", .serialized)
struct GatewayTunnelTests {
    private static let marker = "plain-text-marker-5518"
    private static let id = "spiffe://cluster.local/ns/\(Testbed.space)/sa/"

    private static func modes(_ mode: String) -> String {
        """
        apiVersion: security.istio.io/v1
        kind: PeerAuthentication
        metadata: {name: all, namespace: \(Testbed.space)}
        spec: {mtls: {mode: \(mode)}}

        """
    }

    private static func gateway(_ annotations: String = "{}") -> String {
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: \(Testbed.space), annotations: \(annotations)}
        spec:
          gatewayClassName: malla
          listeners: [{name: http, protocol: HTTP, port: 80}]

        """
    }

    /// Only these may call `far`.
    private static func wall(_ peers: String...) -> String {
        """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: wall, namespace: \(Testbed.space)}
        spec:
          podSelector: {matchLabels: {app: far}}
          ingress: [{from: [\(peers.joined(separator: ", "))], ports: [{port: 8080}]}]

        """
    }

    private static func block(_ address: String) -> String {
        "{ipBlock: {cidr: \"\(address)/\(address.contains(":") ? 128 : 32)\"}}"
    }

    private struct Fixture {
        let bed: Testbed
        let agents: [TestProcess]
        var far: TestPod { bed["far"] }
        var logs: String { agents.map { String($0.text.suffix(2000)) }.joined(separator: "\n--\n") }

        init(policy: String = "", more: [TestService] = []) throws {
            bed = try Testbed("n1: client; n2: far, mate")
            _ = try bed["far"].serve(
                GatewayTunnelTests.marker,
                locations: "location /who { return 200 \"<$http_x_forwarded_client_cert>\"; }")
            let service = TestService("far", 1, "http", to: ["far"])
            try bed.describe([service] + more)
            try bed.configure("gateway.yaml", gateway())
            try bed.configure("modes.yaml", modes("STRICT"))
            try bed.configure("policy.yaml", policy)
            try bed.route(
                "edge", parent: "{name: edge}", rules: "- backendRefs: [{name: far, port: 80}]")
            let bed = bed
            agents = try ["n1", "n2"].map {
                try bed[node: $0].start(
                    "agent", bed[node: $0].agentArguments(more: ["--ca", "\(bed.directory)/ca"]))
            }
            for (name, agent) in zip(["n1", "n2"], agents) {
                try bed[node: name].waitUntilReady(agent)
                try eventually("certificates of \(name)") {
                    try bed[node: name].metric("malla_certificates_missing") == 0
                }
            }
        }

        /// From outside, by a node's Gateway.
        func ask(_ node: String, _ path: String = "/") throws -> Response {
            Curl.response(
                try bed.outside(OpenMesh.ask + ["http://\(bed[node: node].v4)\(path)"]))
        }

        func pairs(_ node: String) throws -> [Pair] {
            let text = try bed[node: node].malla("mtls", "-o", "json").output
            return try JSONDecoder().decode(Listing.self, from: Data(text.utf8)).items
                .filter { $0.target == "\(Testbed.space)/far" && $0.security == "mutual_tls" }
        }
    }

    private struct Listing: Decodable { var items: [Pair] }
    private struct Pair: Decodable {
        var source, target, security, sourcePrincipal, targetPrincipal, peer, cipher: String
        var flows: Int
    }

    @Test func `what it sends to a pod elsewhere is TLS, and the pod is told which Gateway`() throws
    {
        let mesh = try Fixture()
        defer { mesh.bed.close() }
        let (node, far) = (mesh.bed[node: "n1"], mesh.far)
        // Between the node and the pod; what the client outside says is plain anyway.
        let file = "\(mesh.bed.directory)/fabric.pcap"
        let capture = try node.start(
            "capture",
            [
                "tcpdump", "-i", "eth0", "--immediate-mode", "-U", "-s", "0", "-w", file,
                "host \(far.v4) or host \(far.v6)",
            ])
        try eventually("tcpdump listens") { capture.text.contains("listening") }
        let answer = try mesh.ask("n1", "/" + Self.marker)
        #expect(answer.status == 200, "\(answer)\n\(mesh.logs)")
        #expect(answer.body.contains(Self.marker))
        // The pod sees the client, and is told who has dialled.
        #expect(answer.headers["x-client"] == Topology.outsideV4, "\(answer)")
        #expect(try mesh.ask("n1", "/who").body == "<By=\(Self.id)far;URI=\(Self.id)edge-malla>")
        // On its own node nothing is on a wire: plain, and allowed.
        #expect(try mesh.ask("n2", "/who").body == "<>", "\(mesh.logs)")
        // The node itself is no Gateway.
        let own = try node.curl("http://\(far.v4):8080/" + Self.marker, seconds: 3)
        #expect(own.problem.hasPrefix("curl 7:"), "\(own)")

        capture.signal(SIGINT)
        #expect(capture.wait(seconds: 10) == 0)
        func seen(_ filter: String) throws -> String {
            try node.run(["tcpdump", "-nn", "-r", file, filter]).output
        }
        // The tunnel is the node's.
        #expect(try seen("tcp port 15008").contains("\(node.v4)."))
        let found = try Command.run(["grep", "-c", "-a", Self.marker, file])
        #expect(found.output == "0\n", "\(found)")
        #expect(try seen("tcp and not port 15008 and greater 100").isEmpty)

        // Both nodes name the Gateway, and what each has verified of the other.
        for (name, peer) in [("n1", "far"), ("n2", "edge-malla")] {
            let pairs = try mesh.pairs(name)
            #expect(pairs.map(\.source) == ["gateway \(Testbed.space)/edge"], "\(name)")
            #expect(pairs.first?.peer == Self.id + peer)
            #expect(pairs.first?.sourcePrincipal == Self.id + "edge-malla")
            #expect(pairs.first?.targetPrincipal == Self.id + "far")
            #expect(pairs.first?.cipher.hasPrefix("TLS_") == true)
        }
        // And so do Istio's metrics of both.
        for (name, reporter) in [("n1", "source"), ("n2", "destination")] {
            try eventually("\(name) has counted what the Gateway sent") {
                try mesh.bed[node: name].metrics().contains {
                    $0.hasPrefix("istio_requests_total{reporter=\"\(reporter)\"")
                        && $0.contains("source_principal=\"\(Self.id)edge-malla\"")
                        && $0.contains("destination_principal=\"\(Self.id)far\"")
                        && $0.contains("source_workload=\"edge-malla\"")
                }
            }
        }
        let certs = try node.malla("certs", "-o", "json", Self.id + "edge-malla").output
        #expect(certs.contains("\"\(Testbed.space)/edge\""), "\(certs)")
    }

    @Test func `modes apply to it, and without a certificate it sends nothing`() throws {
        let mesh = try Fixture()
        defer { mesh.bed.close() }
        #expect(try mesh.ask("n1").status == 200, "\(mesh.logs)")
        let streams = "malla_tunnel_streams_total{side=\"downstream\"}"
        let node = mesh.bed[node: "n2"]
        #expect(try node.metric(streams) == 1)

        try mesh.bed.configure("modes.yaml", Self.modes("DISABLE"))
        try eventually("it is plain") { try mesh.ask("n1", "/who").body == "<>" }
        try mesh.bed.configure("modes.yaml", Self.modes("PERMISSIVE"))
        try eventually("it is a tunnel again") {
            try mesh.ask("n1", "/who").body.hasSuffix("edge-malla>")
        }
        // Another account is another identity; one that nobody can have is none.
        try mesh.bed.configure(
            "gateway.yaml", Self.gateway("{gateway.istio.io/service-account: door}"))
        try eventually("the Gateway has another account") {
            try mesh.ask("n1", "/who").body.hasSuffix("/sa/door>")
        }
        try mesh.bed.configure(
            "gateway.yaml", Self.gateway("{gateway.istio.io/service-account: no/name}"))
        try eventually("it has no certificate") { try mesh.ask("n1").status == 503 }
        #expect(try mesh.ask("n2").status == 200, "its own node's pods are reached")
    }

    private static let ticks = """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: ticks, namespace: \(Testbed.space)}
        spec:
          gatewayClassName: malla
          listeners: [{name: tcp, protocol: TCP, port: 4500}]
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: TCPRoute
        metadata: {name: ticks, namespace: \(Testbed.space)}
        spec:
          parentRefs: [{name: ticks}]
          rules: [{backendRefs: [{name: ticks, port: 45000}]}]

        """

    /// In plain text at first, kept alive by HTTP and open by TCP.
    @Test func `a pod that begins to insist loses what a Gateway has open, which goes by tunnels`()
        throws
    {
        let mesh = try Fixture(more: [
            TestService("ticks", 2, "tcp", to: ["far"], port: 45_000, targetPort: 45_000)
        ])
        defer { mesh.bed.close() }
        let (node, far) = (mesh.bed[node: "n1"], mesh.far)
        let server = try far.start(
            "ticker", ["/usr/bin/python3", "-c", PythonPrograms.ticker, "45000"])
        try eventually("it listens") { server.text.contains("up") }
        try mesh.bed.configure("ticks.yaml", Self.ticks)
        try mesh.bed.configure("modes.yaml", Self.modes("DISABLE"))
        try eventually("it is plain\n\(mesh.logs)") {
            try mesh.ask("n1", "/who").body == "<>"
        }
        func listen(_ name: String) throws -> TestProcess {
            let stream = try mesh.bed["client"].start(
                name, ["/usr/bin/python3", "-c", PythonPrograms.listener, node.v4, "4500"])
            try eventually("\(name) is told\n\(stream.text)\n\(mesh.logs)") {
                stream.text.count > 30
            }
            return stream
        }
        let streams = "malla_tunnel_streams_total{side=\"upstream\"}"
        let kept = try listen("kept")
        let before = try node.metric(streams)
        func open() throws -> String {
            let line = ["ss", "-Htn", "state", "established"]
            let ports = "( dport = :8080 or dport = :45000 )"
            return try [far.v4, "[\(far.v6)]"].map { address in
                try node.run(line + ["dst", address, ports]).output
            }.joined()
        }
        #expect(try !open().isEmpty, "what is looked for below is there")

        try mesh.bed.configure("modes.yaml", Self.modes("STRICT"))
        try eventually("what was open in plain text ends\n\(mesh.logs)") {
            try open().isEmpty
        }
        _ = kept.wait(seconds: 20)
        #expect(kept.exitStatus != nil, "its client is told")
        try eventually("requests go by tunnels\n\(mesh.logs)") {
            try mesh.ask("n1", "/who").body.hasSuffix("edge-malla>")
        }
        let next = try listen("next")
        defer { next.stop() }
        #expect(try node.metric(streams) > before)
        #expect(try open().isEmpty)
    }

    @Test func `policies judge its client, whom the pod sees, and nobody has to allow the node`()
        throws
    {
        let blocks = [Topology.outsideV4, Topology.outsideV6].map(Self.block)
        let mesh = try Fixture(policy: Self.wall(blocks[0], blocks[1]))
        defer { mesh.bed.close() }
        let (near, server) = (mesh.bed[node: "n1"], mesh.bed[node: "n2"])
        func outside(_ host: String) throws -> Response {
            Curl.response(try mesh.bed.outside(OpenMesh.ask + ["http://\(host)/"]))
        }
        let hosts = [(near.v4, Topology.outsideV4), ("[\(near.v6)]", Topology.outsideV6)]
        for (host, client) in hosts {
            let answer = try outside(host)
            #expect(answer.status == 200, "\(host): \(answer)\n\(mesh.logs)")
            #expect(answer.headers["x-client"] == client, "\(host): \(answer)")
        }

        // Not allowed: a pod of each node, and the Gateway's own node.
        let (client, mate) = (mesh.bed["client"], mesh.bed["mate"])
        let refused = "malla_tunnel_refused_total{status=\"401\"}"
        let before = try server.metric(refused)
        for answer in [
            try client.curl("http://\(near.v4)/"), try mate.curl("http://\(near.v4)/"),
            try near.curl("http://\(near.v4)/"),
        ] {
            #expect(answer.status == 403, "\(answer)\n\(mesh.logs)")
            #expect(answer.body.contains("denied_by_policy"), "\(answer.body)")
        }
        // Each asks for both addresses of the pod.
        #expect(try server.metric(refused) == before + 6)
        let reason = "malla_requests_failed_total{reason=\"denied_by_policy\"}"
        #expect(try [near.metric(reason), server.metric(reason)] == [3, 6])
        // The kernel has judged whom it saw dial, and names the policy.
        let events = try server.malla("observe", "--verdict", "denied_ingress", "-o", "json").output
        #expect(events.contains("\(Testbed.space)/client") && events.contains("wall"), "\(events)")

        // Labels count for pods, and their own policies judge only what they have dialled.
        try mesh.bed.configure(
            "policy.yaml",
            Self.wall("{podSelector: {}}") + """
                ---
                apiVersion: networking.k8s.io/v1
                kind: NetworkPolicy
                metadata: {name: cage, namespace: \(Testbed.space)}
                spec:
                  podSelector: {matchLabels: {app: mate}}
                  policyTypes: [Egress]
                  egress: [{to: [\(Self.block(near.v4)), \(Self.block(server.v4))]}]

                """)
        try eventually("who is outside is not let in") { try outside(near.v4).status == 403 }
        // A pod of the pod's own node is dialled for by that node, as by its own Gateway.
        let own = try mate.curl("http://\(server.v4)/").headers["x-client"]
        for (pod, sees) in [(client, client.v4), (mate, own)] {
            let answer = try pod.curl("http://\(near.v4)/")
            #expect(answer.status == 200, "\(pod.name): \(answer)\n\(mesh.logs)")
            #expect(answer.headers["x-client"] == sees, "\(pod.name): \(answer)")
        }
    }

    /// A call from each address of its arguments, one after another.
    private static let callers = """
        import http.client, sys
        for source in sys.argv[2:]:
            c = http.client.HTTPConnection(sys.argv[1], 80, 5, (source, 0))
            c.request("GET", "/")
            answer = c.getresponse()
            answer.read()
            print(source, answer.status, answer.getheader("x-client"))
            c.close()
        """

    @Test
    func `each client has a stream of its own, and few are kept for clients that may not come`()
        throws
    {
        let mesh = try Fixture()
        defer { mesh.bed.close() }
        let sources = (100..<200).map { "10.76.0.\($0)" }
        let batch = "\(mesh.bed.directory)/addresses"
        try Command.shell(
            """
            for each in \(sources.joined(separator: " ")); do
              echo "addr add $each/32 dev br0"
            done > \(batch)
            ip -n malla-\(mesh.bed.name)-fabric -batch \(batch)
            """)
        let (near, far) = (mesh.bed[node: "n1"], mesh.bed[node: "n2"])
        let said = try mesh.bed.outside(
            ["/usr/bin/python3", "-c", Self.callers, near.v4] + sources)
        #expect(
            said.output.split(separator: "\n").map(String.init)
                == sources.map { "\($0) 200 \($0)" }, "\(said)\n\(mesh.logs)")
        #expect(try near.metric("malla_tunnel_streams_total{side=\"upstream\"}") == 100)
        // Of each worker 32, and one that was the last to be over.
        let most = 33 * (try near.metric("malla_workers"))
        #expect(most < 100)
        let idle = "malla_upstream_connections{state=\"idle\"}"
        for node in [near, far] {
            try eventually("no more wait at \(node.name)\n\(mesh.logs)") {
                try node.metric(idle) <= most
            }
        }
    }
}
