// The command line is a contract: options, defaults, refusals.

import ArgumentParser
import BPFLoader
import Foundation
import MeshModel
import Testing

@testable import NodeAgent

@Suite("The agent's command line")
struct AgentOptionsTests {
    @Test func `defaults are those of the manual`() throws {
        let options = try AgentOptions.parse(["--config", "/etc/malla"])

        #expect(options.datapath == .on)
        #expect(options.state == "/var/lib/malla")
        #expect(options.socket == "/run/malla/agent.sock")
        #expect(options.admin.socket.description == "127.0.0.1:15020")
        #expect(options.hostToPod == .allow)
        #expect(options.bpffs == "/sys/fs/bpf")
        #expect(options.flowSample == .off && options.flowHistory == 4096)
        #expect(options.identity.ca == nil)
        #expect(options.identity.trustDomain.domain == .standard)
        #expect(options.identity.certTTL.seconds == 86_400)
        #expect(options.identity.rootNamespace == "istio-system")
        #expect(options.workerCount >= 1)
        #expect(!options.nodeName.isEmpty)
    }

    @Test func `new pods are held where it harms nobody else`() throws {
        func held(_ arguments: String...) throws -> HeldPods {
            try AgentOptions.parse(["--config", "c"] + arguments).heldPods
        }
        let mount = try #require(Mounts.cgroupMount(textLines("/proc/self/mounts")))
        #expect(try held() == .inBlocks)
        #expect(try held("--cgroup", mount) == .inBlocks)
        #expect(try held("--cgroup", mount + "/") == .inBlocks)
        #expect(try held("--cgroup", mount + "/pods") == .all)
        #expect(try held("--cgroup", mount + "/pods", "--hold-new-pods", "blocks") == .inBlocks)
        #expect(try held("--hold-new-pods", "on") == .all)
        #expect(try held("--cgroup", mount + "/pods", "--hold-new-pods", "off") == .none)
    }

    @Test func `the child gets the same options`() throws {
        let given = [
            "--config", "c", "--datapath", "off", "--workers", "3", "--node", "n1", "--state", "s",
            "--socket", "k", "--admin", "[::1]:0", "--bpffs", "b",
            "--hold-new-pods", "off", "--host-to-pod", "policy", "--host-routing", "legacy",
            "--cgroup", "g", "--ca", "a",
            "--trust-domain", "example.org", "--cert-ttl", "20s", "--root-namespace", "mesh",
            "--access-log", "-", "--flow-sample", "1/100", "--flow-history", "50", "--map-entries",
            "malla_service=12",
            "--map-entries", "malla_flow=34",
        ]
        let options = try AgentOptions.parse(given)

        #expect(options.arguments == given)
    }

    @Test(arguments: [
        ["--datapath", "on"], ["--config", "c", "--datapath", "maybe"],
        ["--config", "c", "--flow-sample", "1/0"], ["--config", "c", "--flow-sample", "2"],
        ["--config", "c", "--flow-history", "0"],
        ["--config", "c", "--workers", "0"], ["--config", "c", "--workers", "129"],
        ["--config", "c", "--admin", "15020"], ["--config", "c", "--admin", "::1:80"],
        ["--config", "c", "--admin", "127.0.0.1:70000"], ["--config", ""],
        ["--config", "c", "--socket", String(repeating: "x", count: 108)],
        ["--config", "c", "--unknown"], ["--config", "c", "--map-entries", "malla_service"],
        ["--config", "c", "--map-entries", "malla_service=0"],
        ["--config", "c", "--map-entries", "no_such_map=5"],
        ["--config", "c", "--node", ""], ["--config", "c", "--node", "a b/c"],
        ["--config", "c", "--ca", "a", "--svids", "b"],
        ["--config", "c", "--svids", "a", "--workload-api", "b"], ["--config", "c", "--ca", ""],
        ["--config", "c", "--trust-domain", "Example.org"],
        ["--config", "c", "--cert-ttl", "9s"], ["--config", "c", "--cert-ttl", "1y"],
        ["--config", "c", "--cert-ttl", "24"], ["--config", "c", "--root-namespace", ""],
    ])
    func `what cannot be meant is refused as wrong usage`(_ arguments: [String]) {
        #expect {
            _ = try AgentOptions.parse(arguments)
        } throws: { AgentOptions.exitCode(for: $0).rawValue == 64 }
    }
}

@Suite("Mounts (proc_mounts(5))")
struct MountsTests {
    @Test(arguments: [
        (["cgroup2 /sys/fs/cgroup cgroup2 rw 0 0"], "/sys/fs/cgroup"),
        (["cgroup /a cgroup rw 0 0", "none /b\\040c cgroup2 rw 0 0"], "/b c"),
        (["proc /proc proc rw 0 0"], nil),
    ])
    func `the first cgroup v2 mount counts`(_ lines: [String], _ found: String?) {
        #expect(Mounts.cgroupMount(lines.map { $0[...] }) == found)
    }

    @Test func `a directory that is not there, or not empty, is not mounted over`() throws {
        let root = FileManager.default.temporaryDirectory.path + "/malla-bpffs-\(getpid())"
        defer { try? FileManager.default.removeItem(atPath: root) }
        try FileManager.default.createDirectory(
            atPath: root + "/plain/file", withIntermediateDirectories: true)
        #expect(throws: StartError.bpffs(root + "/none", errno: ENOENT)) {
            try Mounts.requireBPF(root + "/none")
        }
        #expect(throws: StartError.bpffs(root + "/plain", errno: ENOTEMPTY)) {
            try Mounts.requireBPF(root + "/plain")
        }
        #expect(!FileManager.default.fileExists(atPath: root + "/none"))
        #expect(!Mounts.isBPF(root + "/plain"))
    }
}
