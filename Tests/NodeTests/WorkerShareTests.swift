import TestSupport
import Testing

@Suite("Workers share the connections that are captured (ARCHITECTURE.md)", .serialized)
struct WorkerShareTests {
    /// How many sockets each epoll set of the process watches, the largest first.
    private func watched(_ node: TestNode, _ agent: TestProcess) throws -> [Int] {
        guard let child = node.child(of: agent) else { return [] }
        let outcome = try Command.run(
            ["sh", "-c", "cd /proc/\(child)/fdinfo && grep -c ^tfd: * | cut -d: -f2"])
        return outcome.output.split(separator: "\n").compactMap { Int($0) }.filter { $0 > 0 }
            .sorted(by: >)
    }

    @Test func `the kernel's choice of a listener spreads them evenly`() throws {
        let quiet = try SmallMesh.bed()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let agent = try node.startAgent(workers: 2)
        let load = try quiet.bed["client"].start(
            "wrk", ["wrk", "-t1", "-c400", "-d60", SmallMesh.engineNear.urls[0] + "/"])
        defer { load.stop() }
        try eventually("all connections are open", within: 20) {
            try node.metric("malla_connections_active") >= 400
        }

        let sets = try watched(node, agent)

        // Of 400 connections thrown by hash 200 are expected, and 140 are six deviations away; the
        // sockets to endpoints follow those of clients.
        try #require(sets.count >= 2, "\(sets)")
        #expect(sets[1] > 140, "\(sets)")
        #expect(Double(sets[1]) > 0.5 * Double(sets[0]), "\(sets)")
    }
}
