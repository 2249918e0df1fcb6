import Foundation
import TestSupport
import Testing

/// `client` and `mate` on one node, `far`, `next` and `third` on another, `other` on one more that runs no agent: what
/// it opens comes over the fabric as an attacker would send it.
@Suite("Who may open a tunnel, and what it may lead to (docs/hbone.md)", .serialized)
struct TunnelRefusalTests {
    private static func id(_ account: String) -> String {
        "spiffe://cluster.local/ns/\(Testbed.space)/sa/\(account)"
    }

    private struct Fixture {
        let bed: Testbed
        let authority: TestAuthority
        let agents: [TestProcess]
        var server: TestNode { bed[node: "n2"] }
        var far: TestPod { bed["far"] }
        var logs: String { agents.map { String($0.text.suffix(2000)) }.joined(separator: "\n--\n") }

        /// - Parameter bare: a pod that is not in the mesh.
        /// - Parameter logsAccess: as an operator may not.
        /// - Parameter knowsBlocks: the Nodes say where pods have their addresses from.
        init(
            bare: String = "none", logsAccess: Bool = true, knowsBlocks: Bool = false
        ) throws {
            bed = try Testbed("n1: client, mate; n2: far, next, third; n3: other")
            authority = try TestAuthority()
            _ = try bed["far"].serve()
            _ = try bed["next"].serve()
            try bed.describe([
                TestService("far", 1, "tcp", to: ["far"]),
                TestService("web", 2, "http", to: ["far"]),
            ])
            let objects = "\(bed.configuration)/bed.yaml"
            var text = try Command.shell("cat \(objects)")
            for number in 1...3 where knowsBlocks {
                let node = "metadata: {name: n\(number)}\n"
                text = text.replacing(
                    node,
                    with: node
                        + "spec: {podCIDRs: [10.77.\(number).0/24, \"fd00:77:\(number)::/64\"]}\n")
            }
            try bed.configure(
                "bed.yaml",
                text.replacing("{app: \(bare)}", with: "{app: \(bare), malla.io/mesh: disabled}"))
            let ca = "\(bed.directory)/ca"
            try authority.place(at: ca)
            let bed = bed
            agents = try ["n1", "n2"].map {
                try bed[node: $0].start(
                    "agent",
                    bed[node: $0].agentArguments(
                        more: ["--ca", ca]
                            + (logsAccess
                                ? ["--access-log", "\(bed.directory)/\($0)/access.log"] : [])))
            }
            for (name, agent) in zip(["n1", "n2"], agents) {
                try bed[node: name].waitUntilReady(agent)
            }
            let count = "malla_certificates_missing"
            for name in ["n1", "n2"] {
                try eventually("certificates of \(name)") {
                    try bed[node: name].metric(count) == 0
                }
            }
        }

        func close() {
            bed.close()
            authority.remove()
        }

        /// The command line of a peer that shares no code with the agent.
        func peer(
            _ files: (chain: String, key: String)?, _ words: [String], at address: String? = nil
        ) -> [String] {
            var line = [
                "/usr/bin/python3",
                Binaries.repository + "/Tests/L7EngineTests/Tunnel/hbone_peer.py",
                "client", "\(address ?? far.v4):15008", "--ca", authority.file,
            ]
            if let files { line += ["--cert", files.chain, "--key", files.key] }
            return line + words
        }

        /// The command line of one that is to be refused.
        func peer(_ row: Attempt, _ foreign: TestAuthority) throws -> [String] {
            let issuer = row.isForeign ? foreign : authority
            let files = try row.account.map {
                try authority.write(
                    try issuer.issue("URI:\(TunnelRefusalTests.id($0))", isExpired: row.isExpired),
                    UUID().uuidString)
            }
            return peer(files, ["--authority", "\(far.v4):8080"] + row.words)
        }

        /// The reasons of the server's access log, for those whom a pod was refused.
        func refused(by pod: TestPod) throws -> [String] {
            try Command.shell("cat \(bed.directory)/n2/access.log").split(separator: "\n")
                .filter {
                    $0.contains("\"source\":\"\(pod.v4):")
                        && $0.contains("\"destination\":\"\(far.v4):15008\"")
                }
                .compactMap { $0.components(separatedBy: "\"reason\":\"").dropFirst().first }
                .map { String($0.prefix { $0 != "\"" }) }
        }

        func handshakes(_ result: String) throws -> Double {
            try server.metric(
                "malla_tls_handshakes_total{side=\"downstream\",result=\"\(result)\"}")
        }

        func refusals(_ status: Int) throws -> Double {
            try server.metric("malla_tunnel_refused_total{status=\"\(status)\"}")
        }
    }

    private struct Attempt {
        var name: String
        var account: String? = "other"
        var isExpired = false
        var isForeign = false
        var words: [String] = []
        /// The label of `malla_tls_handshakes_total`.
        var result: String
    }

    private static let attempts = [
        Attempt(
            name: "another workload's certificate, stolen", account: "client",
            result: "name_mismatch"),
        Attempt(name: "an authority of its own", isForeign: true, result: "untrusted"),
        Attempt(name: "a certificate that has run out", isExpired: true, result: "expired"),
        Attempt(name: "no certificate", account: nil, result: "no_certificate"),
        Attempt(name: "TLS 1.2", words: ["--tls12"], result: "version"),
    ]

    @Test func `who is not who it should be is refused, and counted by reason`() throws {
        let mesh = try Fixture()
        defer { mesh.close() }
        let foreign = try TestAuthority("its-own")
        defer { foreign.remove() }
        let other = mesh.bed["other"]
        for row in Self.attempts {
            let before = try mesh.handshakes(row.result)
            let said = try other.run(mesh.peer(row, foreign))
            #expect(!said.output.contains("\"status\": 200"), "\(row.name): \(said)")
            try eventually("\(row.name): counted; \(said)\n\(mesh.logs)") {
                try mesh.handshakes(row.result) == before + 1
            }
        }
        #expect(try mesh.server.metric("malla_tunnel_streams_total{side=\"downstream\"}") == 0)
        // Who it was, and what for.
        try eventually("the access log says it of all") {
            let lines = try mesh.refused(by: other)
            return lines == Self.attempts.map(\.result)
        }

        // Who is who it says gets to the pod, and to nothing else of the node.
        let own = try mesh.authority.write(
            try mesh.authority.issue("URI:\(Self.id("other"))"), "own")
        let places = [
            ("\(mesh.far.v4):8080", 200), ("\(mesh.bed["next"].v4):8080", 403),
            ("\(mesh.server.v4):15020", 403), ("127.0.0.1:15020", 403), ("10.0.0.1:80", 403),
            ("\(mesh.far.v4):15008", 403),
        ]
        for (place, status) in places {
            let said = try other.run(mesh.peer(own, ["--authority", place]))
            #expect(said.output.contains("\"status\": \(status),"), "\(place): \(said)")
            #expect(said.output.contains("\"peer\": \"\(Self.id("far"))\""), "\(said)")
        }
        #expect(try mesh.refusals(403) == 5)
        try eventually("the access log says that, too") {
            try mesh.refused(by: other).filter { $0 == "connect_elsewhere" }.count == 5
        }
        // A pod whose node runs an agent cannot make a tunnel in the agent's tunnel.
        let inner = try mesh.bed["client"].run(
            mesh.peer(own, ["--authority", "\(mesh.far.v4):8080"]))
        #expect(!inner.output.contains("\"status\": 200"), "\(inner)")
        try eventually("its CONNECT names the tunnels' port") { try mesh.refusals(403) == 6 }
    }

    @Test func `a pod's certificate is of no use where the Nodes say that no pod is`() throws {
        let mesh = try Fixture(knowsBlocks: true)
        defer { mesh.close() }
        let (bed, far, node) = (mesh.bed, mesh.far, mesh.bed[node: "n3"])
        let places: [(String, ([String]) throws -> Outcome)] = [
            ("a node", { try node.run($0) }), ("the fabric", { try bed.outside($0) }),
        ]
        func files(_ account: String) throws -> (chain: String, key: String) {
            try mesh.authority.write(
                try mesh.authority.issue("URI:\(Self.id(account))"), account)
        }
        let (stolen, own) = (try files("client"), try files("machine"))
        for (place, run) in places {
            for (address, host) in [(far.v4, far.v4), (far.v6, "[\(far.v6)]")] {
                let words = ["--authority", "\(host):8080"]
                let before = try mesh.handshakes("name_mismatch")
                let said = try run(mesh.peer(stolen, words, at: address))
                #expect(!said.output.contains("\"status\": 200"), "\(place), \(host): \(said)")
                try eventually("\(place), \(host): counted; \(said)\n\(mesh.logs)") {
                    try mesh.handshakes("name_mismatch") == before + 1
                }
                // Who has a name of its own is no thief.
                let machine = try run(mesh.peer(own, words, at: address))
                #expect(
                    machine.output.contains("\"status\": 200,"), "\(place), \(host): \(machine)")
            }
        }
        try eventually("the log says it\n\(mesh.logs)") {
            mesh.agents[1].text.contains("whose certificate names \(Self.id("client")),")
        }
    }

    @Test func `the agent's log explains each refusal once, and no flood of them fills it`() throws
    {
        let mesh = try Fixture(logsAccess: false)
        defer { mesh.close() }
        let foreign = try TestAuthority("its-own")
        defer { foreign.remove() }
        let (other, far) = (mesh.bed["other"], mesh.far)
        func lines(_ reason: String) -> [Substring] {
            mesh.agents[1].text.split(separator: "\n").filter {
                $0.contains(" was refused (\(reason)): ")
            }
        }
        let whom = "pod \(Testbed.space)/far (\(far.v4))"
        for row in Self.attempts {
            let line = try mesh.peer(row, foreign)
            for _ in 0..<5 { _ = try other.run(line) }
            try eventually("\(row.name): it is in the log\n\(mesh.logs)") {
                !lines(row.result).isEmpty
            }
            let said = String(lines(row.result)[0])
            #expect(
                said.contains("from pod \(Testbed.space)/other (\(other.v4):")
                    && said.contains(whom), "\(row.name): \(said)")
            // Whom it claims to be, believed or not: what was shown in TLS 1.3.
            let claim = row.words.isEmpty ? row.account : nil
            let named = claim.map { "whose certificate names \(Self.id($0))," }
            #expect(
                named.map(said.contains) ?? !said.contains("whose certificate"),
                "\(row.name): \(said)")
        }
        let own = try mesh.authority.write(
            try mesh.authority.issue("URI:\(Self.id("other"))"), "own")
        for place in ["\(mesh.bed["next"].v4):8080", "\(mesh.server.v4):15020"] {
            let said = try other.run(mesh.peer(own, ["--authority", place]))
            #expect(said.output.contains("\"status\": 403,"), "\(place): \(said)")
        }
        try eventually("the log says for what it asked\n\(mesh.logs)") {
            lines("connect_elsewhere").contains { $0.contains("a tunnel for ") }
        }
        // Five of each were refused, and two CONNECTs.
        let reasons = Self.attempts.map(\.result) + ["connect_elsewhere"]
        for reason in reasons { #expect(lines(reason).count == 1, "\(lines(reason))") }
        #expect(try mesh.handshakes("name_mismatch") == 5)
    }

    /// Opens a connection from an address that is not the pod's; prints what became of it.
    private static let pretend = """
        import socket, sys
        s = socket.socket()
        s.settimeout(3)
        s.setsockopt(0, 15, 1)
        s.bind((sys.argv[1], 0))
        try: s.connect((sys.argv[2], 15008)); print("connected")
        except OSError as e: print("refused:", e)
        """

    @Test func `a pod that bears another's address gets no tunnel, whatever its certificate`()
        throws
    {
        let mesh = try Fixture()
        defer { mesh.close() }
        let (far, next, client) = (mesh.far, mesh.bed["next"], mesh.bed["client"])
        let files = try mesh.authority.write(
            try mesh.authority.issue("URI:\(Self.id("next"))"), "next")
        func verdicts(_ node: TestNode, _ hook: String, _ reason: String) throws -> Double {
            try node.metric(
                "malla_datapath_verdicts_total{hook=\"\(hook)\",reason=\"\(reason)\"}")
        }
        // On the server's node and on another: of a pod beside it, and of one elsewhere.
        let (third, mate) = (mesh.bed["third"], mesh.bed["mate"])
        for (pod, node, address, hook, reason) in [
            (next, mesh.server, third.v4, "from_pod", "spoofed"),
            (client, mesh.bed[node: "n1"], mate.v4, "from_pod", "spoofed"),
            (next, mesh.server, client.v4, "from_pod", "spoofed"),
        ] {
            let space = "malla-\(mesh.bed.name)-\(pod.name)"
            try Command.shell("ip -n \(space) addr add \(address)/32 dev lo")
            let before = try verdicts(node, hook, reason)
            let said = try pod.run(["/usr/bin/python3", "-c", Self.pretend, address, far.v4])
            #expect(said.output.contains("refused:"), "\(pod.name): \(said)")
            #expect(try verdicts(node, hook, reason) > before, "\(pod.name)\n\(mesh.logs)")
            let seen = try node.malla("observe", "--verdict", "spoofed").output
            #expect(seen.contains("spoofed") && seen.contains(far.name), "\(pod.name): \(seen)")
        }
        #expect(try mesh.server.metric("malla_tunnels_opened_total{side=\"downstream\"}") == 0)

        // From a node without an agent, with the routes bent so that answers come back to it.
        let other = mesh.bed["other"]
        let space = "malla-\(mesh.bed.name)"
        try Command.shell(
            """
            ip -n \(space)-other addr add \(client.v4)/32 dev lo
            ip -n \(space)-n3 route add \(client.v4)/32 via \(other.v4) dev lxc-other onlink
            ip -n \(space)-n2 route add \(client.v4)/32 via \(mesh.bed[node: "n3"].v4)
            """)
        let result = try mesh.handshakes("name_mismatch")
        let words = ["--authority", "\(far.v4):8080", "--source", client.v4]
        let said = try other.run(mesh.peer(files, words))
        #expect(said.output.contains("handshake"), "\(said)")
        #expect(!said.output.contains("\"status\": 200"), "\(said)")
        try eventually("it is counted; \(said)\n\(mesh.logs)") {
            try mesh.handshakes("name_mismatch") == result + 1
        }
        try eventually("the access log says who and why") {
            try mesh.refused(by: client).last == "name_mismatch"
        }
    }

    private static let wall = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: wall, namespace: \(Testbed.space)}
        spec:
          podSelector: {matchLabels: {app: far}}
          ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: \(Testbed.space)}
        spec:
          gatewayClassName: malla
          listeners: [{name: http, protocol: HTTP, port: 80}]

        """

    /// Who calls from where, as whom, for whom it says to, and what is answered.
    private struct Claim {
        var isPod = false
        var account: String
        var forwarded: String?
        var status: Int
    }

    @Test func `only a Gateway is believed for whom it asks, and no pod is one`() throws {
        let mesh = try Fixture()
        defer { mesh.close() }
        try mesh.bed.configure("wall.yaml", Self.wall)
        let (client, other, host) = (mesh.bed["client"], mesh.bed["other"], mesh.bed[node: "n3"])
        let claims = [
            Claim(account: "edge-malla", forwarded: "for=\(client.v4)", status: 200),
            Claim(account: "edge-malla", forwarded: "for=\(other.v4)", status: 401),
            Claim(account: "edge-malla", forwarded: nil, status: 401),
            Claim(account: "edge-malla", forwarded: "for=\(client.v4);by=\(other.v4)", status: 401),
            Claim(
                account: "edge-malla", forwarded: "for=\(other.v4), for=\(client.v4)", status: 401),
            Claim(account: "machine", forwarded: "for=\(client.v4)", status: 401),
            Claim(isPod: true, account: "other", forwarded: "for=\(client.v4)", status: 401),
        ]
        func ask(_ claim: Claim) throws -> Outcome {
            let files = try mesh.authority.write(
                try mesh.authority.issue("URI:\(Self.id(claim.account))"), UUID().uuidString)
            let words =
                ["--authority", "\(mesh.far.v4):8080"]
                + (claim.forwarded.map { ["--forwarded", $0] } ?? [])
            let line = mesh.peer(files, words)
            return try claim.isPod ? other.run(line) : host.run(line)
        }
        try eventually("the policy is in force\n\(mesh.logs)") {
            try ask(claims[1]).output.contains("\"status\": 401,")
        }
        for claim in claims {
            let said = try ask(claim)
            #expect(
                said.output.contains("\"status\": \(claim.status),"),
                "\(claim): \(said)\n\(mesh.logs)")
        }
        try eventually("the agent's log says whom policies refused\n\(mesh.logs)") {
            mesh.agents[1].text.contains(" was refused (denied_by_policy): ")
        }
        // Its certificate stolen by a pod is of no use.
        let stolen = try ask(Claim(isPod: true, account: "edge-malla", forwarded: nil, status: 0))
        #expect(!stolen.output.contains("\"status\": 200"), "\(stolen)")
        try eventually("refused in the handshake") { try mesh.handshakes("name_mismatch") == 1 }
    }

    @Test func `a port that disables mutual TLS is dialled plainly, and serves tunnels`() throws {
        let mesh = try Fixture()
        defer { mesh.close() }
        let (client, far) = (mesh.bed["client"], mesh.far)
        let server = try far.start(
            "ticker", ["/usr/bin/python3", "-c", PythonPrograms.ticker, "45000"])
        try eventually("it listens") { server.text.contains("up") }
        let stream = try client.start(
            "stream", ["/usr/bin/python3", "-c", PythonPrograms.listener, far.v4, "45000"])
        func goesOn() throws {
            let before = stream.text.count
            try eventually("it goes on\n\(mesh.logs)") { stream.text.count > before + 60 }
        }
        try goesOn()
        let streams = "malla_tunnel_streams_total{side=\"downstream\"}"
        #expect(try mesh.server.metric(streams) == 1)
        try mesh.bed.configure(
            "disable.yaml",
            """
            apiVersion: security.istio.io/v1
            kind: PeerAuthentication
            metadata: {name: plain, namespace: \(Testbed.space)}
            spec: {selector: {matchLabels: {app: far}}, mtls: {mode: DISABLE}}

            """)
        let urls = ["http://\(far.v4):8080/", "http://10.96.0.1/", "http://10.96.0.2/"]
        try eventually("what begins now is plain\n\(mesh.logs)") {
            let before = try mesh.server.metric(streams)
            let answers = try urls.map { try client.curl($0).status }
            return try answers.allSatisfy { $0 == 200 } && mesh.server.metric(streams) == before
        }
        try goesOn()
        let own = try mesh.authority.write(
            try mesh.authority.issue("URI:\(Self.id("other"))"), "own")
        let said = try mesh.bed["other"].run(mesh.peer(own, ["--authority", "\(far.v4):8080"]))
        #expect(said.output.contains("\"status\": 200,"), "\(said)\n\(mesh.logs)")
        try goesOn()
        #expect(stream.exitStatus == nil, "\(mesh.logs)")
    }

    @Test func `the tunnels' port is the agent's for pods of the mesh, and theirs for others`()
        throws
    {
        let mesh = try Fixture(bare: "next")
        defer { mesh.close() }
        let next = mesh.bed["next"]
        for pod in [mesh.far, next] {
            try pod.start(
                "own", ["/usr/bin/python3", "-m", "http.server", "15008", "--bind", "::"])
            try eventually("\(pod.name) listens") {
                try pod.run(["ss", "-Hltn", "sport = :15008"]).output.contains("15008")
            }
        }
        func ask(_ address: String) throws -> Response {
            Curl.response(try mesh.bed.outside(OpenMesh.ask + ["http://\(address):15008/"]))
        }
        for address in [next.v4, "[\(next.v6)]"] {
            #expect(try ask(address).status == 200, "\(address)\n\(mesh.logs)")
        }
        for address in [mesh.far.v4, "[\(mesh.far.v6)]"] {
            #expect(try ask(address).status != 200, "\(address)\n\(mesh.logs)")
        }
        #expect(try mesh.handshakes("plain_http") == 2)
        // By both families, and the server sees the client's own address.
        let own = try mesh.authority.write(
            try mesh.authority.issue("URI:\(Self.id("other"))"), "own")
        for (address, host) in [
            (mesh.far.v4, mesh.far.v4), (mesh.far.v6, "[\(mesh.far.v6)]"),
        ] {
            let said = try mesh.bed["other"].run(
                mesh.peer(own, ["--authority", "\(host):8080"], at: address))
            #expect(said.output.contains("\"status\": 200,"), "\(said)\n\(mesh.logs)")
            #expect(said.output.contains("\"peer\": \"\(Self.id("far"))\""), "\(said)")
        }
    }

    @Test func `a pod that excludes the tunnels' port opens tunnels of its own, as itself only`()
        throws
    {
        let mesh = try Fixture()
        defer { mesh.close() }
        let (client, far) = (mesh.bed["client"], mesh.far)
        let hosts = [(far.v4, far.v4), (far.v6, "[\(far.v6)]")]
        func ask(_ account: String, _ address: String, _ host: String) throws -> Outcome {
            let files = try mesh.authority.write(
                try mesh.authority.issue("URI:\(Self.id(account))"), UUID().uuidString)
            return try client.run(
                mesh.peer(files, ["--authority", "\(host):8080"], at: address))
        }
        for (address, host) in hosts {
            let said = try ask("client", address, host)
            #expect(!said.output.contains("\"status\": 200"), "in a tunnel: \(said)")
        }
        let text = try Command.shell("cat \(mesh.bed.configuration)/bed.yaml")
        let interface = "malla.io/interface: lxc-client"
        try #require(text.contains(interface))
        try mesh.bed.configure(
            "bed.yaml",
            text.replacing(
                interface, with: interface + ", malla.io/exclude-outbound-ports: \"15008\""))
        try eventually("it is in force\n\(mesh.logs)") {
            try hosts.allSatisfy {
                try ask("client", $0.0, $0.1).output.contains("\"status\": 200,")
            }
        }
        let opened = "malla_tunnels_opened_total{side=\"upstream\"}"
        let before = try mesh.bed[node: "n1"].metric(opened)
        for (address, host) in hosts {
            let said = try ask("client", address, host)
            #expect(said.output.contains("\"status\": 200,"), "\(host): \(said)\n\(mesh.logs)")
            #expect(said.output.contains("\"peer\": \"\(Self.id("far"))\""), "\(said)")
            let mismatches = try mesh.handshakes("name_mismatch")
            let stolen = try ask("mate", address, host)
            #expect(!stolen.output.contains("\"status\": 200"), "\(host): \(stolen)")
            try eventually("\(host): counted; \(stolen)\n\(mesh.logs)") {
                try mesh.handshakes("name_mismatch") == mismatches + 1
            }
        }
        #expect(try mesh.bed[node: "n1"].metric(opened) == before, "its node has opened none")
    }

    @Test func `a certificate that is revoked ends its tunnels within seconds, and no others`()
        throws
    {
        let mesh = try Fixture()
        defer { mesh.close() }
        let files = try mesh.authority.write(
            try mesh.authority.issue("URI:\(Self.id("other"))"), "own")
        let held = try mesh.bed["other"].start(
            "held", mesh.peer(files, ["--authority", "\(mesh.far.v4):8080", "--hold"]))
        try eventually("its tunnel is open") { held.text.contains("\"open\": true") }
        let load = try mesh.bed["client"].start(
            "load", ["wrk", "-t1", "-c4", "-d5s", "--timeout", "2s", "http://10.96.0.1/"])
        try eventually("another tunnel is in use") {
            try mesh.server.metric("malla_tunnels{side=\"downstream\"}") == 2
        }
        try Command.shell(
            """
            cd \(mesh.authority.directory.path)
            : > revoked.db; echo 01 > crlnumber
            cat > revoked.cnf <<END
            [ca]
            default_ca = own
            [own]
            database = revoked.db
            crlnumber = crlnumber
            default_md = sha256
            default_crl_days = 9
            END
            openssl ca -config revoked.cnf -cert ca.crt -keyfile ca.key -revoke \(files.chain)
            openssl ca -config revoked.cnf -cert ca.crt -keyfile ca.key -gencrl -out n
            mv n \(mesh.bed.directory)/ca/ca.crl
            """)
        try eventually("it is ended; \(held.text)\n\(mesh.logs)", within: 8) {
            try mesh.server.metric(
                "malla_tunnels_ended_total{side=\"downstream\",reason=\"not_allowed_any_more\"}")
                == 1
        }
        #expect(held.wait(seconds: 10) == 0)
        #expect(held.text.contains("\"handshake\": \"ok\""), "\(held.text)")
        #expect(load.wait(seconds: 20) == 0)
        #expect(Load(load.text).errors == 0, "\(load.text)\n\(mesh.logs)")
        // It gets no other.
        let again = try mesh.bed["other"].run(
            mesh.peer(files, ["--authority", "\(mesh.far.v4):8080"]))
        #expect(!again.output.contains("\"status\": 200"), "\(again)")
        #expect(try mesh.handshakes("revoked") == 1)
    }
}
