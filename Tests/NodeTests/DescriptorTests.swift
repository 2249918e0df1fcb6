import Glibc
import TestSupport
import Testing

@Suite("An agent whose descriptors are used up (docs/operations.md)", .serialized)
struct DescriptorTests {
    /// Opens 400 connections that say half a request, and keeps them until a file is there; prints
    /// how many were turned away. Looks at each for a moment: the agent meets its limit some
    /// seconds after it was set.
    private static let crowd = """
        import os, socket, sys, time
        held, away = [], 0
        for _ in range(400):
            s = socket.create_connection((sys.argv[1], 80), 5)
            s.sendall(b"GET / HTTP/1.1\\r\\nX-Half:")
            held.append(s)
            s.settimeout(0.02)
            try:
                away += s.recv(12) == b"HTTP/1.1 503"
            except OSError:
                pass
        print("turned away:", away, flush=True)
        end = time.monotonic() + 60
        while time.monotonic() < end and not os.path.exists(sys.argv[2]):
            time.sleep(0.01)
        """

    @Test func `probes and metrics are answered, clients get 503, and it heals`() throws {
        let mesh = try SmallMesh.running { bed in
            try bed.configure("gateway.yaml", RouteTests.gateway)
            try bed.route(
                "front", parent: "{name: front}",
                rules: "- backendRefs: [{name: engine-far, port: 80}]")
        }
        defer { mesh.close() }
        let url = "http://\(mesh.node.v4):80/"
        try eventually("the Gateway serves") { try mesh.node.curl(url).status == 200 }
        let child = try #require(mesh.node.child(of: mesh.agents[0]))
        let used = try Command.shell("ls /proc/\(child)/fd | sort -n | tail -1")
        let most = (Int(used.filter(\.isNumber)) ?? 0) + 200
        try Command.shell("prlimit --pid \(child) --nofile=\(most):\(most)")
        let enough = mesh.bed.directory + "/enough"

        let crowd = try mesh.node.start(
            "crowd", ["/usr/bin/python3", "-c", Self.crowd, mesh.node.v4, enough])
        try eventually("the crowd is there") { crowd.text.contains("turned away: ") }

        let shed = "malla_requests_shed_total{reason=\"descriptors\"}"
        for path in ["livez", "readyz", "metrics"] {
            #expect(try mesh.node.curl("http://127.0.0.1:15020/\(path)").status == 200, "\(path)")
        }
        #expect(try mesh.node.metric(shed) > 100, "\(crowd.text)")
        #expect(try mesh.node.metric("malla_accept_paused_total") == 0)
        #expect(!crowd.text.contains("turned away: 0"))

        try Command.shell("touch \(enough)")
        try eventually("the Gateway serves again") { try mesh.node.curl(url).status == 200 }
        #expect(mesh.node.child(of: mesh.agents[0]) == child)
    }
}
