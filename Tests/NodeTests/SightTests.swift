import Foundation
import TestSupport
import Testing

@Suite("What operators see (docs/operations.md)", .serialized)
struct SightTests {
    @Test func `promtool finds nothing to say about the metrics but Istio's own names`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        for url in SmallMesh.engineFar.urls { _ = try mesh.client.curl(url + "/") }

        let page = try mesh.node.curl("http://\(TestNode.admin)/metrics")
        let file = mesh.bed.directory + "/metrics.txt"
        try Data(page.body.utf8).write(to: URL(fileURLWithPath: file))
        let checked = try Command.run(["sh", "-c", "promtool check metrics < \(file)"])

        // Istio fixed these names: the first is a counter as promtool likes them, the others count
        // in milliseconds, which promtool would have in seconds.
        let istio = ["istio_requests_total", "istio_request_duration_milliseconds"]
        let others = (checked.output + checked.errors).split(separator: "\n").filter { line in
            !istio.contains { line.hasPrefix($0) }
        }
        #expect(others.isEmpty, "\(others.joined(separator: "\n"))")
        #expect(page.body.contains("istio_requests_total{"))
        #expect(page.body.contains("malla_"))
    }

    @Test func `every list prints a table for people and a listing for programs`() throws {
        let mesh = try SmallMesh.running { bed in
            try bed.route("shared", of: "shared", rules: SmallMesh.split(10))
        }
        defer { mesh.close() }
        let expected = [
            (["status"], "n1"), (["endpoints"], "client"), (["services"], "engine-far"),
            (["routes"], "shared"), (["bpf", "stats"], "from_pod"),
        ]

        for (words, mark) in expected {
            let table = try mesh.node.run([Binaries.malla, "--socket", mesh.node.socket] + words)
            #expect(table.status == 0, "\(words): \(table)")
            #expect(table.output.contains(mark), "\(words): \(table.output)")
            let listing = try mesh.node.run(
                [Binaries.malla, "--socket", mesh.node.socket] + words + ["-o", "json"])
            let value = try JSONSerialization.jsonObject(with: Data(listing.output.utf8))
            let object = try #require(value as? [String: Any])
            #expect(object["apiVersion"] as? String == "malla.io/v1")
            #expect((object["items"] as? [Any])?.isEmpty == false, "\(words)")
        }
        #expect(try mesh.node.malla("status").output.contains("none"), "identity: none")
        for path in ["livez", "readyz"] {
            #expect(try mesh.node.curl("http://\(TestNode.admin)/\(path)").status == 200)
        }
    }
}
