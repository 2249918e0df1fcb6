// A node of a bed: its namespace, cgroup, bpffs, and the agent that runs in it.

internal import Foundation
public import Glibc

/// A namespace that stands for a machine.
public final class TestNode {
    public let name: String
    public let v4: String
    public let v6: String
    unowned let bed: Testbed

    init(_ node: Topology.Node, bed: Testbed) {
        name = node.name
        v4 = node.v4
        v6 = node.v6
        self.bed = bed
    }

    public var cgroup: String { "\(bed.cgroup)/\(name)" }
    public var bpffs: String { "\(bed.directory)/\(name)/bpffs" }
    public var state: String { "\(bed.directory)/\(name)/state" }
    public var socket: String { "\(bed.directory)/\(name)/agent.sock" }
    /// Of the agent's admin server, in the node's namespace.
    public static let admin = "127.0.0.1:15020"

    /// The command line that runs `arguments` in the node's namespace and the agent's cgroup.
    public func chain(_ arguments: [String]) -> [String] {
        Chain.entering(namespace: bed.namespace(name), cgroup: cgroup + "/agent", arguments)
    }

    public func run(_ arguments: [String], seconds: Int = 30) throws -> Outcome {
        try Command.run(chain(arguments), seconds: seconds)
    }

    public func curl(_ arguments: String..., seconds: Int = 10) throws -> Response {
        let outcome = try run(Curl.words + ["-m", "\(seconds)"] + arguments, seconds: seconds + 5)
        return Curl.response(outcome)
    }

    @discardableResult
    public func start(_ label: String, _ arguments: [String]) throws -> TestProcess {
        let log = "\(bed.directory)/log-\(name)-\(label).txt"
        return TestProcess(
            pid: try Command.start(chain(arguments), output: log, errors: log), log: log)
    }

    /// The agent's command line on this node, as the deployment would write it.
    public func agentArguments(workers: Int = 1, more: [String] = []) -> [String] {
        [
            Binaries.agent, "run", "--node", name, "--config", bed.configuration, "--state", state,
            "--socket", socket, "--admin", Self.admin, "--workers", "\(workers)",
            "--cgroup", cgroup, "--bpffs", bpffs,
        ] + more
    }

    /// Starts the agent and waits until it is ready.
    @discardableResult
    public func startAgent(workers: Int = 1, more: [String] = []) throws -> TestProcess {
        let agent = try start("agent", agentArguments(workers: workers, more: more))
        try waitUntilReady(agent)
        return agent
    }

    public func waitUntilReady(_ agent: TestProcess, within seconds: Double = 20) throws {
        do {
            try eventually("agent of \(name) is ready", within: seconds) {
                if let status = agent.exitStatus {
                    throw CommandFailure(description: "agent ended with \(status)")
                }
                return try curl("http://\(Self.admin)/readyz").status == 200
            }
        } catch {
            throw CommandFailure(description: "\(error); its log:\n\(agent.text.suffix(4000))")
        }
    }

    /// Runs the `malla` command against this node's agent.
    public func malla(_ arguments: String..., seconds: Int = 20) throws -> Outcome {
        try run([Binaries.malla, "--socket", socket] + arguments, seconds: seconds)
    }

    /// The value of a series of the agent's metrics, summed over those whose line starts with
    /// `series` (name, or name and the beginning of the labels); 0 if there is none.
    public func metric(_ series: String) throws -> Double {
        try metrics().filter { $0.hasPrefix(series) }
            .compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }.reduce(0, +)
    }

    /// The agent's metrics, line by line.
    public func metrics() throws -> [String] {
        try curl("http://\(Self.admin)/metrics").body.split(separator: "\n").map(String.init)
    }

    /// Runs a shell command in the network namespace of the agent's engine.
    public func inEngine(_ agent: TestProcess, _ script: String) throws -> Outcome {
        guard let child = child(of: agent) else {
            throw CommandFailure(description: "the agent has no child")
        }
        let find = """
            own=$(readlink /proc/\(child)/ns/net)
            for task in /proc/\(child)/task/*; do
              if [ "$(readlink $task/ns/net)" != "$own" ]; then
                exec nsenter --net=$task/ns/net sh -ec "$0"
              fi
            done
            exit 99
            """
        return try Command.run(["sh", "-ec", find, script])
    }

    /// The agent's child, which serves; the agent itself is the supervisor.
    public func child(of agent: TestProcess) -> pid_t? {
        Command.text("/proc/\(agent.pid)/task/\(agent.pid)/children")
            .split(separator: " ").last.flatMap { pid_t($0) }
    }

    /// Deletes all rows of a map of the newest programs here, behind the agent's back.
    public func clear(map: String) throws {
        let pin = "$(ls -d \(bpffs)/malla/v*/\(map) | tail -n 1)"
        try Command.shell(
            """
            bpftool -j map dump pinned \(pin) | python3 -c '
            import json, sys
            for row in json.load(sys.stdin): print(*(byte[2:] for byte in row["key"]))' |
            while read -r key; do bpftool map delete pinned \(pin) key hex $key; done
            """)
    }
}

/// Where the built programs are.
public enum Binaries {
    public static let repository: String = {
        if let root = ProcessInfo.processInfo.environment["MALLA_TEST_ROOT"] { return root }
        // Tests/TestSupport/TestNode.swift, three levels below the root.
        return URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().path
    }()
    public static var agent: String { directory + "/malla-agent" }
    public static var testbed: String { directory + "/testbed" }
    public static var malla: String { directory + "/malla" }
    public static var pace: String { directory + "/Pace" }

    /// All products are built side by side: those beside this one, wherever the tree was copied to.
    private static let directory: String = {
        let given = ProcessInfo.processInfo.environment["MALLA_TEST_ROOT"]
        let own =
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        let beside = URL(fileURLWithPath: own).deletingLastPathComponent().path
        let isBeside = FileManager.default.isExecutableFile(atPath: beside + "/malla-agent")
        return given == nil && isBeside ? beside : repository + "/.build/release"
    }()
}
