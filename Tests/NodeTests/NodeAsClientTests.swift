import TestSupport
import Testing

@Suite("The node as a client of its own pods (docs/operations.md, --host-to-pod)", .serialized)
struct NodeAsClientTests {
    private static let closed = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: closed, namespace: \(Testbed.space)}
        spec: {podSelector: {matchLabels: {app: near}}, policyTypes: [Ingress]}
        """

    @Test func `from whichever of its addresses it passes policies, and nobody else does`() throws {
        let mesh = try SmallMesh.running {
            try $0.configure("policy.yaml", Self.closed)
            // Of no Node object.
            try Command.shell("ip -n malla-\($0.name)-n1 addr add 192.0.2.77/32 dev lo")
        }
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let urls = ["http://\(near.v4):8080/", "http://[\(near.v6)]:8080/"]

        for url in urls {
            let answer = try mesh.node.curl(url, seconds: 4)
            #expect(answer.status == 200, "\(url): \(answer.problem)\n\(mesh.logs)")
            #expect(try mesh.client.curl(url, seconds: 1).status == 0, "a pod of the node")
            #expect(try mesh.bed[node: "n2"].curl(url, seconds: 1).status == 0, "another node")
        }
        // The route to the pod prefers the address of its veth.
        #expect(try mesh.node.curl(urls[0]).headers["x-client"] == "169.254.1.1")
        let known = try mesh.node.curl("--interface", "192.0.2.77", urls[0], seconds: 4)
        #expect(known.headers["x-client"] == "192.0.2.77", "\(known)")
        let listed = try mesh.node.malla("bpf", "ipcache").output
        #expect(listed.split(separator: "\n").contains { $0.contains("192.0.2.77") }, "\(listed)")

        try Command.shell("ip -n malla-\(mesh.bed.name)-n1 addr add 192.0.2.78/32 dev lo")
        try eventually("a new address is the node's") {
            try mesh.node.curl("--interface", "192.0.2.78", urls[0], seconds: 1).status == 200
        }
    }

    @Test func `where policies decide they decide about it as well`() throws {
        let quiet = try SmallMesh.bed { try $0.configure("policy.yaml", Self.closed) }
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        try node.startAgent(more: ["--host-to-pod", "policy"])
        let near = quiet.bed["near"]
        for url in ["http://\(near.v4):8080/", "http://[\(near.v6)]:8080/"] {
            #expect(try node.curl(url, seconds: 1).status == 0, "\(url)")
            #expect(
                try node.curl(
                    url.replacing(near.v4, with: quiet.bed["client"].v4)
                        .replacing(near.v6, with: quiet.bed["client"].v6), seconds: 1
                ).problem
                    .contains("curl 7"), "refused by the pod itself")
        }
    }
}
