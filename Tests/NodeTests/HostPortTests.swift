import Foundation
import TestSupport
import Testing

@Suite("Host ports and the addresses that they are served at (docs/configuration.md)", .serialized)
struct HostPortTests {
    @Test func `takes over no address that is not the node's, nor a pod's own loopback`() throws {
        let ports = """
            [{containerPort: 8080, hostPort: 8443, hostIP: 10.76.0.1}, \
            {containerPort: 8080, hostPort: 8443, hostIP: "fd00:76::1"}, \
            {containerPort: 8080, hostPort: 8444, hostIP: 127.0.0.1}, \
            {containerPort: 8080, hostPort: 8444, hostIP: "::1"}, \
            {containerPort: 8080, hostPort: 8445, hostIP: 10.76.0.2}, \
            {containerPort: 8080, hostPort: 8445, hostIP: 192.0.2.53}]
            """
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"])) { bed in
            try Self.give("near", ports, in: bed)
        }
        defer { mesh.close() }

        // One port at two addresses: at both.
        for host in ["10.76.0.1", "[fd00:76::1]"] {
            let answer = Curl.response(
                try mesh.bed.outside(OpenMesh.ask + ["http://\(host):8443/"]))
            #expect(answer.headers["x-pod"] == "near", "\(host): \(answer.problem)")
        }
        for host in ["127.0.0.1", "[::1]"] {
            let url = "http://\(host):8444/"
            let node = Curl.response(try mesh.node.run(OpenMesh.ask + [url]))
            #expect(node.headers["x-pod"] == "near", "\(url): \(node.problem)\n\(mesh.counters)")
            let pod = try mesh.bed["client"].run(OpenMesh.ask + [url])
            #expect(pod.status == OpenMesh.refused, "\(url): \(pod)")
        }
        let other = try mesh.bed["client"].run(OpenMesh.ask + ["http://10.76.0.2:8445/"])
        #expect(other.status == OpenMesh.refused, "\(other)")
        let status = try mesh.node.malla("status").output
        #expect(status.contains("hostIP 192.0.2.53 is no address of this node"), "\(status)")
        #expect(status.contains("hostIP 10.76.0.2 is no address of this node"), "\(status)")
    }

    /// Has a pod's container these ports instead of its own.
    static func give(_ pod: String, _ ports: String, in bed: Testbed) throws {
        let file = "\(bed.configuration)/bed.yaml"
        let objects = try String(contentsOfFile: file, encoding: .utf8)
            .components(separatedBy: "\n---\n").map {
                $0.contains("name: \(pod)\n")
                    ? $0.replacing("[{containerPort: 8080}]", with: ports) : $0
            }
        try bed.configure("bed.yaml", objects.joined(separator: "\n---\n"))
    }

    @Test func `TCP to a host port at another node is on the fabric as TLS only`() throws {
        let mesh = try MutualTLSTests.running { bed in
            try Self.give(
                "far",
                """
                [{containerPort: 8080, hostPort: 8443}, \
                {containerPort: 8080, hostPort: 8444, hostIP: 10.76.0.2}, \
                {containerPort: 5353, hostPort: 5300, protocol: UDP}]
                """, in: bed)
            try bed["far"].start("udp", ["/usr/bin/python3", "-c", ServiceTests.datagramServer])
        }
        defer { mesh.close() }
        let (far, marker) = (mesh.bed["far"], MutualTLSTests.marker)
        let (capture, file) = try MutualTLSTests.captured(mesh)
        let urls = [
            "http://10.76.0.2:8443", "http://[fd00:76::2]:8443", "http://10.76.0.2:8444",
        ]
        for url in urls {
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
        let other = try mesh.client.curl("http://[fd00:76::2]:8444/", seconds: 4)
        #expect(other.problem.hasPrefix("curl 7:"), "\(other)")
        try Self.expectDatagrams(mesh)

        try MutualTLSTests.expectControl(mesh, in: file)
        capture.signal(SIGINT)
        #expect(capture.wait(seconds: 10) == 0)
        let found = try Command.run(["grep", "-c", "-a", marker, file])
        #expect(found.output == "0\n", "\(found)")
        let plain = try mesh.node.run([
            "tcpdump", "-nn", "-r", file,
            "tcp and not port 15008 and not (ip6 and port 8444) and (host \(mesh.client.v4) "
                + "or host \(mesh.client.v6))",
        ])
        #expect(plain.output.isEmpty, "\(plain.output.prefix(2000))")
        let tunnels = try mesh.node.run(["tcpdump", "-nn", "-r", file, "tcp", "port", "15008"])
        #expect(tunnels.output.contains("\(far.v4).15008"))
        #expect(tunnels.output.contains("\(far.v6).15008"))

        try Self.expectOthers(mesh, urls)
    }

    private static func expectDatagrams(_ mesh: SmallMesh.Running) throws {
        for (address, source) in [
            ("10.76.0.2", mesh.client.v4), ("fd00:76::2", mesh.client.v6),
        ] {
            let answer = try mesh.client.run(
                ["/usr/bin/python3", "-c", ServiceTests.datagramClient, address])
            #expect(
                answer.output == """
                    \(address) hello from \(source)
                    \(address) 5300 hello from \(source)

                    """, "\(answer.errors)\n\(mesh.logs)")
        }
    }

    /// The node itself and those outside find the port, and the agent says where it leads.
    private static func expectOthers(_ mesh: SmallMesh.Running, _ urls: [String]) throws {
        for url in urls {
            let node = try mesh.node.curl(url + "/who")
            #expect(node.status == 200, "\(url): \(node)\n\(mesh.logs)")
            let outside = Curl.response(try mesh.bed.outside(OpenMesh.ask + [url + "/who"]))
            #expect(outside.status == 200, "\(url): \(outside)\n\(mesh.logs)")
        }
        let rows = try mesh.node.malla("bpf", "services").output
        #expect(rows.contains("10.76.0.2") && rows.contains("Pod bed/far"), "\(rows)")
        let trace = try mesh.node.malla(
            "policy", "trace", "--from", "bed/client", "--to", "10.76.0.2", "--port", "8443"
        ).output
        #expect(trace.contains(mesh.bed["far"].v4) && trace.contains("8080/TCP"), "\(trace)")
    }

    @Test func `a host port at another node leads to a pod that insists on mutual TLS`() throws {
        let mesh = try MutualTLSTests.running { bed in
            try Self.give("far", "[{containerPort: 8080, hostPort: 8443}]", in: bed)
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
        for host in ["10.76.0.2", "[fd00:76::2]"] {
            let url = "http://\(host):8443/who"
            let answer = try mesh.client.curl(url)
            #expect(answer.status == 200, "\(url): \(answer)\n\(mesh.logs)")
            let outside = Curl.response(try mesh.bed.outside(OpenMesh.ask + [url]))
            #expect(outside.problem.hasPrefix("curl 7:"), "\(outside)")
        }
    }
}
