import Glibc
import TestSupport
import Testing

@Suite("One agent after another, and no request notices (DESIGN: hot restart)", .serialized)
struct TakeoverTests {
    static let restarts = 10

    /// Restarts in turn by SIGUSR2 and by a second agent, under load; answers what wrk said.
    private func restartUnderLoad(
        _ node: TestNode, _ agent: TestProcess, arguments: [String], load: TestProcess
    ) throws -> String {
        var agent = agent
        for number in 1...Self.restarts {
            let before = try node.serving()
            var next: TestProcess?
            if number.isMultiple(of: 2) {
                next = try node.start("agent-\(number)", arguments + ["--takeover"])
            } else {
                agent.signal(SIGUSR2)
            }
            try eventually("restart \(number); \(agent.text.suffix(2000))", within: 30) {
                let now = try node.serving()
                return now != before && now != 0
            }
            guard let next else { continue }
            #expect(agent.wait(seconds: 20) == 0, "the old agent ends by itself: \(agent.text)")
            agent = next
        }
        load.signal(SIGINT)
        #expect(load.wait(seconds: 20) == 0)
        #expect(agent.exitStatus == nil)
        return load.text
    }

    private func expectNoFailure(_ report: String) {
        #expect(report.contains("requests in"), "\(report)")
        #expect(!report.contains("Socket errors"), "\(report)")
        #expect(!report.contains("Non-2xx"), "\(report)")
    }

    @Test func `ten restarts under load fail no captured request`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let load = try mesh.client.start(
            "wrk", ["wrk", "-t1", "-c32", "-d300", SmallMesh.engineFar.urls[0]])

        let report = try restartUnderLoad(
            mesh.node, mesh.agents[0], arguments: mesh.node.agentArguments(), load: load)

        expectNoFailure(report)
    }

    @Test func `nor a request of a Gateway without a datapath`() throws {
        let quiet = try SmallMesh.bed { bed in
            try bed.configure("gateway.yaml", RouteTests.gateway)
            try bed.route(
                "front", parent: "{name: front}",
                rules: "- backendRefs: [{name: engine-near, port: 80}]")
        }
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let agent = try node.startAgent(more: ["--datapath", "off"])
        let load = try node.start("wrk", ["wrk", "-t1", "-c32", "-d300", "http://127.0.0.1:80/"])

        let report = try restartUnderLoad(
            node, agent, arguments: node.agentArguments(more: ["--datapath", "off"]), load: load)

        expectNoFailure(report)
    }

    @Test func `there must be somebody to take over from, and as many workers`() throws {
        let quiet = try SmallMesh.bed()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let arguments = node.agentArguments(more: ["--takeover"])

        let alone = try node.start("alone", arguments)
        #expect(alone.wait(seconds: 20) == 69, "\(alone.text)")
        let agent = try node.startAgent()
        let more = try node.start(
            "more", node.agentArguments(workers: 2, more: ["--takeover"]))

        #expect(more.wait(seconds: 20) == 69, "\(more.text)")
        #expect(more.text.contains("workers"), "\(more.text)")
        #expect(agent.exitStatus == nil)
    }
}
