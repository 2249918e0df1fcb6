// A pod of a bed: programs in its namespace and cgroup, real servers, real clients.

internal import Foundation
public import Glibc

/// A program of the bed that is running.
public final class TestProcess {
    public let pid: pid_t
    public let log: String
    private var status: Int32?

    init(pid: pid_t, log: String) {
        self.pid = pid
        self.log = log
    }

    /// What it has printed so far, standard output and error together.
    public var text: String { Command.text(log) }

    /// Its exit status once it has ended.
    public var exitStatus: Int32? {
        if status == nil { status = Command.poll(pid) }
        return status
    }

    public func signal(_ number: Int32) { kill(pid, number) }

    /// Ends it: SIGTERM, then after ten seconds SIGKILL. Answers the exit status.
    @discardableResult
    public func stop() -> Int32 {
        if exitStatus == nil { signal(SIGTERM) }
        try? eventually("\(pid) ends", within: 10) { exitStatus != nil }
        if exitStatus == nil { signal(SIGKILL) }
        return wait(seconds: 5)
    }

    /// Waits for its end; -1 if it does not come.
    public func wait(seconds: Double) -> Int32 {
        try? eventually("\(pid) ends", within: seconds) { exitStatus != nil }
        return exitStatus ?? -1
    }
}

/// A response as curl saw it.
public struct Response: Sendable {
    /// 0 when there was none; then `problem` is curl's word.
    public var status: Int
    /// Names in lower case.
    public var headers: [String: String]
    public var body: String
    public var problem: String
}

/// A namespace joined to its node.
public final class TestPod {
    public let name: String
    public let v4: String
    public let v6: String
    public let node: String
    unowned let bed: Testbed

    init(_ pod: Topology.Pod, bed: Testbed) {
        name = pod.name
        v4 = pod.v4
        v6 = pod.v6
        node = pod.node
        self.bed = bed
    }

    public var cgroup: String { "\(bed.cgroup)/\(node)/\(name)" }

    /// Takes the pod's veth away and makes another one of the same name, as a runtime that sets a
    /// pod up again does.
    public func replug() throws {
        guard let pod = bed.topology.pods.first(where: { $0.name == name }) else { return }
        try Command.shell(TopologyScript(bed: bed).replug(pod))
    }

    /// Takes the pod's veth and namespace away, as the runtime does that ends a pod.
    public func unplug() throws {
        guard let pod = bed.topology.pods.first(where: { $0.name == name }) else { return }
        try Command.shell(TopologyScript(bed: bed).unplug(pod))
    }

    /// Makes both anew, with the same addresses, for a pod that starts after `unplug`.
    ///
    /// - Parameter interface: the node's side of its veth, if it is not to be the one from before.
    public func plug(as interface: String? = nil) throws {
        guard let pod = bed.topology.pods.first(where: { $0.name == name }) else { return }
        try Command.shell(TopologyScript(bed: bed).plug(pod, as: interface ?? pod.interface))
    }

    /// The command line that runs `arguments` as a process of this pod.
    public func chain(_ arguments: [String]) -> [String] {
        let hosts = [
            "unshare", "-m", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\"",
            bed.directory + "/hosts",
        ]
        return Chain.entering(namespace: bed.namespace(name), cgroup: cgroup, hosts + arguments)
    }

    /// Runs a program of the pod to its end.
    public func run(_ arguments: [String], seconds: Int = 30) throws -> Outcome {
        try Command.run(chain(arguments), seconds: seconds)
    }

    /// Starts a program of the pod; its output goes to `log-POD-LABEL.txt` of the bed.
    @discardableResult
    public func start(_ label: String, _ arguments: [String]) throws -> TestProcess {
        let log = "\(bed.directory)/log-\(name)-\(label).txt"
        return TestProcess(
            pid: try Command.start(chain(arguments), output: log, errors: log), log: log)
    }

    /// GETs (or what `arguments` say) with curl.
    public func curl(_ arguments: String..., seconds: Int = 10) throws -> Response {
        let outcome = try run(Curl.words + ["-m", "\(seconds)"] + arguments, seconds: seconds + 5)
        return Curl.response(outcome)
    }

    /// Loads `url` with wrk, which keeps its connections; answers what it saw.
    public func load(
        _ url: String, connections: Int = 16, seconds: Int, arguments: [String] = []
    ) throws -> Load {
        let words = ["wrk", "-t1", "-c\(connections)", "-d\(seconds)s"] + arguments + [url]
        return Load(try run(words, seconds: seconds + 20).output)
    }
}

/// How a program gets into a namespace and a cgroup.
enum Chain {
    static func entering(namespace: String, cgroup: String, _ arguments: [String]) -> [String] {
        [
            "sh", "-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"", cgroup,
            "nsenter", "--net=" + namespace,
        ] + arguments
    }
}

/// curl's command line and its answer.
public enum Curl {
    static let words = ["curl", "-sS", "-i"]

    public static func response(_ outcome: Outcome) -> Response {
        let parts = outcome.output.split(
            separator: "\r\n\r\n", maxSplits: 1, omittingEmptySubsequences: false)
        let lines = (parts.first ?? "").split(separator: "\r\n")
        let statusWords = (lines.first ?? "").split(separator: " ")
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
            headers[line[..<colon].lowercased()] = value
        }
        return Response(
            status: statusWords.count > 1 ? Int(statusWords[1]) ?? 0 : 0, headers: headers,
            body: parts.count > 1 ? String(parts[1]) : "",
            problem: outcome.isSuccess ? "" : "curl \(outcome.status): \(outcome.errors)")
    }
}

/// What wrk printed, as numbers.
public struct Load: Sendable {
    public var requests: Int
    /// Responses that were neither 2xx nor 3xx, and socket errors of every kind.
    public var errors: Int
    public var text: String

    public init(_ text: String) {
        self.text = text
        requests = 0
        errors = 0
        for line in text.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "," }
            if line.contains(" requests in "), let first = words.first {
                requests = Int(first) ?? 0
            } else if line.contains("Non-2xx") {
                errors += words.last.flatMap { Int($0) } ?? 1
            } else if line.contains("Socket errors") {
                errors += words.compactMap { Int($0) }.reduce(0, +)
            }
        }
    }
}
