import Foundation
import TestSupport
import Testing

/// The client pod may reach port 9001 and nothing else; near may be reached at port 9001 alone.
@Suite("A pod whose program is taken off is closed (docs/operations.md)", .serialized)
struct GuardTests {
    private static let policies = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: cage, namespace: bed}
        spec:
          podSelector: {matchLabels: {app: client}}
          policyTypes: [Egress]
          egress: [{ports: [{port: 9001, protocol: TCP}]}]
        ---
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: wall, namespace: bed}
        spec:
          podSelector: {matchLabels: {app: near}}
          ingress: [{ports: [{port: 9001, protocol: TCP}]}]

        """

    /// At port 9001 sends back what it gets; says of everything that comes to port 9002.
    private static let listener = """
        import os, socket, threading
        def bound(kind, port):
            s = socket.socket(socket.AF_INET6, kind)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("::", port))
            return s
        def echo(s):
            while part := s.recv(4096): s.sendall(part)
        def datagrams(s):
            while True: os.write(1, b"heard %s\\n" % s.recvfrom(99)[1][0].encode())
        def dials(s, serve):
            s.listen(256)
            while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
        def heard(s): os.write(1, b"heard a dial\\n"); s.close()
        threading.Thread(target=datagrams, args=(bound(socket.SOCK_DGRAM, 9002),)).start()
        denied = bound(socket.SOCK_STREAM, 9002)
        threading.Thread(target=dials, args=(denied, heard)).start()
        print("listens", flush=True)
        dials(bound(socket.SOCK_STREAM, 9001), echo)
        """

    /// Keeps four connections to port 9001 of each address busy, and tries port 9002 by both
    /// transports, again and again from new ports.
    private static let client = """
        import os, socket, sys, threading, time
        addresses = sys.argv[1].split(",")
        def say(text): os.write(1, text.encode() + b"\\n")
        def keep(address):
            try:
                s = socket.create_connection((address, 9001), 20)
                while True:
                    s.sendall(b"x" * 700)
                    size = 0
                    while size < 700: size += len(s.recv(700)) or sys.exit(say("fault: an end"))
                    say("kept")
                    time.sleep(0.05)
            except OSError as error: say("fault: %s" % error)
        for address in addresses * 4: threading.Thread(target=keep, args=(address,)).start()
        while True:
            for address in addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                u = socket.socket(family, socket.SOCK_DGRAM)
                u.sendto(b"x", (address, 9002))
                u.close()
                t = socket.socket(family, socket.SOCK_STREAM)
                t.settimeout(0.01)
                try: t.connect((address, 9002)); say("fault: connected")
                except OSError: pass
                t.close()
            say("tried")
        """

    private static func pins(_ mesh: SmallMesh.Running, _ pod: String) throws -> [String: String] {
        let interface = try #require(mesh.bed.topology.pods.first { $0.name == pod }).interface
        let link = try mesh.node.run(["ip", "-o", "link", "show", "dev", interface]).output
        let index = link.prefix { $0 != ":" }
        let directory =
            try Command.shell("ls -d \(mesh.node.bpffs)/malla/v*/link")
            .split(separator: "\n").first ?? "?"
        return Dictionary(
            uniqueKeysWithValues: ["from_pod", "back", "to_pod", "to_pod_guard"].map {
                ($0, "\(directory)/\($0)_\(index)")
            })
    }

    /// Puts a program that lets all pass directly behind a link: BPF_LINK_CREATE with BPF_F_AFTER.
    private static let between = """
        link = sys.argv[1]
        program = opened(os.path.dirname(os.path.dirname(link)) + "/programs/malla_leaving")
        kind = 47 if "to_pod" in link else 46
        index = int(link.rsplit("_", 1)[1])
        mine = bpf(28, "=IIIIIIQ", program, index, kind, 1 << 13 | 1 << 4, opened(link), 0, 0)
        print("between", flush=True)
        time.sleep(60)
        """

    /// Somebody who keeps what is allowed busy and tries what is denied, and who listens.
    private struct Traffic {
        let mesh: SmallMesh.Running
        let heard: TestProcess
        let caller: TestProcess

        /// Between the pod and the host outside; whether the pod is who sends.
        init(_ mesh: SmallMesh.Running, _ pod: TestPod, _ sends: Bool) throws {
            self.mesh = mesh
            let python = ["/usr/bin/python3", "-c"]
            let targets = sends ? [Topology.outsideV4, Topology.outsideV6] : [pod.v4, pod.v6]
            let listener = python + [GuardTests.listener]
            let client = python + [GuardTests.client, targets.joined(separator: ",")]
            let heard =
                sends
                ? try mesh.bed.startOutside("listener", listener)
                : try pod.start("listener", listener)
            try eventually("it listens") { heard.text.contains("listens") }
            self.heard = heard
            caller =
                sends
                ? try pod.start("caller", client) : try mesh.bed.startOutside("caller", client)
        }

        private func count(_ word: Substring) -> Int {
            caller.text.split(separator: "\n").count { $0 == word }
        }

        func more(_ word: Substring, _ number: Int, _ when: String) throws {
            let before = count(word)
            try eventually("\(when): \(caller.text.suffix(200))\n\(mesh.logs)") {
                count(word) >= before + number
            }
        }

        func isRepaired(_ number: Int) throws {
            try eventually("it is repaired: \(mesh.logs)", within: 8) {
                try mesh.node.metric("malla_repairs_total{what=\"link\"}") >= Double(number)
            }
        }
    }

    /// whose interface, which program, whether the pod is who sends
    @Test(arguments: [("client", "from_pod", true), ("near", "to_pod", false)])
    func `nothing that policies deny gets by, and what they allow goes on after the repair`(
        _ pod: String, _ program: String, _ sends: Bool
    ) throws {
        let mesh = try SmallMesh.running { try $0.configure("policies.yaml", Self.policies) }
        defer { mesh.close() }
        let traffic = try Traffic(mesh, mesh.bed[pod], sends)
        try traffic.more("kept", 20, "what is allowed flows")
        try traffic.more("tried", 20, "the rest is tried")
        let pin = try #require(try Self.pins(mesh, pod)[program])

        // Nobody repairs for as long as it is tried.
        let child = try #require(mesh.node.child(of: mesh.agents[0]))
        kill(child, SIGSTOP)
        try Command.shell("bpftool link detach pinned \(pin)")
        try traffic.more("tried", 50, "it is tried while the program is off")
        kill(child, SIGCONT)
        try traffic.isRepaired(1)
        try traffic.more("kept", 20, "what is allowed flows on")

        for round in 2...5 {
            try Command.shell("bpftool link detach pinned \(pin)")
            try traffic.isRepaired(round)
            try traffic.more("kept", 8, "and on")
        }
        let other = try mesh.node.start(
            "between", ["/usr/bin/python3", "-c", PythonPrograms.bpf + Self.between, pin])
        try eventually("another program is between: \(other.text)") {
            other.text.contains("between")
        }
        try traffic.isRepaired(6)
        #expect(mesh.logs.contains("was not behind what it guards"), "\(mesh.logs)")
        try traffic.more("kept", 20, "it goes on behind the guard")
        _ = other.stop()

        #expect(traffic.heard.text == "listens\n", "got by: \(traffic.heard.text.prefix(300))")
        #expect(!traffic.caller.text.contains("fault"), "\(traffic.caller.text.suffix(300))")
        let verdicts = "malla_datapath_verdicts_total{hook=\"\(program)\",reason=\"unguarded\"}"
        #expect(try mesh.node.metric(verdicts) > 50)
        let events = try mesh.node.malla("observe", "--verdict", "unguarded").output
        #expect(events.contains("unguarded"), "\(events.suffix(500))")
        #expect(try mesh.node.metric("malla_datapath_problems") == 0)
    }

    @Test func `an agent that starts finds a guard before what it guards, and puts it behind`()
        throws
    {
        let mesh = try SmallMesh.running { try $0.configure("policies.yaml", Self.policies) }
        defer { mesh.close() }
        let (client, near) = (try Self.pins(mesh, "client"), try Self.pins(mesh, "near"))
        #expect(mesh.agents[0].stop() == 0, "\(mesh.logs)")
        for pin in [client["from_pod"], near["to_pod"]] {
            let path = try #require(pin)
            try Command.shell("bpftool link detach pinned \(path) && rm \(path)")
        }
        let gone = try mesh.client.curl(SmallMesh.kernelFar.urls[0], seconds: 1)
        #expect(gone.status == 0, "closed: \(gone)")

        try mesh.node.startAgent()
        let listener = ["/usr/bin/python3", "-c", Self.listener]
        for process in [
            try mesh.bed.startOutside("listener", listener),
            try mesh.bed["near"].start("listener", listener),
        ] {
            try eventually("it listens") { process.text.contains("listens") }
        }
        func reaches(_ outcome: Outcome) -> Bool { outcome.output.contains("reached") }
        let ask = """
            import socket, sys
            s = socket.create_connection((sys.argv[1], 9001), 2)
            s.sendall(b"reached")
            print(s.recv(99))
            """
        let dial = ["/usr/bin/python3", "-c", ask]
        #expect(reaches(try mesh.client.run(dial + [Topology.outsideV4])))
        #expect(reaches(try mesh.bed.outside(dial + [mesh.bed["near"].v4])))
    }

    @Test func `cleanup takes guards off first: not one echo is lost`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let traffic = try SteadyTraffic(
            mesh.bed, client: "client", servers: ["near", "far"], dials: [])
        for agent in mesh.agents { #expect(agent.stop() == 0, "\(mesh.logs)") }
        for node in ["n1", "n2"].map({ mesh.bed[node: $0] }) {
            let outcome = try node.run(
                [Binaries.agent, "cleanup", "--bpffs", node.bpffs, "--cgroup", node.cgroup])
            #expect(outcome.status == 0, "\(outcome)")
        }
        let outcome = try traffic.stop()
        #expect(outcome.faults.isEmpty, "\(outcome.faults.prefix(20))\n\(mesh.logs)")
    }
}
