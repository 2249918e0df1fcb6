import Foundation
import Glibc
import TestSupport
import Testing

@Suite("After a crash nothing is left (docs/testbed.md)", .serialized)
struct CrashTests {
    private static let topology = "n1: client, near; n2: far"

    @Test
    func `a bed whose process was killed with -9 is taken away by clean, with all that ran in it`()
        throws
    {
        let name = "held\(getpid())"
        defer { Leftovers.remove(name) }
        let log = "/tmp/malla-\(name).log"
        defer { Command.remove(log) }
        let holder = try Command.background(
            [Binaries.testbed, "hold", name, Self.topology], log: log)
        try eventually("the bed is held") { holder.text.contains("held until") }
        let sleeper = try #require(
            pid_t(
                try Command.shell("\(Binaries.testbed) start \(name) client sleeper sleep 600")
                    .split(separator: "\n").first ?? ""))
        let standing = try Command.shell("\(Binaries.testbed) clean")
        #expect(!standing.contains(name), "its process lives")
        #expect(lives(sleeper))
        #expect(try Self.traces(of: name).contains("malla-\(name)-client"))

        holder.signal(SIGKILL)
        #expect(holder.wait(seconds: 5) == 128 + SIGKILL)
        let cleaned = try Command.shell("\(Binaries.testbed) clean")

        #expect(cleaned.contains("removed \(name)"), "\(cleaned)")
        #expect(try Self.traces(of: name).isEmpty)
        try eventually("the sleeper is gone") { !lives(sleeper) }
    }

    @Test func `SIGTERM ends a held bed and takes it away`() throws {
        let name = "term\(getpid())"
        defer { Leftovers.remove(name) }
        let log = "/tmp/malla-\(name).log"
        defer { Command.remove(log) }
        let holder = try Command.background(
            [Binaries.testbed, "hold", name, Self.topology], log: log)
        try eventually("the bed is held") { holder.text.contains("held until") }

        #expect(holder.stop() == 0, "\(holder.text)")

        #expect(try Self.traces(of: name).isEmpty)
    }

    @Test func `a bed whose making was killed with -9 is taken away by name`() throws {
        let name = "half\(getpid())"
        defer { Leftovers.remove(name) }
        let maker = try Command.background(
            [Binaries.testbed, "up", name, Self.topology], log: "/dev/null")
        try eventually("its first namespace is there") {
            try Self.traces(of: name).contains("malla-\(name)-fabric")
        }

        maker.signal(SIGKILL)
        #expect(maker.wait(seconds: 5) == 128 + SIGKILL, "it was still at work")
        try Command.shell("\(Binaries.testbed) down \(name)")

        #expect(try Self.traces(of: name).isEmpty)
        try eventually("nobody goes on with the maker's work") { !isWorkedOn(name) }
        #expect(try Self.traces(of: name).isEmpty)
    }

    @Test func `the demo goes up and down, also after its script and its agents were killed`()
        throws
    {
        let name = "demo\(getpid())"
        defer { Leftovers.remove(name) }
        let demo = "MALLA_DEMO_BED=\(name) \(Binaries.repository)/demo/demo.sh"
        let up = try Command.shell("\(demo) up", seconds: 90)
        #expect(up.contains("The shop is up"), "\(up)")
        let shop = try Command.shell(
            "\(Binaries.testbed) exec \(name) client curl -sf -m 5 http://frontend/")
        #expect(!shop.isEmpty)
        let cgroup = try #require(
            try Self.traces(of: name).split(separator: "\n").first {
                $0.hasSuffix("/malla-\(name)")
            })
        let processes = try Command.shell("cat $(find \(cgroup) -name cgroup.procs)")
            .split(separator: "\n").compactMap { pid_t($0) }
        #expect(processes.count >= 10, "six servers, two agents of two: \(processes)")

        try Command.shell("\(demo) down")
        #expect(try Self.traces(of: name).isEmpty)
        for process in processes { #expect(!lives(process), "\(process) lives on") }

        let script = try Command.background(
            ["sh", "-c", "exec env \(demo) up"], log: "/dev/null")
        let pids = "/tmp/malla-testbed/\(name)/agent-n1.pid"
        try eventually("its first agent is started", within: 60) {
            pid_t(Command.text(pids).split(separator: "\n").first ?? "") != nil
        }
        let agent = try #require(pid_t(Command.text(pids).split(separator: "\n").first ?? ""))
        script.signal(SIGKILL)
        kill(agent, SIGKILL)
        #expect(script.wait(seconds: 5) == 128 + SIGKILL)
        try Command.shell("\(demo) down")

        #expect(try Self.traces(of: name).isEmpty)
        #expect(!lives(agent))
    }

    /// Whether a process has the bed's name on its command line.
    private func isWorkedOn(_ name: String) -> Bool {
        let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return entries.contains {
            Int32($0) != nil && Command.text("/proc/\($0)/cmdline").contains(name)
        }
    }

    /// Whether there is such a process, and it has not ended.
    private func lives(_ process: pid_t) -> Bool {
        let text = Command.text("/proc/\(process)/stat")
        guard let end = text.lastIndex(of: ")") else { return false }
        return !text[end...].hasPrefix(") Z")
    }

    /// Namespaces, cgroups, mounts and files that bear the bed's name, a line each.
    static func traces(of name: String) throws -> String {
        try Command.shell(
            """
            ls -d /run/netns/malla-\(name)-* /tmp/malla-testbed/\(name) 2>/dev/null || true
            awk '$3 == "cgroup2" { print $2 }' /proc/mounts | while read -r root; do
              ls -d "$root/malla-\(name)" 2>/dev/null || true
            done
            grep "/malla-testbed/\(name)/" /proc/mounts || true
            """)
    }
}
