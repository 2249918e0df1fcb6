import Foundation
import Glibc
import TestSupport
import Testing

@Suite("Restart, upgrade and removal (docs/operations.md)", .serialized)
struct LifecycleTests {
    static let restarts = 20

    /// The next agent of the node, or of `agent`'s supervisor, in one of four ways.
    private static func restart(
        _ node: TestNode, _ agent: TestProcess, _ number: Int
    ) throws -> TestProcess {
        let before = try node.serving()
        var next = agent
        switch number % 4 {
        case 0: agent.signal(SIGUSR2)
        case 1:
            next = try node.start("agent-\(number)", node.agentArguments(more: ["--takeover"]))
        case 2:
            #expect(agent.stop() == 0, "\(agent.text.suffix(2000))")
            next = try node.start("agent-\(number)", node.agentArguments())
        default:
            let child = try #require(node.child(of: agent))
            kill(agent.pid, SIGKILL)
            kill(child, SIGKILL)
            _ = agent.wait(seconds: 10)
            try eventually("no process of the agent is left") {
                try Command.shell("cat \(node.cgroup)/agent/cgroup.procs").isEmpty
            }
            next = try node.start("agent-\(number)", node.agentArguments())
        }
        try eventually("restart \(number): \(next.text.suffix(2000))", within: 30) {
            let now = try node.serving()
            return now != before && now != 0
        }
        if next !== agent, number % 4 == 1 {
            #expect(agent.wait(seconds: 20) == 0, "the old one ends by itself: \(agent.text)")
        }
        return next
    }

    @Test func `the kernel hurries no longer than programs are attached, were the agent to die`()
        throws
    {
        let setting = "/sys/kernel/rcu_expedited"
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let mark = mesh.node.bpffs + "/malla/hurried"
        #expect(!FileManager.default.fileExists(atPath: mark))
        // What an agent leaves that dies while it attaches.
        try FileManager.default.createDirectory(
            atPath: mark, withIntermediateDirectories: false)
        try Command.shell("echo 1 > \(setting)")
        defer { _ = try? Command.shell("echo 0 > \(setting)") }

        mesh.agents[0].signal(SIGUSR2)

        try eventually("the next one puts it back: \(mesh.logs)") {
            try !FileManager.default.fileExists(atPath: mark)
                && Command.shell("cat \(setting)").hasPrefix("0")
        }
    }

    /// Services 81 to 86, at node ports 30160 to 30165: of each kind of traffic for each server.
    private static let balanced: [(kind: SteadyTraffic.Call.Kind, pod: String)] =
        [.stream, .datagram, .dial].flatMap { kind in ["near", "far"].map { (kind, $0) } }

    /// All that is sent is allowed by them, but for `denied`.
    private static let policies = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: wall, namespace: bed}
        spec:
          podSelector: {matchExpressions: [{key: app, operator: In, values: [near, far]}]}
          ingress:
          - from: [{podSelector: {matchExpressions: [{key: app, operator: Exists}]}}]
          - from: [{ipBlock: {cidr: 10.76.0.0/24}}, {ipBlock: {cidr: "fd00:76::/64"}}]
            ports: [{port: 9001}, {port: 8080}, {port: 5353, protocol: UDP}]
        ---
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: cage, namespace: bed}
        spec:
          podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [near, far]}]}
          policyTypes: [Egress]
          egress:
          - to: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [near, far]}]}}]

        """

    private static func balance(_ bed: Testbed) throws {
        for (offset, each) in balanced.enumerated() {
            let target = [.stream: 9001, .dial: 8080, .datagram: 5353][each.kind] ?? 0
            try bed.configure(
                "balanced-\(offset).yaml",
                OpenMesh.service(
                    "\(each.kind)-\(each.pod)", pods: [each.pod], target: target,
                    transport: each.kind == .datagram ? "UDP" : "TCP", at: 81 + offset))
        }
        try bed.configure("policies.yaml", policies)
    }

    /// By pods' addresses and at the socket, packet by packet at the pod's interface, and from
    /// outside, where a server of the other node is reached from this node's address. The first two
    /// are in pods of their own: a socket that is balanced has dialled the endpoint, and the kernel
    /// gives its port to another that dials the service, which is refused where both meet.
    private static func callers(_ mesh: SmallMesh.Running)
        -> [(SteadyTraffic.Place, [SteadyTraffic.Call])]
    {
        typealias Call = SteadyTraffic.Call
        let (near, far, node) = (mesh.bed["near"], mesh.bed["far"], mesh.node)
        let servers = [near.v4, near.v6, far.v4, far.v6]
        var own =
            servers.map { Call(.echo, $0) } + servers.map { Call(.stream, $0, 9001) }
            + [Call(.dial, SmallMesh.kernelNear.v4, 80), Call(.dial, SmallMesh.kernelFar.v6, 80)]
        for service in [SmallMesh.datagramNear, SmallMesh.datagramFar] {
            own += [service.v4, service.v6].flatMap {
                [Call(.datagram, $0, service.port), Call(.loose, $0, service.port)]
            }
        }
        own += [Topology.outsideV4, Topology.outsideV6].map { Call(.denied, $0, 5353) }
        let unseen = balanced.enumerated().flatMap { offset, each in
            ["10.96.0.\(81 + offset)", "fd00:96::\(81 + offset)"].map { Call(each.kind, $0, 80) }
        }
        let outer = balanced.enumerated().flatMap { offset, each in
            [node.v4, node.v6].map { Call(each.kind, $0, 30_160 + offset) }
        }
        let denied = [near.v4, far.v6].map { Call(.denied, $0, 9002) }
        return [(.pod("client"), own), (.unseen("unseen"), unseen), (.outside, outer + denied)]
    }

    @Test func `twenty restarts lose no packet, reset no stream and refuse no connection of L4`()
        throws
    {
        let mesh = try SmallMesh.running(more: ["unseen"], Self.balance)
        defer { mesh.close() }
        _ = try mesh.bed.startOutside("stream", SteadyTraffic.listener)
        try eventually("somebody outside would answer") {
            try mesh.bed.outside(["ss", "-Hltn", "sport = :9001"]).output.contains("9001")
        }
        let traffic = try SteadyTraffic(mesh.bed, servers: ["near", "far"], Self.callers(mesh))
        var agent = mesh.agents[0]
        for number in 1...Self.restarts {
            agent = try Self.restart(mesh.node, agent, number)
        }
        let outcome = try traffic.stop()

        let dropped = try mesh.node.malla("bpf", "verdicts").output
        let told = "\(outcome.faults.prefix(20))\n\(dropped)\n\(mesh.logs)"
        #expect(outcome.faults.isEmpty, "\(told)")
        #expect(outcome.asked == outcome.echoes + outcome.datagrams, "\(outcome)")
        #expect(outcome.echoes > 4_000 && outcome.datagrams > 4_000, "\(outcome)")
        #expect(outcome.bytes > 4_000_000, "\(outcome)")
        #expect(outcome.dials > 400 && outcome.denied > 400, "\(outcome)")
        // Each way has been gone.
        let verdicts = try mesh.node.metrics().filter { $0.hasPrefix("malla_datapath_verdicts") }
        for (hook, reason) in [
            ("from_pod", "translated"), ("outside", "translated"), ("outside", "translated_back"),
            ("back", "translated_back"), ("from_pod", "denied_egress"),
            ("recvmsg4", "restored"), ("recvmsg6", "restored"),
        ] {
            let line = verdicts.first { $0.contains("{hook=\"\(hook)\",reason=\"\(reason)\"}") }
            let count = line?.split(separator: " ").last.flatMap { Double($0) } ?? 0
            #expect(count > 100, "\(hook) \(reason): \(verdicts)")
        }
        #expect(verdicts.contains { $0.contains("reason=\"denied_ingress\"") }, "\(verdicts)")
        #expect(try mesh.client.curl(SmallMesh.engineFar.urls[0]).status == 200, "\(agent.text)")
    }

    @Test func `another ABI's programs serve until this one's are in force, and then are gone`()
        throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let traffic = try SteadyTraffic(
            mesh.bed, client: "client", servers: ["near", "far"],
            dials: [SmallMesh.kernelNear.v4, SmallMesh.kernelFar.v6])
        let before = try Traces(mesh.node)
        #expect(mesh.agents[0].stop() == 0, "\(mesh.logs)")
        try Command.shell("mv \(mesh.node.bpffs)/malla/v* \(mesh.node.bpffs)/malla/v0")

        let next = try mesh.node.startAgent()

        let outcome = try traffic.stop()
        let verdicts = try mesh.node.malla("bpf", "verdicts").output
        #expect(
            outcome.faults.isEmpty, "\(outcome.faults.prefix(20))\n\(verdicts)\n\(next.text)")
        let after = try Traces(mesh.node)
        #expect(after.pins == before.pins, "\(next.text)")
        #expect(after.filters == before.filters && after.cgroupPrograms == before.cgroupPrograms)
    }

    @Test func `cleanup waits for the agent's end, and leaves no trace of it`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let node = mesh.node
        let cleanup = [
            Binaries.agent, "cleanup", "--bpffs", node.bpffs, "--cgroup", node.cgroup,
        ]
        let early = try node.run(cleanup)
        #expect(early.status == 69, "\(early)")
        #expect(early.errors.contains("stop it first"), "\(early)")
        #expect(try Traces(node) != Traces())
        let child = try #require(node.child(of: mesh.agents[0]))
        kill(mesh.agents[0].pid, SIGKILL)
        kill(child, SIGKILL)
        try eventually("no process of the agent is left") {
            try Command.shell("cat \(node.cgroup)/agent/cgroup.procs").isEmpty
        }
        let left = try Traces(node)
        #expect(!left.pins.isEmpty && !left.cgroupPrograms.isEmpty && !left.filters.isEmpty)

        // Pins of an older version go as well; links whose pins are elsewhere, by the cgroup.
        let programs = try Command.shell("ls -d \(node.bpffs)/malla/v*/programs").split(
            separator: "\n")[0]
        try Command.shell(
            """
            mkdir \(node.bpffs)/malla/v0 \(node.bpffs)/elsewhere
            mv \(programs)/../link/cgroup_recvmsg6 \(node.bpffs)/elsewhere/
            mv \(programs)/../link/cgroup_recvmsg4 \(node.bpffs)/malla/v0/
            """)
        let done = try node.run(cleanup)

        #expect(done.status == 0, "\(done)")
        try Command.shell("rm -r \(node.bpffs)/elsewhere")
        let after = try Traces(node)
        #expect(after == Traces(), "\(after)")
    }

    /// BPF_PROG_QUERY of both directions of every interface, which this bpftool cannot.
    private static let programsAtInterfaces = """
        import ctypes, socket, struct
        libc = ctypes.CDLL(None, use_errno=True)
        for index, name in socket.if_nameindex():
            for kind in (46, 47):
                question = struct.pack("=IIIIQI", index, kind, 0, 0, 0, 0)
                query = ctypes.create_string_buffer(question, 64)
                if libc.syscall(321, 16, query, 64): raise OSError(ctypes.get_errno())
                count = struct.unpack_from("=I", query, 24)[0]
                if count: print(name, kind, count)
        """

    /// All that a node has of Malla's.
    struct Traces: Equatable {
        /// Without the numbers of interfaces.
        var pins: [String] = []
        /// Programs at the node's cgroup and below.
        var cgroupPrograms: [String] = []
        /// Programs at the node's interfaces, qdiscs of filters.
        var filters: [String] = []
        var interfaces: [String] = []
        /// Network namespaces of processes of the agent, and those that veths of the node lead to.
        var namespaces: [String] = []

        init() {}

        init(_ node: TestNode) throws {
            func lines(_ script: String) throws -> [String] {
                try node.run(["sh", "-c", script]).output.split(separator: "\n").map(String.init)
            }
            // The two that the kernel puts into every bpffs.
            pins = try lines(
                "find \(node.bpffs) -mindepth 1 ! -name '*.debug' | sed 's/_[0-9]*$//' | sort")
            cgroupPrograms = try lines("bpftool cgroup tree \(node.cgroup) | grep -o 'malla_.*'")
            filters =
                try node.run(["/usr/bin/python3", "-c", LifecycleTests.programsAtInterfaces]).output
                .split(separator: "\n").map(String.init) + lines("tc qdisc | grep clsact")
            interfaces = try lines("ip -o link show malla0")
            namespaces = try lines(
                """
                for task in $(cat \(node.cgroup)/agent/cgroup.procs); do
                  [ $task = $$ ] || readlink /proc/$task/ns/net
                done | sort -u | grep -vF "$(readlink /proc/self/ns/net)"
                """)
        }
    }

    @Test func `the child keeps BPF, PERFMON and NET_ADMIN, and nothing gives it more`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let kept = UInt64(1) << 12 | 1 << 38 | 1 << 39
        func sets(_ file: String) -> [String: UInt64] {
            var sets: [String: UInt64] = [:]
            for line in Command.text(file).split(separator: "\n") {
                let words = line.split { $0 == ":" || $0 == "\t" }.map(String.init)
                if words.count == 2 { sets[words[0]] = UInt64(words[1], radix: 16) }
            }
            return sets
        }
        let child = try #require(mesh.node.child(of: mesh.agents[0]))
        let tasks = try Command.shell("ls /proc/\(child)/task").split(separator: "\n")
        #expect(tasks.count > 3)
        for task in tasks {
            let found = sets("/proc/\(child)/task/\(task)/status")
            #expect(found["CapPrm"] == kept, "\(task): \(found)")
            #expect(found["CapEff"] == kept, "\(task): \(found)")
            #expect(found["CapInh"] == 0 && found["CapAmb"] == 0, "\(task): \(found)")
            #expect(found["NoNewPrivs"] == 1, "\(task): \(found)")
        }
        let supervisor = sets("/proc/\(mesh.agents[0].pid)/status")
        #expect(try #require(supervisor["CapEff"]) & 1 << 21 != 0, "\(supervisor)")
    }
}

extension TestNode {
    /// The pid of the child that answers, by its own word; 0 if none answers.
    func serving() throws -> Int {
        let status = try curl("http://\(TestNode.admin)/v1/status").body
        guard let place = status.firstRange(of: "\"pid\":") else { return 0 }
        return Int(status[place.upperBound...].prefix { $0.isNumber }) ?? 0
    }
}
