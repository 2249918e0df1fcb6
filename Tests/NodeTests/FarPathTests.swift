import TestSupport
import Testing

@Suite("TCP between pods of two nodes (docs/operations.md, --host-routing)", .serialized)
struct FarPathTests {
    /// Counts what the node's stack forwards of a port of a pod, either way.
    private static let counters = """
        nft add table inet seen
        nft add chain inet seen forward '{ type filter hook forward priority 0; }'
        nft add rule inet seen forward tcp dport 8080 counter
        nft add rule inet seen forward tcp sport 8080 counter
        nft add rule inet seen forward udp dport 5353 counter
        """

    /// Packets by rule, of all nodes.
    private static func seen(_ mesh: SmallMesh.Running) throws -> [Int] {
        var counts = [0, 0, 0]
        for name in ["n1", "n2"] {
            let listed = try mesh.bed[node: name].run(["nft", "list", "table", "inet", "seen"])
            let rules = listed.output.split(separator: "\n").filter { $0.contains("counter") }
            for (place, rule) in rules.enumerated() {
                let words = rule.split(separator: " ")
                guard let at = words.firstIndex(of: "packets") else { continue }
                counts[place] += Int(words[at + 1]) ?? 0
            }
        }
        return counts
    }

    private static func verdict(_ hook: String, _ reason: String) -> String {
        "malla_datapath_verdicts_total{hook=\"\(hook)\",reason=\"\(reason)\"}"
    }

    private static func mesh(_ routing: String) throws -> SmallMesh.Running {
        let quiet = try SmallMesh.bed()
        var agents: [TestProcess] = []
        for name in ["n1", "n2"] {
            let node = quiet.bed[node: name]
            #expect(try node.run(["sh", "-ec", counters]).status == 0)
            agents.append(try node.startAgent(more: ["--host-routing", routing]))
        }
        return SmallMesh.Running(quiet: quiet, agents: agents)
    }

    private static func call(_ mesh: SmallMesh.Running) throws {
        for url in SmallMesh.kernelFar.urls {
            let answer = try mesh.client.curl(url + "/")
            #expect(answer.headers["x-pod"] == "far", "\(answer.problem)\n\(mesh.logs)")
        }
    }

    @Test(arguments: [("bpf", true), ("legacy", false)])
    func `takes the nodes' routes and not their stacks, unless it shall`(
        _ routing: String, _ isPast: Bool
    ) throws {
        let mesh = try Self.mesh(routing)
        defer { mesh.close() }
        let far = mesh.bed["far"]
        try Self.call(mesh)
        // Datagrams pass the stack either way: the rules do count.
        for address in [far.v4, far.v6] {
            _ = try mesh.client.run(["bash", "-c", "echo x > /dev/udp/\(address)/5353"])
        }

        let seen = try Self.seen(mesh)
        #expect(seen[2] == 4, "two nodes forward two datagrams: \(seen)")
        #expect((seen[0] == 0) == isPast, "\(seen)")
        #expect((seen[1] == 0) == isPast, "\(seen)")
        let sent = try mesh.node.metric(Self.verdict("from_pod", "forwarded"))
        #expect((sent >= 8) == isPast, "\(sent)")
        let met = try mesh.bed[node: "n2"].curl("http://\(TestNode.admin)/metrics").body
        #expect(met.contains(Self.verdict("uplink", "direct")) == isPast)
    }

    @Test func `passes the stack where the way back is another than the way in`() throws {
        let mesh = try Self.mesh("bpf")
        defer { mesh.close() }
        let (client, n1, n2) = (mesh.client, mesh.node, mesh.bed[node: "n2"])
        // Answers leave n2 by a second interface, which leads to n1 just as well.
        for script in [
            "ip link add link eth0 name side type macvlan mode bridge",
            "ip addr add 10.79.0.2/24 dev side", "ip link set side up",
            "ip route add \(client.v4)/32 via \(n1.v4) dev side onlink",
        ] {
            let done = try n2.run(["sh", "-ec", script])
            #expect(done.status == 0, "\(script): \(done)")
        }
        let answer = try client.curl(SmallMesh.kernelFar.urls[0] + "/")

        #expect(answer.headers["x-pod"] == "far", "\(answer.problem)\n\(mesh.logs)")
        let forwarded = try n2.run(["nft", "list", "table", "inet", "seen"]).output
        #expect(!forwarded.contains("dport 8080 counter packets 0"), "\(forwarded)")
    }

    @Test func `goes by the interface that a rule's own table names, whole, from the first`() throws
    {
        let mesh = try Self.mesh("bpf")
        defer { mesh.close() }
        let nodes = [mesh.node, mesh.bed[node: "n2"]]
        let names = ["n1", "n2"].map { mesh.bed.namespace($0).split(separator: "/").last ?? "" }
        try Command.shell(
            "ip link add side netns \(names[0]) type veth peer name side netns \(names[1])")
        for (place, node) in nodes.enumerated() {
            let (own, other) = (place + 1, 2 - place)
            let script = """
                ip addr add 10.79.0.\(own)/24 dev side
                ip addr add fd00:79::\(own)/64 dev side nodad
                ip link set side up
                ip route add 10.77.\(other).0/24 via 10.79.0.\(other) dev side table 100
                ip -6 route add fd00:77:\(other)::/64 via fd00:79::\(other) dev side table 100
                ip rule add from 10.77.\(own).0/24 lookup 100
                ip -6 rule add from fd00:77:\(own)::/64 lookup 100
                nft add rule inet seen forward ct state invalid drop
                """
            let done = try node.run(["sh", "-ec", script])
            #expect(done.isSuccess, "\(done)")
        }
        // Before the interface has a program, and after.
        try Self.call(mesh)
        try eventually("it is an uplink of both") {
            try nodes.allSatisfy {
                try $0.malla("bpf", "programs").output.contains("tcx ingress side")
            }
        }
        let before = try mesh.node.metric(Self.verdict("from_pod", "forwarded"))
        try Self.call(mesh)
        #expect(try mesh.node.metric(Self.verdict("from_pod", "forwarded")) >= before + 8)
    }

    /// Sends SYNs of a pod elsewhere by hand: to the interface itself, to another host's address,
    /// and in a VLAN.
    private static let frames = """
        import socket, struct, sys
        source, target, mac = sys.argv[1:]
        mac = bytes.fromhex(mac.replace(":", ""))
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        link.bind(("p-n1", 0))
        for port, to, tag in (1, b"\\2" * 6, b""), (2, mac, b"\\x81\\0\\0\\x64"), (3, mac, b""):
            tcp = struct.pack("!HHIIBBHHH", 40000 + port, 8080, 1, 0, 0x50, 2, 999, 0, 0)
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0x4000, 9, 6, 0)
            ip += socket.inet_aton(source) + socket.inet_aton(target)
            link.send(to + b"\\2" * 6 + tag + b"\\x08\\0" + ip + tcp)
        """

    @Test func `takes only frames that are for the uplink itself`() throws {
        let mesh = try Self.mesh("bpf")
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let shown = try mesh.node.run(["ip", "-br", "link", "show", "eth0"]).output
        let address = shown.split(separator: " ").first { $0.count == 17 }.map(String.init) ?? ""
        let before = try mesh.node.metric(Self.verdict("uplink", "direct"))
        let sent = try mesh.bed.outside(
            ["/usr/bin/python3", "-c", Self.frames, mesh.bed["far"].v4, near.v4, address])
        #expect(sent.isSuccess, "\(sent)")

        try eventually("the last one is there") {
            try mesh.node.metric(Self.verdict("uplink", "direct")) > before
        }
        let flows = try mesh.node.malla("bpf", "ct", "list", "--pod", "bed/near").output
        #expect(flows.contains(":40003"), "\(flows)")
        #expect(!flows.contains(":40001") && !flows.contains(":40002"), "\(flows)")
    }

    @Test func `an open connection goes on while the agent is started anew`() throws {
        let mesh = try Self.mesh("bpf")
        defer { mesh.close() }
        let far = mesh.bed["far"]
        try far.start(
            "slow",
            [
                "/usr/bin/python3", "-uc",
                """
                import socket
                s = socket.create_server(("::", 9100), family=socket.AF_INET6, dualstack_ipv6=True)
                c, _ = s.accept()
                while True:
                    text = c.recv(100)
                    if not text: break
                    c.sendall(text)
                """,
            ])
        try eventually("far listens") {
            try far.run(["ss", "-Hltn", "sport = :9100"]).output.contains("9100")
        }
        let talk = try mesh.client.start(
            "talk",
            [
                "/usr/bin/python3", "-uc",
                """
                import socket, sys, os
                s = socket.create_connection(("\(far.v4)", 9100), 10)
                s.settimeout(10)
                def turn(text):
                    s.sendall(text)
                    print(s.recv(100).decode())
                turn(b"first")
                while not os.path.exists(sys.argv[1]): os.sched_yield()
                turn(b"second")
                """, "\(mesh.bed.directory)/go",
            ])
        try eventually("the first answer") { talk.text.contains("first") }
        _ = mesh.agents[1].stop()
        try mesh.bed[node: "n2"].startAgent()
        try Command.shell("touch \(mesh.bed.directory)/go")

        try eventually("the second answer: \(talk.text)") { talk.text.contains("second") }
        #expect(try Self.seen(mesh)[0] == 0)
    }
}
