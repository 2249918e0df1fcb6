import Foundation
import Glibc
import TestSupport
import Testing

@Suite("Streams of bytes through the engine", .serialized)
struct StreamTests {
    /// An `istio_tcp_` metric of the first node for a service.
    private static func metric(
        _ name: String, _ service: TestService, _ mesh: StreamMesh
    ) throws -> Int {
        let page = try mesh.bed[node: "n1"].curl("http://\(TestNode.admin)/metrics").body
        return page.split(separator: "\n").filter {
            $0.hasPrefix("istio_tcp_\(name)_total{")
                && $0.contains("destination_service_name=\"\(service.name)\"")
        }.compactMap { $0.split(separator: " ").last.flatMap { Int($0) } }.reduce(0, +)
    }

    @Test func `a gigabyte and two hundred streams arrive as they were sent, and are counted`()
        throws
    {
        let mesh = try StreamMesh()
        defer { mesh.close() }
        let (giga, five) = (1 << 30, 5 << 20)

        let one = try mesh.call(
            StreamMesh.clientFirst.v4, StreamMesh.clientFirst, count: 1, up: giga, down: five)
        #expect(mesh.problem(one, 1) == nil)
        let many = try mesh.call(
            StreamMesh.farMail.v6, StreamMesh.farMail, count: 200, up: five, down: five)
        #expect(mesh.problem(many, 200) == nil)

        func metric(_ name: String, _ service: TestService) throws -> Int {
            try Self.metric(name, service, mesh)
        }
        try eventually("all are closed") {
            try metric("connections_closed", StreamMesh.farMail) == 200
                && metric("connections_closed", StreamMesh.clientFirst) == 1
        }
        let order = StreamMesh.orderBytes
        #expect(try metric("received_bytes", StreamMesh.clientFirst) == giga + order)
        #expect(try metric("sent_bytes", StreamMesh.clientFirst) == five)
        #expect(try metric("received_bytes", StreamMesh.farMail) == 200 * (five + order))
        let greeting = StreamMesh.greetingBytes
        #expect(try metric("sent_bytes", StreamMesh.farMail) == 200 * (five + greeting))
    }

    private static let tcpRoute = """
        apiVersion: gateway.networking.k8s.io/v1
        kind: TCPRoute
        metadata: {name: mail, namespace: bed}
        spec:
          parentRefs:
            - {group: "", kind: Service, name: near-mail, port: 81}
            - {name: front}
          rules: [{backendRefs: [{name: far-mail, port: 81}]}]
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: front, namespace: bed}
        spec:
          gatewayClassName: malla
          listeners: [{name: mail, protocol: TCP, port: 2525}]

        """

    @Test func `a server that speaks first is heard at once, on both nodes and both families`()
        throws
    {
        let mesh = try StreamMesh()
        defer { mesh.close() }
        for service in [StreamMesh.serverFirst, StreamMesh.farMail] {
            for address in [service.v4, service.v6] {
                let began = Date()
                let outcome = try mesh.call(address, service, count: 1, up: 1000, down: 1000)
                #expect(mesh.problem(outcome, 1) == nil)
                #expect(Date().timeIntervalSince(began) < 1, "\(outcome)")
            }
        }
        // A TCPRoute of the Service moves its connections to the other node.
        mesh.bed.unconfigure("route-near-mail.yaml")
        try mesh.bed.configure("tcp.yaml", Self.tcpRoute)
        let before = try Self.metric("connections_closed", StreamMesh.farMail, mesh)
        try eventually("the TCPRoute is in force") {
            _ = try mesh.call(
                StreamMesh.serverFirst.v4, StreamMesh.serverFirst, count: 1, up: 10, down: 10)
            return try Self.metric("connections_closed", StreamMesh.farMail, mesh) > before
        }
        // And one of a Gateway's listener serves those outside.
        let outside = try mesh.bed.outside(
            [mesh.program, "call", mesh.bed[node: "n1"].v4, "2525", "20", "100000", "100000"])
        #expect(mesh.problem(outside, 20) == nil)
        // HTTP on such a port goes by the route, and the server is no server of HTTP.
        let answer = try mesh.bed["client"].curl("http://\(StreamMesh.clientFirst.v4)/")
        #expect(answer.headers["server"] == "malla", "\(answer)")
    }
}

@Suite("A connection that is not HTTP outlives a restart", .serialized)
struct StreamRestartTests {
    /// Says a line every tenth of a second and hears it back; ends with the word that breaks it.
    private static let talk = """
        import socket, sys, time
        s = socket.create_connection((sys.argv[1], 80), 10)
        s.settimeout(5)
        file = s.makefile("rb")
        for number in range(1, 100000):
            try:
                s.sendall(b"line %d\\n" % number)
                line = file.readline()
            except OSError as error:
                print("cut:", error.strerror, flush=True)
                break
            if line != b"line %d\\n" % number:
                print("wrong:", line, flush=True)
                break
            print(number, flush=True)
            time.sleep(0.1)
        """
    private static let echo = """
        import socket, threading
        listener = socket.create_server(("::", 8080), family=socket.AF_INET6, backlog=16)
        def serve(s):
            while True:
                part = s.recv(65536)
                if not part: break
                s.sendall(part)
        while True: threading.Thread(target=serve, args=(listener.accept()[0],)).start()
        """

    @Test func `for longer than a stop may take, and a stop resets it`() throws {
        let bed = try Testbed("n1: client, near")
        defer { bed.close() }
        let service = TestService("talk", 1, "raw", to: ["near"])
        try bed.describe([service])
        try bed.route("talk", of: "talk", rules: "- backendRefs: [{name: talk, port: 80}]")
        try bed["near"].start("echo", ["/usr/bin/python3", "-c", Self.echo])
        let node = bed[node: "n1"]
        let agent = try node.startAgent()
        let talk = try bed["client"].start(
            "talk", ["/usr/bin/python3", "-c", Self.talk, service.v4])
        func lines() -> Int { talk.text.split(separator: "\n").count }
        try eventually("the first words") { lines() > 3 }

        let before = node.child(of: agent)
        agent.signal(SIGUSR2)
        try eventually("the next child serves, and the old one drains", within: 20) {
            agent.text.contains("draining")
        }
        // A child that is stopped has 15 s.
        let heard = lines()
        try eventually("it goes on: \(talk.text.suffix(200))", within: 40) {
            lines() > heard + 160 || talk.exitStatus != nil
        }
        #expect(talk.exitStatus == nil, "\(talk.text.suffix(200)) \(agent.text)")
        #expect(before != nil && node.child(of: agent) != before)

        agent.signal(SIGTERM)
        #expect(agent.wait(seconds: 20) == 0, "\(agent.text)")
        _ = talk.wait(seconds: 5)
        #expect(talk.text.contains("cut: Connection reset by peer"), "\(talk.text.suffix(200))")
    }
}
