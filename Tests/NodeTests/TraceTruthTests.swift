// What `malla policy trace` answers, beside what becomes of the dial that it was asked about.

import Foundation
import TestSupport
import Testing

/// An address and port, and how they are dialled.
private struct TraceTarget: Hashable, CustomStringConvertible {
    var address: String
    var port: Int
    var transport = "TCP"

    var description: String { "\(address) \(port)/\(transport)" }
    var word: String { "\(address),\(port),\(transport)" }
    var isIPv4: Bool { !address.contains(":") }
}

/// Who dials, and the node whose agent is asked for him.
private struct TraceSource {
    enum Place {
        case pod(String)
        case node(String)
        case outside
    }
    var place: Place
    var node: String
    var v4: String
    var v6: String

    var name: String {
        switch place {
        case .pod(let name), .node(let name): name
        case .outside: "outside"
        }
    }
}

@Suite("malla policy trace says what a dial then finds (docs/cli.md)", .serialized)
struct TraceTruthTests {
    /// The pod that answers; `nil`: nobody does.
    private typealias Answers = [TraceTarget: String?]

    /// Both pods serve 8080 of TCP and 5353 of UDP; host port 8443 leads to either at its node.
    private static func mesh() throws -> OpenMesh.Running {
        try OpenMesh.running(OpenMesh.service("web", pods: ["near"])) { bed in
            func add(_ name: String, _ index: Int, _ pods: [String], more: String = "") throws {
                try bed.configure(
                    "\(name).yaml", OpenMesh.service(name, pods: pods, at: index, more: more))
            }
            try add("webfar", 2, ["far"])
            try add("none", 3, [])
            try add("local", 4, ["far"], more: "externalTrafficPolicy: Local")
            // The client by IPv4, the first node by IPv6.
            try add(
                "ranged", 5, ["near"],
                more: "loadBalancerSourceRanges: [\(bed["client"].v4)/32, \"fd00:76::1/128\"]")
            for (name, index, pod) in [("dns", 6, "near"), ("dnsfar", 7, "far")] {
                try bed.configure(
                    "\(name).yaml",
                    OpenMesh.service(
                        name, pods: [pod], port: 80, target: 5353, transport: "UDP", at: index))
            }
            // The engine serves it.
            try bed.configure(
                "http.yaml",
                OpenMesh.service("http", pods: ["near"], at: 8)
                    .replacing("{name: tcp,", with: "{name: http,"))
            for pod in ["near", "far"] {
                try HostPortTests.give(pod, "[{containerPort: 8080, hostPort: 8443}]", in: bed)
                try bed[pod].start("udp", ServiceTrafficTests.datagramServer)
            }
        }
    }

    private static func targets(_ bed: Testbed) -> [TraceTarget] {
        var targets: [TraceTarget] = []
        let nodes = ["n1", "n2"].flatMap { [bed[node: $0].v4, bed[node: $0].v6] }
        for index in 1...8 {
            let transport = index == 6 || index == 7 ? "UDP" : "TCP"
            targets += [96, 98, 99].flatMap { net in
                ["10.\(net).0.\(index)", "fd00:\(net)::\(index)"].map {
                    TraceTarget(address: $0, port: 80, transport: transport)
                }
            }
            targets += nodes.map {
                TraceTarget(address: $0, port: 30079 + index, transport: transport)
            }
        }
        targets += nodes.map { TraceTarget(address: $0, port: 8443) }
        for pod in ["near", "far"] {
            for address in [bed[pod].v4, bed[pod].v6] {
                targets.append(TraceTarget(address: address, port: 8080))
                targets.append(TraceTarget(address: address, port: 5353, transport: "UDP"))
            }
        }
        return targets
    }

    private static func sources(_ bed: Testbed) -> [TraceSource] {
        let pods = ["client", "near", "far"].map {
            TraceSource(place: .pod($0), node: bed[$0].node, v4: bed[$0].v4, v6: bed[$0].v6)
        }
        let n1 = bed[node: "n1"]
        return pods + [
            TraceSource(place: .node("n1"), node: "n1", v4: n1.v4, v6: n1.v6),
            TraceSource(
                place: .outside, node: "n1", v4: Topology.outsideV4, v6: Topology.outsideV6),
        ]
    }

    private static func policy(_ name: String, of pod: String, _ rules: String) -> String {
        """
        {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: \(name), \
        namespace: bed}, spec: {podSelector: {matchLabels: {app: \(pod)}}, \(rules)}}
        """
    }

    private static func from(_ pod: String) -> String {
        "[{podSelector: {matchLabels: {app: \(pod)}}}]"
    }

    /// Each with what it is to show.
    private static let policies: [(name: String, rules: [String])] = [
        ("none", []),
        (
            "a pod, and the nodes",
            [
                policy("near", of: "near", "ingress: [{from: \(from("client"))}]"),
                policy(
                    "far", of: "far",
                    """
                    ingress: [{from: [{ipBlock: {cidr: 10.76.0.1/32}}, {ipBlock: {cidr: \
                    'fd00:76::1/128'}}]}]
                    """),
            ]
        ),
        (
            "the pods' own ports, and egress",
            [
                // The services' ports are 80, which allows none of them.
                policy(
                    "near", of: "near",
                    """
                    ingress: [{ports: [{port: 80}, {port: 80, protocol: UDP}, {port: 5353, \
                    protocol: UDP}]}, {from: \(from("far")), ports: [{port: 8080}]}]
                    """),
                policy(
                    "client", of: "client",
                    "policyTypes: [Egress], egress: [{to: \(from("near"))}, {ports: [{port: 80}]}]"
                ),
                policy(
                    "far", of: "far",
                    "policyTypes: [Egress], egress: [{to: \(from("near")), ports: [{port: 8080}]}]"),
            ]
        ),
        (
            "tiers",
            [
                policy("far", of: "far", "ingress: []"),
                """
                {apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, \
                metadata: {name: admin}, spec: {tier: Admin, priority: 1, subject: {namespaces: \
                {}}, ingress: [{action: Deny, from: [{networks: [\(Topology.outsideV4)/32]}]}, \
                {action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: \
                {app: near}}}}], protocols: [{tcp: {destinationPort: {number: 8080}}}]}], egress: \
                [{action: Deny, to: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: \
                {app: near}}}}], protocols: [{udp: {destinationPort: {number: 5353}}}]}]}}
                """,
            ]
        ),
    ]

    @Test
    func `of services, node ports and host ports, from pods, a node and outside, by TCP and UDP`()
        throws
    {
        let mesh = try Self.mesh()
        defer { mesh.close() }
        var counts: [Bool: Int] = [:]
        for (number, policy) in Self.policies.enumerated() {
            try Self.enforce(mesh.bed, policy.rules, number)
            for source in Self.sources(mesh.bed) {
                // Nobody outside has a way to ClusterIPs, or to what stays within a node.
                let targets = Self.targets(mesh.bed).filter {
                    source.name != "outside"
                        || !($0.address.hasPrefix("10.96.") || $0.address.hasPrefix("fd00:96:"))
                }
                let traced = try Self.traced(mesh.bed, source, targets)
                #expect(traced.count == targets.count)
                for answer in traced.values { counts[answer != nil, default: 0] += 1 }
                let faults = try Self.faults(mesh.bed, source, traced)
                #expect(
                    faults == [], "\(policy.name): \(source.name)\n\(mesh.counters)\n\(mesh.logs)")
            }
        }
        #expect(counts.values.allSatisfy { $0 > 200 } && counts.count == 2, "\(counts)")
    }

    /// What differs from what the trace says. A loaded machine may miss the dial's time: what is to
    /// be answered is asked again, what is denied never is.
    private static func faults(
        _ bed: Testbed, _ source: TraceSource, _ traced: Answers
    ) throws -> [String] {
        var left = traced
        var shut: [String] = []
        for _ in 0..<4 {
            let found = try dialled(bed, source, Array(left.keys))
            shut = []
            for (target, expected) in left {
                guard let answer = found[target] else { continue }
                if answer == expected {
                    left[target] = nil
                } else if let pod = answer {
                    return ["\(target): \(pod) answers, the trace says \(expected ?? "denied")"]
                } else {
                    shut.append("\(target): the trace says \(expected ?? "?"), nobody answers")
                }
            }
            if left.isEmpty { return [] }
        }
        return shut.sorted()
    }

    private static func enforce(_ bed: Testbed, _ rules: [String], _ number: Int) throws {
        let marker = policy("generation-\(number)", of: "nobody", "ingress: []")
        try bed.configure("policies.yaml", (rules + [marker]).joined(separator: "\n---\n") + "\n")
        for node in ["n1", "n2"] {
            try eventually("\(node) has policies \(number)", within: 20) {
                try bed[node: node].malla("policy", "list", "-o", "json").output
                    .contains("\"generation-\(number)\"")
            }
        }
    }

    // MARK: Asking

    private static func answers(_ outcome: Outcome, _ targets: [TraceTarget]) -> Answers {
        var answers: Answers = [:]
        for line in outcome.output.split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 2, let index = Int(words[0]) else { continue }
            answers.updateValue(words[1] == "-" ? nil : words[1], forKey: targets[index])
        }
        return answers
    }

    /// By the pod whose address the trace names, if it is allowed.
    private static func traced(
        _ bed: Testbed, _ source: TraceSource, _ targets: [TraceTarget]
    ) throws -> Answers {
        let pods = ["client", "near", "far"].flatMap {
            ["\(bed[$0].v4)=\($0)", "\(bed[$0].v6)=\($0)"]
        }
        let outcome = try Command.run(
            [
                "/usr/bin/python3", "-c", tracer, bed[node: source.node].socket,
                pods.joined(separator: ","), source.v4, source.v6,
            ] + targets.map(\.word))
        #expect(outcome.isSuccess, "\(outcome)")
        return answers(outcome, targets)
    }

    private static func dialled(
        _ bed: Testbed, _ source: TraceSource, _ targets: [TraceTarget]
    ) throws -> Answers {
        // A node would choose its pod's veth's address.
        var bound = ["-", "-"]
        if case .node = source.place { bound = [source.v4, source.v6] }
        let words = ["/usr/bin/python3", "-c", dialler] + bound + targets.map(\.word)
        let outcome =
            switch source.place {
            case .pod(let name): try bed[name].run(words)
            case .node(let name): try bed[node: name].run(words)
            case .outside: try bed.outside(words)
            }
        #expect(outcome.isSuccess, "\(outcome)")
        return answers(outcome, targets)
    }

    /// Asks the agent as the command does, once for each target.
    private static let tracer = """
        import http.client, json, socket, sys
        path, pods, v4, v6 = sys.argv[1:5]
        names = dict(pair.split("=") for pair in pods.split(","))
        class Agent(http.client.HTTPConnection):
            def connect(self):
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.connect(path)
        for index, target in enumerate(sys.argv[5:]):
            address, port, kind = target.split(",")
            agent = Agent("agent")
            own = v6 if ":" in address else v4
            agent.request("GET", f"/v1/policy/trace?from={own}&to={address}&port={port}"
                f"&protocol={kind}")
            items = json.loads(agent.getresponse().read())["items"]
            if len(items) != 1: raise ValueError((target, items))
            item = items[0]
            print(index, names.get(item["target"], "?") if item["verdict"] == "allowed" else "-")
            agent.close()
        """

    /// Dials all at once; names who answers.
    private static let dialler = """
        import asyncio, socket, sys
        LIMIT = 1.5
        class Ask(asyncio.DatagramProtocol):
            def __init__(self): self.answer = asyncio.get_running_loop().create_future()
            def connection_made(self, transport): transport.sendto(b"who?")
            def datagram_received(self, text, peer):
                if not self.answer.done(): self.answer.set_result(text.decode().split()[-1])
            def error_received(self, error):
                if not self.answer.done(): self.answer.set_exception(error)
        async def udp(address, port, own):
            transport, ask = await asyncio.get_running_loop().create_datagram_endpoint(
                Ask, remote_addr=(address, port), local_addr=own)
            try: return await ask.answer
            finally: transport.close()
        async def tcp(address, port, own):
            reader, writer = await asyncio.open_connection(address, port, local_addr=own)
            writer.write(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode().split("\\r\\n")
            writer.close()
            if " 200 " not in head[0]: return "-"
            fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
            return fields["x-pod"]
        async def dial(index, target):
            address, port, kind = target.split(",")
            own = sys.argv[2] if ":" in address else sys.argv[1]
            try:
                who = await asyncio.wait_for((tcp if kind == "TCP" else udp)(
                    address, int(port), None if own == "-" else (own, 0)), LIMIT)
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError): who = "-"
            print(index, who)
        async def main():
            await asyncio.gather(*[dial(*each) for each in enumerate(sys.argv[3:])])
        asyncio.run(main())
        """
}
