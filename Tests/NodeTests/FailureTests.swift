import Foundation
import Glibc
import TestSupport
import Testing

@Suite("When things fail: a clear word, the right exit status, and the rest goes on", .serialized)
struct FailureTests {
    @Test func `a second agent on the same node ends with 69 and harms nothing`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }

        let second = try mesh.node.start("second", mesh.node.agentArguments())

        #expect(second.wait(seconds: 15) == 69, "\(second.text)")
        #expect(
            second.text.contains("(pid \(mesh.agents[0].pid)) already serves the state directory"))

        let own = mesh.node.state + "/own"
        let paths = ["--state", own, "--socket", own + "/agent.sock", "--admin", "127.0.0.1:0"]
        let third = try mesh.node.start("third", mesh.node.agentArguments(more: paths))
        #expect(third.wait(seconds: 15) == 69, "\(third.text)")
        #expect(
            third.text.contains("(pid \(mesh.agents[0].pid)) already serves this node"),
            "paths of its own do not make it another node's: \(third.text)")
        for service in [SmallMesh.kernelFar, SmallMesh.engineFar] {
            let answer = try mesh.client.curl(service.urls[0])
            #expect(answer.status == 200, "\(service.name): \(answer.problem)\n\(mesh.logs)")
        }
    }

    @Test func `an agent without the capabilities ends with 77 and names what is missing`() throws {
        let quiet = try SmallMesh.bed()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]

        let agent = try node.start(
            "agent",
            ["setpriv", "--bounding-set", "-net_admin,-sys_admin,-bpf"] + node.agentArguments())

        #expect(agent.wait(seconds: 15) == 77, "\(agent.text)")
        #expect(agent.text.contains("CAP_"), "\(agent.text)")
    }

    @Test func `a wrong command line ends with 64, a missing configuration directory with 78`()
        throws
    {
        let quiet = try SmallMesh.bed()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]

        let wrong = try node.run([Binaries.agent, "run", "--no-such-option"])
        #expect(wrong.status == 64, "\(wrong)")
        let words = node.agentArguments().map { $0 == quiet.bed.configuration ? "/no/such" : $0 }
        let missing = try node.run(words)
        #expect(missing.status == 78, "\(missing)")
        #expect(missing.errors.contains("/no/such"), "\(missing)")
    }

    @Test func `a Gateway's port in use is reported, the mesh goes on, and it is taken once free`()
        throws
    {
        let quiet = try SmallMesh.bed { bed in
            try bed.configure("gateway.yaml", RouteTests.gateway)
            try bed.route(
                "front", parent: "{name: front}",
                rules: "- backendRefs: [{name: engine-far, port: 80}]")
        }
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let occupant = try node.start(
            "occupant", ["/usr/bin/python3", "-m", "http.server", "--bind", "::", "80"])
        try eventually("port 80 is taken") {
            try node.run(["ss", "-Hltn", "sport = :80"]).output.contains(":80")
        }
        let agent = try node.start("agent", node.agentArguments())

        try eventually("the mesh is served") {
            try quiet.bed["client"].curl(SmallMesh.engineNear.urls[0]).status == 200
        }
        try eventually("the agent names the port") {
            agent.text.contains("listener http: port 80 cannot be opened: Address already in use")
        }
        occupant.stop()
        try eventually("the Gateway answers", within: 20) {
            let outcome = try quiet.bed.outside(["curl", "-sSi", "-m", "2", "http://\(node.v4)/"])
            return Curl.response(outcome).headers["x-pod"] == "far"
        }
    }

    @Test func `a child killed with -9 under load loses no listener`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let load = try mesh.client.start(
            "wrk", ["wrk", "-t1", "-c16", "-d4s", SmallMesh.engineNear.urls[0] + "/"])
        let before = try mesh.quiet.near.requests()
        try eventually("the load flows") { try mesh.quiet.near.requests() > before + 100 }
        let child = try #require(mesh.node.child(of: mesh.agents[0]))

        kill(child, SIGKILL)
        for _ in 1...10 {
            // A connection made while no child serves waits in the listener's queue.
            let answer = try mesh.client.curl(SmallMesh.engineFar.urls[0] + "/", seconds: 5)
            #expect(answer.status == 200, "\(answer.problem)\n\(mesh.logs)")
        }

        let next = try #require(mesh.node.child(of: mesh.agents[0]))
        #expect(next != child)
        #expect(mesh.agents[0].exitStatus == nil, "the supervisor lives")
        #expect(load.wait(seconds: 20) == 0)
        #expect(Load(load.text).requests > 0)
    }

    @Test func `SIGTERM ends the agent with 0, and so does a terminal that is closed`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }

        #expect(mesh.agents[0].stop() == 0, "\(mesh.logs)")
        kill(mesh.agents[1].pid, SIGHUP)
        #expect(mesh.agents[1].wait(seconds: 15) == 0, "\(mesh.logs)")
        #expect(mesh.agents[1].text.contains("draining"))
        #expect(unsafe access(mesh.bed[node: "n2"].socket, F_OK) != 0, "its socket is removed")
    }

    /// Answers `/now` at once; of others it says who asks, and `/half` gets half of its answer. The
    /// rest comes once there is a file of the name that is its argument.
    private static let slow = """
        import os, socket, sys, threading, time
        body = "".join("%d\\n" % n for n in range(100000)).encode()
        head = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
        def serve(c):
            text = b""
            while b"\\r\\n\\r\\n" not in text:
                more = c.recv(4096)
                if not more: return
                text += more
            path, sent = text.split()[1].decode(), 0
            if path == "/half":
                c.sendall(head + body[:300000])
                sent = 300000
            if path != "/now":
                print("asked", flush=True)
                while not os.path.exists(sys.argv[1]): time.sleep(0.02)
            c.sendall(body[sent:] if sent else head + body)
            c.close()
        s = socket.create_server(("", 9090), family=socket.AF_INET6, dualstack_ipv6=True)
        print("up", flush=True)
        while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
        """

    @Test func `SIGTERM: what was asked before is answered whole, and then the agent ends with 0`()
        throws
    {
        let service = TestService("slow", 8, "http", to: ["near"], targetPort: 9090)
        let mesh = try SmallMesh.running { bed in
            try bed.describe(SmallMesh.services + [service])
            try bed.configure("gateway.yaml", RouteTests.gateway)
            try bed.route(
                "front", parent: "{name: front}", rules: "- backendRefs: [{name: slow, port: 80}]")
        }
        defer { mesh.close() }
        let (bed, go) = (mesh.bed, mesh.bed.directory + "/go")
        let server = try bed["near"].start("slow", ["/usr/bin/python3", "-c", Self.slow, go])
        try eventually("the server listens: \(server.text)") { server.text.contains("up") }
        let gateway = "http://\(mesh.node.v4)"
        try eventually("it is reached as a service and by the Gateway\n\(mesh.logs)") {
            try mesh.client.curl(service.urls[0] + "/now").status == 200
                && bed.outside(["curl", "-sSf", "-m", "2", gateway + "/now"]).isSuccess
        }

        var calls: [(process: TestProcess, file: String)] = []
        for path in ["/quiet", "/half"] {
            for (number, url) in (service.urls + [gateway]).enumerated() {
                let file = "\(bed.directory)/body-\(calls.count)"
                let words = ["curl", "-sS", "-m", "60", "-o", file, "-w", "%{http_code}"]
                let label = "call-\(calls.count)"
                let process =
                    number < 2
                    ? try mesh.client.start(label, words + [url + path])
                    : try bed.startOutside(label, words + [url + path])
                calls.append((process, file))
            }
        }
        try eventually("all have asked, some have half of it: \(server.text)") {
            server.text.components(separatedBy: "asked").count == calls.count + 1
                && calls.suffix(3).allSatisfy { !Command.text($0.file).isEmpty }
        }

        let agent = mesh.agents[0]
        agent.signal(SIGTERM)
        try eventually("it drains\n\(mesh.logs)") { agent.text.contains("draining") }
        #expect(agent.exitStatus == nil && calls.allSatisfy { $0.process.exitStatus == nil })
        try Command.shell("touch \(go)")

        let body = (0..<100_000).map { "\($0)\n" }.joined()
        for call in calls {
            #expect(call.process.wait(seconds: 20) == 0, "\(call.process.text)\n\(mesh.logs)")
            #expect(call.process.text == "200")
            #expect(Command.text(call.file) == body)
        }
        #expect(agent.wait(seconds: 20) == 0, "\(mesh.logs)")
    }

    @Test func `a change that is refused is told where the route and the status are shown`() throws
    {
        let mesh = try SmallMesh.running { bed in
            try bed.route(
                "web", of: "shared", rules: "- backendRefs: [{name: engine-far, port: 80}]")
        }
        defer { mesh.close() }
        #expect(try !mesh.node.malla("routes").output.contains("change refused"))

        try mesh.bed.route(
            "web", of: "shared", rules: "- backendRefs: [{name: engine-far, port: 80, weight: -5}]")

        try eventually("malla routes names what is wrong") {
            try mesh.node.malla("routes").output
                .contains("change refused: spec.rules[0].backendRefs[0].weight: ")
        }
        let status = try mesh.node.malla("status").output
        #expect(status.contains("  refused: HTTPRoute bed/web: route-web.yaml:"), "\(status)")
        let answer = try mesh.client.curl(SmallMesh.shared.urls[0] + "/")
        #expect(answer.headers["x-pod"] == "far", "what was good is in force: \(answer.problem)")
    }

    @Test func `ps shows the child by the program's name`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let child = try #require(mesh.node.child(of: mesh.agents[0]))
        #expect(Command.text("/proc/\(child)/comm") == "malla-agent\n")
    }

    @Test func `a node without the datapath serves Gateways and needs no privileges`() throws {
        let bed = try Testbed("n1: far")
        defer { bed.close() }
        _ = try bed["far"].serve()
        try bed.describe([TestService("engine-far", 4, "http", to: ["far"])])
        try bed.configure(
            "gateway.yaml", RouteTests.gateway.replacing("port: 80}", with: "port: 8000}"))
        try bed.route(
            "front", parent: "{name: front}", rules: "- backendRefs: [{name: engine-far, port: 80}]"
        )
        let node = bed[node: "n1"]
        try Command.shell("chmod 777 \(node.state)/.. \(node.state)")

        let agent = try node.start(
            "agent",
            ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
                + node.agentArguments(more: ["--datapath", "off"]))

        try node.waitUntilReady(agent)
        try eventually("the Gateway answers") {
            let outcome = try bed.outside(["curl", "-sSi", "-m", "2", "http://\(node.v4):8000/"])
            return Curl.response(outcome).headers["x-pod"] == "far"
        }
    }
}
