import TestSupport
import Testing

@Suite("Services without L7 rules stay in the kernel (docs/verdicts.md)", .serialized)
struct ServiceTests {
    /// Connects, says what getpeername answers, asks for `/`, prints the response.
    private static let streamClient = """
        import socket, sys
        s = socket.create_connection((sys.argv[1], 80), 5)
        print(s.getpeername()[0])
        s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        while True:
            part = s.recv(65536)
            if not part: break
            sys.stdout.write(part.decode())
        """
    static let datagramServer = """
        import socket
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.bind(("::", 5353))
        while True:
            text, peer = s.recvfrom(2048)
            s.sendto(text + b" from " + peer[0].replace("::ffff:", "").encode(), peer)
        """
    /// Once with connect(2), once with sendto(2): prints who seems to have answered, and what.
    static let datagramClient = """
        import socket, sys
        family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
        for connected in (True, False):
            s = socket.socket(family, socket.SOCK_DGRAM)
            s.settimeout(5)
            if connected:
                s.connect((sys.argv[1], 5300))
                s.send(b"hello")
                print(s.getpeername()[0], s.recv(2048).decode())
            else:
                s.sendto(b"hello", (sys.argv[1], 5300))
                text, peer = s.recvfrom(2048)
                print(peer[0], peer[1], text.decode())
        """

    @Test func `TCP reaches the pod, and the application sees the address that it dialled`() throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let engineBefore = try mesh.node.metric("istio_requests_total")

        for (service, pod) in [(SmallMesh.kernelNear, "near"), (SmallMesh.kernelFar, "far")] {
            for (address, source) in [(service.v4, mesh.client.v4), (service.v6, mesh.client.v6)] {
                let answer = try mesh.client.run(
                    ["/usr/bin/python3", "-c", Self.streamClient, address])
                #expect(answer.output.hasPrefix(address + "\n"), "\(answer)\n\(mesh.logs)")
                #expect(answer.output.contains("x-pod: \(pod)\r\n"), "\(answer)")
                #expect(answer.output.contains("x-client: \(source)\r\n"), "\(answer)")
            }
        }

        #expect(try mesh.node.metric("istio_requests_total") == engineBefore)
    }

    @Test func `UDP reaches the pod, connected or not, and answers bear the service's address`()
        throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        for pod in ["near", "far"] {
            let server = ["/usr/bin/python3", "-c", Self.datagramServer]
            try mesh.bed[pod].start("udp", server)
            try eventually("\(pod) listens on 5353") {
                try mesh.bed[pod].run(["ss", "-Hlun", "sport = :5353"]).output.contains("5353")
            }
        }

        for service in [SmallMesh.datagramNear, SmallMesh.datagramFar] {
            for (address, source) in [(service.v4, mesh.client.v4), (service.v6, mesh.client.v6)] {
                let answer = try mesh.client.run(
                    ["/usr/bin/python3", "-c", Self.datagramClient, address])
                #expect(
                    answer.output == """
                        \(address) hello from \(source)
                        \(address) 5300 hello from \(source)

                        """, "\(answer.errors)\n\(mesh.logs)")
            }
        }
    }

    @Test func `an agent that is gone leaves the kernel's part at work, and the next adopts it`()
        throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let load = try mesh.client.start(
            "wrk",
            ["wrk", "-t1", "-c8", "-d4s", "-H", "Connection: close", SmallMesh.kernelFar.urls[0]])
        try eventually("the load flows") { try mesh.quiet.far.requests() > 50 }

        func programs() throws -> String {
            try Command.shell("cd \(mesh.node.bpffs)/malla/v*/programs && ls -i")
        }
        let pinned = try programs()
        for name in ["malla_connect4", "malla_from_pod", "malla_to_pod", "malla_listener"] {
            #expect(pinned.contains(name + "\n"), "\(pinned)")
        }
        let child = try #require(mesh.node.child(of: mesh.agents[0]))
        try Command.shell("kill -9 \(mesh.agents[0].pid) \(child)")
        try eventually("no process of the agent is left") {
            try Command.shell("cat \(mesh.node.cgroup)/agent/cgroup.procs").isEmpty
        }
        let alone = try mesh.client.curl(SmallMesh.kernelFar.urls[0])
        #expect(alone.status == 200, "\(alone.problem)")

        #expect(load.wait(seconds: 20) == 0)
        #expect(Load(load.text).errors == 0, "\(load.text)")
        #expect(try programs() == pinned)
        let next = try mesh.node.startAgent()
        #expect(
            try programs() != pinned && !programs().contains("__new"),
            "replaced by the next agent's")
        let stats = try mesh.node.malla("bpf", "stats", "-o", "json")
        #expect(
            stats.output.contains("\"adopted\":true")
                || stats.output.contains("\"adopted\" : true"),
            "\(stats)\n\(next.text)")
        #expect(try mesh.client.curl(SmallMesh.engineFar.urls[0]).status == 200, "\(next.text)")

        #expect(next.stop() == 0)
        let cleanup = try mesh.node.run([Binaries.agent, "cleanup", "--bpffs", mesh.node.bpffs])
        #expect(cleanup.status == 0, "\(cleanup)")
        #expect(
            try mesh.node.run(["ls", mesh.node.bpffs + "/malla"]).status != 0, "nothing is left")
    }
}
