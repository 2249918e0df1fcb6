internal import AdminAPI
internal import ArgumentParser
internal import BPFLoader
internal import Glibc
internal import MeshModel

/// Whether eBPF is used.
enum DatapathMode: String, ExpressibleByArgument, CaseIterable, Sendable {
    case on, off
}

/// Whether pods that the configuration does not name are silent.
enum HoldMode: String, ExpressibleByArgument, CaseIterable, Sendable {
    case auto, on, blocks, off
}

/// Whether the node itself reaches its own pods whatever their policies say.
enum HostToPod: String, ExpressibleByArgument, CaseIterable, Sendable {
    case allow, policy
}

/// How connections between pods of different nodes leave and reach the node, in Cilium's words.
enum HostRouting: String, ExpressibleByArgument, CaseIterable, Sendable {
    case bpf, legacy
}

/// An address and a port, `127.0.0.1:15020` or `[::1]:15020`.
struct AdminAddress: ExpressibleByArgument, Equatable, Sendable {
    var socket: SocketAddress

    init?(argument: String) {
        guard let colon = argument.lastIndex(of: ":"),
            let port = UInt16(argument[argument.index(after: colon)...])
        else { return nil }
        var host = argument[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        if host == "localhost" { host = "127.0.0.1" }
        guard let address = IPAddress(host) else { return nil }
        socket = SocketAddress(address, port)
    }

    var defaultValueDescription: String { socket.description }
}

/// How many rows a map of the datapath has, `malla_service=1000`.
struct MapEntries: ExpressibleByArgument, Equatable, Sendable {
    var map: String
    var rows: UInt32

    init?(argument: String) {
        let parts = argument.split(separator: "=", omittingEmptySubsequences: false)
        guard parts.count == 2, DatapathLimits.mapNames.contains(String(parts[0])),
            let rows = UInt32(parts[1]), rows > 0
        else { return nil }
        map = String(parts[0])
        self.rows = rows
    }
}

/// Of new flows that are admitted, one of so many is an event, `1/100`; `off`.
struct FlowSample: ExpressibleByArgument, Equatable, Sendable {
    static let off = FlowSample(of: 0)
    /// 0: none.
    var of: UInt32

    init(of: UInt32) { self.of = of }

    init?(argument: String) {
        if argument == "off" {
            of = 0
            return
        }
        guard argument.hasPrefix("1/"), let number = UInt32(argument.dropFirst(2)), number > 0
        else { return nil }
        of = number
    }

    var defaultValueDescription: String { description }
    var description: String { of == 0 ? "off" : "1/\(of)" }
}

/// The command line of `run`, which the child gets too.
struct AgentOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Directory of YAML or JSON objects; watched.", valueName: "dir"))
    var config: String

    @Option(
        help: ArgumentHelp(
            "on: eBPF, needs privileges. off: serve Gateways only, needs none.",
            valueName: "on|off"))
    var datapath: DatapathMode = .on

    @Option(help: ArgumentHelp("Threads of the engine, 1 to 128 (default: cores).", valueName: "n"))
    var workers: Int?

    @Option(help: ArgumentHelp("This node's name (default: the host's name).", valueName: "name"))
    var node: String?

    @Option(help: ArgumentHelp("Directory of the agent's own state.", valueName: "dir"))
    var state: String = DefaultPaths.own.state

    @Option(help: ArgumentHelp("Unix socket that the malla command talks to.", valueName: "path"))
    var socket: String = DefaultPaths.own.socket

    @Option(
        help: ArgumentHelp(
            "Where metrics and probes are served over HTTP; port 0 takes any free one and logs it.",
            valueName: "addr:port"))
    var admin: AdminAddress = .standard

    @Option(
        help: ArgumentHelp(
            "cgroup v2 subtree of the pods and the agent (default: the mount's root).",
            valueName: "path"))
    var cgroup: String?

    @Option(
        name: .customLong("hold-new-pods"),
        help: ArgumentHelp(
            "on: pods below --cgroup are silent until the configuration names them. blocks: of "
                + "those only addresses in the Node's podCIDRs. auto: on where --cgroup is given, "
                + "else blocks.", valueName: "auto|on|blocks|off"))
    var holdNewPods: HoldMode = .auto

    @Option(
        help: ArgumentHelp(
            "bpffs mount; programs and maps are pinned in PATH/malla/.", valueName: "path"))
    var bpffs: String = "/sys/fs/bpf"

    @Option(
        name: .customLong("host-to-pod"),
        help: ArgumentHelp(
            "allow: this node's addresses reach its own pods (probes) whatever their policies say. "
                + "policy: policies decide.", valueName: "allow|policy"))
    var hostToPod: HostToPod = .allow

    @Option(
        name: .customLong("host-routing"),
        help: ArgumentHelp(
            "bpf: TCP between pods of different nodes takes this node's routes and not its stack, "
                + "so that its firewall rules do not see it. legacy: it passes the stack.",
            valueName: "bpf|legacy"))
    var hostRouting: HostRouting = .bpf

    @OptionGroup var identity: IdentityOptions

    @Option(
        name: .customLong("access-log"),
        help: ArgumentHelp(
            "Append a line for each request to this file; - for standard error (default: none).",
            valueName: "path"))
    var accessLog: String?

    @Option(
        name: .customLong("map-entries"),
        help: ArgumentHelp(
            "Rows of a map when it is made (repeatable; docs/operations.md names the maps).",
            valueName: "map=n"))
    var mapEntries: [MapEntries] = []

    @Option(
        name: .customLong("flow-sample"),
        help: ArgumentHelp(
            "1/N: of new flows that are admitted, one of N is an event too (malla observe).",
            valueName: "off|1/N"))
    var flowSample = FlowSample.off

    @Option(
        name: .customLong("flow-history"),
        help: ArgumentHelp("Flow events that are kept for malla observe.", valueName: "n"))
    var flowHistory = AgentOptions.flowHistoryDefault

    /// Some four megabytes.
    static let flowHistoryDefault = 4096
    static let flowHistoryMax = 1_000_000

    /// For tests of the black box: a request for this path traps its worker.
    @Option(name: .customLong("trap-path"), help: .hidden) var trapPath: String?

    func validate() throws {
        if let workers, !(1...128).contains(workers) {
            throw ValidationError("--workers takes 1 to 128, not \(workers)")
        }
        guard (1...Self.flowHistoryMax).contains(flowHistory) else {
            throw ValidationError("--flow-history takes 1 to \(Self.flowHistoryMax)")
        }
        for (name, value) in [
            ("--config", config), ("--state", state), ("--socket", socket), ("--bpffs", bpffs),
        ] where value.isEmpty {
            throw ValidationError("\(name) must not be empty")
        }
        if let node, !Self.isNodeName(node) {
            throw ValidationError(
                "--node '\(node)' is no node's name: 1 to 253 letters, digits, '-', '_' and '.'")
        }
        if socket.utf8.count > 107 {
            throw ValidationError("--socket is longer than 107 bytes, which Linux does not allow")
        }
    }

    /// What Kubernetes takes (RFC 1123 subdomain), and host names as they are found besides.
    private static func isNodeName(_ name: String) -> Bool {
        (1...253).contains(name.utf8.count)
            && name.utf8.allSatisfy { byte in
                let letter = byte | 0x20
                return (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(letter)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || [UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: ".")].contains(byte)
            }
    }

    var workerCount: Int { workers ?? max(1, min(128, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))) }

    var nodeName: String {
        if let node { return node }
        var name = [CChar](repeating: 0, count: 256)
        // The call writes at most 255 bytes; the last stays NUL.
        _ = unsafe gethostname(&name, 255)
        return String(
            decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// A cgroup that the operator names holds pods and agent, and nobody else.
    var heldPods: HeldPods {
        switch holdNewPods {
        case .off: .none
        case .on: .all
        case .blocks: .inBlocks
        case .auto: cgroup.map { !Mounts.isCgroupRoot($0) } ?? false ? .all : .inBlocks
        }
    }

    var datapathLimits: DatapathLimits {
        var limits = DatapathLimits()
        for one in mapEntries { limits.choose(one.rows, of: one.map) }
        return limits
    }

    /// The same options as arguments, defaults spelt out.
    var arguments: [String] {
        var list = [
            "--config", config, "--datapath", datapath.rawValue, "--workers", "\(workerCount)",
            "--node", nodeName, "--state", state, "--socket", socket,
            "--admin", admin.socket.description, "--bpffs", bpffs,
            "--hold-new-pods", holdNewPods.rawValue,
            "--host-to-pod", hostToPod.rawValue, "--host-routing", hostRouting.rawValue,
        ]
        if let cgroup { list += ["--cgroup", cgroup] }
        list += identity.arguments
        if let accessLog { list += ["--access-log", accessLog] }
        if let trapPath { list += ["--trap-path", trapPath] }
        if flowSample != .off { list += ["--flow-sample", flowSample.description] }
        if flowHistory != Self.flowHistoryDefault { list += ["--flow-history", "\(flowHistory)"] }
        for one in mapEntries { list += ["--map-entries", "\(one.map)=\(one.rows)"] }
        return list
    }
}

extension AdminAddress {
    init(_ socket: SocketAddress) { self.socket = socket }
    static let standard = AdminAddress(SocketAddress(.loopbackV4, 15020))
}
