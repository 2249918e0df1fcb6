import Glibc
import TestSupport
import Testing

/// A pod that starts has its network, and runs, before the agent has attached a program to it.
@Suite("No pod is open before its policies are (docs/operations.md)", .serialized)
struct HoldTests {
    /// Answers at 5353 (UDP) and 5354 (TCP).
    private static let server = """
        import socket, threading
        u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(("::", 5353))
        t = socket.create_server(("::", 5354), family=socket.AF_INET6, dualstack_ipv6=True)
        def datagrams():
            while True: u.sendto(*u.recvfrom(99))
        threading.Thread(target=datagrams, daemon=True).start()
        while True: t.accept()[0].close()
        """

    /// For so many seconds, or until 8080 answers at both addresses if those are negative: prints
    /// what of 5353 and 5354, which policies deny, has answered, and of 8080, which they allow.
    private static let client = """
        import selectors, socket, sys, time
        seconds, *addresses = sys.argv[1:]
        end = time.monotonic() + abs(float(seconds))
        denied, served, due = set(), set(), {}
        while time.monotonic() < end and (float(seconds) > 0 or len(served) < 2):
            for at in addresses:
                family = socket.AF_INET6 if ":" in at else socket.AF_INET
                for port, kind in (5353, 2), (5354, 1), (8080, 1):
                    s, since = due.get((at, port), (None, 0))
                    if s is None or time.monotonic() - since > 0.3:
                        if s: s.close()
                        s = socket.socket(family, kind); s.setblocking(False)
                        s.connect_ex((at, port)); due[at, port] = s, time.monotonic()
                    try:
                        if kind == 2: s.send(b"x"); s.recv(9); denied.add((at, port))
                        elif s.getsockopt(1, 4) == 0:
                            s.getpeername()
                            (served if port == 8080 else denied).add((at, port))
                    except OSError: pass
            time.sleep(0.002)
        print("denied", sorted(denied), "served", len(served))
        """

    private static let policy = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: late, namespace: \(Testbed.space)}
        spec:
          podSelector: {matchLabels: {app: late}}
          policyTypes: [Ingress, Egress]
          egress: [{ports: [{port: 8080}]}]
        """

    @Test func `not where its object is first, nor made anew, nor beside another with its address`()
        throws
    {
        let bed = try Testbed("n1: near, late")
        defer { bed.close() }
        let (node, near, late) = (bed[node: "n1"], bed["near"], bed["late"])
        _ = try near.serve()
        _ = try near.start("server", ["/usr/bin/python3", "-c", Self.server])
        try eventually("the server listens") {
            try near.run(["ss", "-Hlnt", "sport = :5354"]).output.contains("5354")
        }
        try bed.describe([])
        try bed.configure("policy.yaml", Self.policy)
        try late.unplug()
        let agent = try node.startAgent()
        func run(_ seconds: Double) throws -> String {
            try late.run(
                ["/usr/bin/python3", "-c", Self.client, "\(seconds)", near.v4, near.v6]
            ).output
        }

        // The object is there, and its namespace comes after it; twice.
        for _ in 0..<2 {
            #expect(try node.malla("endpoints").output.contains("silent until it does"))
            try late.plug()
            #expect(try run(-6) == "denied [] served 2\n", "\(agent.text)")
            // At once: the rows of the pod before are still there.
            try late.unplug()
            try late.plug()
            #expect(try run(-6) == "denied [] served 2\n", "\(agent.text)")
            try late.unplug()
            try eventually("it is gone") {
                try node.malla("endpoints").output.contains("silent until it does")
            }
        }

        // The object names an interface that is gone; another pod has got the address.
        try late.plug(as: "lxc-other")
        #expect(try run(3) == "denied [] served 0\n", "\(agent.text)")
        let trace = try node.malla(
            "policy", "trace", "--from", "\(Testbed.space)/late", "--to", near.v4, "--port", "8080")
        #expect(trace.output.contains("not_ready"), "\(trace)")
        let objects = try Command.shell("cat \(bed.configuration)/bed.yaml")
        try bed.configure("bed.yaml", objects.replacing("lxc-late", with: "lxc-other"))
        #expect(try run(-6) == "denied [] served 2\n", "\(agent.text)")
    }

    /// whose link is taken off, and which program closes alone what needs an answer
    @Test(arguments: [("from_socket", "to_socket"), ("to_socket", "from_socket")])
    func `nothing is answered while one of its programs is off, and it is put back under load`(
        _ gone: String, _ left: String
    ) throws {
        let bed = try Testbed("n1: near, late, calm")
        defer { bed.close() }
        let (node, near, late) = (bed[node: "n1"], bed["near"], bed["late"])
        _ = try near.serve()
        _ = try near.start("server", ["/usr/bin/python3", "-c", Self.server])
        try bed.describe([])
        try late.unplug()
        let agent = try node.startAgent()
        let traffic = try SteadyTraffic(bed, client: "calm", servers: ["near"], dials: [])
        func run() throws -> String {
            try late.run(["/usr/bin/python3", "-c", Self.client, "2", near.v4, near.v6]).output
        }
        func refused(_ hook: String) throws -> Double {
            try node.metric("malla_datapath_verdicts_total{hook=\"\(hook)\",reason=\"not_ready\"}")
        }

        // Nobody repairs for as long as it is tried.
        let child = try #require(node.child(of: agent))
        kill(child, SIGSTOP)
        try Command.shell("bpftool link detach pinned \(node.bpffs)/malla/v*/link/cgroup_\(gone)")
        // The object names another interface.
        try late.plug(as: "lxc-other")
        #expect(try run() == "denied [] served 0\n", "\(agent.text)")
        kill(child, SIGCONT)

        try eventually("it is repaired: \(agent.text)", within: 8) {
            try node.metric("malla_repairs_total{what=\"link\"}") == 1
        }
        #expect(try refused(left) > 0 && refused(gone) == 0, "it was off")
        #expect(agent.text.contains("at cgroup \(node.cgroup) was detached"), "\(agent.text)")
        #expect(try node.malla("status").output.contains("REPAIRED"))
        #expect(try run() == "denied [] served 0\n", "\(agent.text)")
        if gone == "from_socket" { #expect(try refused(gone) > 0, "it holds again") }
        let objects = try Command.shell("cat \(bed.configuration)/bed.yaml")
        try bed.configure("bed.yaml", objects.replacing("lxc-late", with: "lxc-other"))
        try eventually("it is served: \(agent.text)") {
            try late.curl("http://\(near.v4):8080/", seconds: 1).status == 200
        }
        let outcome = try traffic.stop()
        #expect(outcome.faults.isEmpty && outcome.echoes > 0, "\(outcome.faults.prefix(20))")
    }

    /// Where nothing is attached, only the node's routes lead to what policies deny.
    private static func startOutside(_ bed: Testbed) throws {
        _ = try bed.startOutside("server", ["/usr/bin/python3", "-c", server])
        let web = ["/usr/bin/python3", "-m", "http.server", "8080", "-b", "::"]
        _ = try bed.startOutside("web", web)
        try eventually("the servers listen") {
            let ports = try bed.outside(["ss", "-Hlnt"]).output
            return ports.contains(":5354") && ports.contains(":8080")
        }
    }

    private static func ask(_ pod: TestPod, _ seconds: Double) throws -> String {
        let words = ["/usr/bin/python3", "-c", client, "\(seconds)"]
        return try pod.run(words + [Topology.outsideV4, Topology.outsideV6]).output
    }

    private static func notReady(_ node: TestNode, _ hook: String) throws -> Double {
        try node.metric("malla_datapath_verdicts_total{hook=\"\(hook)\",reason=\"not_ready\"}")
    }

    @Test(arguments: ["stands still", "has ended"])
    func `an interface made anew in its namespace is silent until an agent has repaired it`(
        _ agentThat: String
    ) throws {
        let bed = try Testbed("n1: late")
        defer { bed.close() }
        let (node, late) = (bed[node: "n1"], bed["late"])
        try Self.startOutside(bed)
        try bed.describe([])
        try bed.configure("policy.yaml", Self.policy)
        let options = ["--child-silence", "0"]
        var agent = try node.startAgent(more: options)
        #expect(try Self.ask(late, -6) == "denied [] served 2\n", "\(agent.text)")
        let before = try Self.notReady(node, "from_socket")

        // Nobody looks for as long as it is tried.
        let child = try #require(node.child(of: agent))
        if agentThat == "has ended" { agent.stop() } else { kill(child, SIGSTOP) }
        try late.replug()
        #expect(try Self.ask(late, 3) == "denied [] served 0\n", "\(agent.text)")
        if agentThat == "has ended" {
            agent = try node.startAgent(more: options)
        } else {
            kill(child, SIGCONT)
        }

        #expect(try Self.ask(late, -9) == "denied [] served 2\n", "\(agent.text)")
        #expect(try Self.notReady(node, "from_socket") > before)
        if agentThat != "has ended" {
            #expect(try node.metric("malla_repairs_total{what=\"interface\"}") >= 1)
        }
    }

    @Test func `a pod that has its address on a bridge of its own waits for one look`() throws {
        let bed = try Testbed("n1: late")
        defer { bed.close() }
        let (node, late) = (bed[node: "n1"], bed["late"])
        try Self.startOutside(bed)
        try bed.describe([])
        try bed.configure("policy.yaml", Self.policy)
        let agent = try node.startAgent(more: ["--child-silence", "0"])
        #expect(try Self.ask(late, -6) == "denied [] served 2\n", "\(agent.text)")
        let before = try Self.notReady(node, "from_socket")

        let child = try #require(node.child(of: agent))
        kill(child, SIGSTOP)
        let script = """
            ip link add br0 type bridge
            ip addr flush dev eth0
            ip link set eth0 master br0
            ip link set br0 up
            ip addr add \(late.v4)/32 dev br0
            ip addr add \(late.v6)/128 dev br0 nodad
            ip addr add fe80::77/64 dev br0 nodad
            ip route add 169.254.1.1 dev br0
            ip route add default via 169.254.1.1 src \(late.v4)
            ip -6 route replace default via fe80::1 dev br0 src \(late.v6)
            """
        let made = try late.run(["sh", "-ec", script])
        #expect(made.isSuccess, "\(made)")
        #expect(try Self.ask(late, 2) == "denied [] served 0\n", "\(agent.text)")
        kill(child, SIGCONT)

        #expect(try Self.ask(late, -9) == "denied [] served 2\n", "\(agent.text)")
        #expect(try Self.notReady(node, "from_socket") > before)
        let maps = try node.malla("bpf", "maps").output
        #expect(maps.contains("malla_device") && maps.contains("malla_asked"), "\(maps)")
        // It stays known, whoever serves.
        agent.stop()
        #expect(try Self.ask(late, -3) == "denied [] served 2\n")
        let next = try node.startAgent()
        let refused = try Self.notReady(node, "from_socket")
        #expect(try Self.ask(late, -3) == "denied [] served 2\n", "\(next.text)")
        #expect(try Self.notReady(node, "from_socket") == refused)
    }

    @Test func `a second interface of a pod that is ready waits for one look`() throws {
        let bed = try Testbed("n1: near, late")
        defer { bed.close() }
        let (node, late) = (bed[node: "n1"], bed["late"])
        try bed.describe([])
        let agent = try node.startAgent()
        try Command.shell(
            """
            ip link add net1 netns $(basename \(bed.namespace("n1"))) type veth \
                peer name net1 netns $(basename \(bed.namespace("late")))
            """)
        for words in [
            ["addr", "add", "192.168.77.1/24", "dev", "net1"], ["link", "set", "net1", "up"],
        ] { #expect(try node.run(["ip"] + words).isSuccess) }
        for words in [
            ["addr", "add", "192.168.77.5/24", "dev", "net1"], ["link", "set", "net1", "up"],
        ] { #expect(try late.run(["ip"] + words).isSuccess) }
        try node.start("web", ["/usr/bin/python3", "-m", "http.server", "8099"])
        try eventually("it answers: \(agent.text)") {
            try late.curl("http://192.168.77.1:8099/", seconds: 1).status == 200
        }
    }
}
