import Glibc
import TestSupport
import Testing

@Suite("A child that hangs is as good as dead (docs/operations.md)", .serialized)
struct HangTests {
    private static let silence = ["--child-silence", "3"]

    @Test func `stopped: each pod's choice counts, L4 goes on, and the next child serves`() throws {
        let quiet = try SmallMesh.bed { try EngineAbsence.close("near", $0) }
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let (client, near) = (quiet.bed["client"], quiet.bed["near"])
        // A copy, so that only this agent's cannot be executed any more.
        let program = quiet.bed.directory + "/malla-agent"
        try Command.shell("cp \(Binaries.agent) \(program)")
        let arguments = node.agentArguments(workers: 2, more: Self.silence)
        let agent = try node.start("agent", [program] + arguments.dropFirst())
        try node.waitUntilReady(agent)
        for pod in [client, near] {
            #expect(try pod.curl(SmallMesh.engineFar.urls[0]).status == 200)
        }
        let child = try #require(node.child(of: agent))

        // No next child yet, so that there is time to look.
        try Command.shell("chmod a-x \(program)")
        kill(child, SIGSTOP)
        try eventually("it is found and killed: \(agent.text)", within: 30) {
            agent.text.contains("is stopped: no sign of life")
                && agent.text.contains("the engine's slot is cleared")
        }
        for url in SmallMesh.engineFar.urls {
            try EngineAbsence.expectRefusal(near, url)
            let open = try client.curl(url, seconds: 2)
            #expect(open.status == 200 && open.headers["x-pod"] == "far", "\(open)")
        }
        for url in SmallMesh.kernelNear.urls + SmallMesh.kernelFar.urls {
            #expect(try client.curl(url).status == 200)
        }

        try Command.shell("chmod a+x \(program)")
        try eventually("the next child serves: \(agent.text)", within: 20) {
            try near.curl(SmallMesh.engineFar.urls[0], seconds: 2).status == 200
        }
        try eventually("it is counted") {
            try node.metric("malla_agent_hangs_total") == 1
        }
        #expect(try node.metric("malla_agent_restarts_total") == 1)
        #expect(agent.exitStatus == nil, "\(agent.text)")
    }
}
