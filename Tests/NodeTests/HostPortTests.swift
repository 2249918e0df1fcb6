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
            let file = "\(bed.configuration)/bed.yaml"
            let pods = try String(contentsOfFile: file, encoding: .utf8)
                .components(separatedBy: "\n---\n").map {
                    $0.contains("name: near\n")
                        ? $0.replacing("[{containerPort: 8080}]", with: ports) : $0
                }
            try bed.configure("bed.yaml", pods.joined(separator: "\n---\n"))
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
}
