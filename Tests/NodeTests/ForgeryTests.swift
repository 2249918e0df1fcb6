// What a pod with raw sockets, or somebody on the nodes' network, may write into packets, and what
// becomes of it: nothing that policies deny arrives, and connections that are true go on.

internal import Foundation
import TestSupport
import Testing

@Suite("What senders write into packets is not believed (docs/verdicts.md)", .serialized)
struct ForgeryTests {
    /// Builds packets and sends them: `forge KIND SOURCE TARGET [PEER]`.
    private static let forge = """
        import socket, struct, sys
        kind, src, dst = sys.argv[1:4]
        six = ":" in src
        family = socket.AF_INET6 if six else socket.AF_INET
        pack = lambda a: socket.inet_pton(family, a)
        def sum16(b):
            b += b"\\0" * (len(b) % 2)
            s = sum(struct.unpack("!%dH" % (len(b) // 2), b))
            s = (s >> 16) + (s & 65535)
            return ~(s + (s >> 16)) & 65535
        def summed(b, at, proto, s, d, plain=False):
            head = b"" if plain else pack(s) + pack(d) + struct.pack("!II", len(b), proto)
            return b[:at] + struct.pack("!H", sum16(head + b)) + b[at + 2:]
        def tcp(s, d, sp, dp, flags, data=b""):
            b = struct.pack("!HHIIBBHHH", sp, dp, 1000, 1000, 0x50, flags, 1000, 0, 0) + data
            return summed(b, 16, 6, s, d)
        def icmp(s, d, t, code, body):
            return summed(struct.pack("!BBH", t, code, 0) + body, 2, 58, s, d, not six)
        def ip(s, d, proto, body, hops=64):
            if six: return struct.pack("!IHBB", 6 << 28, len(body), proto, hops) + pack(s) + pack(d) + body
            h = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, hops, proto, 0) + pack(s) + pack(d)
            return h[:10] + struct.pack("!H", sum16(h)) + h[12:] + body
        mark = b"FORGED-" + kind.encode()
        one, echo = (58, 129) if six else (1, 0)
        if kind == "error":
            peer = sys.argv[4]
            c = socket.create_connection((peer, 8080))
            quoted = ip(peer, src, 6, tcp(peer, src, 8080, c.getsockname()[1], 16))
            packet = ip(src, dst, one, icmp(src, dst, 1 if six else 3, 4 if six else 3, b"\\0" * 4 + quoted + mark))
        elif kind == "synack": packet = ip(src, dst, 6, tcp(src, dst, 50000, 22, 18, mark))
        elif kind == "stream": packet = ip(src, dst, 6, tcp(src, dst, 80, 40002, 16, mark))
        elif kind == "reply": packet = ip(src, dst, one, icmp(src, dst, echo, 0, b"\\1\\2\\0\\1" + mark))
        elif kind == "neighbour":
            packet = ip(src, dst, 58, icmp(src, dst, 135, 0, b"\\0" * 4 + pack(dst) + b"\\1\\1" + mark[:6] + mark), 255)
        else: packet = ip(src, dst, 17, struct.pack("!HHHH", 5000, 5353, 8 + len(mark), 0) + mark)
        s = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        if six: s.setsockopt(41, 36, 1)
        s.sendto(packet, (dst, 0))
        """
    /// Prints every packet with one of the marks that any interface receives.
    static func watch(_ marks: String...) -> [String] {
        let program = """
            import socket, sys
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            print("up", flush=True)
            while True:
                text, where = s.recvfrom(65536)
                if where[2] == 4: continue
                for mark in map(str.encode, sys.argv[1:]):
                    if mark in text: print(text[text.index(mark):][:20], flush=True)
            """
        return ["/usr/bin/python3", "-c", program] + marks
    }
    static let control = """
        import socket, sys
        s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
        s.sendto(b"CONTROL", (sys.argv[1], 5353))
        """

    static func verdict(_ hook: String, _ reason: String) -> String {
        "malla_datapath_verdicts_total{hook=\"\(hook)\",reason=\"\(reason)\"}"
    }

    /// `pod` may do nothing in these directions but for what `rules` say (YAML).
    private static func isolation(_ pod: String, _ types: String, _ rules: String = "") -> String {
        """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: \(pod)-\(types.count), namespace: \(Testbed.space)}
        spec:
          podSelector: {matchLabels: {app: \(pod)}}
          policyTypes: [\(types)]
          \(rules)

        """
    }

    /// What `client` pretends to be told by others, to those outside and to a pod that is shut.
    private func pretend(_ bed: Testbed, _ node: TestNode) throws {
        let client = bed["client"]
        let near = bed["near"]
        let kinds = [
            ("error", "unrelated"), ("synack", "unasked"), ("reply", "unasked"),
            ("stream", "denied_egress"),
        ]
        let families = [
            (client.v4, near.v4, [Topology.outsideV4, bed["shut"].v4]),
            (client.v6, near.v6, [Topology.outsideV6, bed["shut"].v6]),
        ]
        for (source, peer, targets) in families {
            for (kind, reason) in kinds {
                for target in targets {
                    let before = try node.metric(Self.verdict("from_pod", reason))
                    let sent = try client.run(
                        ["/usr/bin/python3", "-c", Self.forge, kind, source, target, peer])
                    #expect(sent.isSuccess, "\(sent)")
                    #expect(
                        try node.metric(Self.verdict("from_pod", reason)) >= before + 1,
                        "\(kind) to \(target)")
                }
            }
        }
    }

    @Test func `forged errors, answers and neighbours of an isolated pod arrive nowhere`() throws {
        let bed = try Testbed("n1: client, near, shut")
        defer { bed.close() }
        _ = try bed["near"].serve()
        try bed.describe([])
        try bed.configure(
            "policy.yaml",
            Self.isolation(
                "client", "Egress",
                "egress: [{to: [{podSelector: {matchLabels: {app: near}}}], ports: [{port: 8080}]}]"
            ) + "---\n" + Self.isolation("shut", "Ingress, Egress"))
        let node = bed[node: "n1"]
        try node.startAgent()
        let watch = Self.watch("FORGED", "CONTROL")
        let outside = try bed.startOutside("watch", watch)
        let shut = try bed["shut"].start("watch", watch)
        try eventually("both watch") { outside.text.contains("up") && shut.text.contains("up") }

        let (client, near) = (bed["client"], bed["near"])
        try pretend(bed, node)
        for target in [Topology.outsideV6, bed["shut"].v6] {
            _ = try client.run(
                ["/usr/bin/python3", "-c", Self.forge, "neighbour", client.v6, target])
        }
        #expect(try node.metric(Self.verdict("from_pod", "off_link")) == 2)

        // From the nodes' network: the node itself, and the pod itself.
        let shutPod = bed["shut"]
        for (source, target) in [
            (node.v4, shutPod.v4), (node.v6, shutPod.v6), (shutPod.v6, shutPod.v6),
            (near.v6, shutPod.v6),
        ] {
            _ = try bed.outside(["/usr/bin/python3", "-c", Self.forge, "datagram", source, target])
        }
        #expect(try node.metric(Self.verdict("uplink", "spoofed")) == 4, "\(shut.text)")

        // What is allowed arrives, and nothing has before it.
        _ = try near.run(["/usr/bin/python3", "-c", Self.control, Topology.outsideV4])
        _ = try near.run(["/usr/bin/python3", "-c", Self.control, Topology.outsideV6])
        _ = try node.run(["/usr/bin/python3", "-c", Self.control, shutPod.v6])
        try eventually("the controls arrive: \(outside.text), \(shut.text)") {
            outside.text.components(separatedBy: "CONTROL").count >= 3
                && shut.text.contains("CONTROL")
        }
        #expect(!outside.text.contains("FORGED"), "\(outside.text)")
        #expect(!shut.text.contains("FORGED"), "\(shut.text)")
    }

    @Test
    func `downloads from before the agent, and through a flush, go on in their true direction`()
        throws
    {
        let bed = try Testbed("n1: client, near; n2: far")
        defer { bed.close() }
        try bed.describe([])
        // The client may dial and not be dialled; the server on the same node the other way round.
        try bed.configure(
            "policy.yaml",
            Self.isolation("client", "Ingress") + "---\n" + Self.isolation("near", "Egress"))
        for pod in ["near", "far"] {
            let server = try bed[pod].start(
                "ticker", ["/usr/bin/python3", "-c", PythonPrograms.ticker, "45000"])
            try eventually("\(pod) listens") { server.text.contains("up") }
        }
        func download(_ label: String, _ address: String, outside: Bool = false) throws
            -> TestProcess
        {
            let command = ["/usr/bin/python3", "-c", PythonPrograms.listener, address, "45000"]
            return outside
                ? try bed.startOutside(label, command)
                : try bed["client"].start(label, command)
        }
        let downloads = [
            try download("far4", bed["far"].v4), try download("far6", bed["far"].v6),
            try download("out4", bed["near"].v4, outside: true),
            try download("out6", bed["near"].v6, outside: true),
        ]
        func go(_ when: String) throws {
            let before = downloads.map(\.text.count)
            try eventually("all go on \(when)") {
                zip(downloads, before).allSatisfy { $0.text.count > $1 + 20 }
            }
        }
        try go("without an agent")
        let node = bed[node: "n1"]
        try node.startAgent()
        try go("when policies are in force")
        #expect(try node.metric(Self.verdict("to_pod", "denied_ingress")) == 0)
        #expect(try node.metric(Self.verdict("from_pod", "denied_egress")) == 0)
        #expect(try bed["far"].curl("http://\(bed["client"].v4):45000/", seconds: 1).status == 0)

        let flushed = try node.malla("bpf", "ct", "flush", "--all")
        #expect(!flushed.output.hasPrefix("0 "), "\(flushed)")
        try go("after a flush")
        #expect(try node.metric(Self.verdict("from_pod", "cut")) == 0)
        #expect(try node.metric(Self.verdict("to_pod", "cut")) == 0)
    }
}
