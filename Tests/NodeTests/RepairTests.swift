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

    /// Requests on one kept connection, one every 100 ms, until a file is there: what each was
    /// answered with.
    private static func startSlowClient(
        _ mesh: SmallMesh.Running, until stop: String
    ) throws -> TestProcess {
        try mesh.client.start(
            "slow-" + stop.split(separator: "/").last!,
            [
                "/usr/bin/python3", "-uc",
                """
                import http.client, os, time
                link = http.client.HTTPConnection('\(SmallMesh.engineNear.v4)', 80, timeout=20)
                while not os.path.exists('\(stop)'):
                    link.request('GET', '/')
                    answer = link.getresponse()
                    answer.read()
                    print(answer.status, flush=True)
                    time.sleep(0.1)
                """,
            ])
    }

    struct Fault: Sendable {
        /// As it is counted.
        var what: String
        var name: String
        /// Whether connections through the engine do.
        var survives = true
    }

    static let faults = [
        Fault(what: "link", name: "a pod's program detached"),
        Fault(what: "link", name: "a cgroup's program detached"),
        Fault(what: "link", name: "the engine's program detached"),
        Fault(what: "link", name: "the engine's lookup detached"),
        Fault(what: "link", name: "the programs that hold new pods detached"),
        Fault(what: "link", name: "an uplink's programs detached"),
        Fault(what: "program", name: "a pod's program replaced by another"),
        Fault(what: "pin", name: "every pin removed"),
        Fault(what: "row", name: "rows of pods and services deleted"),
        Fault(what: "engine_veth", name: "the engine's veth deleted"),
        Fault(what: "engine_link", name: "the engine's interface set down"),
        Fault(what: "engine_routes", name: "the engine's routes flushed"),
        Fault(what: "engine_routes", name: "the engine's rules flushed"),
        Fault(what: "engine_routes", name: "the engine's addresses flushed"),
        Fault(what: "engine_settings", name: "the engine's port range changed"),
        // Its flows belong to the interface that is gone: a pod that is set up again has none.
        Fault(what: "interface", name: "a pod's interface made anew", survives: false),
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

    @Test func `is repaired under load, fault by fault, and once`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        #expect(try mesh.node.metric("malla_repairs_total") == 0)
        var last: (fault: Fault, repairs: Double)?
        for (number, fault) in Self.faults.enumerated() {
            let all = try mesh.node.metric("malla_repairs_total")
            if let last {
                let now = try Self.repairs(mesh, last.fault.what)
                #expect(now == last.repairs, "\(last.fault) again: \(mesh.logs)")
            }
            do {
                try Self.repair(mesh, number, fault)
            } catch {
                Issue.record("\(fault): \(error)\n\(mesh.logs)")
                return
            }
            let status = try mesh.node.malla("status")
            #expect(status.output.contains("REPAIRED"), "\(status)")
            #expect(status.output.contains(fault.what), "\(status)")
            #expect(try mesh.node.metric("malla_repairs_total") > all)
            try eventually("\(fault): no problem is left\n\(mesh.logs)") {
                try mesh.node.metric("malla_datapath_problems") == 0
            }
            last = (fault, try Self.repairs(mesh, fault.what))
        }
        #expect(mesh.logs.contains("repaired: "), "\(mesh.logs)")
        let once = try mesh.node.metric("malla_repairs_total")
        let looks = try mesh.node.metric("malla_verifications_total")
        try eventually("it is looked twice more") {
            try mesh.node.metric("malla_verifications_total") >= looks + 2
        }
        let now = try mesh.node.metric("malla_repairs_total")
        #expect(now == once, "again and again: \(mesh.logs)")
        #expect(try mesh.node.metric("malla_datapath_problems") == 0)
    }

    /// One fault, between a load that has begun and one that goes on.
    private static func repair(_ mesh: SmallMesh.Running, _ number: Int, _ fault: Fault) throws {
        let before = try repairs(mesh, fault.what)
        let direct = try mesh.bed["near"].start(
            "wrk-\(number)",
            ["wrk", "-t1", "-c4", "-d3s", "--timeout", "8s", SmallMesh.kernelFar.urls[0]])
        let stop = "\(mesh.bed.directory)/stop-\(number)"
        let slow = try startSlowClient(mesh, until: stop)
        try eventually("the load flows") { slow.text.split(separator: "\n").count > 5 }

        try cause(fault.name, mesh)

        try eventually("repaired", within: patience) { try repairs(mesh, fault.what) > before }
        for service in [SmallMesh.engineNear, SmallMesh.engineFar, SmallMesh.kernelFar] {
            for url in service.urls {
                try eventually("\(url) answers again", within: patience) {
                    try mesh.client.curl(url, seconds: 2).status == 200
                }
            }
        }
        let answered = slow.text.split(separator: "\n").count
        if fault.survives {
            try eventually("the open connection goes on: \(slow.text.suffix(300))") {
                slow.text.split(separator: "\n").count > answered + 5
            }
        }
        try Command.shell("touch \(stop)")
        let ended = slow.wait(seconds: 30)
        if fault.survives {
            #expect(ended == 0, "\(fault): \(slow.text.suffix(300))\n\(mesh.logs)")
            #expect(slow.text.split(separator: "\n").allSatisfy { $0 == "200" }, "\(slow.text)")
        }
        #expect(direct.wait(seconds: 20) == 0)
        let load = Load(direct.text)
        #expect(
            load.requests > 1_000 && load.errors == 0,
            "\(fault): another pod's traffic: \(load.text)")
    }

    @Test func `without its lookup the engine gets nothing new, and nothing goes past it`() throws {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let urls = SmallMesh.engineNear.urls
        for url in urls { #expect(try mesh.client.curl(url).status == 200) }
        let stop = mesh.bed.directory + "/stop"
        let slow = try Self.startSlowClient(mesh, until: stop)
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
        try Command.shell("touch \(stop)")
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

    /// Hooks of sockets, by what their pins are called, and the programs there.
    private static let socketHooks = [
        "cgroup_connect4": "malla_connect4", "cgroup_connect6": "malla_connect6",
        "cgroup_sendmsg4": "malla_sendmsg4", "cgroup_sendmsg6": "malla_sendmsg6",
        "cgroup_recvmsg4": "malla_recvmsg4", "cgroup_recvmsg6": "malla_recvmsg6",
        "cgroup_getpeername4": "malla_peername4", "cgroup_getpeername6": "malla_peername6",
    ]
    /// Guards, and what is at uplinks; an interface's number is behind it.
    private static let packetHooks = [
        "back_": "malla_back", "to_pod_guard_": "malla_guard",
        "from_engine_guard_": "malla_guard_eng", "uplink_": "malla_uplink",
        "outside_": "malla_outside", "leaving_": "malla_leaving",
    ]

    /// The pins of all of these, with the programs: the pods' guards for each pod of the node.
    private static func lone(_ mesh: SmallMesh.Running) throws -> [(pin: String, program: String)] {
        let pins = try Command.shell("ls \(mesh.node.bpffs)/malla/v*/link").split(separator: "\n")
        let found = pins.compactMap { pin -> (pin: String, program: String)? in
            let hook = socketHooks[String(pin)]
            let other = packetHooks.first { pin.hasPrefix($0.key) }?.value
            return (hook ?? other).map { (String(pin), $0) }
        }
        // Two pods have two guards each.
        #expect(found.count == socketHooks.count + packetHooks.count + 2, "\(pins)")
        return found
    }

    /// Requests to each host and port of its arguments until a file is there, by a connection that
    /// is kept and by new ones; what is not answered with 200 is a fault.
    private static let asker = """
        import http.client, os, sys, threading, time
        stop, places = sys.argv[1], [word.split(",") for word in sys.argv[2:]]
        def say(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())
        def ask(host, port, keeps):
            link = None
            while not os.path.exists(stop):
                try:
                    link = link or http.client.HTTPConnection(host, int(port), timeout=20)
                    link.request("GET", "/")
                    answer = link.getresponse()
                    answer.read()
                    say(answer.status if answer.status == 200 else "fault: %d" % answer.status)
                except Exception as error:
                    say("fault:", host, port, keeps, repr(error))
                    keeps = False
                if not keeps:
                    link.close()
                    link = None
                time.sleep(0.03)
        for host, port in places:
            for keeps in True, False: threading.Thread(target=ask, args=(host, port, keeps)).start()
        """

    /// `near` needs the engine for whatever dials it, and so does `client` for services of HTTP.
    private static func closed() throws -> SmallMesh.Running {
        // A test may hold the child for longer than a silent one lives.
        try SmallMesh.running(options: ["--child-silence", "0"]) { bed in
            try EngineAbsence.close("client", bed)
            try bed.annotate("near", "malla.io/inbound: l7")
            try bed.configure("open.yaml", OpenMesh.service("open", pods: ["far"], at: 90))
        }
    }

    /// Who needs the engine: the client by services, others by the pod's own address.
    private static func startAskers(_ mesh: SmallMesh.Running) throws -> [TestProcess] {
        let near = mesh.bed["near"]
        let program = ["/usr/bin/python3", "-uc", asker, mesh.bed.directory + "/stop-asking"]
        let service = ["\(SmallMesh.engineNear.v4),80", "\(SmallMesh.engineNear.v6),80"]
        let pod = ["\(near.v4),8080", "\(near.v6),8080"]
        let askers = [
            try mesh.client.start("asker", program + service),
            try mesh.bed["far"].start("asker", program + pod),
            try mesh.bed.startOutside("asker", program + pod),
        ]
        for asker in askers {
            try eventually("requests are answered: \(asker.text)") {
                asker.text.split(separator: "\n").count > 20
            }
        }
        return askers
    }

    /// Traffic that needs no engine, between the client and the other node.
    private static func startDirect(_ mesh: SmallMesh.Running) throws -> SteadyTraffic {
        typealias Call = SteadyTraffic.Call
        let (far, stream) = (mesh.bed["far"], SmallMesh.kernelFar)
        let datagrams = SmallMesh.datagramFar
        return try SteadyTraffic(
            mesh.bed, servers: ["far"],
            [
                (
                    .pod("client"),
                    [
                        Call(.echo, far.v4), Call(.echo, far.v6), Call(.stream, far.v4, 9001),
                        Call(.stream, far.v6, 9001), Call(.dial, stream.v4, 80),
                        Call(.dial, stream.v6, 80), Call(.datagram, datagrams.v4, datagrams.port),
                        Call(.datagram, datagrams.v6, datagrams.port),
                    ]
                )
            ])
    }

    /// The peer's address as a program in the pod is told it: of a connection to a service of TCP,
    /// and of an answer of one of UDP.
    private static let peers = """
        import socket, sys
        for host in sys.argv[1], sys.argv[2]:
            print(socket.create_connection((host, 80), 5).getpeername()[0])
        for host in sys.argv[3], sys.argv[4]:
            s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            s.settimeout(5)
            s.sendto(b"x", (host, 5300))
            print(s.recvfrom(99)[1][0])
        """

    /// What the server has served is what the engine has sent it.
    private static func expectNothingPast(
        _ mesh: SmallMesh.Running, _ before: (requests: Double, served: Int)
    ) throws {
        var (through, seen) = (0.0, 0)
        do {
            try eventually("as many as by the engine") {
                seen = try mesh.quiet.near.requests() - before.served
                through = try mesh.node.metric("malla_requests_total") - before.requests
                return seen > 100 && Double(seen) == through
            }
        } catch {
            Issue.record("\(seen) requests at the server, \(through) by the engine")
        }
    }

    @Test
    func `programs that are taken off one by one are put back, and none is missed meanwhile`()
        throws
    {
        let mesh = try Self.closed()
        defer { mesh.close() }
        let lone = try Self.lone(mesh)
        let intact = try LifecycleTests.Traces(mesh.node)
        let before = (
            requests: try mesh.node.metric("malla_requests_total"),
            served: try mesh.quiet.near.requests()
        )
        let direct = try Self.startDirect(mesh)
        let askers = try Self.startAskers(mesh)
        let services = [SmallMesh.kernelFar, SmallMesh.datagramFar].flatMap { [$0.v4, $0.v6] }
        for (number, each) in lone.enumerated() {
            try Self.detach(mesh, each.pin)
            try eventually("\(each.pin) is repaired\n\(mesh.logs)", within: Self.patience) {
                try Self.repairs(mesh, "link") == Double(number + 1)
            }
            try eventually("and the log says it: \(each)\n\(mesh.logs)") {
                mesh.agents[0].text.split(separator: "\n").contains {
                    $0.contains("repaired: ") && $0.contains("\(each.program) at ")
                        && $0.contains("was detached")
                }
            }
            let now = try LifecycleTests.Traces(mesh.node)
            #expect(now == intact, "\(each): \(now)")
        }
        let told = try mesh.client.run(["/usr/bin/python3", "-c", Self.peers] + services)
        #expect(told.output.split(separator: "\n").map(String.init) == services, "\(told)")
        for host in [mesh.node.v4, "[\(mesh.node.v6)]"] {
            let answer = try mesh.bed.outside(OpenMesh.ask + ["http://\(host):30169/"])
            #expect(Curl.response(answer).status == 200, "\(answer)")
        }

        let outcome = try direct.stop()
        #expect(outcome.faults.isEmpty, "\(outcome.faults.prefix(20))\n\(mesh.logs)")
        #expect(outcome.asked == outcome.echoes + outcome.datagrams && outcome.asked > 1000)
        try Command.shell("touch \(mesh.bed.directory)/stop-asking")
        for asker in askers {
            #expect(asker.wait(seconds: 30) == 0)
            let faults = asker.text.split(separator: "\n").filter { $0 != "200" }
            #expect(faults.isEmpty, "\(asker.log): \(faults.prefix(10))")
        }
        try Self.expectNothingPast(mesh, before)
        let status = try mesh.node.malla("status").output
        #expect(status.contains("REPAIRED") && status.contains("link"), "\(status)")
        #expect(try mesh.node.metric("malla_datapath_problems") == 0)
    }

    @Test
    func `while guards, hooks of sockets and uplinks are off, who needs the engine is closed`()
        throws
    {
        let mesh = try Self.closed()
        defer { mesh.close() }
        let near = mesh.bed["near"]
        // Whoever is behind the uplink guards it.
        let lone = try Self.lone(mesh).filter { !$0.pin.hasPrefix("outside_") }
        let direct = try Self.startDirect(mesh)
        let askers = try Self.startAskers(mesh)

        // Nobody repairs for as long as it is tried, and nobody serves.
        let child = try #require(mesh.node.child(of: mesh.agents[0]))
        kill(child, SIGSTOP)
        let served = try mesh.quiet.near.requests()
        for each in lone { try Self.detach(mesh, each.pin) }
        for url in SmallMesh.engineNear.urls {
            #expect(try mesh.client.curl(url, seconds: 1).status == 0, "\(url)")
        }
        for url in ["http://\(near.v4):8080/", "http://[\(near.v6)]:8080/"] {
            #expect(try mesh.bed["far"].curl(url, seconds: 1).status == 0, "\(url)")
            let outside = try mesh.bed.outside(["curl", "-sSi", "-m", "1", url])
            #expect(Curl.response(outside).status == 0, "\(url)")
        }
        #expect(try mesh.quiet.near.requests() == served, "past the engine")
        kill(child, SIGCONT)

        try eventually("all are repaired: \(mesh.logs)", within: Self.patience) {
            try Self.repairs(mesh, "link") == Double(lone.count)
        }
        for asker in askers {
            let before = asker.text.split(separator: "\n").count { $0 == "200" }
            try eventually("requests are answered again: \(asker.text.suffix(300))") {
                asker.text.split(separator: "\n").count { $0 == "200" } > before + 10
            }
        }
        let outcome = try direct.stop()
        #expect(outcome.faults.isEmpty, "\(outcome.faults.prefix(20))\n\(mesh.logs)")
        try Command.shell("touch \(mesh.bed.directory)/stop-asking")
        #expect(try mesh.node.metric("malla_datapath_problems") == 0)
    }
}
