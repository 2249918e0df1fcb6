import TestSupport
import Testing

@Suite("Mutual TLS for the whole mesh (docs/configuration.md, PeerAuthentication)", .serialized)
struct RootNamespaceTests {
    private static func strict(_ namespace: String) -> String {
        """
        apiVersion: security.istio.io/v1
        kind: PeerAuthentication
        metadata: {name: all, namespace: \(namespace)}
        spec: {mtls: {mode: STRICT}}

        """
    }

    /// the agents' option, the namespace that is the mesh's, and one that is not
    @Test(arguments: [
        ([], "istio-system", "elsewhere"),
        (["--root-namespace", "mesh-root"], "mesh-root", "istio-system"),
    ])
    func `plain text is refused by what the root namespace says, and by no other's`(
        _ option: [String], _ root: String, _ other: String
    ) throws {
        let mesh = try MutualTLSTests.running(more: option) {
            try $0.configure("other.yaml", Self.strict(other))
        }
        defer { mesh.close() }
        let pods = [mesh.bed["near"], mesh.bed["far"]]
        let urls = pods.flatMap { ["http://\($0.v4):8080/", "http://[\($0.v6)]:8080/"] }
        func outside(_ url: String) throws -> Response {
            Curl.response(try mesh.bed.outside(OpenMesh.ask + [url]))
        }
        func expectTunnel() throws {
            for url in [SmallMesh.engineFar.urls[0], SmallMesh.kernelFar.urls[1]] {
                #expect(try mesh.client.curl(url).status == 200, "\(url)\n\(mesh.logs)")
            }
        }
        func refusals() throws -> [Double] {
            try ["n1", "n2"].map {
                try mesh.bed[node: $0].metric(
                    "malla_datapath_verdicts_total{hook=\"uplink\",reason=\"plain_refused\"}")
            }
        }
        // It is in force since the agents were ready.
        for url in urls { #expect(try outside(url).status == 200, "\(url)\n\(mesh.logs)") }
        try expectTunnel()
        #expect(try refusals() == [0, 0])

        try mesh.bed.configure("root.yaml", Self.strict(root))
        for url in urls {
            try eventually("\(url) is refused\n\(mesh.logs)") {
                try outside(url).problem.hasPrefix("curl \(OpenMesh.refused):")
            }
        }
        #expect(try refusals().allSatisfy { $0 >= 2 })
        try expectTunnel()

        mesh.bed.unconfigure("root.yaml")
        for url in urls {
            try eventually("\(url) is open again") { try outside(url).status == 200 }
        }
    }
}
