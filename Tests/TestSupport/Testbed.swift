// Nodes and pods out of network namespaces, on one machine, with real traffic.
//
// A node is a namespace; its pods are namespaces joined to it by veth (/32 and /128 routes, as
// routed CNIs do); nodes meet on a bridge in the fabric's namespace. Each node has its own cgroup
// subtree and bpffs mount. Everything carries the bed's name, and the bed's directory, made first
// and removed last, says who owns it: what a crash leaves behind is found and removed by the next
// bed or by `testbed clean`. The root namespace gets no address, no route, no interface.

internal import Foundation
internal import Glibc

/// Nodes and pods that can be used from a test in one line.
///
/// - Owns: namespaces, cgroups, bpffs mounts, processes and files of one bed.
/// - Threads: one at a time.
public final class Testbed {
    /// Where beds keep their files: configuration, logs, state.
    static let root = "/tmp/malla-testbed"

    public let name: String
    public let topology: Topology
    public let directory: String
    /// The bed's cgroup; below it one for each node, below those `agent` and one for each pod.
    public let cgroup: String
    public private(set) var nodes: [String: TestNode] = [:]
    public private(set) var pods: [String: TestPod] = [:]
    private var isOpen = true
    private let isStanding: Bool

    /// Where the agents read their objects.
    public var configuration: String { directory + "/config" }

    /// A bed for a test, with a name of its own; `close` or `deinit` removes it.
    public convenience init(_ topology: String) throws {
        try self.init(name: Self.freshName(), topology: Topology(topology), isStanding: false)
        try Leftovers.removeAbandoned()
        try build()
    }

    /// A bed that outlives this process: `Testbed.standing(name)` finds it again.
    public static func make(standing name: String, _ topology: String) throws -> Testbed {
        let bed = try Testbed(name: name, topology: Topology(topology), isStanding: true)
        try bed.build()
        return bed
    }

    /// A bed of that name which belongs to this process: removed by `close`, or by anybody's
    /// `clean` when this process is gone.
    public static func make(held name: String, _ topology: String) throws -> Testbed {
        let bed = try Testbed(name: name, topology: Topology(topology), isStanding: false)
        try bed.build()
        return bed
    }

    /// The standing bed of that name; `nil` if there is none.
    public static func standing(_ name: String) throws -> Testbed? {
        let text = Command.text("\(root)/\(name)/topology")
        guard !text.isEmpty else { return nil }
        return try Testbed(name: name, topology: Topology(text), isStanding: true)
    }

    /// Whether a bed may be called so: the name becomes part of paths and of shell lines.
    public static func isName(_ name: String) -> Bool {
        (1...32).contains(name.utf8.count)
            && name.utf8.allSatisfy {
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0 | 0x20)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || $0 == UInt8(ascii: "-")
            }
    }

    private init(name: String, topology: Topology, isStanding: Bool) throws {
        guard Self.isName(name) else {
            throw CommandFailure(
                description: "'\(name)' is no name of a bed: 1 to 32 letters, digits and hyphens")
        }
        self.name = name
        self.topology = topology
        self.isStanding = isStanding
        directory = "\(Self.root)/\(name)"
        cgroup = try CgroupTree.mount() + "/malla-\(name)"
        for node in topology.nodes {
            nodes[node.name] = TestNode(node, bed: self)
            for pod in node.pods { pods[pod.name] = TestPod(pod, bed: self) }
        }
    }

    deinit {
        if !isStanding { close() }
    }

    public subscript(node name: String) -> TestNode {
        guard let node = nodes[name] else { preconditionFailure("no node \(name)") }
        return node
    }

    public subscript(name: String) -> TestPod {
        guard let pod = pods[name] else { preconditionFailure("no pod \(name)") }
        return pod
    }

    /// Removes all of it; safe to call twice.
    public func close() {
        guard isOpen else { return }
        isOpen = false
        Leftovers.remove(name)
    }

    /// The path of a namespace of the bed: a node, a pod, or the fabric.
    public func namespace(_ part: String) -> String { "/run/netns/malla-\(name)-\(part)" }

    /// Runs a program in the fabric's namespace: outside of all nodes.
    public func outside(_ arguments: [String], seconds: Int = 30) throws -> Outcome {
        try Command.run(
            ["nsenter", "--net=" + namespace(Topology.fabric)] + arguments, seconds: seconds)
    }

    /// Starts a program there; its output goes to `log-outside-LABEL.txt`.
    ///
    /// - Parameter part: a pod or a node, to be in its namespace, but in no cgroup of its node.
    public func startOutside(
        _ label: String, _ arguments: [String], in part: String = Topology.fabric
    ) throws -> TestProcess {
        let log = "\(directory)/log-outside-\(label).txt"
        let chain = Chain.entering(namespace: namespace(part), cgroup: cgroup, arguments)
        return TestProcess(
            pid: try Command.start(chain, output: log, errors: log), log: log)
    }

    /// Puts a file in the configuration directory, complete at once.
    public func configure(_ file: String, _ text: String) throws {
        try Data(text.utf8).write(
            to: URL(fileURLWithPath: "\(configuration)/.\(file).new"), options: [])
        let moved = unsafe rename(
            "\(configuration)/.\(file).new", "\(configuration)/\(file)")
        guard moved == 0 else { throw CommandFailure(description: "\(file): errno \(errno)") }
    }

    /// Takes a file out of the configuration directory.
    public func unconfigure(_ file: String) {
        _ = unsafe unlink("\(configuration)/\(file)")
    }

    /// What pods find by name, `address name` a line; all pods of the bed see it as /etc/hosts.
    public func name(_ hosts: [(address: String, name: String)]) throws {
        let lines =
            ["127.0.0.1 localhost", "::1 localhost"] + hosts.map { "\($0.address) \($0.name)" }
        let text = lines.joined(separator: "\n") + "\n"
        // In place: pods see this very file through a bind mount.
        try Data(text.utf8).write(to: URL(fileURLWithPath: directory + "/hosts"), options: [])
    }

    private func build() throws {
        guard geteuid() == 0 else {
            throw CommandFailure(description: "the testbed needs root (network namespaces)")
        }
        let made = unsafe mkdir(Self.root, 0o755) == 0 || errno == EEXIST
        guard made, unsafe mkdir(directory, 0o755) == 0 else {
            throw CommandFailure(description: "\(directory): errno \(errno); testbed down \(name)?")
        }
        try Data(Leftovers.owner(isStanding: isStanding).utf8).write(
            to: URL(fileURLWithPath: directory + "/owner"))
        try Data(topology.text.utf8).write(to: URL(fileURLWithPath: directory + "/topology"))
        do {
            _ = unsafe mkdir(configuration, 0o755)
            try name([])
            try Command.shell(TopologyScript(bed: self).text)
        } catch {
            close()
            throw error
        }
    }

    /// The number of beds that this process has made.
    nonisolated(unsafe) private static var bedsMade = 0

    private static func freshName() -> String {
        // Tests make beds from one thread at a time (`--no-parallel`, serialized suites).
        unsafe bedsMade += 1
        return unsafe "t\(getpid())x\(bedsMade)"
    }
}
