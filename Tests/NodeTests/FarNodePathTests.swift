import Glibc
import TestSupport
import Testing

/// `client` and `near` on n1, `far` on n2 (10.76.0.2, fd00:76::2); both agents share an authority.
@Suite("Other nodes' node ports, for pods (docs/configuration.md, Services)", .serialized)
struct FarNodePathTests {
    private static let local = "externalTrafficPolicy: Local"

    /// Node port 30099 + index at the other node.
    private static func urls(_ index: Int) -> [String] {
        ["http://10.76.0.2:\(30079 + index)", "http://[fd00:76::2]:\(30079 + index)"]
    }

    /// 91 of TCP and 92 of HTTP with policy Local, for both pods; 93, the same with none on n2; 94
    /// with policy Cluster, and a host port of n1's has its number.
    private static func configure(_ bed: Testbed) throws {
        let far = { (name: String, index: Int, pod: String, more: String) in
            OpenMesh.service(name, pods: [pod], at: index, more: more)
        }
        try bed.configure("tcp.yaml", far("ports", 91, "far", Self.local))
        try bed.configure(
            "http.yaml",
            far("pages", 92, "far", Self.local).replacing("name: tcp", with: "name: http"))
        try bed.configure("none.yaml", far("none", 93, "near", Self.local))
        try bed.configure("shared.yaml", far("shared-port", 94, "far", ""))
        try HostPortTests.give("near", "[{containerPort: 8080, hostPort: 30173}]", in: bed)
    }

    @Test func `TCP to a node port at another node is on the fabric as TLS only`() throws {
        let mesh = try MutualTLSTests.running(Self.configure)
        defer { mesh.close() }
        let (far, marker) = (mesh.bed["far"], MutualTLSTests.marker)
        let (capture, file) = try MutualTLSTests.captured(mesh)
        for url in [91, 92, 94].flatMap(Self.urls) {
            let answer = try mesh.client.curl("-H", "x-marker: \(marker)", url + "/" + marker)
            #expect(answer.status == 200, "\(url): \(answer)\n\(mesh.logs)")
            #expect(answer.body.contains(marker))
            let source = url.contains("[") ? mesh.client.v6 : mesh.client.v4
            #expect(answer.headers["x-client"] == source, "\(url)")
            // A program that the hooks of sockets do not see is met at the pod's interface.
            let unseen = Curl.response(
                try Command.run(
                    ["nsenter", "--net=" + mesh.bed.namespace("client")] + OpenMesh.ask
                        + [url + "/" + marker]))
            #expect(unseen.headers["x-client"] == source, "\(url): \(unseen)\n\(mesh.logs)")
        }
        for url in Self.urls(93) {
            let none = try mesh.client.curl(url, seconds: 4)
            #expect(none.problem.hasPrefix("curl 7:"), "\(url): \(none)")
        }

        try MutualTLSTests.expectControl(mesh, in: file)
        capture.signal(SIGINT)
        #expect(capture.wait(seconds: 10) == 0)
        let found = try Command.run(["grep", "-c", "-a", marker, file])
        #expect(found.output == "0\n", "\(found)")
        let plain = try mesh.node.run([
            "tcpdump", "-nn", "-r", file,
            "tcp and not port 15008 and (host \(mesh.client.v4) or host \(mesh.client.v6))",
        ])
        #expect(plain.output.isEmpty, "\(plain.output.prefix(2000))")
        let tunnels = try mesh.node.run(["tcpdump", "-nn", "-r", file, "tcp", "port", "15008"])
        #expect(tunnels.output.contains("\(far.v4).15008"))
        #expect(tunnels.output.contains("\(far.v6).15008"))

        let trace = try mesh.node.malla(
            "policy", "trace", "--from", "bed/client", "--to", "10.76.0.2", "--port", "30170"
        ).output
        #expect(trace.contains(far.v4) && trace.contains("8080/TCP"), "\(trace)")
    }

    @Test func `a node port at another node leads to a pod that insists on mutual TLS`() throws {
        let mesh = try MutualTLSTests.running { bed in
            try Self.configure(bed)
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
        for url in [91, 92, 94].flatMap(Self.urls) {
            let answer = try mesh.client.curl(url + "/who")
            #expect(answer.status == 200, "\(url): \(answer)\n\(mesh.logs)")
        }
        for url in Self.urls(91) {
            let outside = Curl.response(try mesh.bed.outside(OpenMesh.ask + [url + "/who"]))
            #expect(outside.problem.hasPrefix("curl 7:"), "\(url): \(outside)")
        }
    }
}
