import Glibc
import TestSupport
import Testing

@Suite(
    "What another program breaks is found, repaired and reported (docs/operations.md)", .serialized)
struct RepairTests {
    /// Seconds from the fault to the repair: the agent looks every two.
    private static let patience = 8.0

    private static func repairs(_ mesh: SmallMesh.Running, _ what: String) throws -> Double {
        try mesh.node.metric("malla_repairs_total{what=\"\(what)\"}")
    }

    /// Requests on one kept connection, one every 100 ms: what each was answered with.
    private static func startSlowClient(_ mesh: SmallMesh.Running) throws -> TestProcess {
        try mesh.client.start(
            "slow",
            [
                "/usr/bin/python3", "-uc",
                """
                import http.client, time
                link = http.client.HTTPConnection('\(SmallMesh.engineNear.v4)', 80, timeout=20)
                for number in range(70):
                    link.request('GET', '/')
                    answer = link.getresponse()
                    answer.read()
                    print(answer.status, flush=True)
                    time.sleep(0.1)
                """,
            ])
    }

    /// what is counted, what is broken, whether connections through the engine outlive it
    static let faults: [(String, String, Bool)] = [
        ("link", "a pod's program detached", true),
        ("link", "a cgroup's program detached", true),
        ("link", "the engine's program detached", true),
        ("link", "the engine's lookup detached", true),
        ("link", "the programs that hold new pods detached", true),
        ("link", "an uplink's programs detached", true),
        ("program", "a pod's program replaced by another", true),
        // Its flows belong to the interface that is gone: a pod that is set up again has none.
        ("interface", "a pod's interface made anew", false),
        ("pin", "every pin removed", true),
        ("row", "rows of pods and services deleted", true),
        ("engine_veth", "the engine's veth deleted", true),
        ("engine_link", "the engine's interface set down", true),
        ("engine_routes", "the engine's routes flushed", true),
        ("engine_routes", "the engine's rules flushed", true),
        ("engine_routes", "the engine's addresses flushed", true),
        ("engine_settings", "the engine's port range changed", true),
    ]

    private static func detach(_ mesh: SmallMesh.Running, _ pin: String) throws {
        let directory = try Command.shell("ls -d \(mesh.node.bpffs)/malla/v*/link | tail -n 1")
            .split(separator: "\n")[0]
        try Command.shell("bpftool link detach pinned \(directory)/\(pin)")
    }

    /// Has the links whose pins begin so run another of the pinned programs: BPF_LINK_UPDATE.
    private static let replace = """
        home = glob.glob(sys.argv[1] + "/malla/v*")[0]
        program = opened(home + "/programs/" + sys.argv[3])
        for pin in glob.glob(home + "/link/" + sys.argv[2] + "*"):
            bpf(29, "=IIII", opened(pin), program, 0, 0)
            print("replaced", pin)
        """

    private static func cause(_ fault: String, _ mesh: SmallMesh.Running) throws {
        switch fault {
        case "a pod's program detached":
            let pins = try Command.shell("ls \(mesh.node.bpffs)/malla/v*/link")
            for pin in pins.split(separator: "\n") where pin.hasPrefix("from_pod_") {
                try detach(mesh, String(pin))
            }
        case "an uplink's programs detached":
            let pins = try Command.shell("ls \(mesh.node.bpffs)/malla/v*/link").split(
                separator: "\n")
            let uplinks = pins.filter { pin in
                ["uplink_", "outside_", "leaving_"].contains { pin.hasPrefix($0) }
            }
            #expect(uplinks.count == 3, "\(pins)")
            for pin in uplinks { try detach(mesh, String(pin)) }
        case "a cgroup's program detached": try detach(mesh, "cgroup_connect4")
        case "the engine's lookup detached": try detach(mesh, "to_listener")
        case "the programs that hold new pods detached":
            for pin in ["cgroup_from_socket", "cgroup_to_socket"] { try detach(mesh, pin) }
        case "the engine's program detached":
            let pins = try Command.shell("ls \(mesh.node.bpffs)/malla/v*/link")
            for pin in pins.split(separator: "\n") where pin.hasPrefix("from_engine_") {
                try detach(mesh, String(pin))
            }
        case "a pod's program replaced by another":
            let replaced = try mesh.node.run(
                [
                    "/usr/bin/python3", "-c", PythonPrograms.bpf + Self.replace,
                    mesh.node.bpffs, "from_pod_", "malla_outside",
                ])
            #expect(replaced.output.hasPrefix("replaced "), "\(replaced)")
        case "rows of pods and services deleted":
            for map in ["malla_pod", "malla_service"] { try mesh.node.clear(map: map) }
        case "a pod's interface made anew": try mesh.client.replug()
        case "every pin removed": try Command.shell("rm -r \(mesh.node.bpffs)/malla/")
        case "the engine's veth deleted":
            #expect(try mesh.node.run(["ip", "link", "del", "malla0"]).status == 0)
        default:
            let script = [
                "the engine's interface set down": "ip link set eth0 down",
                "the engine's routes flushed":
                    "ip route flush table main; ip -6 route flush table main; "
                    + "ip route flush table local",
                "the engine's addresses flushed":
                    "ip addr flush dev lo; ip addr flush dev eth0; ip -6 addr flush dev lo; "
                    + "ip route flush table local; ip -6 route flush table local",
                "the engine's rules flushed": "ip rule flush; ip -6 rule flush",
                "the engine's port range changed":
                    "echo 20000 30000 > /proc/sys/net/ipv4/ip_local_port_range",
            ][fault]
            let outcome = try mesh.node.inEngine(mesh.agents[0], try #require(script))
            #expect(outcome.status == 0, "\(outcome)")
        }
    }

    @Test(arguments: faults) func `is repaired under load`(
        _ what: String, _ fault: String, _ survives: Bool
    ) throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let before = try Self.repairs(mesh, what)
        #expect(before == 0)
        let direct = try mesh.bed["near"].start(
            "wrk", ["wrk", "-t1", "-c4", "-d7s", "--timeout", "8s", SmallMesh.kernelFar.urls[0]])
        let slow = try Self.startSlowClient(mesh)
        try eventually("the load flows") { slow.text.split(separator: "\n").count > 5 }

        try Self.cause(fault, mesh)

        do {
            try eventually("\(fault): repaired", within: Self.patience) {
                try Self.repairs(mesh, what) > 0
            }
        } catch {
            Issue.record("\(error)\n\(mesh.logs)")
            return
        }
        for service in [SmallMesh.engineNear, SmallMesh.engineFar, SmallMesh.kernelFar] {
            for url in service.urls {
                try eventually("\(url) answers again", within: Self.patience) {
                    try mesh.client.curl(url, seconds: 2).status == 200
                }
            }
        }
        if survives {
            #expect(slow.wait(seconds: 30) == 0, "\(slow.text.suffix(300))\n\(mesh.logs)")
            #expect(slow.text.split(separator: "\n").allSatisfy { $0 == "200" }, "\(slow.text)")
        }
        #expect(direct.wait(seconds: 20) == 0)
        let load = Load(direct.text)
        #expect(load.requests > 1_000 && load.errors == 0, "another pod's traffic: \(load.text)")
        let status = try mesh.node.malla("status")
        #expect(status.output.contains("REPAIRED") && status.output.contains(what), "\(status)")
        #expect(mesh.logs.contains("repaired: "), "\(mesh.logs)")
        let once = try Self.repairs(mesh, what)
        let looks = try mesh.node.metric("malla_verifications_total")
        try eventually("it is looked twice more") {
            try mesh.node.metric("malla_verifications_total") >= looks + 2
        }
        #expect(try Self.repairs(mesh, what) == once, "again and again: \(mesh.logs)")
        #expect(try mesh.node.metric("malla_datapath_problems") == 0)
    }

    @Test func `without its lookup the engine gets nothing new, and nothing goes past it`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let urls = SmallMesh.engineNear.urls
        for url in urls { #expect(try mesh.client.curl(url).status == 200) }
        let slow = try Self.startSlowClient(mesh)
        let traffic = try SteadyTraffic(
            mesh.bed, client: "client", servers: ["far"], dials: [SmallMesh.kernelFar.v4])
        try eventually("the load flows") { slow.text.split(separator: "\n").count > 5 }

        // Nobody repairs for as long as it is tried; nobody answers on what is open either.
        let child = try #require(mesh.node.child(of: mesh.agents[0]))
        kill(child, SIGSTOP)
        let served = try mesh.quiet.near.requests()
        try Self.cause("the engine's lookup detached", mesh)
        for url in urls + urls { try EngineAbsence.expectRefusal(mesh.client, url) }
        #expect(try mesh.quiet.near.requests() == served, "past the engine")
        kill(child, SIGCONT)

        try eventually("it is repaired: \(mesh.logs)", within: Self.patience) {
            try Self.repairs(mesh, "link") == 1
        }
        #expect(mesh.logs.contains("malla_listener at netns engine was detached"), "\(mesh.logs)")
        #expect(try mesh.node.malla("status").output.contains("REPAIRED"))
        for url in urls { #expect(try mesh.client.curl(url).status == 200, "\(mesh.logs)") }
        #expect(slow.wait(seconds: 30) == 0, "\(slow.text.suffix(300))\n\(mesh.logs)")
        #expect(slow.text.split(separator: "\n").allSatisfy { $0 == "200" }, "\(slow.text)")
        let outcome = try traffic.stop()
        #expect(outcome.faults.isEmpty && outcome.bytes > 0, "\(outcome.faults.prefix(20))")
    }

    @Test func `a pod whose program is gone reaches no captured service past the engine`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let client = try mesh.client.start(
            "many",
            [
                "/usr/bin/python3", "-uc",
                """
                import socket, time
                end = time.time() + 7
                while time.time() < end:
                    s = socket.socket()
                    s.settimeout(0.3)
                    try:
                        s.connect(('\(SmallMesh.engineNear.v4)', 80))
                        s.sendall(b'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n')
                        text = b''
                        while True:
                            got = s.recv(65536)
                            if not got: break
                            text += got
                        print('answer' if b'x-pod' in text else 'nothing', flush=True)
                    except OSError as error:
                        print('refused', flush=True)
                    s.close()
                    time.sleep(0.02)
                """,
            ])
        try eventually("answers come") { client.text.contains("answer") }
        let requests = try mesh.node.metric("malla_requests_total")
        let served = try mesh.quiet.near.requests()

        try Self.cause("a pod's program detached", mesh)
        try eventually("it is repaired", within: Self.patience) {
            try Self.repairs(mesh, "link") > 0
        }
        #expect(client.wait(seconds: 20) == 0)

        // What the server saw is what the engine sent it.
        let through = try mesh.node.metric("malla_requests_total") - requests
        let seen = try mesh.quiet.near.requests() - served
        #expect(
            Double(seen) <= through + 2, "\(seen) requests at the server, \(through) by the engine")
        let endpoints = try mesh.node.malla("endpoints", "-o", "json")
        #expect(
            endpoints.output.contains("\"repairs\" : 1")
                || endpoints.output.contains("\"repairs\":1"))
    }
}
