import Glibc
import TestSupport
import Testing

/// What the tests of nodes without an engine have in common.
enum EngineAbsence {
    /// Writes into the bed's objects that the pod fails closed.
    static func close(_ pod: String, _ bed: Testbed) throws {
        try bed.annotate(pod, "malla.io/failure-mode: closed")
    }

    /// A connect(2) that is refused, and not by the end of its time.
    static func expectRefusal(_ pod: TestPod, _ url: String) throws {
        let refused = try pod.curl(url, seconds: 2)
        #expect(refused.status == 0 && refused.problem.contains("curl 7"), "\(url): \(refused)")
    }

    /// Requests one after another, each on a connection of its own, until a file is there: how long
    /// connect(2) took at most (ms), and how many were answered, refused, and failed otherwise.
    static let prober = """
        import os, socket, sys, time
        end = time.monotonic() + 60
        longest, answered, refused, failed = 0, 0, 0, 0
        while time.monotonic() < end and not os.path.exists(sys.argv[3]):
            began = time.monotonic()
            try:
                try:
                    link = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
                except ConnectionRefusedError:
                    refused += 1
                    continue
                finally:
                    longest = max(longest, time.monotonic() - began)
                link.settimeout(10)
                link.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
                text = b""
                while got := link.recv(65536):
                    text += got
                if text.startswith(b"HTTP/1.1 200"):
                    answered += 1
                else:
                    failed += 1
                    print("answer:", text[:60], flush=True)
                link.close()
            except OSError as error:
                failed += 1
                print("failed:", error, flush=True)
            time.sleep(0.005)
        print("result:", int(longest * 1000), answered, refused, failed)
        """

    struct Result {
        var longest = 0
        var answered = 0
        var refused = 0
        var failed = 0

        init(_ text: String) {
            let numbers =
                text.split(separator: "\n").last { $0.hasPrefix("result:") }?
                .split(separator: " ").compactMap { Int($0) } ?? []
            guard numbers.count == 4 else { return }
            (longest, answered, refused, failed) = (numbers[0], numbers[1], numbers[2], numbers[3])
        }
    }
}

@Suite("The engine's veth or namespace is gone (docs/configuration.md, Failure mode)", .serialized)
struct EngineAbsenceTests {
    @Test func `its veth deleted under load: healed, and each new connection is as its pod chose`()
        throws
    {
        let mesh = try SmallMesh.running { try EngineAbsence.close("near", $0) }
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let enough = mesh.bed.directory + "/enough"
        let python = ["/usr/bin/python3", "-uc", EngineAbsence.prober]
        let direct = try near.start(
            "wrk", ["wrk", "-t1", "-c4", "-d60s", SmallMesh.kernelFar.urls[0]])
        let service = SmallMesh.engineFar
        let open = try mesh.client.start("open", python + [service.v4, "80", enough])
        let open6 = try mesh.client.start("open6", python + [service.v6, "80", enough])
        let closed = try near.start("closed", python + [service.v4, "80", enough])
        let repairs = "malla_repairs_total{what=\"engine_veth\"}"

        let passed = "malla_datapath_verdicts_total{hook=\"from_pod\",reason=\"past_engine\"}"
        let before = try mesh.node.metric(passed)
        for round in 1...3 {
            #expect(try mesh.node.run(["ip", "link", "del", "malla0"]).status == 0)
            let first = try mesh.client.curl(service.urls[0], seconds: 5)
            #expect(first.status == 200, "\(first)\n\(mesh.logs)")
            let other = try near.curl(service.urls[0], seconds: 5)
            #expect(other.status == 200 || other.problem.contains("curl 7"), "\(other)")
            try eventually("the veth is made anew", within: 8) {
                try mesh.node.metric(repairs) == Double(round)
            }
            let requests = try mesh.node.metric("malla_requests_total")
            try eventually("the engine serves again", within: 8) {
                try mesh.node.metric("malla_requests_total") > requests + 50
            }
        }

        #expect(try mesh.node.metric(passed) > before, "some passed the engine that was not there")
        try Command.shell("touch \(enough)")
        direct.signal(SIGINT)
        for prober in [open, open6, closed] {
            #expect(prober.wait(seconds: 30) == 0)
            let result = EngineAbsence.Result(prober.text)
            #expect(result.answered > 10 && result.failed == 0, "\(prober.text)\n\(mesh.logs)")
            // A SYN that was on its way is sent again after a second.
            #expect(result.longest < 1_600, "\(prober.text)")
            #expect(result.refused == 0 || prober === closed, "\(prober.text)")
        }
        #expect(direct.wait(seconds: 20) == 0)
        let load = Load(direct.text)
        #expect(load.requests > 1_000 && load.errors == 0, "direct traffic: \(load.text)")
    }

    @Test func `its namespace gone under load: calls are as their pods chose, L4 loses nothing`()
        throws
    {
        let mesh = try SmallMesh.running { try EngineAbsence.close("near", $0) }
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let enough = mesh.bed.directory + "/enough"
        let service = SmallMesh.engineFar
        let prober = ["/usr/bin/python3", "-uc", EngineAbsence.prober]
        func probe(_ pod: TestPod, _ label: String, _ address: String) throws -> TestProcess {
            try pod.start(label, prober + [address, "80", enough])
        }
        let open = try [service.v4, service.v6].map { try probe(mesh.client, "open-\($0)", $0) }
        let closed = try [service.v4, service.v6].map { try probe(near, "closed-\($0)", $0) }
        let traffic = try SteadyTraffic(
            mesh.bed, client: "near", servers: ["client", "far"],
            dials: [SmallMesh.kernelFar.v4, SmallMesh.kernelFar.v6])
        let requests = try mesh.node.metric("malla_requests_total")
        try eventually("the engine has its load") {
            try mesh.node.metric("malla_requests_total") > requests + 100
        }

        // The namespace lives with the processes that are in it.
        kill(mesh.agents[0].pid, SIGKILL)
        for url in service.urls {
            try eventually("\(url) passes the engine", within: 5) {
                try mesh.client.curl(url, seconds: 1).status == 200
            }
            try EngineAbsence.expectRefusal(near, url)
        }
        let next = try mesh.node.startAgent()
        for url in service.urls {
            try eventually("\(url) is served by the next engine: \(next.text)", within: 8) {
                try near.curl(url, seconds: 2).status == 200
            }
        }

        try Command.shell("touch \(enough)")
        for prober in open + closed {
            #expect(prober.wait(seconds: 30) == 0)
            let result = EngineAbsence.Result(prober.text)
            // What was open with the engine ended with it, at once.
            #expect(result.answered > 10 && result.failed <= 3, "\(prober.text)\n\(next.text)")
            #expect(!prober.text.contains("timed out"), "\(prober.text)")
        }
        for prober in closed {
            #expect(EngineAbsence.Result(prober.text).refused > 0, "\(prober.text)")
        }
        let outcome = try traffic.stop()
        #expect(outcome.faults.isEmpty, "\(outcome.faults.prefix(20))")
        #expect(outcome.echoes > 100 && outcome.bytes > 100_000, "\(outcome)")
        #expect(outcome.dials > 10, "\(outcome)")
    }

    @Test func `the supervisor killed: no captured call hangs, L4 goes on`() throws {
        let mesh = try SmallMesh.running { try EngineAbsence.close("near", $0) }
        defer { mesh.close() }
        let near = mesh.bed["near"]
        for url in SmallMesh.engineFar.urls { #expect(try near.curl(url).status == 200) }

        kill(mesh.agents[0].pid, SIGKILL)
        // The kernel takes the namespace apart in its own time; until then its sockets refuse.
        for url in SmallMesh.engineFar.urls {
            try eventually("\(url) passes the engine", within: 5) {
                let answer = try mesh.client.curl(url, seconds: 1)
                #expect(!answer.problem.contains("curl 28"), "\(answer)")
                return answer.status == 200
            }
            try EngineAbsence.expectRefusal(near, url)
        }
        for url in SmallMesh.kernelNear.urls + SmallMesh.kernelFar.urls {
            #expect(try mesh.client.curl(url).status == 200)
        }
    }
}
