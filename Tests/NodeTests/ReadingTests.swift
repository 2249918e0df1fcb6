import Foundation
import Glibc
import TestSupport
import Testing

@Suite("While the configuration is read the agent answers (docs/operations.md)", .serialized)
struct ReadingTests {
    /// As many nodes as a file may have, nearly: read for a second or longer.
    private static func writeLong(_ bed: Testbed, _ number: Int) throws {
        let nodes = String(repeating: "abcdefghijklmnopqrstuvwx,", count: 900_000)
        let text = "{apiVersion: v1, kind: Event, metadata: {name: e\(number)}, of: [\(nodes)]}\n"
        try Data(text.utf8).write(to: URL(fileURLWithPath: bed.directory + "/long"))
        try Command.shell("mv \(bed.directory)/long \(bed.configuration)/long.yaml")
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

        // A machine may be so quick that a reading ends before all is asked: then once more.
        var isAnswered = false
        for round in 0..<8 where !isAnswered {
            let before = try node.metric("malla_config_reloads_total{result=\"read\"}")
            try Self.writeLong(bed, round)
            try eventually("it is read: \(agent.text)") {
                try Self.isReading(node)
                    || node.metric("malla_config_reloads_total{result=\"read\"}") > before
            }
            for path in ["livez", "readyz", "metrics"] {
                #expect(try Self.ask(node, path).status == 200, "\(path): \(agent.text)")
            }
            let read = try node.metric("malla_config_reloads_total{result=\"read\"}")
            isAnswered = read == before && Self.isReading(node)
            try eventually("it is read: \(agent.text)", within: 60) {
                try !Self.isReading(node)
                    && node.metric("malla_config_reloads_total{result=\"read\"}") > before
            }
        }
        #expect(isAnswered, "\(agent.text)")
    }

    @Test func `an agent that reads for the first time says that it is not ready`() throws {
        let bed = try Self.bed()
        defer { bed.close() }
        let node = bed[node: "n1"]
        try Self.writeLong(bed, 0)

        let agent = try node.start("agent", node.agentArguments())
        var first = Response?.none
        try eventually("a probe is answered: \(agent.text)") {
            first = try Self.ask(node, "readyz")
            return first?.status != 0
        }
        #expect(
            first?.status == 503 && first?.body.contains("for the first time") == true,
            "\(String(describing: first)) \(agent.text)")
        try node.waitUntilReady(agent, within: 60)
        #expect(try node.metric("malla_agent_ready ") == 1)
    }
}
