import Foundation
import TestSupport
import Testing

/// `client` and `near` on one node, `far` on another; both agents share an authority.
@Suite("Between nodes only TLS is on the wire (docs/hbone.md)", .serialized)
struct MutualTLSTests {
    static let marker = "plain-text-marker-7041"
    private static let control = "plain-text-control-9355"
    static let id = "spiffe://cluster.local/ns/\(Testbed.space)/sa/"

    /// - Parameter isFromFiles: certificates are in a directory for each node, which `configure`
    ///   makes; else the agents share an authority.
    static func running(
        more: [String] = [], isFromFiles: Bool = false,
        _ configure: (Testbed) throws -> Void = { _ in }
    ) throws -> SmallMesh.Running {
        let bed = try Testbed("n1: client, near; n2: far")
        let near = try bed["near"].serve()
        let far = try bed["far"].serve(
            marker, locations: "location /who { return 200 \"$http_x_forwarded_client_cert\"; }")
        try bed.describe(SmallMesh.services)
        try configure(bed)
        let agents = try ["n1", "n2"].map { name in
            let source =
                isFromFiles
                ? ["--svids", CertificateFileTests.directory(bed, name)]
                : ["--ca", "\(bed.directory)/ca"]
            return try bed[node: name].start(
                "agent", bed[node: name].agentArguments(more: source + more))
        }
        for (name, agent) in zip(["n1", "n2"], agents) {
            try bed[node: name].waitUntilReady(agent)
        }
        return SmallMesh.Running(
            quiet: SmallMesh.Quiet(bed: bed, near: near, far: far), agents: agents)
    }

    /// Writes what is on the fabric into a file, from now on.
    static func captured(_ mesh: SmallMesh.Running) throws
        -> (capture: TestProcess, file: String)
    {
        let file = "\(mesh.bed.directory)/fabric.pcap"
        let capture = try mesh.node.start(
            "capture", ["tcpdump", "-i", "eth0", "--immediate-mode", "-U", "-s", "0", "-w", file])
        try eventually("tcpdump listens") { capture.text.contains("listening") }
        return (capture, file)
    }

    /// What goes in plain text is found: the node's own request, behind all that was sent before.
    static func expectControl(_ mesh: SmallMesh.Running, in file: String) throws {
        let own = "http://\(mesh.bed["far"].v4):8080/who"
        #expect(try mesh.node.curl(own, "-H", "x-marker: \(control)").status == 200)
        try eventually("the capture has all of it") {
            try Command.run(["grep", "-c", "-a", control, file]).output == "1\n"
        }
    }

    @Test func `a marker in requests and answers is not on the fabric`() throws {
        let mesh = try Self.running()
        defer { mesh.close() }
        let far = mesh.bed["far"]
        let (capture, file) = try Self.captured(mesh)

        // By an HTTP service, by one of TCP, and by the pod's own address; both families.
        let urls =
            SmallMesh.engineFar.urls + SmallMesh.kernelFar.urls
            + ["http://\(far.v4):8080", "http://[\(far.v6)]:8080"]
        for url in urls {
            let answer = try mesh.client.curl(
                "-H", "x-marker: \(Self.marker)", url + "/" + Self.marker)
            #expect(answer.status == 200, "\(url): \(answer)\n\(mesh.logs)")
            #expect(answer.body.contains(Self.marker))
            let source = url.contains("[") ? mesh.client.v6 : mesh.client.v4
            #expect(answer.headers["x-client"] == source, "\(url)")
        }
        try Self.expectControl(mesh, in: file)
        // Both nodes say who has proved what to whom.
        for node in [mesh.node, mesh.bed[node: "n2"]] {
            let pairs = try node.malla("mtls", "-o", "json").output
            #expect(pairs.contains("\"security\" : \"mutual_tls\""), "\(pairs)")
            #expect(pairs.contains("\"sourcePrincipal\" : \"\(Self.id)client\""), "\(pairs)")
            #expect(pairs.contains("\"targetPrincipal\" : \"\(Self.id)far\""), "\(pairs)")
            let plain = try node.malla("mtls", "--plain").output
            #expect(!plain.contains("bed/client"), "\(plain)")
        }
        capture.signal(SIGINT)
        #expect(capture.wait(seconds: 10) == 0)
        let seen = try mesh.node.run(["tcpdump", "-nn", "-r", file, "tcp", "port", "15008"])
        #expect(seen.output.contains("\(mesh.client.v4)."), "\(seen.output.prefix(2000))")
        #expect(seen.output.contains("\(far.v4).15008"))
        #expect(seen.output.contains("\(far.v6).15008"))
        let found = try Command.run(["grep", "-c", "-a", Self.marker, file])
        #expect(found.output == "0\n", "\(found)")
        // TLS only: nothing of the pod's goes to another port, or from one.
        let others = try mesh.node.run([
            "tcpdump", "-nn", "-r", file,
            "tcp and not port 15008 and (host \(mesh.client.v4) "
                + "or host \(mesh.client.v6))",
        ])
        #expect(others.output.isEmpty, "\(others.output.prefix(2000))")
    }

    @Test func `what a pod itself writes to the tunnels' port is refused, and not on the fabric`()
        throws
    {
        let mesh = try Self.running()
        defer { mesh.close() }
        let (far, server) = (mesh.bed["far"], mesh.bed[node: "n2"])
        let (_, file) = try Self.captured(mesh)
        for address in [far.v4, "[\(far.v6)]"] {
            let url = "http://\(address):15008/\(Self.marker)"
            let answer = try mesh.client.curl("-H", "x-marker: \(Self.marker)", url, seconds: 5)
            #expect(answer.status == 0, "\(url): \(answer)\n\(mesh.logs)")
        }
        // It came in a tunnel, and its CONNECT was refused.
        try eventually("each is counted\n\(mesh.logs)") {
            try server.metric("malla_tunnel_refused_total{status=\"403\"}") == 2
        }
        let plain = "malla_tls_handshakes_total{side=\"downstream\",result=\"plain_http\"}"
        #expect(try server.metric(plain) == 0)
        try Self.expectControl(mesh, in: file)
        #expect(try Command.run(["grep", "-c", "-a", Self.marker, file]).output == "0\n")
    }

    /// Writes the marker, waits for a file, writes it again on the same connection.
    private static let twice = """
        import os, socket, sys, time
        link = socket.create_connection((sys.argv[1], 8080), 5)
        ask = b"GET /MARK HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n".replace(b"MARK", sys.argv[2].encode())
        for place in "first", "second":
            link.sendall(ask)
            text = b""
            while text.count(sys.argv[2].encode()) < 1:
                got = link.recv(65536)
                if not got: sys.exit("the connection is over")
                text += got
            print(place, flush=True)
            end = time.monotonic() + 20
            while time.monotonic() < end and not os.path.exists(sys.argv[3]): time.sleep(0.02)
        """

    @Test func `a connection whose entries are gone goes on, and never in plain text`() throws {
        let mesh = try Self.running()
        defer { mesh.close() }
        let far = mesh.bed["far"]
        let (_, file) = try Self.captured(mesh)
        let go = mesh.bed.directory + "/go"
        let links = try [far.v4, far.v6].map {
            try mesh.client.start(
                "twice-\($0.count)", ["/usr/bin/python3", "-uc", Self.twice, $0, Self.marker, go])
        }
        try eventually("both speak") { links.allSatisfy { $0.text.contains("first") } }
        // A flood of its pod's may take an entry, on either node.
        for node in [mesh.node, mesh.bed[node: "n2"]] { try node.clear(map: "malla_flow") }
        try Command.shell("touch \(go)")
        for link in links {
            #expect(link.wait(seconds: 20) == 0, "\(link.text)\n\(mesh.logs)")
            #expect(link.text.contains("second"))
        }
        try Self.expectControl(mesh, in: file)
        #expect(try Command.run(["grep", "-c", "-a", Self.marker, file]).output == "0\n")
        let strays = "malla_datapath_verdicts_total{hook=\"from_pod\",reason=\"stray_to_engine\"}"
        #expect(try mesh.node.metric(strays) > 0)
    }

    @Test func `the server is told who calls, and who else says so is counted and named`() throws {
        let log = "/tmp/malla-forged-\(UUID().uuidString).log"
        defer { try? FileManager.default.removeItem(atPath: log) }
        let mesh = try Self.running(more: ["--access-log", log])
        defer { mesh.close() }
        let answer = try mesh.client.curl(
            "-H", "x-forwarded-client-cert: By=me;URI=spiffe://cluster.local/ns/a/sa/forged",
            SmallMesh.engineFar.urls[0] + "/who")
        #expect(answer.body == "By=\(Self.id)far;URI=\(Self.id)client", "\(answer)\n\(mesh.logs)")
        let node = mesh.bed[node: "n2"]
        #expect(try node.metric("malla_tunnels_opened_total{side=\"downstream\"}") == 1)
        #expect(try mesh.node.metric("malla_tunnels_opened_total{side=\"upstream\"}") == 1)
        // Counted where it was taken out: at the client's node.
        let forged = "malla_requests_forged_client_cert_total"
        #expect(try mesh.node.metric(forged) == 1)
        #expect(try node.metric(forged) == 0)
        try eventually("the access log names who it was") {
            try Command.shell("cat \(log)").split(separator: "\n").contains {
                $0.contains("\"source\":\"\(mesh.client.v4):")
                    && $0.contains("\"forged_client_cert\":true")
            }
        }
    }

    @Test func `a pod that insists on mutual TLS is reached by tunnels, and by nothing else`()
        throws
    {
        let mesh = try Self.running { bed in
            try bed.configure(
                "strict.yaml",
                """
                apiVersion: security.istio.io/v1
                kind: PeerAuthentication
                metadata: {name: strict, namespace: \(Testbed.space)}
                spec: {mtls: {mode: STRICT}}

                """)
        }
        defer { mesh.close() }
        let far = mesh.bed["far"]
        for url in [SmallMesh.engineFar.urls[0], SmallMesh.kernelFar.urls[0]] {
            let answer = try mesh.client.curl(url)
            #expect(answer.status == 200, "\(url): \(answer)\n\(mesh.logs)")
        }
        let plain = Curl.response(
            try mesh.bed.outside(OpenMesh.ask + ["http://\(far.v4):8080/"]))
        #expect(plain.problem.hasPrefix("curl 7:"), "\(plain)")
        // Somebody without a certificate at the tunnels' port.
        let bare = try mesh.bed.outside(
            [
                "curl", "-sSk", "-m", "4", "--http2", "https://\(far.v4):15008/",
            ])
        #expect(!bare.isSuccess)
        try eventually("it is counted by its reason") {
            try mesh.bed[node: "n2"].metric(
                "malla_tls_handshakes_total{side=\"downstream\",result=\"no_certificate\"}") == 1
        }
    }

    /// docs/identity.md, "Replacing the root", each step when the one before is in force.
    @Test func `certificates that live seconds, and a new root, cost no request at 5000 a second`()
        throws
    {
        let mesh = try Self.running(more: ["--cert-ttl", "20s"])
        defer { mesh.close() }
        let nodes = ["n1", "n2"].map { mesh.bed[node: $0] }
        let load = try mesh.client.start("load", Self.pace("5000", seconds: "30"))
        func all(_ what: String, _ holds: (String) -> Bool, _ words: String...) throws {
            try eventually(what, within: 25) {
                try nodes.allSatisfy { node in
                    let line = [Binaries.malla, "--socket", node.socket, "certs"] + words
                    return holds(try node.run(line).output)
                }
            }
        }
        func roots(_ text: String) -> Int {
            text.components(separatedBy: "cluster.local").count - 1
        }
        let ca = "cd \(mesh.bed.directory)\n"
        try Command.shell(
            ca
                + """
                openssl req -x509 -newkey ed25519 -nodes -keyout k -out c -subj /CN=next -days 9 \
                  -addext keyUsage=critical,keyCertSign
                chmod 600 k c
                cp ca/ca.crt old
                cat old c > ca/n && mv ca/n ca/ca.crt
                """)
        try all("both roots are believed", { $0.contains("next") }, "--authorities")
        try Command.shell(ca + "cat c old > ca/n && mv ca/n ca/ca.crt && mv k ca/ca.key")
        try all("the new root has signed all") { $0.contains("next") }
        try Command.shell(ca + "mv c ca/ca.crt")
        try all("the old root is gone", { roots($0) == 1 }, "--authorities")
        #expect(load.wait(seconds: 40) == 0, "\(load.text)\n\(mesh.logs)")
        #expect(load.text.contains(" failed=0 refused=0 "), "\(load.text)\n\(mesh.logs)")
        let requests = load.text.split(separator: " ").first?.dropFirst("requests=".count)
        #expect(requests.flatMap { Int($0) } ?? 0 > 100_000, "\(load.text)")
        for node in nodes {
            #expect(try node.metric("malla_certificates_issued_total") >= 3)
            #expect(try node.metric("malla_tunnels_opened_total") >= 3)
        }
    }

    @Test func `agents that are replaced at both ends cost no request`() throws {
        let mesh = try Self.running()
        defer { mesh.close() }
        let load = try mesh.client.start("load", Self.pace("2000", seconds: "60"))
        try eventually("the load flows") { try mesh.quiet.far.requests() > 500 }
        for (name, agent) in zip(["n1", "n2", "n1"], mesh.agents + mesh.agents.prefix(1)) {
            let before = try mesh.bed[node: name].serving()
            agent.signal(SIGUSR2)
            try eventually("the next child of \(name) serves\n\(mesh.logs)") {
                let now = try mesh.bed[node: name].serving()
                return now != before && now != 0
            }
            let answered = try mesh.quiet.far.requests()
            try eventually("the load goes on") { try mesh.quiet.far.requests() > answered + 500 }
        }
        load.signal(SIGINT)
        #expect(load.wait(seconds: 20) == 0, "\(load.text)\n\(mesh.logs)")
        #expect(load.text.contains(" failed=0 refused=0 "), "\(load.text)\n\(mesh.logs)")
    }

    @Test(arguments: ["client", "far"]) func `a pod that leaves the mesh keeps its connections`(
        _ leaving: String
    ) throws {
        let mesh = try Self.running()
        defer { mesh.close() }
        let far = mesh.bed["far"]
        let server = try far.start(
            "ticker", ["/usr/bin/python3", "-c", PythonPrograms.ticker, "45000"])
        try eventually("it listens") { server.text.contains("up") }
        let stream = try mesh.client.start(
            "stream", ["/usr/bin/python3", "-c", PythonPrograms.listener, far.v4, "45000"])
        func goesOn() throws {
            let before = stream.text.count
            try eventually("it goes on\n\(mesh.logs)") { stream.text.count > before + 60 }
        }
        try goesOn()
        let text = try Command.shell("cat \(mesh.bed.configuration)/bed.yaml")
        let plain = "labels: {app: \(leaving)}"
        #expect(text.contains(plain))
        try mesh.bed.configure(
            "bed.yaml",
            text.replacing(plain, with: "labels: {app: \(leaving), malla.io/mesh: disabled}"))
        let streams = "malla_tunnel_streams_total{side=\"downstream\"}"
        let server2 = mesh.bed[node: "n2"]
        try eventually("what begins now is plain\n\(mesh.logs)") {
            let before = try server2.metric(streams)
            let answer = try mesh.client.curl("http://\(far.v4):8080/")
            return try answer.status == 200 && server2.metric(streams) == before
        }
        try goesOn()
        let ended = "malla_tunnels_ended_total{side=\"\(leaving == "far" ? "down" : "up")stream\","
        let node = leaving == "far" ? server2 : mesh.node
        #expect(try node.metric(ended + "reason=\"not_allowed_any_more\"}") == 0)
        #expect(stream.exitStatus == nil, "\(mesh.logs)")
    }

    static func pace(_ rate: String, seconds: String) -> [String] {
        [
            Binaries.pace, rate, "16", seconds, SmallMesh.engineFar.v4, "80", "/",
        ]
    }

    /// Equal to what the kernel decides for the pair: policies name neither 15008 nor any address
    /// of the agents'.
    @Test func `policies are judged on client, pod and the pod's port, not on the tunnel`() throws {
        let mesh = try Self.running { bed in
            try bed.configure(
                "policy.yaml",
                """
                apiVersion: networking.k8s.io/v1
                kind: NetworkPolicy
                metadata: {name: wall, namespace: \(Testbed.space)}
                spec:
                  podSelector: {matchLabels: {app: far}}
                  ingress:
                  - from: [{podSelector: {matchLabels: {app: client}}}]
                    ports: [{port: 8080}]
                ---
                apiVersion: networking.k8s.io/v1
                kind: NetworkPolicy
                metadata: {name: cage, namespace: \(Testbed.space)}
                spec:
                  podSelector: {matchLabels: {app: client}}
                  policyTypes: [Egress]
                  egress:
                  - to: [{podSelector: {matchLabels: {app: far}}}]
                    ports: [{port: 8080}]

                """)
        }
        defer { mesh.close() }
        let urls = SmallMesh.engineFar.urls + SmallMesh.kernelFar.urls
        for url in urls {
            let answer = try mesh.client.curl(url)
            #expect(answer.status == 200, "\(url): \(answer)\n\(mesh.logs)")
            let other = try mesh.bed["near"].curl(url)
            #expect(other.status != 200, "\(url): \(other)\n\(mesh.logs)")
        }
        let far = mesh.bed[node: "n2"]
        #expect(try far.metric("malla_tunnel_refused_total{status=\"401\"}") >= 4)
        // To a port that the policy does not name: nothing of it reaches the other node.
        let streams = try far.metric("malla_tunnel_streams_total{side=\"downstream\"}")
        #expect(
            try mesh.client.curl("http://\(mesh.bed["far"].v4):8081/", seconds: 1).status != 200)
        #expect(try far.metric("malla_tunnel_streams_total{side=\"downstream\"}") == streams)
    }

    @Test func `policies of the server's node end what they deny within seconds, and only that`()
        throws
    {
        let mesh = try Self.running()
        defer { mesh.close() }
        let (far, near) = (mesh.bed["far"], mesh.bed["near"])
        let server = try far.start(
            "ticker", ["/usr/bin/python3", "-c", PythonPrograms.ticker, "45000"])
        try eventually("it listens") { server.text.contains("up") }
        let streams = try [mesh.client, near].map {
            try $0.start(
                "stream", ["/usr/bin/python3", "-c", PythonPrograms.listener, far.v4, "45000"])
        }
        let url = SmallMesh.engineFar.urls[0]
        for pod in [mesh.client, near] { #expect(try pod.curl(url).status == 200, "\(mesh.logs)") }
        func heard(_ stream: TestProcess) -> Int { stream.text.count }
        func goesOn(_ stream: TestProcess) throws {
            let before = heard(stream)
            try eventually("it goes on\n\(mesh.logs)") { heard(stream) > before + 60 }
        }
        for stream in streams { try goesOn(stream) }

        try mesh.bed.configure(
            "policy.yaml",
            """
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata: {name: wall, namespace: \(Testbed.space)}
            spec:
              podSelector: {matchLabels: {app: far}}
              ingress: [{from: [{podSelector: {matchLabels: {app: near}}}]}]

            """)
        try eventually("the client's stream ends\n\(mesh.logs)", within: 5) {
            streams[0].exitStatus != nil
        }
        // The kept connection of its pool is no way in, and no silence either. The engine ends what
        // is open a moment before the kernel judges what begins.
        try eventually("the client is denied\n\(mesh.logs)", within: 5) {
            let answer = try mesh.client.curl(url, seconds: 3)
            #expect(answer.status != 0, "\(answer)\n\(mesh.logs)")
            return [403, 503].contains(answer.status)
        }
        #expect(try near.curl(url).status == 200)
        try goesOn(streams[1])
        #expect(streams[1].exitStatus == nil)
    }
}
