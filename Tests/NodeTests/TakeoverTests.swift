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

    private static func gateway() throws -> SmallMesh.Quiet {
        try SmallMesh.bed { bed in
            try bed.configure("gateway.yaml", RouteTests.gateway)
            try bed.route(
                "front", parent: "{name: front}",
                rules: "- backendRefs: [{name: engine-near, port: 80}]")
        }
    }

    @Test func `nor a request of a Gateway without a datapath`() throws {
        let quiet = try Self.gateway()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let agent = try node.startAgent(more: ["--datapath", "off"])
        let load = try node.start("wrk", ["wrk", "-t1", "-c32", "-d300", "http://127.0.0.1:80/"])

        let report = try restartUnderLoad(
            node, agent, arguments: node.agentArguments(more: ["--datapath", "off"]), load: load)

        expectNoFailure(report)
    }

    /// Holds a request whose head does not end, until the connection does.
    private static let holder = """
        import socket
        link = socket.create_connection(('127.0.0.1', 80))
        link.sendall(b'GET / HTTP/1.1\\r\\nHost: ')
        print('held', flush=True)
        try:
            print('ended', link.recv(99), flush=True)
        except OSError as problem:
            print('ended', problem.strerror, flush=True)
        """

    @Test func `who was taken over from is gone in ten seconds and is in nobody's way meanwhile`()
        throws
    {
        let quiet = try Self.gateway()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let more = ["--datapath", "off"]
        let old = try node.startAgent(more: more)
        let holder = try node.start("holder", ["/usr/bin/python3", "-uc", Self.holder])
        try eventually("a request is held") {
            try holder.text.contains("held") && node.metric("malla_connections_active") > 0
        }
        // The child that holds it is one that was replaced before.
        let first = try node.serving()
        old.signal(SIGUSR2)
        try eventually("the next child serves") { try ![0, first].contains(node.serving()) }
        let second = try node.serving()

        let next = try node.start("next", node.agentArguments(more: more + ["--takeover"]))
        try eventually("the next agent serves") { try ![0, second].contains(node.serving()) }
        try eventually("the old agent has heard of it") { old.text.contains("agent serves") }
        try eventually("its children have let go") {
            try !node.run(["ss", "-Hltnp", "sport = :80"]).output.contains("pid=\(first),")
        }
        next.signal(SIGKILL)
        #expect(next.wait(seconds: 5) != 0)
        try eventually("nobody listens") {
            try node.run(["ss", "-Hltn", "sport = :80"]).output.isEmpty
        }
        #expect(old.exitStatus == nil && !holder.text.contains("ended"), "\(old.text)")
        let third = try node.startAgent(more: more)

        #expect(old.wait(seconds: 13) == 0, "\(old.text)")
        #expect(!old.text.contains("did not end in time"), "\(old.text)")
        try eventually("the held request is ended") { holder.text.contains("ended") }
        #expect(third.exitStatus == nil)
        #expect(try node.curl("http://127.0.0.1/").status == 200)
    }

    @Test func `a takeover that takes long, and fails, takes nothing from the agent that serves`()
        throws
    {
        let quiet = try SmallMesh.bed { bed in try EngineAbsence.close("client", bed) }
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let old = try node.startAgent()
        let url = SmallMesh.engineNear.urls[0]
        func expectService(for seconds: Double, _ when: String) throws {
            let end = ContinuousClock.now + .seconds(seconds)
            repeat {
                let answer = try quiet.bed["client"].curl(url)
                #expect(answer.status == 200, "\(when): \(answer)\n\(old.text.suffix(2000))")
            } while .now < end
        }
        let next = try node.start("next", node.agentArguments(more: ["--takeover"]))
        try eventually("its child is there") { node.child(of: next) != nil }
        // It never comes to serve.
        let child = try #require(node.child(of: next))
        kill(child, SIGSTOP)
        try expectService(for: 4, "while the next one starts")
        #expect(!next.text.contains("the engine's slot is cleared"), "\(next.text)")

        next.signal(SIGKILL)
        #expect(next.wait(seconds: 5) != 0)
        try expectService(for: 1, "behind its death")
        #expect(old.exitStatus == nil)

        // One that has changed the datapath, and dies: what it left is put right.
        let late = try node.start(
            "late",
            node.agentArguments(
                more: ["--takeover", "--workload-api", "\(quiet.bed.directory)/none.sock"]))
        let programs = "\(node.bpffs)/malla/v*/programs/malla_from_pod"
        let ours = try Command.shell("bpftool prog show pinned \(programs) | cut -d: -f1")
        try eventually("its first program is there: \(late.text)") {
            try Command.shell("bpftool prog show pinned \(programs) | cut -d: -f1") != ours
        }
        late.signal(SIGKILL)
        #expect(late.wait(seconds: 5) != 0)
        try eventually("the old one goes on: \(old.text.suffix(2000))", within: 20) {
            try Command.shell("bpftool prog show pinned \(programs) | cut -d: -f1") == ours
        }
        try Command.shell(
            "bpftool link detach pinned \(node.bpffs)/malla/v*/link/cgroup_connect4")
        try eventually("and repairs: \(old.text.suffix(2000))", within: 8) {
            try node.metric("malla_repairs_total{what=\"link\"}") >= 1
        }
    }

    @Test func `a second takeover while one is under way is refused, and takes nothing from it`()
        throws
    {
        let quiet = try SmallMesh.bed { bed in try EngineAbsence.close("client", bed) }
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let old = try node.startAgent()
        let arguments = node.agentArguments(more: ["--takeover", "--child-silence", "0"])
        let first = try node.start("first", arguments)
        try eventually("its child is there") { node.child(of: first) != nil }
        let child = try #require(node.child(of: first))
        kill(child, SIGSTOP)

        // Either of the two may hear it.
        for number in 1...4 {
            let second = try node.start("second-\(number)", arguments)
            #expect(second.wait(seconds: 20) == 69, "\(second.text)")
            #expect(second.text.contains("another takeover is under way"), "\(second.text)")
        }
        #expect(old.exitStatus == nil && first.exitStatus == nil)

        kill(child, SIGCONT)
        #expect(old.wait(seconds: 30) == 0, "\(old.text)\n\(first.text)")
        #expect(!first.text.contains("slot is cleared"), "\(first.text)")
        #expect(try node.serving() == Int(child))
        #expect(try quiet.bed["client"].curl(SmallMesh.engineNear.urls[0]).status == 200)

        // Behind it the next one is let in.
        let third = try node.start("third", arguments)
        #expect(first.wait(seconds: 30) == 0, "\(first.text)\n\(third.text)")
        #expect(try quiet.bed["client"].curl(SmallMesh.engineNear.urls[0]).status == 200)
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

    /// An agent that serves, of whom the next one waits 5 s for a Workload API that is not there,
    /// and has attached its programs by then.
    private static func slow() throws -> (bed: Testbed, agent: TestProcess) {
        let quiet = try SmallMesh.bed()
        let node = quiet.bed[node: "n1"]
        let agent = try node.start(
            "agent",
            node.agentArguments(more: ["--workload-api", "\(quiet.bed.directory)/none.sock"]))
        do {
            try eventually("it serves: \(agent.text)", within: 30) { try node.serving() != 0 }
        } catch {
            quiet.bed.close()
            throw error
        }
        return (quiet.bed, agent)
    }

    @Test func `an agent repairs nothing of what the one has changed that is to take its place`()
        throws
    {
        let (bed, agent) = try Self.slow()
        defer { bed.close() }
        let node = bed[node: "n1"]
        let before = try node.serving()
        agent.signal(SIGUSR2)
        try eventually("the next one serves: \(agent.text)", within: 30) {
            let now = try node.serving()
            return now != before && now != 0
        }
        try eventually("and looks itself") {
            try node.metric("malla_verifications_total") >= 2
        }
        #expect(!agent.text.contains("repaired: "), "\(agent.text)")
        #expect(try node.metric("malla_repairs_total") == 0)

        // Who is left alone verifies again.
        try Command.shell(
            "bpftool link detach pinned \(node.bpffs)/malla/v*/link/cgroup_connect4")
        try eventually("it is repaired: \(agent.text)", within: 8) {
            try node.metric("malla_repairs_total{what=\"link\"}") == 1
        }
    }

    @Test func `a successor that dies is none: what it has left goes, and the older one goes on`()
        throws
    {
        let (bed, agent) = try Self.slow()
        defer { bed.close() }
        let node = bed[node: "n1"]
        let pins = try Command.shell("ls -d \(node.bpffs)/malla/v*").split(separator: "\n")[0]
        func witness() throws -> String {
            try Command.shell("bpftool -j prog show pinned \(pins)/programs/malla_from_pod")
        }
        func linked() throws -> String {
            try Command.shell("bpftool -j link show pinned \(pins)/link/cgroup_connect4")
        }
        let (child, own) = (try #require(node.child(of: agent)), try witness())
        let link = try linked()

        agent.signal(SIGUSR2)
        try eventually("the next one has attached its programs: \(agent.text)", within: 30) {
            try witness().prefix { $0 != "," } != own.prefix { $0 != "," } && linked() != link
        }
        // As if it had begun with its rows: a set that no pod of the older one's names.
        let set = "\(pins)/malla_set key hex ff ff 00 00"
        try Command.shell("bpftool map update pinned \(set) value hex 00 00 00 00 00 00 00 00")
        let next = try #require(node.child(of: agent))
        try #require(next != child)
        kill(next, SIGKILL)

        try eventually("the older one's programs are back: \(agent.text)", within: 30) {
            try node.metric("malla_repairs_total{what=\"program\"}") > 0
        }
        try eventually("what the other has left is gone: \(agent.text)", within: 10) {
            try Command.shell("bpftool map lookup pinned \(set) 2>&1 || true").contains("Not found")
        }
        // Not far ones: nothing goes there in plain text, and there is no certificate.
        for service in [SmallMesh.engineNear, SmallMesh.kernelNear] {
            for url in service.urls { #expect(try bed["client"].curl(url).status == 200) }
        }
        #expect(try node.serving() != 0)
        #expect(agent.exitStatus == nil, "\(agent.text)")
    }
}
