// Established flows of every kind, when policies change under them.

import Foundation
import TestSupport
import Testing

/// A flow that asks one question after another over one socket.
private struct AskingFlow: Hashable, CustomStringConvertible {
    enum Kind: String, CaseIterable {
        case tcp, udp, echo
    }
    var from: String
    var to: String
    var kind: Kind
    /// 0 of an echo.
    var port: Int
    var isIPv4: Bool

    var description: String { "\(from)-\(to)-\(kind)-\(port)-\(isIPv4 ? "v4" : "v6")" }

    static let ports: [(Kind, Int)] = [
        (.tcp, 9001), (.tcp, 9003), (.udp, 5353), (.udp, 9002), (.echo, 0),
    ]

    /// All kinds between two pods, both families.
    static func between(_ from: String, _ to: String) -> [AskingFlow] {
        [true, false].flatMap { isIPv4 in
            ports.map { AskingFlow(from: from, to: to, kind: $0, port: $1, isIPv4: isIPv4) }
        }
    }
}

/// What has become of flows, as those that ask have written it down.
private struct AskingFlows {
    let bed: Testbed
    let all: [AskingFlow]
    private let processes: [TestProcess]

    init(_ bed: Testbed, _ all: [AskingFlow]) throws {
        self.bed = bed
        self.all = all
        for name in Set(all.map(\.to)).sorted() {
            let server = try bed[name].start("answers", ["/usr/bin/python3", "-uc", Self.server])
            try eventually("\(name) listens: \(server.text)") { server.text.contains("ready") }
        }
        processes = try Set(all.map(\.from)).sorted().map { name in
            let calls = all.filter { $0.from == name }.map {
                "\($0),\($0.kind),\($0.isIPv4 ? bed[$0.to].v4 : bed[$0.to].v6),\($0.port)"
            }
            return try bed[name].start(
                "asks", ["/usr/bin/python3", "-uc", Self.client] + calls)
        }
    }

    var text: String { processes.map(\.text).joined() }

    /// Each flow's words so far, oldest first.
    func words() -> [String: [Substring]] {
        var words: [String: [Substring]] = [:]
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: " ")
            if parts.count == 2 { words[String(parts[0]), default: []].append(parts[1]) }
        }
        return words
    }

    /// Those of which the last question had no answer.
    func silent() -> Set<AskingFlow> {
        let words = words()
        return Set(all.filter { words["\($0)"]?.last == "silence" })
    }

    /// Waits until each of these has had three answers more.
    func expectAnswers(_ flows: Set<AskingFlow>, _ why: String) throws {
        func counts() -> [AskingFlow: Int] {
            let words = words()
            return Dictionary(
                uniqueKeysWithValues: flows.map {
                    ($0, (words["\($0)"] ?? []).filter { $0 == "answer" }.count)
                })
        }
        let before = counts()
        var slow: [AskingFlow] = []
        try eventually("\(why): \(slow)", within: 20) {
            let now = counts()
            slow = flows.filter { (now[$0] ?? 0) < (before[$0] ?? 0) + 3 }
            return slow.isEmpty
        }
    }

    private static let server = """
        import socket, threading
        def datagrams(port):
            s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            s.bind(("::", port))
            while True: s.sendto(*s.recvfrom(2048))
        def serve(s):
            try:
                while part := s.recv(2048): s.sendall(part)
            except OSError: pass
        def streams(port):
            listener = socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        for port in 5353, 9002: threading.Thread(target=datagrams, args=(port,)).start()
        for port in 9001, 9003: threading.Thread(target=streams, args=(port,)).start()
        print("ready")
        """

    /// A thread for each flow. A question without an answer within 3 s met silence.
    private static let client = """
        import os, socket, struct, sys, threading, time
        def say(*words): os.write(1, (" ".join(words) + "\\n").encode())
        def checksum(text):
            total = sum(struct.unpack("!%dH" % (len(text) // 2), text))
            total = (total & 65535) + (total >> 16)
            return ~((total & 65535) + (total >> 16)) & 65535
        def opened(kind, six, address, port):
            family = socket.AF_INET6 if six else socket.AF_INET
            if kind == "tcp": return socket.create_connection((address, port), 10)
            if kind == "udp": s = socket.socket(family, socket.SOCK_DGRAM)
            else: s = socket.socket(family, socket.SOCK_RAW, 58 if six else 1)
            s.connect((address, port))
            return s
        def question(kind, six, own, number):
            if kind != "echo": return b"%08d" % number
            body = struct.pack("!BBHHH", 128 if six else 8, 0, 0, own, number & 65535) + b"malla..."
            if six: return body
            return body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        def is_answer(kind, six, own, number, text):
            if kind != "echo": return b"%08d" % number in text
            text = text if six else text[20:]
            if text[0] != (129 if six else 0): return False
            return struct.unpack("!HH", text[4:8]) == (own, number & 65535)
        def ask(which, label, kind, address, port):
            six, own, number, got = ":" in address, 2000 + which, 0, b""
            s = opened(kind, six, address, int(port))
            while True:
                number += 1
                end = time.monotonic() + 3
                word = "silence"
                try:
                    s.send(question(kind, six, own, number))
                    while word == "silence" and time.monotonic() < end:
                        s.settimeout(max(0.01, end - time.monotonic()))
                        part = s.recv(2048)
                        if kind == "tcp" and not part: raise OSError("ended")
                        got = (got + part)[-64:] if kind == "tcp" else part
                        if is_answer(kind, six, own, number, got): word = "answer"
                except TimeoutError: pass
                except OSError:
                    # A refusal is no answer either; what has ended stays so.
                    time.sleep(max(0.01, end - time.monotonic()))
                say(label, word)
                time.sleep(0.2)
        for which, call in enumerate(sys.argv[1:]):
            threading.Thread(target=ask, args=(which, *call.split(","))).start()
        """
}

extension TranslatedFlowTests.Item {
    /// As `AskingFlow` is described, of flows between pods.
    fileprivate var label: String {
        let kind: String
        switch `protocol` {
        case "TCP": kind = "tcp"
        case "UDP": kind = "udp"
        default: kind = "echo"
        }
        let port = kind == "echo" ? "0" : target.split(separator: ":").last ?? "?"
        let pods = [sourcePod, targetPod].map { $0.dropFirst("bed/".count) }
        let family = source.hasPrefix("[") || source.contains("::") ? "v6" : "v4"
        return "\(pods[0])-\(pods[1])-\(kind)-\(port)-\(family)"
    }
}

@Suite("Policies that change under flows (docs/operations.md)", .serialized)
struct PolicyCutTests {
    /// A NetworkPolicy of the bed's; `rules` as YAML.
    private static func policy(_ name: String, of pod: String, _ rules: String) -> String {
        """
        {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: \(name), \
        namespace: bed}, spec: {podSelector: {matchLabels: {app: \(pod)}}, \(rules)}}
        """
    }

    private static func from(_ pod: String) -> String {
        "[{podSelector: {matchLabels: {app: \(pod)}}}]"
    }

    /// Two ports of `near` are left to the client, all of it to the pod of the other node.
    private static let first = [
        policy(
            "near", of: "near",
            """
            ingress: [{from: \(from("client")), ports: [{port: 9001}, {port: 5353, protocol: \
            UDP}]}, {from: \(from("far"))}]
            """)
    ]
    private static let cutFirst = Set(
        AskingFlow.between("client", "near").filter { ![9001, 5353].contains($0.port) })

    /// Then two of the others to the pod of the other node alone; and the client is held at home,
    /// but for two ports.
    private static let second = [
        policy(
            "near", of: "near",
            """
            ingress: [{from: \(from("far")), ports: [{port: 9003}, {port: 9002, protocol: UDP}]}]
            """),
        policy(
            "client", of: "client",
            """
            policyTypes: [Egress], egress: [{to: \(from("near"))}, {to: \(from("far")), ports: \
            [{port: 9001}, {port: 9002, protocol: UDP}]}]
            """),
    ]
    private static let cutSecond =
        Set(AskingFlow.between("client", "near")).union(
            AskingFlow.between("far", "near").filter { ![9003, 9002].contains($0.port) }
        ).union(AskingFlow.between("client", "far").filter { ![9001, 9002].contains($0.port) })

    @Test
    func `cut TCP, UDP and echoes of both families that they no longer allow, and nothing else`()
        throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let pairs = [("client", "near"), ("client", "far"), ("far", "near")]
        let flows = try AskingFlows(mesh.bed, pairs.flatMap(AskingFlow.between))
        let all = Set(flows.all)
        try flows.expectAnswers(all, "all are established\n\(flows.text.suffix(500))")
        #expect(try TranslatedFlowTests.items(mesh.node).allSatisfy { !$0.cut })

        for (policies, cut) in [(Self.first, Self.cutFirst), (Self.second, Self.cutSecond)] {
            try mesh.bed.configure("policies.yaml", policies.joined(separator: "\n---\n"))
            var silent: Set<AskingFlow> = []
            try eventually("cut: \(cut.subtracting(silent))\n\(mesh.logs)", within: 20) {
                silent = flows.silent()
                return cut.isSubset(of: silent)
            }
            try flows.expectAnswers(all.subtracting(cut), "the rest go on\n\(mesh.logs)")
            #expect(flows.silent() == cut, "\(mesh.logs)")
            let said = flows.words()
            for flow in all.subtracting(cut) {
                #expect(said["\(flow)"]?.contains("silence") == false, "\(flow)")
            }
            // The kernel's own word, flow by flow.
            let labels = try TranslatedFlowTests.items(mesh.node).filter(\.cut).map(\.label)
            #expect(Set(labels) == Set(cut.map(\.description)))
        }
        let verdict = "malla_datapath_verdicts_total{hook=\"from_pod\",reason=\"cut\"}"
        #expect(try mesh.node.metric(verdict) > 0)

        // Each goes on by itself once it is allowed.
        mesh.bed.unconfigure("policies.yaml")
        let asked = all.filter { $0.kind != .tcp }
        try flows.expectAnswers(asked, "datagrams and echoes pass again\n\(mesh.logs)")
        let left = try TranslatedFlowTests.items(mesh.node)
        #expect(left.allSatisfy { !$0.cut || $0.protocol == "TCP" })
    }
}
