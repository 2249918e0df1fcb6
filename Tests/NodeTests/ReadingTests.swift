import Foundation
import TestSupport
import Testing

@Suite("While the configuration is read the agent answers (docs/operations.md)", .serialized)
struct ReadingTests {
    /// Says of each open(2) of a file nothing (fanotify(7)) until another file is there, so that
    /// whoever opens it waits; for a minute at most.
    private static let holder = """
        import ctypes, os, sys, time
        libc = ctypes.CDLL(None)
        held = libc.fanotify_init(4, os.O_RDONLY)
        opened = ctypes.c_uint64(0x10000)
        if libc.fanotify_mark(held, 1, opened, -100, sys.argv[1].encode()) == 0:
            print("held", flush=True)
        end = time.monotonic() + 60
        while time.monotonic() < end and not os.path.exists(sys.argv[2]):
            time.sleep(0.01)
        """

    /// A file in the directory whose reading lasts until `letGo`.
    private struct HeldFile {
        private let enough: String

        init(_ bed: Testbed, _ node: TestNode) throws {
            enough = bed.directory + "/enough"
            let path = bed.directory + "/held"
            let text = "{apiVersion: v1, kind: Event, metadata: {name: e}}\n"
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
            let holder = try node.start(
                "holder", ["/usr/bin/python3", "-c", ReadingTests.holder, path, enough])
            try eventually("the file is held: \(holder.text)") { holder.text.contains("held") }
            try Command.shell("mv \(path) \(bed.configuration)/held.yaml")
        }

        func letGo() throws { try Command.shell("touch \(enough)") }
    }

    private static func isReading(_ node: TestNode) -> Bool {
        FileManager.default.fileExists(atPath: node.state + "/reading")
    }

    private static func bed() throws -> Testbed {
        let bed = try Testbed("n1: client")
        try bed.describe([])
        return bed
    }

    private static func ask(_ node: TestNode, _ path: String) throws -> Response {
        try node.curl("http://\(TestNode.admin)/\(path)", seconds: 20)
    }

    /// A kubelet waits for a second, and thousands of routes took many.
    @Test func `probes and metrics are answered while a change is read`() throws {
        let bed = try Self.bed()
        defer { bed.close() }
        let node = bed[node: "n1"]
        let agent = try node.startAgent()

        let series = "malla_config_reloads_total{result=\"read\"}"
        let before = try node.metric(series)

        let file = try HeldFile(bed, node)
        try eventually("it is read: \(agent.text)") { Self.isReading(node) }
        for path in ["livez", "readyz", "metrics"] {
            #expect(try Self.ask(node, path).status == 200, "\(path): \(agent.text)")
        }
        #expect(try node.metric(series) == before && Self.isReading(node), "\(agent.text)")

        try file.letGo()
        try eventually("it was read: \(agent.text)") {
            try node.metric(series) > before && !Self.isReading(node)
        }
    }

    @Test func `an agent that reads for the first time says that it is not ready`() throws {
        let bed = try Self.bed()
        defer { bed.close() }
        let node = bed[node: "n1"]
        let file = try HeldFile(bed, node)

        let agent = try node.start("agent", node.agentArguments())
        var first = Response?.none
        try eventually("a probe is answered: \(agent.text)") {
            first = try Self.ask(node, "readyz")
            return first?.status != 0
        }
        #expect(
            first?.status == 503 && first?.body.contains("for the first time") == true,
            "\(String(describing: first)) \(agent.text)")

        try file.letGo()
        try node.waitUntilReady(agent)
        #expect(try node.metric("malla_agent_ready ") == 1)
    }
}
