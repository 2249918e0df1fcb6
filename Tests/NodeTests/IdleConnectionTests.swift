// Connections that are open and on which nobody sends, when modes and policies change.

import Foundation
import TestSupport
import Testing

/// Connections whose both ends wait to be told something, and say when they have ended.
private final class IdleConnections {
    static let port = 9009

    private let bed: Testbed
    private var server: TestProcess?
    private var clients: [TestProcess] = []
    private var labels: Set<String> = []

    init(_ bed: Testbed, at pod: String) throws {
        self.bed = bed
        let server = try bed[pod].start(
            "waits", ["/usr/bin/python3", "-uc", Self.server, "\(Self.port)"])
        try eventually("the server listens: \(server.text)") { server.text.contains("ready") }
        self.server = server
    }

    /// Opens one to each of the addresses, out of the pod, or from outside.
    func open(from pod: String?, _ targets: [(label: String, address: String, port: Int)]) throws {
        let calls = targets.map { "\($0.label),\($0.address),\($0.port)" }
        let command = ["/usr/bin/python3", "-uc", Self.client, "\(bed.directory)/say"] + calls
        let name = "waits-\(clients.count)"
        let process =
            try pod.map { try bed[$0].start(name, command) }
            ?? bed.startOutside(name, command)
        clients.append(process)
        labels.formUnion(targets.map(\.label))
        for target in targets {
            try eventually("\(target.label) is open: \(text)") {
                lines("open").client.contains(target.label)
                    && lines("open").server.contains(target.label)
            }
        }
    }

    /// To these addresses of both families.
    func open(from pod: String?, _ label: String, _ v4: String, _ v6: String, _ port: Int) throws {
        try open(from: pod, [("\(label)-v4", v4, port), ("\(label)-v6", v6, port)])
    }

    var text: String {
        (clients + [server].compactMap { $0 }).map(\.text).joined(separator: "--\n")
    }

    /// Of whom each side has said so.
    private func lines(_ word: String) -> (client: Set<String>, server: Set<String>) {
        func said(_ process: TestProcess) -> [String] {
            process.text.split(separator: "\n").compactMap { line in
                let words = line.split(separator: " ")
                return words.count > 1 && words[0] == word ? String(words[1]) : nil
            }
        }
        return (Set(clients.flatMap(said)), Set(server.map(said) ?? []))
    }

    /// Waits until these have ended at both of their ends, and all others carry data.
    func expectEnded(_ ended: Set<String>, _ why: @autoclosure () -> String) throws {
        #expect(ended.isStrictSubset(of: labels))
        try eventually("\(ended) end at both ends: \(text)\n\(why())", within: 15) {
            let said = lines("ended")
            return ended.isSubset(of: said.client) && ended.isSubset(of: said.server)
        }
        try Command.shell("touch \(bed.directory)/say")
        let others = labels.subtracting(ended)
        try eventually("\(others) carry data: \(text)\n\(why())") {
            others.isSubset(of: lines("answered").client)
        }
        let said = lines("ended")
        #expect(said.client.union(said.server) == ended, "\(text)")
    }

    private static let server = """
        import os, socket, sys, threading
        def say(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())
        def wait(c):
            stream = c.makefile("rwb")
            label = stream.readline().decode().strip()
            say("open", label)
            try:
                while line := stream.readline():
                    stream.write(line)
                    stream.flush()
                say("ended", label, "closed")
            except OSError as error: say("ended", label, error.errno)
        listener = socket.create_server(
            ("::", int(sys.argv[1])), family=socket.AF_INET6, backlog=64, dualstack_ipv6=True)
        say("ready")
        while True: threading.Thread(target=wait, args=(listener.accept()[0],)).start()
        """
    /// Speaks once more when the file that is its first argument is there.
    private static let client = """
        import os, socket, sys, threading, time
        def say(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())
        def speak(s):
            while not os.path.exists(sys.argv[1]): time.sleep(0.05)
            try: s.sendall(b"are you there?\\n")
            except OSError: pass
        def wait(label, address, port):
            s = socket.create_connection((address, int(port)), 10)
            s.settimeout(None)
            s.sendall(label.encode() + b"\\n")
            say("open", label)
            threading.Thread(target=speak, args=(s,), daemon=True).start()
            try:
                while s.recv(100): say("answered", label)
                say("ended", label, "closed")
            except OSError as error: say("ended", label, error.errno)
        for call in sys.argv[2:]:
            threading.Thread(target=wait, args=call.split(",")).start()
        """
}

/// `client`, `near` and `third` on one node, `far` on another; `near` waits for who connects.
@Suite("Connections on which nobody sends (docs/identity.md, docs/configuration.md)", .serialized)
struct IdleConnectionTests {
    private static let both = ["v4", "v6"]

    private static func labels(_ names: String...) -> Set<String> {
        Set(names.flatMap { name in both.map { "\(name)-\($0)" } })
    }

    /// - Parameter needsEngine: of whatever is dialled to `near` the engine is an end.
    private static func mesh(needsEngine: Bool = false) throws -> SmallMesh.Running {
        try SmallMesh.running(more: ["third"]) { bed in
            if needsEngine { try InboundTests.capture(bed) }
            let services = [
                OpenMesh.service("idle", pods: ["near"], target: IdleConnections.port, at: 91),
                OpenMesh.service(
                    "ranged", pods: ["near"], target: IdleConnections.port, at: 92,
                    more: "loadBalancerSourceRanges: [10.0.0.0/8, 'fd00::/8']"),
            ]
            try bed.configure("idle.yaml", services.joined(separator: "---\n"))
        }
    }

    private static func nudged(_ node: TestNode, _ hook: String = "from_pod") throws -> Double {
        try node.metric("malla_datapath_verdicts_total{hook=\"\(hook)\",reason=\"nudged\"}")
    }

    private static func strict(_ pod: String) -> String {
        """
        apiVersion: security.istio.io/v1
        kind: PeerAuthentication
        metadata: {name: strict, namespace: \(Testbed.space)}
        spec:
          selector: {matchLabels: {app: \(pod)}}
          mtls: {mode: STRICT}
        """
    }

    /// Of all pods only this one may dial `near`.
    static func only(_ pod: String) -> String {
        """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: only-\(pod), namespace: \(Testbed.space)}
        spec:
          podSelector: {matchLabels: {app: near}}
          policyTypes: [Ingress]
          ingress: [{from: [{podSelector: {matchLabels: {app: \(pod)}}}]}]
        """
    }

    @Test func `end at both ends once the pod insists on mutual TLS, and only those in plain text`()
        throws
    {
        let mesh = try Self.mesh()
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let idle = try IdleConnections(mesh.bed, at: "near")
        let port = IdleConnections.port
        try idle.open(from: "far", "far", near.v4, near.v6, port)
        try idle.open(from: "far", "service", "10.96.0.91", "fd00:96::91", 80)
        try idle.open(from: nil, "outside", mesh.node.v4, mesh.node.v6, 30170)
        try idle.open(from: "client", "own", near.v4, near.v6, port)
        try idle.open(from: "client", "ranged", "10.96.0.92", "fd00:96::92", 80)
        let before = try Self.nudged(mesh.node)

        try mesh.bed.configure("strict.yaml", Self.strict("near"))
        try idle.expectEnded(Self.labels("far", "service", "outside"), mesh.logs)
        #expect(try Self.nudged(mesh.node) > before)
        #expect(try Self.nudged(mesh.bed[node: "n2"]) == 0, "nothing of its own was to end")
        let seen = try mesh.node.malla("observe", "--verdict", "plain_refused")
        #expect(seen.output.contains("PeerAuthentication bed/strict"), "\(seen)")
    }

    @Test func `end at both ends once a network policy does not allow them, and only those`() throws
    {
        let mesh = try Self.mesh()
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let idle = try IdleConnections(mesh.bed, at: "near")
        let port = IdleConnections.port
        try idle.open(from: "client", "own", near.v4, near.v6, port)
        try idle.open(from: "third", "third", near.v4, near.v6, port)
        try idle.open(from: "third", "ranged", "10.96.0.92", "fd00:96::92", 80)
        try idle.open(from: "far", "far", near.v4, near.v6, port)
        try idle.open(from: nil, "outside", mesh.node.v4, mesh.node.v6, 30170)

        try mesh.bed.configure("policy.yaml", Self.only("client"))
        try idle.expectEnded(Self.labels("third", "ranged", "far", "outside"), mesh.logs)
        let seen = try mesh.node.malla("observe", "--verdict", "cut", "--to", "bed/near")
        #expect(seen.output.contains("only-client"), "\(seen)")
    }

    /// As if nobody had sent for so many ticks on any open connection of TCP.
    private static func age(_ node: TestNode, by ticks: Int) throws {
        try Command.shell(
            """
            pin=$(ls -d \(node.bpffs)/malla/v*/malla_flow | tail -n 1)
            bpftool -j map dump pinned $pin | python3 -c '
            import json, sys, time
            seen = (time.monotonic_ns() >> 30) - \(ticks) & 0xffffffff
            for row in json.load(sys.stdin):
                key, value = [[x[2:] for x in row[part]] for part in ("key", "value")]
                if (key[36], value[86]) != ("06", "01"): continue
                value[76:80] = ["%02x" % byte for byte in seen.to_bytes(4, "little")]
                print(*key, "value", "hex", *value)' |
            while read -r row; do bpftool map update pinned $pin key hex $row exist || true; done
            """)
    }

    private struct Listing: Decodable {
        struct Item: Decodable {
            var target: String
            var state: String
            var idleSeconds: Int
        }
        var items: [Item]
    }

    /// For how long each connection to `near` has been silent, as the node's table knows it.
    private static func silences(_ node: TestNode) throws -> [Int] {
        let text = try node.malla("bpf", "ct", "list", "-o", "json").output
        let items = try JSONDecoder().decode(Listing.self, from: Data(text.utf8)).items
        let ports = [":\(IdleConnections.port)", ":80"]
        let open = items.filter { item in
            item.state == "open" && ports.contains(where: item.target.hasSuffix)
        }
        return open.map(\.idleSeconds)
    }

    @Test func `are known for longer than the table remembers silence, while their ends live`()
        throws
    {
        let mesh = try Self.mesh()
        defer { mesh.close() }
        let (near, other) = (mesh.bed["near"], mesh.bed[node: "n2"])
        let idle = try IdleConnections(mesh.bed, at: "near")
        let port = IdleConnections.port
        try idle.open(from: "client", "own", near.v4, near.v6, port)
        try idle.open(from: "third", "ranged", "10.96.0.92", "fd00:96::92", 80)
        try idle.open(from: "far", "far", near.v4, near.v6, port)
        try idle.open(from: nil, "outside", mesh.node.v4, mesh.node.v6, 30170)
        let before = try Self.nudged(mesh.node)

        // There nobody asks yet, and here two ticks before the first time.
        try Self.age(other, by: 5000)
        #expect(try Self.silences(other).allSatisfy { $0 >= 5000 })
        #expect(try Self.silences(other).count == 2)
        let rows = try Self.silences(mesh.node).count
        #expect(rows >= 8, "the service's have two each")
        try Self.age(mesh.node, by: 6948)
        try eventually("all ends have answered\n\(mesh.logs)", within: 30) {
            let silences = try Self.silences(mesh.node)
            return silences.count == rows && silences.allSatisfy { $0 < 1000 }
        }
        #expect(try Self.nudged(mesh.node) > before)
        try eventually("what has crossed the fabric counts there too\n\(mesh.logs)") {
            try Self.silences(other).allSatisfy { $0 < 1000 }
        }
        #expect(try Self.silences(other).count == 2)
        #expect(try Self.nudged(other) == 0)

        try mesh.bed.configure("policy.yaml", Self.only("client"))
        try idle.expectEnded(Self.labels("ranged", "far", "outside"), mesh.logs)
    }

    /// Asks once in HTTP, keeps the connection, and says how it has ended.
    private static let keeper = """
        import http.client, sys
        link = http.client.HTTPConnection(sys.argv[1], 8080, timeout=10)
        link.request("GET", "/")
        link.getresponse().read()
        link.sock.settimeout(None)
        print("open", flush=True)
        try: print("ended", "data" if link.sock.recv(1) else "closed", flush=True)
        except OSError as error: print("ended", error.errno, flush=True)
        """

    /// Two kept connections to `near` out of the pod, or from outside: one a family.
    private static func keep(from pod: String?, _ bed: Testbed) throws -> [TestProcess] {
        let near = bed["near"]
        return try [near.v4, near.v6].enumerated().map { index, address in
            let command = ["/usr/bin/python3", "-uc", keeper, address]
            let name = "keeps-\(index)"
            let process =
                try pod.map { try bed[$0].start(name, command) }
                ?? bed.startOutside(name, command)
            try eventually("it was answered: \(process.text)") { process.text.contains("open") }
            return process
        }
    }

    enum Change: CaseIterable { case mode, policy }

    @Test(arguments: Change.allCases)
    func `end at both ends where the engine is one of them, in HTTP and in what is not`(
        _ change: Change
    ) throws {
        let mesh = try Self.mesh(needsEngine: true)
        defer { mesh.close() }
        let near = mesh.bed["near"]
        let idle = try IdleConnections(mesh.bed, at: "near")
        let port = IdleConnections.port
        try idle.open(from: "far", "far", near.v4, near.v6, port)
        try idle.open(from: nil, "outside", near.v4, near.v6, port)
        try idle.open(from: nil, "node-port", mesh.node.v4, mesh.node.v6, 30170)
        try idle.open(from: "client", "own", near.v4, near.v6, port)
        let ended = try Self.keep(from: "far", mesh.bed) + Self.keep(from: nil, mesh.bed)
        let kept = try Self.keep(from: "client", mesh.bed)
        let open = "malla_connections_active"
        try eventually("the engine has them all") { try mesh.node.metric(open) == 14 }
        let before = try Self.nudged(mesh.node, "from_engine")

        switch change {
        case .mode: try mesh.bed.configure("strict.yaml", Self.strict("near"))
        case .policy: try mesh.bed.configure("policy.yaml", Self.only("client"))
        }
        try idle.expectEnded(Self.labels("far", "outside", "node-port"), mesh.logs)
        for process in ended {
            try eventually("it is reset: \(process.text)\n\(mesh.logs)") {
                process.text.contains("ended \(ECONNRESET)\n")
            }
        }
        for process in kept { #expect(process.exitStatus == nil, "\(process.text)") }
        try eventually("at the engine's end too\n\(mesh.logs)") {
            try mesh.node.metric(open) == 4
        }
        #expect(try Self.nudged(mesh.node, "from_engine") > before)
        let (verdict, who) =
            change == .mode
            ? ("plain_refused", "PeerAuthentication bed/strict") : ("cut", "only-client")
        let seen = try mesh.node.malla("observe", "--verdict", verdict, "--to", "bed/near")
        #expect(seen.output.contains(who), "\(seen)")
    }

    @Test func `end at both ends once a pod insists whose node has no agent`() throws {
        let port = IdleConnections.port
        let mesh = try ModeTests.agentless { bed in
            let service = OpenMesh.service("idle", pods: ["far"], target: port, at: 91)
            // A route names it, and so the engine hears what is spoken.
            let heard = OpenMesh.service("heard", pods: ["far"], target: port, at: 92)
            try bed.configure("idle.yaml", [service, heard].joined(separator: "---\n"))
            try bed.route(
                "heard", of: "heard", rules: "- backendRefs: [{name: heard, port: 80}]")
        }
        defer { mesh.close() }
        let far = mesh.bed["far"]
        let idle = try IdleConnections(mesh.bed, at: "far")
        try idle.open(from: "client", "direct", far.v4, far.v6, port)
        try idle.open(from: "client", "service", "10.96.0.91", "fd00:96::91", 80)
        let connections = try mesh.node.metric("malla_connections_total")
        try idle.open(from: "client", "engine", "10.96.0.92", "fd00:96::92", 80)
        try eventually("the engine has them") {
            try mesh.node.metric("malla_connections_total") == connections + 2
        }
        // Passes no node that would refuse it.
        try idle.open(from: nil, "outside", far.v4, far.v6, port)
        let before = try Self.nudged(mesh.node)

        try mesh.bed.configure("strict.yaml", Self.strict("far"))
        try idle.expectEnded(Self.labels("direct", "service", "engine"), mesh.logs)
        #expect(try Self.nudged(mesh.node) > before)
        let seen = try mesh.node.malla("observe", "--verdict", "plain_refused", "--to", "bed/far")
        #expect(seen.output.contains("PeerAuthentication bed/strict"), "\(seen)")
    }
}
