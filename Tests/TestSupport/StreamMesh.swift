// A mesh of peers that check every byte of what passes between them (Tests/Streams/streams.c),
// behind services whose protocol nobody declares: the engine has to find out what they speak.

/// A client and a server on one node, a server on another.
public struct StreamMesh {
    public static let clientFirst = TestService("near-raw", 1, "raw", to: ["near"], port: 80)
    public static let serverFirst = TestService(
        "near-mail", 2, "raw", to: ["near"], port: 81, targetPort: 8081)
    public static let farRaw = TestService("far-raw", 3, "raw", to: ["far"], port: 80)
    public static let farMail = TestService(
        "far-mail", 4, "raw", to: ["far"], port: 81, targetPort: 8081)
    private static let services = [clientFirst, serverFirst, farRaw, farMail]
    /// Of an order, and of a greeting.
    public static let orderBytes = 32
    public static let greetingBytes = 8

    public let bed: Testbed
    public let program: String
    private let agents: [TestProcess]
    private let servers: [TestProcess]

    public init() throws {
        let bed = try Testbed("n1: client, near; n2: far")
        self.bed = bed
        let program = try Self.program(bed)
        self.program = program
        servers = try ["near", "far"].map { name in
            let server = try bed[name].start("streams", [program, "serve", "8080"])
            try eventually("\(name) listens") {
                let ports = try bed[name].run(["ss", "-Hltn"]).output
                return ports.contains(":8080") && ports.contains(":8081")
            }
            return server
        }
        try bed.describe(Self.services)
        for service in Self.services {
            // A route of HTTP is what brings a port without a declared protocol to the engine.
            try bed.route(
                service.name,
                parent:
                    "{group: \"\", kind: Service, name: \(service.name), port: \(service.port)}",
                rules: "- backendRefs: [{name: \(service.name), port: \(service.port)}]")
        }
        agents = try ["n1", "n2"].map { try bed[node: $0].startAgent() }
    }

    public func close() { bed.close() }

    /// Compiles the peers' program for a bed.
    public static func program(_ bed: Testbed) throws -> String {
        let program = bed.directory + "/streams"
        try Command.shell(
            "clang-14 -O2 -pthread \(Binaries.repository)/Tests/Streams/streams.c -o \(program)")
        return program
    }

    /// `count` streams at once, `up` and `down` bytes each; what the caller printed.
    public func call(
        _ address: String, _ service: TestService, count: Int, up: Int, down: Int,
        seconds: Int = 60
    ) throws -> Outcome {
        try bed["client"].run(
            [program, "call", address, "\(service.port)", "\(count)", "\(up)", "\(down)"],
            seconds: seconds)
    }

    /// What was wrong on either side; `nil`: nothing.
    public func problem(_ outcome: Outcome, _ count: Int) -> String? {
        let isRight =
            outcome.isSuccess && outcome.output.contains("\(count) of \(count) streams right")
            && servers.allSatisfy { !$0.text.contains("served:") }
        return isRight ? nil : "\(outcome)\n\(servers.map(\.text))\n\(agents.map(\.text))"
    }
}
