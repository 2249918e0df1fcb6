import Foundation
import TestSupport
import Testing

/// Both families. `client` and `near` on a node with an agent, `far` on one without; what serves tunnels there
/// shares no code with the agent.
@Suite("Pods of a node without an agent (docs/identity.md, Who insists on mutual TLS)", .serialized)
struct AmbientPeerTests {
    private static let plainMarker = "plain-text-marker-2290"
    private static let id = MutualTLSTests.id

    /// Writes or takes away what Istio's CNI agent says of pods that ztunnel serves.
    private static func annotate(_ isRedirected: Bool, _ bed: Testbed) throws {
        let plain = "annotations: {malla.io/interface: lxc-far}"
        let redirected =
            "annotations: {malla.io/interface: lxc-far, ambient.istio.io/redirection: enabled}"
        let text = try Command.shell("cat \(bed.configuration)/bed.yaml")
        let (from, to) = isRedirected ? (plain, redirected) : (redirected, plain)
        #expect(text.contains(from))
        try bed.configure("bed.yaml", text.replacing(from, with: to))
    }

    /// Serves tunnels at one of the pod's own addresses: connects what comes by them to the pod's
    /// server.
    private static func ztunnel(
        _ pod: TestPod, at address: String, _ authority: TestAuthority
    ) throws -> TestProcess {
        let files = try authority.write(try authority.issue("URI:\(id)\(pod.name)"), "ztunnel")
        let server = try pod.start(
            "ztunnel-\(address.contains(":") ? 6 : 4)",
            [
                "/usr/bin/python3",
                Binaries.repository + "/Tests/L7EngineTests/Tunnel/hbone_peer.py", "server",
                "\(address):15008", "--ca", authority.file, "--cert", files.chain,
                "--key", files.key, "--connect", "127.0.0.1:8080",
            ])
        try eventually("it listens: \(server.text)") { server.text.contains("listening") }
        return server
    }

    /// What is between the pods was seen, and nothing of what was to be sent in a tunnel.
    private static func expectOnlyPlain(_ capture: TestProcess, _ file: String) throws {
        try eventually("the capture has all of it") {
            try !Command.run(["grep", "-c", "-a", plainMarker, file]).output.hasPrefix("0")
        }
        capture.signal(2)
        #expect(capture.wait(seconds: 10) == 0)
        let found = try Command.run(["grep", "-c", "-a", MutualTLSTests.marker, file])
        #expect(found.output == "0\n", "\(found)")
    }

    /// Whom the pod sees of a call that is not in a tunnel.
    private static func own(_ url: String, _ client: TestPod) -> String {
        url.contains("[") ? client.v6 : client.v4
    }

    /// By an HTTP service of either family the engine may take either address of the pod.
    private static func expectTunnels(
        to places: [String], _ ztunnels: [TestProcess], calls: Int
    ) {
        let said = ztunnels.map(\.text).joined(separator: "\n--\n")
        var count = 0
        for (place, ztunnel) in zip(places, ztunnels) {
            #expect(ztunnel.text.contains("\"peer\": \"\(id)client\""), "\(said)")
            let named = "\"authority\": \"\(place):8080\", \"method\": \"CONNECT\""
            let asked = ztunnel.text.components(separatedBy: named).count - 1
            #expect(asked >= 2, "\(place): \(said)")
            count += asked
        }
        #expect(count >= calls, "\(said)")
    }

    @Test
    func `a pod is dialled by HBONE where Istio serves it, and in plain text where it does not`()
        throws
    {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let mesh = try ModeTests.agentless { try authority.place(at: "\($0.directory)/ca") }
        defer { mesh.close() }
        let (client, far) = (mesh.client, mesh.bed["far"])
        try eventually("certificates") { try mesh.node.metric("malla_certificates_missing") == 0 }
        let places = [far.v4, "[\(far.v6)]"]
        let ztunnels = try places.map { try Self.ztunnel(far, at: $0, authority) }
        func said() -> String { ztunnels.map(\.text).joined(separator: "\n--\n") }
        let (capture, file) = try MutualTLSTests.captured(mesh)
        let direct = places.map { "http://\($0):8080" }
        let urls = direct + SmallMesh.kernelFar.urls + SmallMesh.engineFar.urls
        func ask(_ url: String, _ marker: String) throws -> Response {
            try client.curl("-H", "x-marker: \(marker)", url + "/" + marker, seconds: 5)
        }

        for url in urls {
            let answer = try ask(url, Self.plainMarker)
            #expect(answer.status == 200, "\(url): \(answer)\n\(mesh.logs)")
            #expect(answer.headers["x-client"] == Self.own(url, client), "\(url): \(answer)")
        }
        #expect(ztunnels.allSatisfy { $0.text.split(separator: "\n").count == 1 }, "\(said())")

        try Self.annotate(true, mesh.bed)
        for url in direct {
            try eventually("\(url) is dialled by HBONE\n\(mesh.logs)\n\(said())") {
                try ask(url, "first").headers["x-client"] == "127.0.0.1"
            }
        }
        for url in urls {
            let answer = try ask(url, MutualTLSTests.marker)
            #expect(answer.status == 200, "\(url): \(answer)\n\(mesh.logs)")
            // By who serves tunnels there.
            #expect(answer.headers["x-client"] == "127.0.0.1", "\(url): \(answer)")
        }
        Self.expectTunnels(to: places, ztunnels, calls: urls.count)
        // The other pod of the configuration is what it was.
        #expect(try client.curl(SmallMesh.engineNear.urls[0]).headers["x-client"] == client.v4)

        // Never in plain text instead.
        let served = try mesh.quiet.far.requests()
        for ztunnel in ztunnels { ztunnel.stop() }
        for url in urls {
            let answer = try ask(url, MutualTLSTests.marker)
            #expect(answer.status != 200, "\(url): \(answer)")
        }
        #expect(try mesh.quiet.far.requests() == served)

        try Self.annotate(false, mesh.bed)
        for url in urls {
            try eventually("\(url) is plain again\n\(mesh.logs)") {
                try ask(url, Self.plainMarker).headers["x-client"] == Self.own(url, client)
            }
        }
        try Self.expectOnlyPlain(capture, file)
    }
}
