import TestSupport
import Testing

@Suite("Uplinks that take shorter packets than pods send (DESIGN: capture)", .serialized)
struct UplinkMTUTests {
    /// GET: as many bytes as the path says. PUT: how many bytes came. HTTP/1.1, both families.
    private static let server = """
        import http.server, socket, socketserver
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            def do_GET(self):
                count = int(self.path[1:])
                self.send_response(200)
                self.send_header('Content-Length', str(count))
                self.end_headers()
                part = bytes(1 << 20)
                while count > 0:
                    self.wfile.write(part[:min(count, len(part))])
                    count -= len(part)
            def do_PUT(self):
                left = int(self.headers['Content-Length'])
                count = 0
                while count < left:
                    got = self.rfile.read(min(1 << 20, left - count))
                    if not got: break
                    count += len(got)
                text = str(count).encode()
                self.send_response(200)
                self.send_header('Content-Length', str(len(text)))
                self.end_headers()
                self.wfile.write(text)
            def log_message(self, *rest): pass
        class Server(socketserver.ThreadingTCPServer):
            address_family = socket.AF_INET6
            allow_reuse_address = daemon_threads = True
        Server(('::', 8081), Handler).serve_forever()
        """

    private static let bytes = 100_000_000
    private static let captured = TestService(
        "long-http", 40, "http", to: ["far"], targetPort: 8081)
    private static let direct = TestService("long-tcp", 41, "tcp", to: ["far"], targetPort: 8081)

    private static func mesh(
        _ configure: (Testbed) throws -> Void = { _ in }
    ) throws -> SmallMesh.Running {
        let mesh = try SmallMesh.running { bed in
            try bed["far"].start("long", ["/usr/bin/python3", "-uc", server])
            try bed.describe(SmallMesh.services + [captured, direct])
            try Command.shell("head -c \(bytes) /dev/zero > \(bed.directory)/long")
            try configure(bed)
        }
        do {
            try eventually("the server answers", within: 20) {
                try direct.urls.allSatisfy { try mesh.client.curl($0 + "/1").status == 200 }
            }
        } catch {
            mesh.close()
            throw error
        }
        return mesh
    }

    /// 100 MB to the client and 100 MB from it.
    private static func transfer(_ mesh: SmallMesh.Running, _ url: String) throws {
        let down = try mesh.client.run(
            [
                "curl", "-sS", "-m", "90", "-o", "/dev/null", "-w", "%{size_download}",
                "\(url)/\(bytes)",
            ], seconds: 100)
        #expect(down.output == "\(bytes)", "from \(url): \(down)\n\(mesh.logs)")
        let up = try mesh.client.run(
            [
                "curl", "-sS", "-m", "90", "-H", "Expect:", "-T", "\(mesh.bed.directory)/long",
                "\(url)/",
            ], seconds: 100)
        #expect(up.output == "\(bytes)", "to \(url): \(up)\n\(mesh.logs)")
    }

    @Test func `100 MB pass both ways, both families, through the engine and past it`() throws {
        let mesh = try Self.mesh { bed in
            for node in ["n1", "n2"] {
                _ = try bed[node: node].run(["ip", "link", "set", "eth0", "mtu", "1400"])
            }
        }
        defer { mesh.close() }

        for family in ["-4", "-6"] {
            let routes = try mesh.node.inEngine(mesh.agents[0], "ip \(family) route show default")
            #expect(routes.output.contains("mtu 1400"), "\(routes)")
        }
        for url in Self.captured.urls + Self.direct.urls { try Self.transfer(mesh, url) }

        // The uplink changes under the agent's eyes.
        _ = try mesh.node.run(["ip", "link", "set", "eth0", "mtu", "1300"])
        try eventually("the routes follow", within: 8) {
            try mesh.node.inEngine(mesh.agents[0], "ip route show default").output
                .contains("mtu 1300")
        }
        // What was dialled before lets the server send 1400 bytes, which go no more.
        try eventually("the engine dials anew", within: 8) {
            mesh.logs.contains("uplinks take 1300 bytes, not 1400")
        }
        for url in Self.captured.urls { try Self.transfer(mesh, url) }
    }

    /// The first node's way to the far pod leads over a router whose next hop takes 1300 bytes.
    private static func route(_ bed: Testbed) throws {
        let far = bed["far"]
        let (n1, n2) = (bed[node: "n1"], bed[node: "n2"])
        _ = try bed.outside([
            "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.br0.send_redirects=0",
        ])
        for (to, via, router) in [
            (far.v4 + "/32", n2.v4, Topology.outsideV4),
            (far.v6 + "/128", n2.v6, Topology.outsideV6),
        ] {
            let made = try bed.outside(
                ["ip", "route", "add", to, "via", via, "mtu", "lock", "1300"])
            #expect(made.status == 0, "\(made)")
            let way = try n1.run(["ip", "route", "add", to, "via", router])
            #expect(way.status == 0, "\(way)")
        }
    }

    @Test func `a router on the way says how much it takes, and the engine hears it`() throws {
        let mesh = try Self.mesh(Self.route)
        defer { mesh.close() }

        for url in Self.captured.urls + Self.direct.urls { try Self.transfer(mesh, url) }
        let heard = "malla_datapath_verdicts_total{hook=\"uplink\",reason=\"icmp_to_engine\"}"
        #expect(try mesh.node.metric(heard) >= 2, "one a family at least")
    }

    private static let drops = """
        nft add table inet walls
        nft add chain inet walls forward '{ type filter hook forward priority 0; policy drop; }'
        """

    /// Sends a datagram of 1400 bytes that must not be cut.
    private static let long = """
        import socket, sys
        six = ":" in sys.argv[1]
        s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IPV6 if six else 0, 23 if six else 10, 2)
        s.sendto(bytes(1400), (sys.argv[1], 9))
        """

    @Test func `a node that knows of a shorter way tells its pods, whatever it forwards`() throws {
        let mesh = try Self.mesh(Self.route)
        defer { mesh.close() }
        #expect(try mesh.node.run(["sh", "-ec", Self.drops]).isSuccess)
        try Command.shell("head -c 5000000 /dev/zero > \(mesh.bed.directory)/long")
        let far = mesh.bed["far"]
        for address in [far.v4, far.v6] {
            // The node's own packet is answered by the router, and the node remembers it.
            try eventually("the node has learned") {
                _ = try mesh.node.run(["/usr/bin/python3", "-c", Self.long, address])
                return try mesh.node.run(["ip", "route", "get", address]).output
                    .contains("mtu 1300")
            }
        }
        for url in Self.direct.urls {
            let up = try mesh.client.run(
                [
                    "curl", "-sS", "-m", "15", "-H", "Expect:", "-T",
                    "\(mesh.bed.directory)/long", "\(url)/",
                ])
            #expect(up.output == "5000000", "to \(url): \(up)\n\(mesh.logs)")
        }
        let told = "malla_datapath_verdicts_total{hook=\"from_pod\",reason=\"too_long\"}"
        #expect(try mesh.node.metric(told) >= 2, "one a family at least")
    }

    @Test func `who lets routers cut its packets is asked for such as need not be`() throws {
        let mesh = try Self.mesh { bed in
            for node in ["n1", "n2"] {
                _ = try bed[node: node].run(["ip", "link", "set", "eth0", "mtu", "1400"])
            }
            try bed["far"].start(
                "cut",
                [
                    "/usr/bin/python3", "-uc",
                    """
                    import socket
                    s = socket.create_server(("", 8082))
                    s.setsockopt(socket.IPPROTO_IP, 10, 0)
                    while True:
                        c, _ = s.accept()
                        c.sendall(bytes(1000000))
                        c.close()
                    """,
                ])
        }
        defer { mesh.close() }
        for node in ["n1", "n2"] {
            #expect(try mesh.bed[node: node].run(["sh", "-ec", Self.drops]).isSuccess)
        }
        let read = """
            import socket, sys
            s = socket.create_connection((sys.argv[1], 8082), 10)
            count = 0
            while True:
                text = s.recv(1 << 20)
                if not text: break
                count += len(text)
            print(count)
            """
        let got = try mesh.client.run(["/usr/bin/python3", "-c", read, mesh.bed["far"].v4])
        #expect(got.output == "1000000\n", "\(got)\n\(mesh.logs)")
    }
}
