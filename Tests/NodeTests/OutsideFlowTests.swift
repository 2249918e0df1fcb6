import TestSupport
import Testing

@Suite("Flows to services, packet by packet (docs/configuration.md, Services)", .serialized)
struct OutsideFlowTests {
    /// From one port: asks each address, and says who answers. Silence is one second.
    private static let ask = [
        "/usr/bin/python3", "-u", "-c",
        """
        import socket, sys
        for end in sys.argv[2:]:
            host, port = end.rsplit(",", 1)
            s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("", int(sys.argv[1])))
            s.settimeout(1)
            s.sendto(b"hello", (host, int(port)))
            try:
                while True:
                    text, peer = s.recvfrom(2048)
                    print(peer[0])
                    break
            except TimeoutError: print("silence")
            s.close()
        """,
    ]

    @Test
    func `who asks two services of one pod from one port is never answered by the wrong one`()
        throws
    {
        let mesh = try OpenMesh.runningTwo(servers: ["near"])
        defer { mesh.close() }
        let near = mesh.bed["near"]
        try eventually("near answers") {
            try mesh.bed["client"].run(
                ServiceTrafficTests.askDatagram + ["10.96.0.1", "53"]
            ).output == "answer from near\n"
        }

        for (one, other, own) in [
            ("10.98.0.1", "10.98.0.2", near.v4), ("fd00:98::1", "fd00:98::2", near.v6),
        ] {
            let ends = ["\(one),53", "\(other),53", "\(own),5353", "\(one),53", "\(other),53"]
            let outside = try mesh.bed.outside(Self.ask + ["45000"] + ends)
            let said = outside.output.split(separator: "\n").map(String.init)
            #expect(said == [one, other, "silence", one, other], "\(outside)\n\(mesh.counters)")
        }
        for (one, other, own) in [
            ("10.96.0.1", "10.96.0.2", near.v4), ("fd00:96::1", "fd00:96::2", near.v6),
        ] {
            // In the pod's network namespace, but in no cgroup of the mesh.
            let ends = ["\(one),53", "\(other),53", "\(own),5353", "\(one),53"]
            let pod = try Command.run(
                ["nsenter", "--net=" + mesh.bed.namespace("client")] + Self.ask + ["45000"] + ends)
            let said = pod.output.split(separator: "\n").map(String.init)
            #expect(said == [one, "silence", "silence", one], "\(pod)\n\(mesh.counters)")
        }
        #expect(mesh.counters.contains("snat_ports"), "\(mesh.counters)")
    }

    /// Connects with so many hops to go, and says what comes of it.
    private static let connect = [
        "/usr/bin/python3", "-u", "-c",
        """
        import errno, socket, sys
        family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
        s = socket.socket(family)
        s.settimeout(3)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, int(sys.argv[3]))
            s.setsockopt(socket.IPPROTO_IPV6, 25, 1)
        else:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, int(sys.argv[3]))
            s.setsockopt(socket.IPPROTO_IP, 11, 1)
        try:
            s.connect((sys.argv[1], int(sys.argv[2])))
            print("connected")
        except TimeoutError: print("silence")
        except OSError as e: print(errno.errorcode[e.errno])
        """,
    ]

    @Test func `a packet goes no further than its hops, so that a loop ends`() throws {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["far"]))
        defer { mesh.close() }
        let far = mesh.bed["far"]
        try eventually("far answers") {
            try mesh.bed["client"].curl("http://10.96.0.1/").status == 200
        }

        for (outer, pod) in [("10.98.0.1", far.v4), ("fd00:98::1", far.v6)] {
            for (hops, says) in [("1", "EHOSTUNREACH"), ("3", "connected")] {
                let outside = try mesh.bed.outside(Self.connect + [outer, "80", hops])
                #expect(outside.output == says + "\n", "\(outer): \(outside)\n\(mesh.counters)")
                let inside = try mesh.bed["client"].run(Self.connect + [pod, "8080", hops])
                #expect(inside.output == says + "\n", "\(pod): \(inside)\n\(mesh.counters)")
            }
        }
        #expect(mesh.counters.contains("expired"), "\(mesh.counters)")
    }
}
