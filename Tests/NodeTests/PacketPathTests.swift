import Foundation
import TestSupport
import Testing

@Suite("Packets between pods (docs/verdicts.md)", .serialized)
struct PacketPathTests {
    /// Echoes UDP of any length, both families.
    private static let datagramServer = """
        import socket
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.bind(("::", 5353))
        while True:
            text, peer = s.recvfrom(65536)
            s.sendto(text, peer)
        """
    /// Sends one datagram of 20 000 bytes to an address; prints how many come back.
    private static let datagramClient = """
        import socket, sys
        s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(5)
        s.sendto(b"x" * 20000, (sys.argv[1], 5353))
        print(len(s.recv(65536)))
        """
    /// An echo request by hand; prints `answered` or `silence`.
    private static let echo = """
        import socket, struct, sys, time
        six = ":" in sys.argv[1]
        kind = (socket.AF_INET6, 58, 128) if six else (socket.AF_INET, 1, 8)
        s = socket.socket(kind[0], socket.SOCK_RAW, kind[1])
        body = struct.pack("!BBHHH", kind[2], 0, 0, 77, 1) + b"malla"
        if not six:
            words = struct.unpack("!%dH" % (len(body + b"\\0") // 2), body + b"\\0")
            total = sum(words)
            total = (total & 65535) + (total >> 16)
            body = body[:2] + struct.pack("!H", ~total & 65535) + body[4:]
        s.sendto(body, (sys.argv[1], 0))
        end = time.time() + 3
        s.settimeout(3)
        found = "silence"
        while time.time() < end and found == "silence":
            try: text = s.recv(2048)
            except TimeoutError: break
            text = text if six else text[20:]
            if text[0] == (129 if six else 0) and text[4:6] == b"\\0\\x4d": found = "answered"
        print(found)
        """
    /// One UDP datagram with a source address of the caller's choice.
    private static let spoof = """
        import socket, struct, sys
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 1, 0, 64, 17, 0,
            socket.inet_aton(sys.argv[1]), socket.inet_aton(sys.argv[2]))
        s.sendto(head + struct.pack("!HHHH", 1, 5353, 12, 0) + b"fake", (sys.argv[2], 0))
        """

    private static func verdict(_ hook: String, _ reason: String) -> String {
        "malla_datapath_verdicts_total{hook=\"\(hook)\",reason=\"\(reason)\"}"
    }

    @Test func `pods of one node reach each other straight, and the flow is listed`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let before = try mesh.node.metric(Self.verdict("from_pod", "direct"))

        for url in ["http://\(near.v4):8080/", "http://[\(near.v6)]:8080/"] {
            let answer = try mesh.client.curl(url)
            #expect(answer.headers["x-pod"] == "near", "\(answer.problem)\n\(mesh.logs)")
        }
        #expect(try mesh.node.metric(Self.verdict("from_pod", "direct")) >= before + 10)

        let listed = try mesh.node.malla("bpf", "ct", "list", "--pod", "bed/client").output
        for address in ["\(near.v4):8080", "[\(near.v6)]:8080"] {
            let line = listed.split(separator: "\n").first { $0.contains(address) }
            #expect(line?.contains("own") == true, "\(listed)")
        }
    }

    @Test func `large datagrams come in fragments and arrive whole`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        for name in ["near", "far"] {
            let pod = mesh.bed[name]
            try pod.start("udp", ["/usr/bin/python3", "-c", Self.datagramServer])
            try eventually("\(name) listens on 5353") {
                try pod.run(["ss", "-Hlun", "sport = :5353"]).output.contains("5353")
            }
            for address in [pod.v4, pod.v6] {
                let answer = try mesh.client.run(
                    ["/usr/bin/python3", "-c", Self.datagramClient, address])
                #expect(answer.output == "20000\n", "\(name) \(address): \(answer)\n\(mesh.logs)")
            }
        }
        #expect(try mesh.node.metric(Self.verdict("from_pod", "fragment_lost")) == 0)
    }

    @Test func `an echo is answered, near and far, IPv4 and IPv6`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        for name in ["near", "far"] {
            for address in [mesh.bed[name].v4, mesh.bed[name].v6] {
                let answer = try mesh.client.run(["/usr/bin/python3", "-c", Self.echo, address])
                #expect(answer.output == "answered\n", "\(name) \(address): \(answer)")
            }
        }
    }

    @Test(arguments: ["off", "auto"]) func `a pod cannot send from an address that is not its own`(
        _ hold: String
    ) throws {
        let quiet = try SmallMesh.bed()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        try node.startAgent(more: ["--hold-new-pods", hold])
        let verdict = Self.verdict("from_pod", "spoofed")
        let before = try node.metric(verdict)

        for source in [quiet.bed["far"].v4, "192.0.2.1"] {
            let sent = try quiet.bed["client"].run(
                ["/usr/bin/python3", "-c", Self.spoof, source, quiet.bed["near"].v4])
            #expect(sent.isSuccess, "\(sent)")
        }
        #expect(try node.metric(verdict) == before + 2)
    }

    @Test func `a flush has flows judged anew, and connections go on`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let load = try mesh.client.start(
            "wrk", ["wrk", "-t1", "-c4", "-d4s", "http://\(near.v4):8080/"])
        try eventually("the load flows, all connections are open") {
            let open = try mesh.client.run(
                ["ss", "-Htn", "state", "established", "dport", "=", ":8080"])
            let count = open.output.split(separator: "\n").count
            return try count == 4 && mesh.quiet.near.requests() > 50
        }

        for _ in 0..<3 {
            let flushed = try mesh.node.malla("bpf", "ct", "flush", "--address", near.v4)
            #expect(flushed.output.hasSuffix("flows are judged anew.\n"), "\(flushed)")
            #expect(!flushed.output.hasPrefix("0 "), "\(flushed)")
        }
        #expect(load.wait(seconds: 20) == 0)
        #expect(Load(load.text).errors == 0, "\(load.text)")

        let refused = try mesh.node.run(
            ["curl", "-sS", "-X", "POST", "http://\(TestNode.admin)/v1/bpf/ct/flush/all"])
        #expect(refused.output.contains("Unix socket"), "anybody may read, nobody may flush")
    }

    @Test func `a change of policy cuts what it no longer allows, and nothing else`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let url = "http://\(mesh.bed["near"].v4):8080/"
        let far = mesh.bed["far"]
        let arguments = ["wrk", "-t1", "-c2", "-d6s", "--timeout", "1s", url]
        let kept = try far.start("kept", arguments)
        let cut = try mesh.client.start("cut", arguments)
        try eventually("the loads flow") { try mesh.quiet.near.requests() > 50 }

        try mesh.bed.configure("policy.yaml", IdleConnectionTests.only("far"))
        try eventually("the flow is cut") {
            try mesh.node.metric(Self.verdict("from_pod", "cut")) > 0
        }
        let listed = try mesh.node.malla("bpf", "ct", "list", "--pod", "bed/client").output
        #expect(listed.split(separator: "\n").contains { $0.hasSuffix("  cut") }, "\(listed)")
        #expect(try mesh.client.curl(url, seconds: 2).status == 0)
        #expect(try far.curl(url).status == 200, "\(mesh.logs)")
        #expect(try mesh.node.metric(Self.verdict("from_pod", "denied_ingress")) > 0)

        #expect(kept.wait(seconds: 20) == 0)
        #expect(Load(kept.text).errors == 0, "\(kept.text)")
        _ = cut.wait(seconds: 20)
    }

    @Test func `a new pod is silent until the configuration names it, and others are not cut`()
        throws
    {
        let bed = try Testbed("n1: client, near, late")
        defer { bed.close() }
        _ = try bed["near"].serve()
        _ = try bed["late"].serve()
        try bed.describe([])
        let all = try String(contentsOfFile: bed.configuration + "/bed.yaml", encoding: .utf8)
        let early = all.components(separatedBy: "\n---\n")
            .filter { !$0.contains("  name: late\n") }.joined(separator: "\n---\n")
        try bed.configure("bed.yaml", early)
        let node = bed[node: "n1"]
        let load = try bed["client"].start(
            "wrk", ["wrk", "-t1", "-c2", "-d4s", "http://\(bed["near"].v4):8080/"])
        let agent = try node.startAgent()

        let url = "http://\(bed["near"].v4):8080/"
        #expect(try bed["late"].curl(url, seconds: 2).status == 0, "\(agent.text)")
        #expect(try node.metric(Self.verdict("from_socket", "not_ready")) > 0)
        #expect(try bed["client"].curl(url).status == 200, "\(agent.text)")
        #expect(try node.curl(url).status == 200, "the node's own")
        // Nor does anybody reach it before its policies are known.
        for late in ["http://\(bed["late"].v4):8080/", "http://[\(bed["late"].v6)]:8080/"] {
            #expect(try bed["client"].curl(late, seconds: 1).status == 0, "\(agent.text)")
            #expect(try node.curl(late, seconds: 1).status == 0, "\(agent.text)")
        }
        #expect(try node.metric(Self.verdict("to_socket", "not_ready")) > 0)

        try bed.configure("bed.yaml", all)
        try eventually("the pod is ready") { try bed["late"].curl(url, seconds: 2).status == 200 }
        #expect(load.wait(seconds: 20) == 0)
        #expect(Load(load.text).errors == 0, "\(load.text)")
    }

    @Test func `with the node's blocks only its own pods are held, and no other container`() throws
    {
        let bed = try Testbed("n1: near, late")
        defer { bed.close() }
        _ = try bed["near"].serve()
        try bed.describe([])
        let all = try String(contentsOfFile: bed.configuration + "/bed.yaml", encoding: .utf8)
        let node = bed[node: "n1"]
        let parts = all.components(separatedBy: "\n---\n").filter {
            !$0.contains("  name: late\n")
        }
        try bed.configure(
            "bed.yaml",
            parts.joined(separator: "\n---\n").replacing(
                "metadata: {name: n1}\n",
                with: "metadata: {name: n1}\nspec: {podCIDRs: [10.77.1.0/24, \"fd00:77:1::/64\"]}\n"
            ))
        let late = bed["late"]
        for words in [
            ["ip", "addr", "add", "192.168.77.5/32", "dev", "eth0"],
            ["ip", "addr", "add", "fd77::5/128", "dev", "eth0", "nodad"],
        ] { #expect(try late.run(words).status == 0) }
        for address in ["192.168.77.5/32", "fd77::5/128"] {
            #expect(try node.run(["ip", "route", "add", address, "dev", "lxc-late"]).status == 0)
        }
        try node.startAgent(more: ["--hold-new-pods", "blocks"])

        for (url, own, other) in [
            ("http://\(bed["near"].v4):8080/", late.v4, "192.168.77.5"),
            ("http://[\(bed["near"].v6)]:8080/", late.v6, "fd77::5"),
        ] {
            #expect(try late.curl("--interface", own, url, seconds: 1).status == 0, "\(own)")
            #expect(try late.curl("--interface", other, url, seconds: 4).status == 200, "\(other)")
        }
    }
}
