import Glibc
import TestSupport
import Testing

@Suite("The last good configuration outlives the agent (docs/operations.md)", .serialized)
struct StateTests {
    private static let toFar = "- backendRefs: [{name: engine-far, port: 80}]"

    /// Which pod answers for a service, empty if none does.
    private static func pod(_ mesh: SmallMesh.Running, _ service: TestService) throws -> String {
        try mesh.client.curl(service.urls[0] + "/").headers["x-pod"] ?? ""
    }

    @Test func `what breaks while the node is down stays in force, what is removed does not`()
        throws
    {
        let mesh = try SmallMesh.running { bed in
            try bed.route("shared", of: "shared", rules: Self.toFar)
            try bed.route("near", of: "engine-near", rules: Self.toFar)
        }
        defer { mesh.close() }
        #expect(try Self.pod(mesh, SmallMesh.engineNear) == "far")

        // As a node that is switched off: nothing of the datapath is left either.
        #expect(mesh.agents[0].stop() == 0)
        let cleanup = try mesh.node.run([Binaries.agent, "cleanup", "--bpffs", mesh.node.bpffs])
        #expect(cleanup.status == 0, "\(cleanup)")
        try mesh.bed.configure("bed.yaml", "a: [")
        try mesh.bed.route(
            "shared", of: "shared",
            rules: "- backendRefs: [{name: engine-near, port: 80, weight: lots}]")
        mesh.bed.unconfigure("route-near.yaml")
        let next = try mesh.node.start("again", mesh.node.agentArguments())

        try eventually("the last good route is in force") {
            try Self.pod(mesh, SmallMesh.shared) == "far"
        }
        #expect(try Self.pod(mesh, SmallMesh.kernelNear) == "near", "\(next.text)")
        #expect(try Self.pod(mesh, SmallMesh.engineNear) == "near", "a removed route stays removed")
        #expect(try mesh.node.curl("http://\(TestNode.admin)/readyz").status == 503)
        #expect(next.text.contains("bed.yaml"), "\(next.text)")
        #expect(
            next.text.contains("route-shared.yaml")
                && next.text.contains("its last good version stays in force"), "\(next.text)")
    }

    @Test func `a child that finds the directory gone goes on with what was in force`() throws {
        let mesh = try SmallMesh.running { bed in
            try bed.route("shared", of: "shared", rules: Self.toFar)
        }
        defer { mesh.close() }
        try eventually("it is kept") { try mesh.node.metric("malla_state_objects") > 10 }
        let child = try #require(mesh.node.child(of: mesh.agents[0]))
        let away = mesh.bed.configuration + ".away"
        try Command.shell("mv \(mesh.bed.configuration) \(away)")

        kill(child, SIGKILL)

        try eventually("the next child serves the route") {
            guard let next = mesh.node.child(of: mesh.agents[0]), next != child else {
                return false
            }
            return try Self.pod(mesh, SmallMesh.shared) == "far"
        }
        #expect(try mesh.node.metric("malla_agent_restarts_total") == 1)
        #expect(try mesh.node.curl("http://\(TestNode.admin)/readyz").status == 503)
        try Command.shell("mv \(away) \(mesh.bed.configuration)")
        try mesh.node.waitUntilReady(mesh.agents[0])
    }

    @Test func `a configuration that ends each agent that reads it is left alone until it changes`()
        throws
    {
        let mesh = try SmallMesh.running { bed in
            try bed.route("shared", of: "shared", rules: Self.toFar)
        }
        defer { mesh.close() }
        try eventually("it is kept") { try mesh.node.metric("malla_state_objects") > 10 }
        let kept = try mesh.node.metric("malla_state_objects")
        #expect(mesh.agents[0].stop() == 0)

        // What agents leave that did not survive their reading.
        try Command.shell("echo 2 > \(mesh.node.state)/reading")
        mesh.bed.unconfigure("route-shared.yaml")
        let next = try mesh.node.start("again", mesh.node.agentArguments())

        try eventually("it says so") { next.text.contains("take the last change back") }
        #expect(try Self.pod(mesh, SmallMesh.shared) == "far", "what was in force is served")
        let probe = try mesh.node.curl("http://\(TestNode.admin)/readyz")
        #expect(
            probe.status == 503 && probe.body.contains("has ended the agent 2 times"), "\(probe)")
        try mesh.bed.route("other", of: "engine-near", rules: Self.toFar)
        try mesh.node.waitUntilReady(next)
        #expect(try Self.pod(mesh, SmallMesh.engineNear) == "far")
        #expect(try Command.shell("ls \(mesh.node.state)").contains("reading") == false)
        #expect(try mesh.node.metric("malla_state_objects") == kept, "one removed, one more")
    }

    @Test func `a child that dies is followed by one with the directory as it is now`() throws {
        let mesh = try SmallMesh.running { bed in
            try bed.route("near", of: "engine-near", rules: Self.toFar)
        }
        defer { mesh.close() }
        try eventually("it is kept") { try mesh.node.metric("malla_state_objects") > 10 }
        let child = try #require(mesh.node.child(of: mesh.agents[0]))
        kill(child, SIGSTOP)
        mesh.bed.unconfigure("route-near.yaml")

        kill(child, SIGKILL)

        try eventually("the route is gone") { try Self.pod(mesh, SmallMesh.engineNear) == "near" }
        #expect(try mesh.node.metric("malla_agent_restarts_total") == 1)
    }

    @Test func `a spoilt or unwritable state is reported, counted, and never fatal`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let kept = mesh.node.state + "/config"
        try eventually("it is kept") { try mesh.node.metric("malla_state_objects") > 10 }
        #expect(mesh.agents[0].stop() == 0)

        try Command.shell("for file in \(kept)/*.good; do truncate -s -1 $file; done")
        let spoilt = try mesh.node.startAgent()
        try eventually("it is said") { spoilt.text.contains("its checksum does not fit") }
        #expect(try mesh.node.metric("malla_state_errors_total{operation=\"read\"}") == 1)
        #expect(try mesh.node.malla("status").output.contains("is damaged"))
        #expect(try Self.pod(mesh, SmallMesh.engineNear) == "near")
        #expect(spoilt.stop() == 0)

        try Command.shell("rm -r \(kept) && touch \(kept)")
        let unwritable = try mesh.node.startAgent()
        try eventually("it is said") { unwritable.text.contains("\(kept) cannot be made") }
        #expect(try mesh.node.metric("malla_state_errors_total{operation=\"write\"}") >= 1)
        #expect(try Self.pod(mesh, SmallMesh.kernelFar) == "far")
        try Command.shell("rm \(kept)")
        try eventually("it is tried again", within: 15) {
            try mesh.node.metric("malla_state_objects") > 10
        }
        #expect(try mesh.node.malla("status").output.contains("cannot be made") == false)
    }
}
