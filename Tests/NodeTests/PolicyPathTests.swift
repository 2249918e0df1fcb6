import Foundation
import TestSupport
import Testing

/// `near` lets in only pods labelled as friends, and nobody is one; `client` may not reach `far`.
@Suite("Policies mean the same for every path (docs/operations.md)", .serialized)
struct PolicyPathTests {
    private static let wall = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: wall, namespace: bed}
        spec:
          podSelector: {matchLabels: {app: near}}
          ingress: [{from: [{podSelector: {matchLabels: {app: FRIEND}}}]}]

        """
    private static let cage = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: cage, namespace: bed}
        spec:
          podSelector: {matchLabels: {app: client}}
          policyTypes: [Egress]
          egress: [{to: [{podSelector: {matchLabels: {app: near}}}]}]

        """

    private static func mesh(_ policy: String, more: [String] = []) throws -> SmallMesh.Running {
        let quiet = try SmallMesh.bed { bed in
            try bed.configure("policy.yaml", policy)
            try bed.configure("gateway.yaml", RouteTests.gateway)
            try bed.route(
                "front", parent: "{name: front}",
                rules: "- backendRefs: [{name: engine-near, port: 80}]")
            try bed.configure("mail.yaml", Self.mail)
        }
        do {
            let nodes = [quiet.bed[node: "n1"], quiet.bed[node: "n2"]]
            let agents = try nodes.map { try $0.start("agent", $0.agentArguments(more: more)) }
            for (node, agent) in zip(nodes, agents) { try node.waitUntilReady(agent) }
            return SmallMesh.Running(quiet: quiet, agents: agents)
        } catch {
            quiet.bed.close()
            throw error
        }
    }

    /// The same pod behind a Gateway's port for TCP.
    private static let mail = """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: mail, namespace: bed}
        spec:
          gatewayClassName: malla
          listeners: [{name: mail, protocol: TCP, port: 2525}]
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: TCPRoute
        metadata: {name: mail, namespace: bed}
        spec:
          parentRefs: [{name: mail}]
          rules: [{backendRefs: [{name: engine-near, port: 80}]}]

        """

    @Test(arguments: ["allow", "policy"])
    func `a Gateway is no way around a NetworkPolicy: its client is judged, not the node`(
        hostToPod: String
    ) throws {
        let mesh = try Self.mesh(Self.wall, more: ["--host-to-pod", hostToPod])
        defer { mesh.close() }
        let hosts = [mesh.node.v4, "[\(mesh.node.v6)]"]

        func pod(_ host: String) throws -> Response { try mesh.client.curl("http://\(host)/") }
        func outside(_ host: String) throws -> Response {
            Curl.response(try mesh.bed.outside(OpenMesh.ask + ["http://\(host)/"]))
        }
        for host in hosts {
            for answer in [try pod(host), try outside(host)] {
                #expect(answer.status == 403, "\(host): \(answer.problem)\n\(mesh.logs)")
                #expect(answer.body.contains("denied_by_policy"), "\(answer.body)")
            }
            let stream = try mesh.bed.outside(OpenMesh.ask + ["http://\(host):2525/"])
            #expect(Curl.response(stream).status == 0, "reset: \(stream)")
        }
        let failed = "malla_requests_failed_total{reason=\"denied_by_policy\"}"
        #expect(try mesh.node.metric(failed) == 6)

        // The pod that asks is let in by its label, who is outside is not.
        try mesh.bed.configure(
            "policy.yaml", Self.wall.replacing("app: FRIEND", with: "app: client"))
        try eventually("the pod is let in") { try pod(hosts[0]).status == 200 }
        for host in hosts {
            #expect(try pod(host).headers["x-pod"] == "near", "\(host)\n\(mesh.logs)")
            #expect(try outside(host).status == 403, "\(host)")
        }

        // What is open is cut when it is no longer allowed.
        let open = try mesh.client.start(
            "open", ["/usr/bin/python3", "-uc", Self.waiting, mesh.node.v6, "2525"])
        try eventually("the stream is open") { open.text.contains("open") }
        try mesh.bed.configure("policy.yaml", Self.wall)
        try eventually("the stream is cut") { open.exitStatus != nil }
        #expect(open.text.contains("reset"), "\(open.text)\n\(mesh.logs)")
    }

    /// Asks once, and says how the connection ends.
    private static let waiting = """
        import socket, sys
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
        s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        if s.recv(65536): print("open")
        s.settimeout(20)
        try: print("end" if s.recv(65536) == b"" else "more")
        except ConnectionResetError: print("reset")
        """

    @Test func `a captured service that the client's policies deny answers 403 at once`() throws {
        let mesh = try Self.mesh(Self.cage)
        defer { mesh.close() }
        for url in SmallMesh.engineFar.urls {
            let began = Date()
            let answer = try mesh.client.curl(url + "/")
            #expect(answer.status == 403, "\(url): \(answer.problem)\n\(mesh.logs)")
            #expect(answer.body.contains("denied_by_policy"), "\(answer.body)")
            #expect(Date().timeIntervalSince(began) < 1, "\(url)")
        }
        for url in SmallMesh.engineNear.urls {
            #expect(try mesh.client.curl(url + "/").status == 200, "\(url)\n\(mesh.logs)")
        }
        let told = try mesh.node.malla("observe", "--verdict", "denied", "-o", "json").output
        #expect(told.contains("NetworkPolicy bed/cage"), "\(told)")
    }

    @Test(arguments: ["allow", "policy"])
    func `a pod that nobody may reach reaches itself through its captured service`(
        hostToPod: String
    ) throws {
        let mesh = try Self.mesh(Self.wall, more: ["--host-to-pod", hostToPod])
        defer { mesh.close() }
        for url in SmallMesh.engineNear.urls {
            let answer = try mesh.bed["near"].curl(url + "/", seconds: 3)
            #expect(answer.headers["x-pod"] == "near", "\(url): \(answer.problem)\n\(mesh.logs)")
        }
        let node = try mesh.node.curl(
            "--interface", mesh.node.v6, "http://[\(mesh.bed["near"].v6)]:8080/", seconds: 1)
        #expect((node.status == 200) == (hostToPod == "allow"), "the node itself: \(node.problem)")
    }
}
