import TestSupport
import Testing

@Suite("What an agent cannot start with is said in one line, with its exit code", .serialized)
struct StartTests {
    @Test func `no bpffs, no cgroup v2, maps that do not fit: 71 and the remedy`() throws {
        let bed = try Testbed("n1: client")
        defer { bed.close() }
        try bed.describe([])
        let node = bed[node: "n1"]
        // An option that comes again replaces the one before it.
        let cases: [(more: [String], words: [String])] = [
            (["--bpffs", "/proc/nowhere"], ["'/proc/nowhere' is no bpffs", "mount -t bpf"]),
            (["--cgroup", "/tmp"], ["'/tmp' is no directory of cgroup v2", "--cgroup"]),
            (
                ["--map-entries", "malla_service=4294967295"],
                ["refused to make the maps", "malla_service with 4294967295", "--map-entries"]
            ),
        ]

        for (more, words) in cases {
            let outcome = try node.run(node.agentArguments(more: more))
            expectOneLine(outcome, status: 71, words)
        }
    }

    @Test func `what the node's TCP is set to holds for the engine's`() throws {
        let bed = try Testbed("n1: client")
        defer { bed.close() }
        try bed.describe([])
        let node = bed[node: "n1"]
        let settings = [
            "tcp_congestion_control": "reno", "tcp_rmem": "4096 65536 3000000",
            "tcp_keepalive_time": "123", "tcp_slow_start_after_idle": "0",
        ]
        for (name, value) in settings {
            let script = "echo '\(value)' > /proc/sys/net/ipv4/\(name)"
            #expect(try node.run(["sh", "-ec", script]).status == 0)
        }

        let agent = try node.startAgent()

        for (name, value) in settings {
            let read = try node.inEngine(agent, "cat /proc/sys/net/ipv4/\(name)")
            let words = read.output.split { $0 == "\t" || $0 == "\n" || $0 == " " }
            #expect(words.joined(separator: " ") == value, "\(name): \(read)")
        }
    }

    @Test func `a machine without any cgroup v2: 71`() throws {
        let bed = try Testbed("n1: client")
        defer { bed.close() }
        try bed.describe([])
        let node = bed[node: "n1"]
        let words = node.agentArguments()
        let cgroup = try #require(words.firstIndex(of: "--cgroup"))
        let without = Array(words[..<cgroup]) + words[(cgroup + 2)...]
        let hiding = """
            for at in $(awk '$3 == "cgroup2" { print $2 }' /proc/mounts); do umount -l $at; done
            exec "$0" "$@"
            """

        let outcome = try node.run(["unshare", "-m", "sh", "-ec", hiding] + without)

        expectOneLine(outcome, status: 71, ["cgroup v2 is mounted nowhere", "mount cgroup2"])
    }

    @Test func `a pinned map of another build's layout: 71, and it is left as it is`() throws {
        let bed = try Testbed("n1: client")
        defer { bed.close() }
        try bed.describe([])
        let node = bed[node: "n1"]
        try node.startAgent().stop()
        let pins = try Command.shell("ls -d \(node.bpffs)/malla/v*").split(separator: "\n")
        let pin = "\(try #require(pins.last))/malla_service"
        try Command.shell(
            """
            rm \(pin)
            bpftool map create \(pin) type hash key 4 value 4 entries 8 name malla_service
            """)

        let outcome = try node.run(node.agentArguments())

        expectOneLine(outcome, status: 71, [pin, "key is 4 bytes in the kernel"])
        #expect(try Command.shell("bpftool map show pinned \(pin)").contains("key 4B"))
    }

    @Test(arguments: ["bpf", "perfmon", "net_admin", "sys_admin"])
    func `each capability by itself is missed by name: 77`(_ capability: String) throws {
        let bed = try Testbed("n1: client")
        defer { bed.close() }
        try bed.describe([])
        let node = bed[node: "n1"]

        let outcome = try node.run(
            ["setpriv", "--bounding-set", "-\(capability)"] + node.agentArguments())

        expectOneLine(outcome, status: 77, ["CAP_" + capability.uppercased(), "--datapath off"])
        #expect(outcome.errors.components(of: "CAP_") == 1, "\(outcome)")
    }

    /// What `capabilities.add` of the manifest lists, as setpriv(1) wants it.
    private static func manifestCapabilities() throws -> String {
        let lines = Command.text(Binaries.repository + "/deploy/daemonset.yaml")
            .split(separator: "\n").map { $0.drop { $0 == " " } }
        let start = try #require(lines.firstIndex(of: "add:"))
        let list = lines[(start + 1)...].prefix { $0.hasPrefix("- ") || $0.hasPrefix("#") }
            .filter { $0.hasPrefix("- ") }
        return "-all," + list.map { "+" + $0.dropFirst(2).lowercased() }.joined(separator: ",")
    }

    @Test func `the capabilities of the manifest are enough, and nothing of it is left undone`()
        throws
    {
        let quiet = try SmallMesh.bed()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let capabilities = try Self.manifestCapabilities()
        #expect(capabilities.contains("+bpf"), "\(capabilities)")

        let agent = try node.start(
            "agent", ["setpriv", "--bounding-set", capabilities] + node.agentArguments())
        try node.waitUntilReady(agent)

        for service in SmallMesh.services where service.portName != "udp" {
            let answer = try quiet.bed["client"].curl(service.urls[0] + "/")
            #expect(answer.status == 200, "\(service.name): \(answer.problem)\n\(agent.text)")
        }
        // An endpoint goes: the sockets that dialled it are looked for in the pods' namespaces.
        try quiet.bed.describe(SmallMesh.services.filter { $0.name != "kernel-far" })
        try eventually("the change is in force") {
            try !node.malla("services").output.contains("kernel-far")
        }
        #expect(!agent.text.contains("permitted"), "\(agent.text)")
        #expect(!agent.text.contains("Permission denied"), "\(agent.text)")
    }

    private func expectOneLine(_ outcome: Outcome, status: Int32, _ words: [String]) {
        #expect(outcome.status == status, "\(outcome)")
        let lines = outcome.errors.split(separator: "\n")
        #expect(lines.count == 1, "\(outcome)")
        for word in words { #expect(outcome.errors.contains(word), "\(outcome)") }
    }
}

extension String {
    /// How often `part` is in it.
    fileprivate func components(of part: String) -> Int { split(separator: part).count - 1 }
}
