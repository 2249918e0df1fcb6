import Glibc
import TestSupport
import Testing

@Suite("The child dies, the supervisor lives (docs/decisions/0002)", .serialized)
struct ChildDeathTests {
    /// Connects again and again until a file is there; prints how often, and each connect(2) that
    /// failed.
    private static let prober = """
        import os, socket, sys, time
        end = time.monotonic() + 90
        count = 0
        while time.monotonic() < end and not os.path.exists(sys.argv[3]):
            try:
                socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()
                count += 1
            except OSError as error:
                print("failed:", error, flush=True)
            time.sleep(0.002)
        print("connected:", count)
        """

    @Test func `killed under load, no connect is refused, and the next serves within 100 ms`()
        throws
    {
        let mesh = try SmallMesh.running { bed in
            try bed.configure("gateway.yaml", RouteTests.gateway)
            try bed.route(
                "front", parent: "{name: front}",
                rules: "- backendRefs: [{name: engine-far, port: 80}]")
        }
        defer { mesh.close() }
        let load = try mesh.client.start(
            "wrk", ["wrk", "-t1", "-c16", "-d90s", SmallMesh.engineNear.urls[0] + "/"])
        let python = ["/usr/bin/python3", "-c", Self.prober]
        let enough = mesh.bed.directory + "/enough"
        let probers = try [
            mesh.client.start("v4", python + [SmallMesh.engineFar.v4, "80", enough]),
            mesh.client.start("v6", python + [SmallMesh.engineNear.v6, "80", enough]),
            mesh.client.start("gateway", python + [mesh.node.v4, "80", enough]),
        ]

        var starts: [Double] = []
        for round in 1...4 {
            let child = try #require(mesh.node.child(of: mesh.agents[0]))
            let before = try mesh.quiet.near.requests()
            // One that lived for less than a second would make the supervisor wait.
            try eventually("child \(round) has worked for a second") {
                let old = try mesh.node.malla("status").output.contains("up 0s")
                return try !old && mesh.quiet.near.requests() > before + 100
            }
            kill(child, SIGKILL)
            try eventually("the next child answers") {
                try mesh.node.metric("malla_agent_restarts_total") == Double(round)
            }
            starts.append(try mesh.node.metric("malla_agent_start_seconds"))
        }

        try Command.shell("touch \(enough)")
        load.signal(SIGINT)
        for prober in probers {
            #expect(prober.wait(seconds: 20) == 0)
            #expect(!prober.text.contains("failed"), "\(prober.text)\n\(mesh.logs)")
            #expect(prober.text.contains("connected: "), "\(prober.text)")
        }
        #expect(load.wait(seconds: 20) == 0)
        #expect(Load(load.text).requests > 0)
        // Other work of the machine may delay one, or each by the processor's share that it takes.
        let fastest = try #require(starts.min())
        let share = try Self.processorsAskedFor()
        #expect(fastest > 0.001 && fastest < 0.1 * share, "\(starts), load \(share)")
        #expect(starts.allSatisfy { $0 < 1 * share }, "\(starts), load \(share)")
        #expect(try mesh.node.malla("status").output.contains("4 restarts, started in "))
    }

    /// How many run for each processor on average, this test's own load among them; at least 1.
    private static func processorsAskedFor() throws -> Double {
        let words = try Command.shell("cut -d ' ' -f 1 /proc/loadavg; nproc").split(separator: "\n")
        let numbers = words.compactMap { Double($0) }
        return max(1, numbers[0] / numbers[1])
    }

    @Test
    func `none can start for 2 s: each pod's choice counts, L4 goes on, and it heals`()
        throws
    {
        let quiet = try SmallMesh.bed { try EngineAbsence.close("near", $0) }
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        // A copy, so that only this agent's cannot be executed any more.
        let program = quiet.bed.directory + "/malla-agent"
        try Command.shell("cp \(Binaries.agent) \(program)")
        let agent = try node.start("agent", [program] + node.agentArguments().dropFirst())
        try node.waitUntilReady(agent)
        let client = quiet.bed["client"]
        #expect(try client.curl(SmallMesh.engineFar.urls[0]).status == 200)
        let child = try #require(node.child(of: agent))

        try Command.shell("chmod a-x \(program)")
        // A slow start clears it, too.
        func clearings() -> Int { agent.text.ranges(of: "the engine's slot is cleared").count }
        let before = clearings()
        kill(child, SIGKILL)
        try eventually("the supervisor clears the slot") { clearings() > before }

        for url in SmallMesh.engineFar.urls {
            try EngineAbsence.expectRefusal(quiet.bed["near"], url)
            let open = try client.curl(url, seconds: 2)
            #expect(open.status == 200 && open.headers["x-pod"] == "far", "\(open)")
        }
        for url in SmallMesh.kernelNear.urls + SmallMesh.kernelFar.urls {
            #expect(try client.curl(url).status == 200)
        }
        #expect(agent.exitStatus == nil, "\(agent.text)")
        try Command.shell("chmod a+x \(program)")
        try eventually("captured calls are served again", within: 15) {
            try quiet.bed["near"].curl(SmallMesh.engineFar.urls[0], seconds: 2).status == 200
        }
        for reason in ["engine_refused", "past_engine"] {
            let verdict = "malla_datapath_verdicts_total{hook=\"from_pod\",reason=\"\(reason)\"}"
            #expect(try node.metric(verdict) >= 2, "\(reason)")
        }
    }
}
