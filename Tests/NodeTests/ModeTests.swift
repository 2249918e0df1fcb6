import Glibc
import TestSupport
import Testing

/// `client` and `near` on one node, `far` on another; `near` insists on mutual TLS.
@Suite("A pod that insists on mutual TLS (PeerAuthentication, docs/identity.md)", .serialized)
struct ModeTests {
    /// curl's exit status for a connection that is refused.
    private static let refused = "curl 7:"

    private static func strict(_ spec: String = "mtls: {mode: STRICT}") -> String {
        """
        apiVersion: security.istio.io/v1
        kind: PeerAuthentication
        metadata: {name: strict, namespace: \(Testbed.space)}
        spec:
          selector: {matchLabels: {app: near}}
          \(spec)

        """
    }

    private static func refusals(_ node: TestNode, _ hook: String) throws -> Double {
        try node.metric("malla_datapath_verdicts_total{hook=\"\(hook)\",reason=\"plain_refused\"}")
    }

    private static func mesh() throws -> SmallMesh.Running {
        try SmallMesh.running { bed in
            try bed.configure("strict.yaml", strict())
            try bed.configure("open.yaml", OpenMesh.service("open", pods: ["near"], at: 90))
        }
    }

    @Test func `plain text is reset at once, but from its own node; it is explained`() throws {
        let mesh = try Self.mesh()
        defer { mesh.close() }
        let (near, far) = (mesh.bed["near"], mesh.bed["far"])
        let urls = ["http://\(near.v4):8080/", "http://[\(near.v6)]:8080/"]
        for url in urls {
            let answers = [
                try far.curl(url, seconds: 3), try mesh.bed[node: "n2"].curl(url, seconds: 3),
                Curl.response(try mesh.bed.outside(OpenMesh.ask + [url])),
            ]
            for answer in answers {
                #expect(answer.problem.hasPrefix(Self.refused), "\(answer)\n\(mesh.logs)")
            }
            #expect(try mesh.client.curl(url).status == 200, "\(mesh.logs)")
            #expect(try mesh.node.curl(url).status == 200, "a probe\n\(mesh.logs)")
        }
        // By services too: balanced at the client, and at the node from outside.
        for url in SmallMesh.kernelNear.urls {
            #expect(try far.curl(url, seconds: 3).problem.hasPrefix(Self.refused), "\(url)")
            #expect(try mesh.client.curl(url).status == 200, "\(url)")
        }
        let outer = Curl.response(
            try mesh.bed.outside(OpenMesh.ask + ["http://\(mesh.node.v4):30169/"]))
        #expect(outer.problem.hasPrefix(Self.refused), "\(outer)")
        #expect(try Self.refusals(mesh.node, "uplink") >= 8)

        let seen = try mesh.node.malla("observe", "--verdict", "plain_refused", "--from", "bed/far")
        #expect(seen.output.contains("PeerAuthentication bed/strict"), "\(seen)")
        #expect(seen.output.contains("insists on mutual TLS"), "\(seen)")
        func trace(_ from: String) throws -> Outcome {
            try mesh.node.malla(
                "policy", "trace", "--from", from, "--to", "bed/near", "--port", "8080")
        }
        let denied = try trace("bed/far")
        #expect(denied.status == 1 && denied.output.contains("plain_refused"), "\(denied)")
        #expect(try trace("bed/client").isSuccess)
    }

    @Test func `pods outside of the mesh are refused on its own node too; ports differ`() throws {
        let mesh = try Self.mesh()
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let url = "http://\(near.v4):8080/"
        let file = "\(mesh.bed.configuration)/bed.yaml"
        let text = try Command.shell("cat \(file)")
        try mesh.bed.configure(
            "bed.yaml",
            text.replacing("{app: client}", with: "{app: client, malla.io/mesh: disabled}"))
        try eventually("the client is not in the mesh") {
            try mesh.client.curl(url, seconds: 2).problem.hasPrefix(Self.refused)
        }
        #expect(try Self.refusals(mesh.node, "from_pod") > 0)
        let service = SmallMesh.kernelNear.urls[0]
        #expect(try mesh.client.curl(service, seconds: 3).problem.hasPrefix(Self.refused))

        try mesh.bed.configure(
            "strict.yaml",
            Self.strict(
                "mtls: {mode: STRICT}\n  portLevelMtls: {8080: {mode: PERMISSIVE}}"))
        try eventually("the port takes plain text") {
            try mesh.client.curl(url, seconds: 2).status == 200
        }
        #expect(try mesh.bed["far"].curl(url).status == 200, "\(mesh.logs)")
    }

    /// `far` on a node that the Node object says has no agent, and which has none.
    static func agentless(
        _ configure: (Testbed) throws -> Void = { _ in }
    ) throws -> SmallMesh.Running {
        let quiet = try SmallMesh.bed { bed in
            let file = "\(bed.configuration)/bed.yaml"
            let text = try Command.shell("cat \(file)")
            let plain = "metadata: {name: n2}"
            #expect(text.contains(plain))
            let absent = "metadata: {name: n2, labels: {malla.io/agent: absent}}"
            try bed.configure("bed.yaml", text.replacing(plain, with: absent))
            try configure(bed)
        }
        let node = quiet.bed[node: "n1"]
        let agent = try node.start(
            "agent", node.agentArguments(more: ["--ca", "\(quiet.bed.directory)/ca"]))
        try node.waitUntilReady(agent)
        return SmallMesh.Running(quiet: quiet, agents: [agent])
    }

    private static func strictFar(_ spec: String) -> String {
        strict(spec).replacing("{app: near}", with: "{app: far}")
    }

    @Test func `a pod that insists on a node without an agent is not dialled in plain text`() throws
    {
        let mesh = try Self.agentless()
        defer { mesh.close() }
        let (far, client) = (mesh.bed["far"], mesh.client)
        let direct = ["http://\(far.v4):8080/", "http://[\(far.v6)]:8080/"]
        let urls = direct + SmallMesh.kernelFar.urls + SmallMesh.engineFar.urls
        func trace() throws -> Outcome {
            try mesh.node.malla(
                "policy", "trace", "--from", "bed/client", "--to", "bed/far", "--port", "8080")
        }
        for url in urls { #expect(try client.curl(url).status == 200, "\(url)\n\(mesh.logs)") }
        #expect(try trace().isSuccess)
        let kept = try client.start(
            "kept", ["wrk", "-t1", "-c1", "-d20s", "--timeout", "1s", direct[0]])
        try eventually("the load flows") { try mesh.quiet.far.requests() > 50 }

        try mesh.bed.configure("strict.yaml", Self.strictFar("mtls: {mode: STRICT}"))
        try eventually("plain text is refused") {
            try client.curl(direct[0], seconds: 3).problem.hasPrefix(Self.refused)
        }
        for url in direct + SmallMesh.kernelFar.urls {
            let answer = try client.curl(url, seconds: 3)
            #expect(answer.problem.hasPrefix(Self.refused), "\(url): \(answer)")
        }
        for url in SmallMesh.engineFar.urls {
            let answer = try client.curl(url, seconds: 3)
            #expect(answer.status == 503 && answer.body.contains("plain_refused"), "\(answer)")
        }
        #expect(try mesh.node.metric("malla_requests_failed_total{reason=\"plain_refused\"}") >= 2)
        #expect(try Self.refusals(mesh.node, "from_pod") >= 4)
        let denied = try trace()
        #expect(denied.status == 1 && denied.output.contains("plain_refused"), "\(denied)")
        let seen = try mesh.node.malla("observe", "--verdict", "plain_refused", "--to", "bed/far")
        #expect(seen.output.contains("PeerAuthentication bed/strict"), "\(seen)")
        // Where both of two serve, the other one does.
        for url in SmallMesh.shared.urls {
            let answer = try client.curl(url, seconds: 3)
            #expect(answer.status == 200 && answer.headers["x-pod"] == "near", "\(answer)")
        }
        try eventually("what was open is reset") {
            let open = try client.run(
                ["ss", "-Htn", "state", "established", "dst", far.v4, "dport", "=", ":8080"])
            return open.output.isEmpty
        }
        kept.stop()

        for spec in ["mtls: {mode: PERMISSIVE}", "mtls: {mode: DISABLE}"]
            + ["mtls: {mode: STRICT}\n  portLevelMtls: {8080: {mode: PERMISSIVE}}"]
        {
            try mesh.bed.configure("strict.yaml", Self.strictFar(spec))
            for url in urls {
                try eventually("\(spec): \(url) is served") {
                    try client.curl(url, seconds: 3).status == 200
                }
            }
            #expect(try trace().isSuccess)
        }
    }

    @Test func `what is open in plain text is reset when the mode changes, and only that`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let far = mesh.bed["far"]
        let url = "http://\(mesh.bed["near"].v4):8080/"
        let arguments = ["wrk", "-t1", "-c2", "-d5s", "--timeout", "1s", url]
        let kept = try mesh.client.start("kept", arguments)
        let own = try mesh.bed["near"].start(
            "own", Array(arguments.dropLast()) + ["http://\(far.v4):8080/"])
        let closed = try far.start("closed", arguments)
        try eventually("the loads flow") {
            try mesh.quiet.near.requests() > 50 && mesh.quiet.far.requests() > 50
        }
        try mesh.bed.configure("strict.yaml", Self.strict())
        try eventually("plain connections are reset") {
            try Self.refusals(mesh.node, "to_pod") + Self.refusals(mesh.node, "from_pod") > 0
        }
        try eventually("none is left") {
            let open = try far.run(
                ["ss", "-Htn", "state", "established", "dport", "=", ":8080"])
            return open.output.isEmpty
        }
        #expect(kept.wait(seconds: 20) == 0)
        #expect(Load(kept.text).errors == 0, "\(kept.text)")
        #expect(own.wait(seconds: 20) == 0)
        #expect(Load(own.text).errors == 0, "\(own.text)")
        _ = closed.wait(seconds: 20)
    }
}
