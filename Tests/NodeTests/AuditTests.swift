import Foundation
import TestSupport
import Testing

/// A client and a server on one node: a policy that is only being tried, and what none can allow.
@Suite("What is tried, and what is never allowed (docs/configuration.md)", .serialized)
struct AuditTests {
    /// near lets in only a pod that there is not.
    private static let wall = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: wall, namespace: bed, annotations: {malla.io/policy-mode: audit}}
        spec:
          podSelector: {matchLabels: {app: near}}
          ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}]}]

        """

    /// One packet of SCTP, an INIT as far as it goes.
    private static let associate = """
        import socket, struct, sys
        family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
        s = socket.socket(family, socket.SOCK_RAW, 132)
        head = struct.pack("!HHIIBBH", 5000, 5353, 0, 0, 1, 0, 20)
        s.sendto(head + b"ASSOCIATE", (sys.argv[1], 0))
        """
    private static func items(_ node: TestNode, _ verdict: String) throws -> [FlowEventTests.Item] {
        try FlowEventTests.items(node, ["--verdict", verdict, "--to", "bed/near"])
    }

    @Test func `a policy on trial denies nothing and tells what it would; in force it denies`()
        throws
    {
        let bed = try Testbed("n1: client, near")
        defer { bed.close() }
        _ = try bed["near"].serve()
        try bed.describe([])
        try bed.configure("policies.yaml", Self.wall)
        let node = bed[node: "n1"]
        let agent = try node.startAgent()
        let (client, near) = (bed["client"], bed["near"])
        let hosts = [(near.v4, near.v4), (near.v6, "[\(near.v6)]")]

        for (_, host) in hosts {
            let answer = try client.curl("http://\(host):8080/")
            #expect(answer.headers["x-pod"] == "near", "\(answer.problem)\n\(agent.text)")
        }
        #expect(try node.metric(ForgeryTests.verdict("from_pod", "audited")) >= 2)
        #expect(try node.metric(ForgeryTests.verdict("from_pod", "denied_ingress")) == 0)
        var told: [FlowEventTests.Item] = []
        try eventually("both are told; \(agent.text.suffix(1000))") {
            told = try Self.items(node, "audited")
            return Set(told.map(\.target)) == [near.v4, near.v6]
        }
        for item in told {
            #expect(item.verdict == "audited" && item.reason == "audited")
            #expect(item.direction == "ingress" && item.hook == "from_pod")
            #expect(item.sourcePod == "bed/client" && item.targetPod == "bed/near")
            #expect(item.rule == "default deny (ingress)")
            #expect(item.policies == ["NetworkPolicy bed/wall"])
            #expect(item.nearest == "NetworkPolicy bed/wall ingress[0]")
            #expect(item.why == "bed/client is not app=friend")
        }
        #expect(try node.metric("malla_flow_events_total{verdict=\"audited\"}") >= 2)
        #expect(try Self.items(node, "denied").isEmpty)

        // The trial is over.
        let trial = ", annotations: {malla.io/policy-mode: audit}"
        #expect(Self.wall.contains(trial))
        try bed.configure("policies.yaml", Self.wall.replacing(trial, with: ""))
        for (address, host) in hosts {
            try eventually("\(host) is refused; \(agent.text.suffix(1000))", within: 20) {
                let status = try client.curl("http://\(host):8080/", seconds: 1).status
                return try status == 0
                    && Self.items(node, "denied_ingress").contains { $0.target == address }
            }
        }
        let denied = try Self.items(node, "denied_ingress")
        for item in denied {
            #expect(item.verdict == "denied" && item.policies == ["NetworkPolicy bed/wall"])
        }
        let audited = try node.metric(ForgeryTests.verdict("from_pod", "audited"))
        #expect(try client.curl("http://\(near.v4):8080/", seconds: 1).status == 0)
        #expect(try node.metric(ForgeryTests.verdict("from_pod", "audited")) == audited)
    }

    @Test func `SCTP out of a pod is dropped under its own name, and nothing else is`() throws {
        let bed = try Testbed("n1: client, near")
        defer { bed.close() }
        try bed.describe([])
        let node = bed[node: "n1"]
        let agent = try node.startAgent()
        let (client, near) = (bed["client"], bed["near"])
        let watch = try near.start("watch", ForgeryTests.watch("ASSOCIATE", "CONTROL"))
        try eventually("near watches") { watch.text.contains("up") }

        for (count, address) in [(1.0, near.v4), (2.0, near.v6)] {
            let sent = try client.run(["/usr/bin/python3", "-c", Self.associate, address])
            #expect(sent.isSuccess, "\(sent)")
            try eventually("it is counted to \(address); \(agent.text.suffix(1000))") {
                try node.metric(ForgeryTests.verdict("from_pod", "sctp")) == count
            }
        }
        var told: [FlowEventTests.Item] = []
        try eventually("both are told; \(agent.text.suffix(1000))") {
            told = try Self.items(node, "sctp")
            return Set(told.map(\.target)) == [near.v4, near.v6]
        }
        for item in told {
            #expect(item.verdict == "denied" && item.reason == "sctp" && item.hook == "from_pod")
            #expect(item.sourcePod == "bed/client" && item.targetPod == "bed/near")
        }

        // What is allowed arrives, and nothing has before it.
        for address in [near.v4, near.v6] {
            let sent = try client.run(["/usr/bin/python3", "-c", ForgeryTests.control, address])
            #expect(sent.isSuccess, "\(sent)")
        }
        try eventually("the controls arrive: \(watch.text)") {
            watch.text.components(separatedBy: "CONTROL").count >= 3
        }
        #expect(!watch.text.contains("ASSOCIATE"), "\(watch.text)")
    }
}
