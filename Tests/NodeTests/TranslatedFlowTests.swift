import Foundation
import TestSupport
import Testing

@Suite("Flows that only this node's translation knows, in malla bpf ct (docs/cli.md)", .serialized)
struct TranslatedFlowTests {
    private struct Listing: Decodable { var items: [Item] }

    struct Item: Decodable {
        var `protocol`: String
        var source: String
        var target: String
        var sourcePod: String
        var targetPod: String
        var kind: String
        var state: String
        var packetsSent: Int
        var packetsReceived: Int
        var bytesSent: Int
        var bytesReceived: Int
        var remainingSeconds: Int
        var other: String
        var cut: Bool

        var counts: [Int] { [packetsSent, packetsReceived, bytesSent, bytesReceived] }
    }

    /// From one port, so many questions to an address and port, each answered.
    private static let datagrams = [
        "/usr/bin/python3", "-u", "-c",
        """
        import socket, sys
        host = sys.argv[1]
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(5)
        s.bind(("", int(sys.argv[3])))
        s.connect((host, int(sys.argv[2])))
        for _ in range(int(sys.argv[4])):
            s.send(b"hello")
            print(s.recv(2048).decode())
        """,
    ]

    /// Asks over one connection. Prints its port, then again and again: packets sent and received,
    /// and what was in them.
    private static let connection = [
        "/usr/bin/python3", "-u", "-c",
        """
        import socket, struct, sys, time
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
        s.settimeout(5)
        print("port", s.getsockname()[1])
        question = b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"
        sent = received = 0
        while True:
            s.sendall(question)
            sent += len(question)
            received += len(s.recv(65536))
            for _ in range(30):
                time.sleep(0.1)
                # tcpi_segs_out, tcpi_segs_in
                out, into = struct.unpack_from("II", s.getsockopt(6, 11, 144), 136)
                print("so far", out, into, sent, received)
        """,
    ]

    /// What `malla bpf ct list` tells, of all flows or a pod's.
    static func items(_ node: TestNode, _ pod: String? = nil) throws -> [Item] {
        let chosen = pod.map { ["--pod", $0] } ?? []
        let arguments = ["bpf", "ct", "list", "-o", "json"] + chosen
        let outcome = try node.run([Binaries.malla, "--socket", node.socket] + arguments)
        return try JSONDecoder().decode(Listing.self, from: Data(outcome.output.utf8)).items
    }

    private static func flush(_ node: TestNode, _ arguments: String...) throws {
        let outcome = try node.run(
            [Binaries.malla, "--socket", node.socket, "bpf", "ct", "flush"] + arguments)
        #expect(outcome.isSuccess, "\(outcome)")
    }

    /// TCP as `web` at the first of two service addresses, and UDP as `dns` at the second; `other`
    /// is the pod behind both.
    private struct Case {
        var mesh: OpenMesh.Running
        var part: String
        var hosts: (tcp: String, udp: String)
        var ports: (tcp: Int, udp: Int)
        var pod: TestPod
        var ipBytes: Int { hosts.tcp.contains(":") ? 40 : 20 }
        var endpoint: String { hosts.tcp.contains(":") ? pod.v6 : pod.v4 }

        func datagrams(_ count: Int, from port: Int) throws {
            let asked = try mesh.bed.startOutside(
                "udp-\(hosts.udp)-\(port)-\(count)",
                TranslatedFlowTests.datagrams + [hosts.udp, "\(ports.udp)", "\(port)", "\(count)"],
                in: part)
            let answer = "answer from \(pod.name)\n"
            try eventually("\(count) answers: \(asked.text)\n\(mesh.counters)") {
                asked.text == String(repeating: answer, count: count)
            }
        }

        func flow(_ kind: String, from port: Int) throws -> Item? {
            let target = kind == "TCP" ? (hosts.tcp, ports.tcp) : (hosts.udp, ports.udp)
            let text =
                target.0.contains(":") ? "[\(target.0)]:\(target.1)" : "\(target.0):\(target.1)"
            let found = try TranslatedFlowTests.items(mesh.node).filter {
                $0.protocol == kind && $0.source.hasSuffix(":\(port)") && $0.target == text
            }
            #expect(found.count <= 1, "each flow once: \(found)")
            return found.first
        }

        /// Of so many questions and answers.
        func counts(_ count: Int) -> [Int] {
            let answer = "answer from \(pod.name)".utf8.count
            return [
                count, count, count * (ipBytes + 8 + 5), count * (ipBytes + 8 + answer),
            ]
        }

        func check() throws {
            let named = "\(Testbed.space)/\(pod.name)"
            try datagrams(3, from: 45001)
            let udp = try #require(try flow("UDP", from: 45001))
            #expect(udp.counts == counts(3), "\(udp)")
            #expect(udp.kind == "translated" && udp.state == "open", "\(udp)")
            #expect(udp.targetPod == named && udp.other.contains(endpoint), "\(udp)")
            #expect((1...180).contains(udp.remainingSeconds), "\(udp)")
            let chosen = try TranslatedFlowTests.items(mesh.node, named)
            #expect(chosen.contains { $0.source == udp.source && $0.target == udp.target })

            let link = try mesh.bed.startOutside(
                "tcp-\(hosts.tcp)",
                TranslatedFlowTests.connection + [hosts.tcp, "\(ports.tcp)"], in: part)
            try eventually("it is connected: \(link.text)") { link.text.contains("so far") }
            let words = link.text.split(separator: "\n")[0].split(separator: " ")
            let port = try #require(Int(words[1]))
            try checkConnection(link, port)
            let tcp = try #require(try flow("TCP", from: port))
            #expect(tcp.kind == "translated" && tcp.state == "open", "\(tcp)")
            #expect(tcp.targetPod == named && tcp.other.contains(endpoint), "\(tcp)")

            try TranslatedFlowTests.flush(mesh.node, "--address", "192.0.2.77")
            #expect(try flow("UDP", from: 45001)?.counts == counts(3), "another address")
            try TranslatedFlowTests.flush(mesh.node, "--address", endpoint)
            #expect(try flow("UDP", from: 45001) == nil, "it is flushed")
            try datagrams(2, from: 45001)
            #expect(try flow("UDP", from: 45001)?.counts == counts(2), "counted anew")
            try TranslatedFlowTests.flush(mesh.node, "--all")
            #expect(try flow("UDP", from: 45001) == nil, "it is flushed")
            // A connection keeps its endpoint, and goes on.
            let before = said(link)
            try eventually("it goes on: \(link.text.suffix(200))") {
                said(link).last ?? 0 > before.last ?? 0 || link.exitStatus != nil
            }
            #expect(link.exitStatus == nil, "\(link.text.suffix(200))")
            try checkConnection(link, port)
        }

        /// The counts of which it has told last.
        private func said(_ link: TestProcess) -> [Int] {
            let line = link.text.split(separator: "\n").last { $0.hasPrefix("so far") } ?? ""
            let words = line.split(separator: " ").compactMap { Int($0) }
            guard words.count == 4 else { return [] }
            // With timestamps; the first packets of both have eight bytes more.
            let bytes = [0, 1].map { words[2 + $0] + words[$0] * (ipBytes + 32) + 8 }
            return Array(words.prefix(2)) + bytes
        }

        /// They are what is listed.
        private func checkConnection(_ link: TestProcess, _ port: Int) throws {
            var (one, listed, other): ([Int], [Int], [Int]) = ([], [], [])
            try eventually("what is listed is what was sent: \(one) \(listed)") {
                one = said(link)
                listed = try flow("TCP", from: port)?.counts ?? []
                other = said(link)
                return one == other && one == listed && !one.isEmpty
            }
        }
    }

    private static func mesh(_ pod: String) throws -> OpenMesh.Running {
        try OpenMesh.running(OpenMesh.service("web", pods: [pod])) { bed in
            try bed.configure(
                "dns.yaml",
                OpenMesh.service(
                    "dns", pods: [pod], port: 53, target: 5353, transport: "UDP", at: 2))
            try bed[pod].start("udp", ServiceTrafficTests.datagramServer)
        }
    }

    @Test
    func `those from outside to a pod elsewhere are listed with what went both ways, and flushed`()
        throws
    {
        let mesh = try Self.mesh("far")
        defer { mesh.close() }
        for host in ["10.76.0.1", "fd00:76::1"] {
            try eventually("far answers at \(host)") {
                try mesh.bed.outside(
                    ServiceTrafficTests.askDatagram + [host, "30081"]
                ).output == "answer from far\n"
            }
            try Case(
                mesh: mesh, part: Topology.fabric, hosts: (host, host), ports: (30080, 30081),
                pod: mesh.bed["far"]
            ).check()
        }
    }

    @Test
    func
        `those of a pod to itself by its service are listed with what went both ways, and flushed`()
        throws
    {
        let mesh = try Self.mesh("near")
        defer { mesh.close() }
        for hosts in [("10.96.0.1", "10.96.0.2"), ("fd00:96::1", "fd00:96::2")] {
            try eventually("near answers at \(hosts.1)") {
                try mesh.bed["client"].run(
                    ServiceTrafficTests.askDatagram + [hosts.1, "53"]
                ).output == "answer from near\n"
            }
            try Case(
                mesh: mesh, part: "near", hosts: hosts, ports: (80, 53), pod: mesh.bed["near"]
            ).check()
        }
    }
}
