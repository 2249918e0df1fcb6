import Foundation
import TestSupport
import Testing

@Suite("How a service's traffic is spread, and how it ends (docs/configuration.md)", .serialized)
struct ServiceTrafficTests {
    @Test func `a client with affinity stays for its time, at the socket and from outside`() throws
    {
        let mesh = try OpenMesh.running(
            OpenMesh.service(
                "web", pods: ["near", "far"],
                more: """
                    sessionAffinity: ClientIP
                    sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
                    """))
        defer { mesh.close() }
        // Each family is a client of its own.
        let socket = OpenMesh.addresses.map { mesh.bed["client"].chain(OpenMesh.visits($0, 16)) }
        let outside = [mesh.node.v4, mesh.node.v6].map {
            ["nsenter", "--net=" + mesh.bed.namespace(Topology.fabric)]
                + OpenMesh.visits($0, port: 30080, 16)
        }
        let affinity = "\(mesh.node.bpffs)/malla/v*/malla_affinity"
        for words in socket + outside {
            let stays = try Command.run(words)
            try #require(stays.words.count == 16, "\(stays)")
            #expect(Set(stays.words).count == 1, "\(stays)")
            #expect(["near", "far"].contains(stays.words[0]), "\(stays)\n\(mesh.counters)")
            let late = try Command.run(words + [affinity])
            #expect(Set(late.words) == ["near", "far"], "\(late)\n\(mesh.counters)")
        }
    }

    /// routes that have the engine serve the service
    static let captures = ["HTTPRoute", "TCPRoute"]

    @Test(arguments: captures)
    func `a client with affinity stays where the engine passes its calls on`(
        _ kind: String
    ) throws {
        let mesh = try OpenMesh.running(
            OpenMesh.service("web", pods: ["near", "far"], more: "sessionAffinity: ClientIP")
        ) { bed in
            try bed.configure(
                "route.yaml",
                """
                apiVersion: gateway.networking.k8s.io/v1
                kind: \(kind)
                metadata: {name: web, namespace: \(Testbed.space)}
                spec:
                  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
                  rules: [{backendRefs: [{name: web, port: 80}]}]
                """)
        }
        defer { mesh.close() }
        // Each family is a client of its own here.
        for url in ["http://10.96.0.1/", "http://[fd00:96::1]/"] {
            var pods: Set<String> = []
            for _ in 1...20 {
                pods.insert(try mesh.bed["client"].curl(url).headers["x-pod"] ?? "?")
            }
            #expect(pods.count == 1 && !pods.contains("?"), "\(pods)\n\(mesh.logs)")
        }
        let passed = try mesh.node.metric("malla_upstream_dials_total")
        #expect(passed > 0, "\(mesh.counters)")
    }

    @Test func `source ranges admit whom they name, and nobody else`() throws {
        let mesh = try OpenMesh.running(
            OpenMesh.service(
                "web", pods: ["near"],
                more: "loadBalancerSourceRanges: [10.77.1.10/32, 10.76.0.0/24]"))
        defer { mesh.close() }
        let url = "http://10.99.0.1/"

        let client = try mesh.bed["client"].curl(url)
        #expect(client.headers["x-pod"] == "near", "\(client.problem)\n\(mesh.counters)")
        let outside = Curl.response(try mesh.bed.outside(OpenMesh.ask + [url]))
        #expect(outside.headers["x-pod"] == "near", "\(outside.problem)\n\(mesh.counters)")
        // Silence of more than a minute does not end a connection that is balanced so.
        let kept = try mesh.bed["client"].start(
            "kept",
            [
                "/usr/bin/python3", "-c",
                "import socket; s = socket.create_connection(('10.99.0.1', 80)); "
                    + "s.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); "
                    + "print(s.recv(9), flush=True); s.recv(65536); s.recv(65536)",
            ])
        try eventually("it is answered: \(kept.text)") { kept.text.contains("HTTP") }
        let flows = try mesh.node.malla("bpf", "ct", "list", "--pod", "bed/client").output
        let row = flows.split(separator: "\n").first {
            $0.contains("10.99.0.1:80") && $0.contains("  open  ")
        }
        #expect(row?.contains("translated") == true, "\(flows)")
        let far = try mesh.bed["far"].run(["curl", "-sS", "-m", "2", url])
        #expect(far.status == 28, "not in the ranges: dropped\n\(far)")
        let other = try mesh.bed["far"].curl("http://10.98.0.1/")
        #expect(other.headers["x-pod"] == "near", "other addresses are not filtered: \(other)")
    }

    @Test func `source ranges hold for captured ports, and for the node's own sockets`() throws {
        // Of the outside and of `client` by IPv4; by IPv6 of nobody here but the node.
        let ranges = "loadBalancerSourceRanges: [10.77.1.10/32, \"fd00:76::1/128\"]"
        func service(_ name: String, _ protocolName: String, _ index: Int) -> String {
            OpenMesh.service(name, pods: ["near"], port: 80, at: index, more: ranges)
                .replacingOccurrences(of: "{name: tcp,", with: "{name: \(protocolName),")
        }
        let mesh = try OpenMesh.running(service("web", "http", 1)) { bed in
            try bed.configure("plain.yaml", service("plain", "tcp", 2))
        }
        defer { mesh.close() }

        func ask(_ pod: String, _ url: String) throws -> Int {
            try mesh.bed[pod].curl(url, seconds: 2).status
        }
        #expect(try ask("client", "http://10.99.0.1/") == 200, "\(mesh.logs)")
        #expect(try ask("near", "http://10.99.0.1/") == 0, "captured, not in the ranges")
        #expect(try ask("near", "http://[fd00:99::1]/") == 0, "captured, not in the ranges")
        #expect(try ask("near", "http://10.96.0.1/") == 200, "other addresses are not filtered")
        for index in [1, 2] {
            let refused = try mesh.node.run(OpenMesh.ask + ["http://10.99.0.\(index)/"])
            #expect(refused.status == OpenMesh.refused, "EPERM at once: \(refused)")
            let admitted = try mesh.node.run(OpenMesh.ask + ["http://[fd00:99::\(index)]/"])
            #expect(Curl.response(admitted).status == 200, "\(admitted)\n\(mesh.counters)")
        }
    }

    @Test func `a health check port says whether this node has a ready endpoint`() throws {
        let mesh = try OpenMesh.running(
            OpenMesh.service(
                "web", pods: ["near"],
                more: "externalTrafficPolicy: Local\nhealthCheckNodePort: 31999"))
        defer { mesh.close() }

        for (name, status, count) in [("n1", 200, 1), ("n2", 503, 0)] {
            for host in [mesh.bed[node: name].v4, "[\(mesh.bed[node: name].v6)]"] {
                let answer = Curl.response(
                    try mesh.bed.outside(OpenMesh.ask + ["http://\(host):31999/healthz"]))
                #expect(answer.status == status, "\(name): \(answer.problem)\n\(mesh.logs)")
                #expect(answer.body.contains("\"localEndpoints\": \(count)"), "\(answer.body)")
                #expect(answer.headers["content-type"] == "application/json")
                #expect(answer.headers["x-load-balancing-endpoint-weight"] == "\(count)")
            }
        }
        try mesh.bed.configure("service.yaml", OpenMesh.service("web", pods: ["near"]))
        try eventually("the port is closed") {
            try mesh.bed.outside(OpenMesh.ask + ["http://10.76.0.1:31999/"]).status
                == OpenMesh.refused
        }
    }

    /// It was never served where another program held it when the service came.
    @Test func `a health check port that is in use is served once it is free`() throws {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"]))
        defer { mesh.close() }
        let other = try mesh.bed[node: "n1"].start(
            "holder", ["/usr/bin/python3", "-m", "http.server", "31999"])
        try eventually("somebody else holds the port") {
            try mesh.node.run(["curl", "-so", "/dev/null", "http://127.0.0.1:31999/"]).isSuccess
        }
        try mesh.bed.configure(
            "service.yaml",
            OpenMesh.service(
                "web", pods: ["near"],
                more: "externalTrafficPolicy: Local\nhealthCheckNodePort: 31999"))
        try eventually("malla status names it") {
            try mesh.node.malla("status").output.contains("health check port 31999")
        }

        _ = other.stop()

        try eventually("it is served", within: 20) {
            try mesh.bed.outside(OpenMesh.ask + ["http://10.76.0.1:31999/"]).isSuccess
        }
        #expect(try !mesh.node.malla("status").output.contains("31999"))
    }

    @Test func `a host port leads to its pod, on its own node only`() throws {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"])) { bed in
            let file = "\(bed.configuration)/bed.yaml"
            let text = try String(contentsOfFile: file, encoding: .utf8)
            try bed.configure(
                "bed.yaml",
                text.replacingOccurrences(
                    of: "[{containerPort: 8080}]", with: "[{containerPort: 8080, hostPort: 8443}]"))
        }
        defer { mesh.close() }

        for host in ["10.76.0.2", "[fd00:76::2]"] {
            let url = "http://\(host):8443/"
            let outside = Curl.response(try mesh.bed.outside(OpenMesh.ask + [url]))
            #expect(outside.headers["x-pod"] == "far", "\(url): \(outside.problem)\n\(mesh.logs)")
            let pod = try mesh.bed["client"].curl(url)
            #expect(pod.headers["x-pod"] == "far", "\(url): \(pod.problem)\n\(mesh.counters)")
        }
    }

    @Test func `UDP of a node port reaches local and remote pods and the answers come back`() throws
    {
        let mesh = try OpenMesh.running(
            OpenMesh.service("dns", pods: ["near"], port: 53, target: 5353, transport: "UDP")
        ) { bed in
            try bed.configure(
                "more.yaml",
                OpenMesh.service(
                    "dnsfar", pods: ["far"], port: 53, target: 5353, transport: "UDP", at: 2)
                    + "---\n"
                    + OpenMesh.service(
                        "dnsnone", pods: [], port: 53, target: 5353, transport: "UDP", at: 3))
            for pod in ["near", "far"] { try bed[pod].start("udp", Self.datagramServer) }
        }
        defer { mesh.close() }

        for host in ["10.76.0.1", "fd00:76::1"] {
            for (port, name) in [("30080", "near"), ("30081", "far")] {
                try eventually("\(name) answers at \(host) \(port)\n\(mesh.counters)") {
                    try mesh.bed.outside(Self.askDatagram + [host, port]).output
                        == "answer from \(name)\n"
                }
            }
            let none = try mesh.bed.outside(Self.askDatagram + [host, "30082"])
            #expect(none.output == "refused\n", "\(none)\n\(mesh.counters)")
        }
    }

    @Test func `a UDP socket of either family whose endpoint goes is told, and finds another`()
        throws
    {
        let mesh = try OpenMesh.running(
            OpenMesh.service("dns", pods: ["near"], port: 53, target: 5353, transport: "UDP")
        ) { bed in
            for pod in ["near", "far"] { try bed[pod].start("udp", Self.datagramServer) }
        }
        defer { mesh.close() }
        let clients = try mesh.startDatagrams()
        try eventually("near answers: \(clients.map(\.text))") {
            clients.allSatisfy { $0.text.contains("from near") }
        }

        try mesh.bed.configure(
            "service.yaml",
            OpenMesh.service("dns", pods: ["far"], port: 53, target: 5353, transport: "UDP"))
        try eventually("far answers: \(clients.map(\.text))\n\(mesh.logs)", within: 20) {
            clients.allSatisfy { $0.text.contains("from far") }
        }
        // Where it waits for an answer, and where it sends.
        #expect(
            clients.allSatisfy {
                $0.text.contains("ECONNABORTED") || $0.text.contains("EDESTADDRREQ")
            }, "\(clients.map(\.text))\n\(mesh.logs)")
        #expect(try mesh.node.metric("malla_sockets_reset_total{result=\"reset\"}") == 3)
    }

    @Test
    func
        `UDP leaves an endpoint that its service lost, at the socket and packet by packet, though another service has it`()
        throws
    {
        let mesh = try OpenMesh.runningTwo(servers: ["near", "far"])
        defer { mesh.close() }
        let seen = try mesh.startDatagrams()
        let others = try ["10.96.0.2", "fd00:96::2"].map {
            try mesh.bed["client"].start("other-\($0)", Self.patientDatagrams + [$0])
        }
        let unseen = try mesh.unseen(Self.patientDatagrams)
        func said(_ log: String) -> String { Command.text(log) }
        try eventually("near answers") {
            (seen + others).allSatisfy { $0.text.contains("from near") }
                && unseen.allSatisfy { said($0).contains("from near") }
        }

        try mesh.bed.configure(
            "service.yaml",
            OpenMesh.service("dns", pods: ["far"], port: 53, target: 5353, transport: "UDP"))
        try eventually("far answers\n\(mesh.logs)", within: 20) {
            seen.allSatisfy { $0.text.contains("from far") }
                && unseen.allSatisfy { said($0).contains("from far") }
        }
        for other in others {
            #expect(!other.text.contains("from far"), "\(other.text)")
            #expect(!other.text.contains("ECONNABORTED"), "\(other.text)")
        }
    }

    @Test func `a pod that goes before its EndpointSlice entry takes its TCP connections along`()
        throws
    {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"])) { bed in
            try bed.configure("slices.yaml", Self.slices(bed["far"]))
        }
        defer { mesh.close() }
        let client = try mesh.bed["client"].start("tcp", Self.patientConnection + ["10.96.0.1"])
        let unseen = try mesh.unseen(Self.patientConnection)
        try eventually("all are connected: \(client.text)") {
            client.text.contains("x-pod: far")
                && unseen.allSatisfy { Command.text($0).contains("x-pod: far") }
        }
        try mesh.remove(pod: "far")
        try eventually("they are reset: \(client.text)\n\(mesh.logs)") {
            client.text.contains("ECONNABORTED")
                && unseen.allSatisfy { Command.text($0).contains("ECONNRESET") }
        }
        // Somebody dials it yet, and nobody answers.
        let late = try mesh.bed["client"].start("late", Self.patientConnection + ["10.96.0.1"])
        try eventually("it dials: \(late.text)") {
            try mesh.bed["client"].run(["ss", "-Htn", "state", "syn-sent"]).output.contains(":8080")
        }
        try mesh.bed.configure("slices.yaml", Self.slices(mesh.bed["near"]))
        try eventually("it is reset: \(late.text)\n\(mesh.logs)") {
            late.text.contains("ConnectionAbortedError")
        }
    }

    @Test func `TCP to a pod that went while no agent ran is reset when one is back`() throws {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["far"]))
        defer { mesh.close() }
        let client = try mesh.bed["client"].start("tcp", Self.patientConnection + ["10.96.0.1"])
        let unseen = try mesh.unseen(Self.patientConnection)
        let outside = try mesh.bed.startOutside("tcp", Self.patientConnection + ["10.98.0.1"])
        try eventually("all are connected: \(client.text)") {
            client.text.contains("x-pod: far") && outside.text.contains("x-pod: far")
                && unseen.allSatisfy { Command.text($0).contains("x-pod: far") }
        }
        for agent in mesh.agents { agent.stop() }
        try mesh.remove(pod: "far")
        try mesh.node.startAgent()
        try eventually("they are reset: \(client.text)\n\(outside.text)") {
            client.text.contains("ECONNABORTED") && outside.text.contains("ECONNRESET")
                && unseen.allSatisfy { Command.text($0).contains("ECONNRESET") }
        }
    }

    @Test func `connections from outside are reset with the last service that is served there`()
        throws
    {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"]))
        defer { mesh.close() }
        let clients = try ["10.98.0.1", "fd00:98::1"].map {
            try mesh.bed.startOutside("tcp-\($0)", Self.patientConnection + [$0])
        }
        try eventually("they are connected: \(clients.map(\.text))") {
            clients.allSatisfy { $0.text.contains("x-pod: near") }
        }
        try mesh.bed.configure("service.yaml", "")
        try eventually("they are reset: \(clients.map { $0.text.suffix(200) })") {
            clients.allSatisfy { $0.text.contains("ECONNRESET") }
        }
    }

    @Test
    func
        `TCP by a service to what is no pod's ends once that lists it no more, direct TCP does not`()
        throws
    {
        func slices(_ conditions: String, of service: String = "web") -> String {
            Self.slices(Topology.outsideV4, Topology.outsideV6, conditions, of: service)
        }
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"])) { bed in
            try bed.configure("slices.yaml", slices("ready: true"))
            try bed.configure("other.yaml", OpenMesh.service("other", pods: [], at: 2))
            _ = try bed.startOutside("machine", Self.machine)
        }
        defer { mesh.close() }
        let (v4, v6) = (Topology.outsideV4, Topology.outsideV6)
        let seen = try ["10.96.0.1", "fd00:96::1"].map {
            try mesh.bed["client"].start("tcp-\($0)", Self.patientConnection + [$0])
        }
        let direct = try [v4, v6].map {
            try mesh.bed["client"].start("direct-\($0)", Self.patientConnection + [$0, "8080"])
        }
        let unseen = try mesh.unseen(Self.patientConnection)
        func said() -> [String] { (seen + direct).map(\.text) + unseen.map { Command.text($0) } }
        func answers() -> [Int] { said().map { $0.components(separatedBy: "x-pod: none").count } }
        func allGoOn(_ why: String) throws {
            let before = answers()
            try eventually("\(why): \(said())\n\(mesh.logs)") {
                zip(answers(), before).allSatisfy { $0 > $1 + 2 }
            }
        }
        try allGoOn("all are connected")

        try mesh.bed.configure(
            "slices.yaml", slices("ready: false, serving: false, terminating: true"))
        func asks(_ address: String) throws -> String? {
            try mesh.bed["client"].curl("http://\(address)/").headers["x-pod"]
        }
        try eventually("nobody new is sent there") { try asks("10.96.0.1") == nil }
        try allGoOn("it drains")
        try mesh.bed.configure("slices.yaml", slices("ready: true", of: "other"))
        try eventually("they are reset: \(said())\n\(mesh.logs)") {
            seen.allSatisfy { $0.text.contains("ECONNABORTED") }
                && unseen.allSatisfy { Command.text($0).contains("ECONNRESET") }
        }
        let before = direct.map { $0.text.components(separatedBy: "x-pod: none").count }
        try eventually("what dialled the machine itself goes on: \(said())") {
            zip(direct, before).allSatisfy {
                $0.text.components(separatedBy: "x-pod: none").count > $1 + 2
            }
        }
        #expect(direct.allSatisfy { $0.exitStatus == nil && !$0.text.contains("ECONN") })
        try eventually("the other service has it") { try asks("10.96.0.2") == "none" }
    }

    /// The pod is web's only endpoint.
    static func slices(_ pod: TestPod) -> String { slices(pod.v4, pod.v6, "ready: true") }

    static func slices(
        _ v4: String, _ v6: String, _ conditions: String, of service: String = "web"
    ) -> String {
        [("IPv4", v4), ("IPv6", v6)].map { family, address in
            """
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata:
              name: \(service)-\(family.lowercased())
              namespace: \(Testbed.space)
              labels: {kubernetes.io/service-name: \(service)}
            addressType: \(family)
            endpoints: [{addresses: ["\(address)"], conditions: {\(conditions)}}]
            ports: [{name: tcp, port: 8080, protocol: TCP}]
            """
        }.joined(separator: "\n---\n") + "\n"
    }

    static let datagramServer = [
        "/usr/bin/python3", "-c",
        """
        import os, socket
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.bind(("::", 5353))
        pod = open("/proc/self/cgroup").read().strip().rsplit("/", 1)[1]
        while True:
            text, peer = s.recvfrom(2048)
            s.sendto(b"answer from " + pod.encode(), peer)
        """,
    ]
    static let askDatagram = [
        "/usr/bin/python3", "-c",
        """
        import socket, sys
        s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(2)
        try:
            s.connect((sys.argv[1], int(sys.argv[2])))
            s.send(b"hello")
            print(s.recv(2048).decode())
        except ConnectionRefusedError: print("refused")
        except TimeoutError: print("silence")
        """,
    ]
    /// Asks ten times a second over one socket; over a new one when that is reset.
    static let patientDatagrams = [
        "/usr/bin/python3", "-u", "-c",
        """
        import errno, socket, sys, time
        while True:
            s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
            s.settimeout(1)
            s.connect((sys.argv[1], 53))
            try:
                while True:
                    s.send(b"hello")
                    print(s.recv(2048).decode())
                    time.sleep(0.1)
            except TimeoutError: print("silence")
            except OSError as e: print(errno.errorcode[e.errno])
        """,
    ]
    /// Answers each request that comes in one packet.
    private static let machine = [
        "/usr/bin/python3", "-c",
        """
        import asyncio
        async def serve(reader, writer):
            while await reader.read(65536):
                writer.write(b"HTTP/1.1 200 OK\\r\\nx-pod: none\\r\\ncontent-length: 0\\r\\n\\r\\n")
            writer.close()
        async def main():
            await asyncio.start_server(serve, ["0.0.0.0", "::"], 8080)
            await asyncio.Event().wait()
        asyncio.run(main())
        """,
    ]
    /// Asks five times a second over one connection; to port 80, if to no other.
    static let patientConnection = [
        "/usr/bin/python3", "-u", "-c",
        """
        import errno, socket, sys, time
        s = socket.create_connection((sys.argv[1], int((sys.argv + ["80"])[2])))
        s.settimeout(3)
        try:
            while True:
                s.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
                print(s.recv(65536).decode())
                time.sleep(0.2)
        except TimeoutError: print("silence")
        except OSError as e: print(errno.errorcode[e.errno])
        """,
    ]
}

extension OpenMesh.Running {
    /// Sockets of the client that go on asking the service; of either family, and of both.
    func startDatagrams() throws -> [TestProcess] {
        try OpenMesh.socketAddresses.map {
            try bed["client"].start("udp-\($0)", ServiceTrafficTests.patientDatagrams + [$0])
        }
    }

    /// Runs it in the client's namespace, of no pod's cgroup: balanced at the pod's interface. An
    /// argument more is the service's address, once a family; answers what each says, by file.
    func unseen(_ program: [String]) throws -> [String] {
        try OpenMesh.addresses.map { address in
            let log = "\(bed.directory)/unseen-\(address)"
            _ = try Command.shell(
                "nsenter --net=\(bed.namespace("client")) timeout 60 /usr/bin/python3 -u -c "
                    + "'\(program.last ?? "")' \(address) > \(log) 2>&1 &")
            return log
        }
    }

    func remove(pod: String) throws {
        let file = "\(bed.configuration)/bed.yaml"
        let pods = try String(contentsOfFile: file, encoding: .utf8)
            .components(separatedBy: "\n---\n").filter { !$0.contains("name: \(pod)\n") }
        try bed.configure("bed.yaml", pods.joined(separator: "\n---\n"))
    }
}
