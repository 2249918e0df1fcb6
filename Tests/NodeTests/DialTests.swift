import TestSupport
import Testing

@Suite("Where the engine dials, and from which address (docs/configuration.md)", .serialized)
struct DialTests {
    /// Answers each request with the client's address and ends the connection.
    private static let server = """
        import http.server, socket, socketserver
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header('x-client', self.client_address[0].replace('::ffff:', ''))
                self.send_header('Content-Length', '0')
                self.end_headers()
            def log_message(self, *rest): pass
        class Server(socketserver.ThreadingTCPServer):
            address_family = socket.AF_INET6
            allow_reuse_address = daemon_threads = True
            request_queue_size = 1024
        Server(('::', 8085), Handler).serve_forever()
        """
    static let python = ["/usr/bin/python3", "-uc", server]

    /// A captured service whose endpoint is no pod.
    static func service(_ index: Int, v4: String, v6: String) -> String {
        let slices = [("IPv4", v4), ("IPv6", v6)].map { family, address in
            """
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata:
              name: there-\(index)-\(family.lowercased())
              namespace: \(Testbed.space)
              labels: {kubernetes.io/service-name: there-\(index)}
            addressType: \(family)
            endpoints: [{addresses: ["\(address)"], conditions: {ready: true}}]
            ports: [{name: http, port: 8085, protocol: TCP}]
            """
        }
        let service = """
            apiVersion: v1
            kind: Service
            metadata: {name: there-\(index), namespace: \(Testbed.space)}
            spec:
              clusterIP: 10.96.0.\(index)
              clusterIPs: [10.96.0.\(index), "fd00:96::\(index)"]
              ipFamilies: [IPv4, IPv6]
              ports: [{name: http, port: 80, targetPort: 8085}]
            """
        return ([service] + slices).joined(separator: "\n---\n")
    }

    @Test func `the node itself, another node and the world see the client's own address`() throws {
        let places = [("n1", 50), ("n2", 51), ("outside", 52)]
        let mesh = try SmallMesh.running { bed in
            for name in ["n1", "n2"] { try bed[node: name].start("there", Self.python) }
            for (name, index) in places {
                let (v4, v6) =
                    name == "outside"
                    ? (Topology.outsideV4, Topology.outsideV6)
                    : (bed[node: name].v4, bed[node: name].v6)
                try bed.configure("there-\(index).yaml", Self.service(index, v4: v4, v6: v6))
            }
        }
        defer { mesh.close() }
        let outside = try mesh.bed.startOutside("there", Self.python)
        defer { outside.stop() }
        try eventually("the server outside listens: \(outside.text)") {
            try mesh.client.curl("http://\(Topology.outsideV4):8085/", seconds: 2).status == 200
        }

        let before = try mesh.node.metric("malla_requests_total")
        for (name, index) in places {
            for (url, own) in [
                ("http://10.96.0.\(index)/", mesh.client.v4),
                ("http://[fd00:96::\(index)]/", mesh.client.v6),
            ] {
                let answer = try mesh.client.curl(url, seconds: 4)
                #expect(answer.status == 200, "\(name), \(url): \(answer.problem)\n\(mesh.logs)")
                #expect(answer.headers["x-client"] == own, "\(name), \(url)")
            }
        }
        #expect(try mesh.node.metric("malla_requests_total") == before + 6)
    }

    /// Nodes that masquerade their pods do so for what the engine dials, too; and the stack, which
    /// drops what its connection tracking does not know, sees both directions.
    @Test func `the world that knows only nodes is dialled as the node masquerades its pods`()
        throws
    {
        let mesh = try SmallMesh.running { bed in
            try bed.configure(
                "there-52.yaml",
                Self.service(52, v4: Topology.outsideV4, v6: Topology.outsideV6))
        }
        defer { mesh.close() }
        let outside = try mesh.bed.startOutside("there", Self.python)
        defer { outside.stop() }
        let (node, client) = (mesh.node, mesh.client)
        try eventually("the server outside listens: \(outside.text)") {
            try client.curl("http://\(Topology.outsideV4):8085/", seconds: 2).status == 200
        }
        func expectClient(_ v4: String, _ v6: String) throws {
            for (host, own) in [
                ("10.96.0.52", v4), ("[fd00:96::52]", v6), ("\(Topology.outsideV4):8085", v4),
                ("[\(Topology.outsideV6)]:8085", v6),
            ] {
                let answer = try client.curl("http://\(host)/", seconds: 4)
                #expect(answer.status == 200, "\(host): \(answer.problem)\n\(mesh.logs)")
                #expect(answer.headers["x-client"] == own, "\(host)")
            }
        }
        let stranger = """
            nft add table inet strict
            nft add chain inet strict forward '{ type filter hook forward priority 0; }'
            nft add rule inet strict forward ct state invalid counter drop
            """
        #expect(try node.run(["sh", "-ec", stranger]).status == 0)
        try expectClient(client.v4, client.v6)

        let masquerade = """
            iptables -w -t nat -A POSTROUTING -s \(HostShape.pods4) ! -o lxc+ -j MASQUERADE
            ip6tables -w -t nat -A POSTROUTING -s \(HostShape.pods6) ! -o lxc+ -j MASQUERADE
            """
        #expect(try node.run(["sh", "-ec", masquerade]).status == 0)
        try expectClient(node.v4, node.v6)
    }

    @Test func `pods whose IPv4 path is broken are dialled by IPv6, from the client's own address`()
        throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        for pod in SmallMesh.shared.pods {
            _ = try mesh.bed[pod].run(["ip", "route", "replace", "blackhole", mesh.client.v4])
        }
        for _ in 0..<4 {
            // Less than one dial may take.
            let answer = try mesh.client.curl(SmallMesh.shared.urls[0], seconds: 4)
            #expect(answer.status == 200, "\(answer.problem)\n\(mesh.logs)")
            #expect(answer.headers["x-client"] == mesh.client.v6)
        }
        #expect(try mesh.node.metric("malla_upstream_races_total") > 0)
    }

    @Test func `a pod that calls itself is dialled from an address of the node`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        // The node's routes choose: IPv4 has an address at the pod's veth.
        for (url, own) in zip(SmallMesh.engineNear.urls, ["169.254.1.1", mesh.node.v6]) {
            let answer = try mesh.bed["near"].curl(url, seconds: 4)
            #expect(answer.status == 200, "\(url): \(answer.problem)\n\(mesh.logs)")
            #expect(answer.headers["x-client"] == own, "\(url)")
        }
    }

    @Test func `a port that the pod holds is named, and dialled past at once`() throws {
        let far = TestService("there-far", 53, "http", to: ["far"], targetPort: 8085)
        let mesh = try SmallMesh.running { bed in
            try bed["far"].start("there", Self.python)
            try bed.describe(SmallMesh.services + [far])
        }
        defer { mesh.close() }
        try eventually("the server answers") {
            try far.urls.allSatisfy { try mesh.client.curl($0).status == 200 }
        }
        let (client, server) = (mesh.client, mesh.bed["far"])
        let families = [(client.v4, server.v4, far.urls[0]), (client.v6, server.v6, far.urls[1])]
        // One of 37 of the ports from which the engine dials for the pods of its node.
        let holder = try mesh.client.start(
            "holder",
            [
                "/usr/bin/python3", "-uc",
                """
                import socket, time
                held = [
                    socket.create_connection((host, 8085), source_address=(own, port))
                    for own, host in \(families.map { [$0.0, $0.1] })
                    for port in range(61000, 63268, 37)]
                print('held', flush=True)
                time.sleep(60)
                """,
            ])
        try eventually("the ports are held: \(holder.text)") { holder.text.contains("held") }

        let verdict =
            "malla_datapath_verdicts_total{hook=\"from_engine\",reason=\"engine_met_pod\"}"
        for (own, _, url) in families {
            let before = try mesh.node.metric(verdict)
            let asked = try client.run(
                [
                    "sh", "-c",
                    "for n in $(seq 400); do curl -sS -o /dev/null -m 4 -w "
                        + "'%{http_code} %header{x-client} %{time_total}\\n' \(url)/; done",
                ], seconds: 120)
            let answers = asked.output.split(separator: "\n").map { $0.split(separator: " ") }
            #expect(answers.count == 400)
            #expect(
                answers.allSatisfy { $0.count == 3 && $0[0] == "200" && $0[1] == own },
                "\(asked)\n\(mesh.logs)")
            // Nobody waited for a SYN to be sent again.
            let longest = answers.compactMap { Double($0.last ?? "9") }.max() ?? 9
            #expect(longest < 0.9, "\(url): \(longest) s")
            #expect(try mesh.node.metric(verdict) > before, "\(url)")
        }
    }
}
