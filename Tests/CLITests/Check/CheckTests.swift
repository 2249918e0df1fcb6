import AdminAPI
import Foundation
import Testing

@testable import CLI

@Suite("A check says what it found and what to do")
struct CheckTests {
    @Test(arguments: [
        ("6.6.0", "OK"), ("6.18.44-fc-v669", "OK"), ("7.0-rc1", "OK"), ("6.5.13", "FAIL"),
        ("6.1.0-18-amd64", "FAIL"), ("5.15.0", "FAIL"), ("", "FAIL"), ("linux", "FAIL"),
    ])
    func `TCX needs Linux 6_6`(release: String, status: String) {
        #expect(KernelChecks.version(release).status == status)
    }

    @Test(arguments: [(Int32(0), "OK"), (-EPERM, "WARN"), (-EINVAL, "FAIL"), (-ENOENT, "FAIL")])
    func `a kernel that may not be asked is no kernel that refuses`(result: Int32, status: String) {
        #expect(KernelChecks.program("tc", result: result).status == status)
        #expect(KernelChecks.tcx(result: result).status == status)
    }

    @Test(arguments: [
        (Int32(0), nil, "OK"), (-EADDRINUSE, "malla-agent", "OK"), (-EADDRINUSE, "nginx", "WARN"),
        (-EADDRINUSE, nil, "WARN"), (-EACCES, nil, "WARN"),
    ])
    func `a port is free, ours, or somebody's`(result: Int32, owner: String?, status: String) {
        let item = NodeChecks.port(15020, "admin", result: result, owner: owner, remedy: "stop it")
        #expect(item.status == status)
        if let owner, status == "WARN" { #expect(item.message.contains(owner)) }
    }

    @Test(arguments: [
        (nil, "WARN"), ("*nat\n:PREROUTING ACCEPT [0:0]\n", "OK"),
        ("*nat\n:ISTIO_OUTPUT - [0:0]\n", "WARN"), ("*filter\n:CILIUM_INPUT - [0:0]\n", "WARN"),
        ("*nat\n:PROXY_INIT_REDIRECT - [0:0]\n", "WARN"),
        ("*nat\n-A PREROUTING -m comment --comment ISTIO_ -j ACCEPT\n", "OK"),
        ("table inet x {\n\tchain ISTIO_OUTPUT {\n\t}\n}\n", "WARN"),
        ("table inet x {\n\tchain output {\n\t\tcomment \"ISTIO_\"\n\t}\n}\n", "OK"),
    ])
    func `chains of other meshes are named`(rules: String?, status: String) {
        #expect(NeighbourChecks.chains(rules).status == status)
    }

    @Test func `chains of two meshes are both named`() {
        let item = NeighbourChecks.chains("*nat\n:CILIUM_PRE - [0:0]\n:ISTIO_OUTPUT - [0:0]\n")
        #expect(item.message == "packet filter chains of Istio, Cilium")
    }

    @Test(arguments: [
        (["init", "sshd"], "OK"), (["ztunnel"], "WARN"), (["envoy", "nginx"], "WARN"),
        (["consul-dataplan"], "WARN"), (["envoy-notes"], "OK"),
    ])
    func `agents of other meshes are named`(running: [String], status: String) {
        #expect(NeighbourChecks.agents(running).status == status)
    }

    @Test func `every check that is not OK has a remedy`() {
        let items =
            KernelChecks.all(Machine()) + NodeChecks.mounts(Machine())
            + NodeChecks.forwarding(Machine()) + NodeChecks.ports(Machine())
            + NeighbourChecks.all(Machine())
            + AgentChecks.all(AgentClient(socket: "/nonexistent/agent.sock"))
        for item in items { #expect((item.status == "OK") == item.remedy.isEmpty, "\(item)") }
        #expect(Set(items.map(\.name)).count == items.count)
    }

    @Test func `a map that is nine tenths full is warned of before it refuses`() {
        func map(_ name: String, _ type: String, _ entries: UInt64) -> BPFStatsItem.Map {
            BPFStatsItem.Map(name: name, type: type, entries: entries, entriesMax: 100)
        }
        let fit = [
            map("malla_flow", "hash", 89), map("malla_ring", "hash", 100),
            map("malla_dialled", "lru_hash", 100), map("malla_node", "array", 100),
        ]
        #expect(AgentChecks.maps(fit).status == "OK")
        let item = AgentChecks.maps(fit + [map("malla_range", "lpm_trie", 90)])
        #expect(item.status == "WARN")
        #expect(item.message == "malla_range holds 90 of 100")
    }

    @Test func `a full map is a warning although the agent is ready`() throws {
        var status = try #require(Sample.status.items.first)
        status.ready = true
        #expect(AgentChecks.readiness(status).status == "OK")
        let item = AgentChecks.datapath(status)
        #expect(item.status == "WARN")
        #expect(item.message == "one map is full")
        status.datapath.message = ""
        #expect(AgentChecks.datapath(status).status == "OK")
    }

    @Test func `a pod that should be meshed and is not attached is named`() {
        var pods = Sample.endpoints.items
        #expect(AgentChecks.enrolment(pods, datapath: "on").status == "OK")
        pods[0].state = "no interface veth-cart"
        let item = AgentChecks.enrolment(pods, datapath: "on")
        #expect(item.status == "WARN")
        #expect(item.message == "shop/cart-1 is no interface veth-cart")
    }
}

@Suite("The machine's files are read as the kernel writes them")
struct MachineTests {
    /// A root directory with these files, gone afterwards.
    private func withRoot(_ files: [String: String], _ body: (Machine) throws -> Void) throws {
        let root = FileManager.default.temporaryDirectory.path + "/malla-root-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: root) }
        for (path, text) in files {
            let url = URL(fileURLWithPath: root + path)
            try FileManager.default.createDirectory(
                at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: url)
        }
        try body(Machine(root: root))
    }

    @Test func `mounts are found by their type, also with optional fields before the dash`() throws
    {
        let table = """
            31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
            41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 master:2 - cgroup2 cgroup2 rw
            50 23 0:40 / /run/bpf rw - bpf bpf rw
            """
        try withRoot(["/proc/self/mountinfo": table]) { machine in
            #expect(machine.mounts(ofType: "cgroup2") == ["/sys/fs/cgroup/unified"])
            let items = NodeChecks.mounts(machine)
            #expect(items.map(\.status) == ["OK", "WARN"])
            #expect(items[1].remedy.contains("--bpffs /run/bpf"))
        }
        try withRoot(["/proc/self/mountinfo": table]) { machine in
            func found(_ bpffs: String, _ cgroup: String) -> [String] {
                NodeChecks.mounts(
                    machine, agent: .init(mode: "on", bpffs: bpffs, cgroup: cgroup)
                ).map { "\($0.status) \($0.message)" }
            }
            #expect(
                found("/run/bpf", "/sys/fs/cgroup/unified/pods") == [
                    "OK /sys/fs/cgroup/unified/pods, which the agent uses",
                    "OK /run/bpf, which the agent uses",
                ])
            #expect(found("/run/bpf2", "/sys/fs/cgroup").allSatisfy { $0.hasPrefix("WARN") })
        }
        try withRoot([:]) { machine in
            #expect(NodeChecks.mounts(machine).map(\.status) == ["FAIL", "FAIL"])
        }
    }

    @Test(arguments: [
        ("CapEff:\t000001ffffffffff", "OK", ""),
        ("CapEff:\t0000000000001000", "FAIL", "CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN"),
        ("CapEff:\t000000c000001000", "FAIL", "CAP_SYS_ADMIN"), ("", "WARN", ""),
    ])
    func `missing capabilities are named`(line: String, status: String, missing: String) throws {
        try withRoot(["/proc/self/status": "Name:\tmalla\n\(line)\n"]) { machine in
            let item = NodeChecks.privileges(machine)
            #expect(item.status == status)
            if !missing.isEmpty { #expect(item.message == "missing \(missing)") }
        }
    }

    @Test func `forwarding that is off is a warning with the sysctl to set`() throws {
        let files = [
            "/proc/sys/net/ipv4/ip_forward": "1\n",
            "/proc/sys/net/ipv6/conf/all/forwarding": "0\n",
        ]
        try withRoot(files) { machine in
            let items = NodeChecks.forwarding(machine)
            #expect(items.map(\.status) == ["OK", "WARN"])
            #expect(items[1].remedy == "sysctl net.ipv6.conf.all.forwarding=1")
        }
    }

    @Test func `traces of other meshes are named with their place`() throws {
        try withRoot(["/var/run/cilium/state": ""]) { machine in
            let item = NeighbourChecks.signs(machine)
            #expect(item.status == "WARN")
            #expect(item.message == "Cilium (/var/run/cilium)")
        }
    }
}
