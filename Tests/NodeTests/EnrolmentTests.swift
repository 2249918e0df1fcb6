import Glibc
import TestSupport
import Testing

@Suite("Who is in the mesh (docs/configuration.md)", .serialized)
struct EnrolmentTests {
    /// Rewrites the client's labels in the bed's objects.
    private static func label(_ mesh: SmallMesh.Running, from old: String, to new: String) throws {
        let file = mesh.bed.configuration + "/bed.yaml"
        let text = try Command.shell("cat \(file)")
        try mesh.bed.configure(
            "bed.yaml", text.replacing("{app: client\(old)}", with: "{app: client\(new)}"))
    }

    /// Requests on one kept connection, one every 50 ms.
    private static func start(
        _ mesh: SmallMesh.Running, _ label: String, to host: String, requests: Int
    ) throws -> TestProcess {
        try mesh.client.start(
            "\(label)-\(host)",
            [
                "/usr/bin/python3", "-uc",
                """
                import http.client, time
                link = http.client.HTTPConnection('\(host)', 80, timeout=5)
                for number in range(\(requests)):
                    link.request('GET', '/')
                    answer = link.getresponse()
                    answer.read()
                    print(answer.status, answer.getheader('x-client'), flush=True)
                    time.sleep(0.05)
                """,
            ])
    }

    /// One such object took the node off the network: all that came by its uplink was "spoofed".
    @Test func `a pod that names the uplink, loopback or another pod's interface gets nothing`()
        throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let names = ["eth0", "lo", "lxc-near"]
        try mesh.bed.configure(
            "stray.yaml",
            names.enumerated().map { index, name in
                """
                apiVersion: v1
                kind: Pod
                metadata:
                  name: stray-\(index)
                  namespace: \(Testbed.space)
                  annotations: {malla.io/interface: \(name)}
                spec: {nodeName: n1}
                status: {podIP: 10.77.1.\(90 + index), podIPs: [{ip: 10.77.1.\(90 + index)}]}
                """
            }.joined(separator: "\n---\n"))
        try eventually("malla status names each") {
            let said = try mesh.node.malla("status").output
            return names.allSatisfy { said.contains("its interface \($0) is ") }
        }
        for url in SmallMesh.engineFar.urls + SmallMesh.engineNear.urls {
            let answer = try mesh.client.curl(url)
            #expect(answer.status == 200, "\(url): \(answer.problem)\n\(mesh.logs)")
        }
    }

    @Test func `what a pod excludes by port or block passes the engine, and nothing else does`()
        throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        func passes(_ url: String) throws -> Bool {
            let before = try mesh.node.metric("malla_requests_total")
            let answer = try mesh.client.curl(url)
            #expect(answer.status == 200, "\(answer.problem)\n\(mesh.logs)")
            return try mesh.node.metric("malla_requests_total") == before
        }
        let near = SmallMesh.engineNear.urls
        let far = SmallMesh.engineFar.urls
        for url in near + far { #expect(try !passes(url)) }
        let plain = "annotations: {malla.io/interface: lxc-client"
        let file = mesh.bed.configuration + "/bed.yaml"
        let text = try Command.shell("cat \(file)")
        #expect(text.contains(plain))
        func exclude(_ annotation: String) throws {
            try mesh.bed.configure(
                "bed.yaml", text.replacing(plain, with: plain + ", " + annotation))
        }

        try exclude("malla.io/exclude-outbound-cidrs: \"\(SmallMesh.engineNear.v4)/32\"")
        try eventually("the block is in force") { try passes(near[0]) }
        for url in [near[1], far[0], far[1]] { #expect(try !passes(url), "\(url)") }
        #expect(try mesh.client.curl(near[0]).headers["x-client"] == mesh.client.v4)

        try exclude("traffic.sidecar.istio.io/excludeOutboundPorts: \"443,80\"")
        try eventually("the port is in force") { try passes(far[1]) }
        for url in near + far { #expect(try passes(url), "\(url)") }

        try mesh.bed.configure("bed.yaml", text)
        try eventually("it is taken back") { try !passes(near[0]) }
    }

    @Test func `joining and leaving resets no established connection`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        func requests() throws -> Double { try mesh.node.metric("malla_requests_total") }
        let ends = [
            (SmallMesh.engineFar.v4, mesh.client.v4), (SmallMesh.engineFar.v6, mesh.client.v6),
        ]
        let captured = try ends.map { try Self.start(mesh, "captured", to: $0.0, requests: 100) }
        func lines(_ client: TestProcess) -> [Substring] { client.text.split(separator: "\n") }
        try eventually("they go through the engine") {
            try captured.allSatisfy { lines($0).count > 1 } && requests() > 3
        }

        try Self.label(mesh, from: "", to: ", malla.io/mesh: disabled")
        try eventually("the pod has left") {
            try mesh.node.malla("endpoints", "-o", "json").output.replacing(" ", with: "")
                .contains("\"meshed\":false")
        }
        // What it opens now goes straight to an endpoint.
        let direct = try ends.map { try Self.start(mesh, "direct", to: $0.0, requests: 200) }
        try eventually("it flows") { direct.allSatisfy { lines($0).count > 3 } }
        for client in captured {
            #expect(client.wait(seconds: 20) == 0, "\(client.text)\n\(mesh.logs)")
        }
        let before = try requests()
        #expect(before == 200, "all of what was captured, and nothing else")
        let after = direct.map { lines($0).count }
        try eventually("it flows on") {
            zip(direct, after).allSatisfy { lines($0).count > $1 + 5 }
        }
        #expect(try requests() == before, "nothing of it passes the engine")

        try Self.label(mesh, from: ", malla.io/mesh: disabled", to: "")
        try eventually("the pod is back") {
            try mesh.client.curl(SmallMesh.engineFar.urls[1]).status == 200 && requests() > before
        }
        for client in direct {
            #expect(client.wait(seconds: 30) == 0, "\(client.text)\n\(mesh.logs)")
        }
        for (clients, requests) in [(captured, 100), (direct, 200)] {
            for (client, end) in zip(clients, ends) {
                let said = lines(client)
                #expect(said.count == requests)
                #expect(said.allSatisfy { $0 == "200 \(end.1)" }, "\(client.text)")
            }
        }
    }
}
