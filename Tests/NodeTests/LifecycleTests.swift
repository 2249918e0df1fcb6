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

    @Test func `twenty restarts lose no echo, reset no stream and refuse no connection of L4`()
        throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let traffic = try SteadyTraffic(
            mesh.bed, client: "client", servers: ["near", "far"],
            dials: [SmallMesh.kernelNear.v4, SmallMesh.kernelFar.v6])
        var agent = mesh.agents[0]
        for number in 1...Self.restarts {
            agent = try Self.restart(mesh.node, agent, number)
        }
        let outcome = try traffic.stop()

        #expect(outcome.faults.isEmpty, "\(outcome.faults.prefix(20))\n\(mesh.logs)")
        #expect(outcome.echoes > 4_000, "\(outcome)")
        #expect(outcome.bytes > 4_000_000, "\(outcome)")
        #expect(outcome.dials > 400, "\(outcome)")
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
