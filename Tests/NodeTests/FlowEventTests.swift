import Foundation
import TestSupport
import Testing

/// Three pods on two nodes; policies let only some of them in, and what is denied is told.
@Suite("What policies deny is seen in malla observe (docs/cli.md)", .serialized)
struct FlowEventTests {
    private struct Listing: Decodable {
        var kind: String
        var items: [Item]
    }

    struct Item: Decodable, Equatable {
        var verdict: String
        var reason: String
        var direction: String
        var sourcePod: String
        var targetPod: String
        var target: String
        var targetPort: Int
        var targetService: String
        var hook: String
        var rule: String
        var policy: String
        var policies: [String]
        var nearest: String
        var why: String
    }

    /// near lets in only a pod that there is not; nobody at all may reach far's port 9090.
    private static let policies = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: wall, namespace: bed}
        spec:
          podSelector: {matchLabels: {app: near}}
          ingress:
          - from: [{podSelector: {matchLabels: {app: friend}}}]
            ports: [{port: 8080}]
        ---
        apiVersion: policy.networking.k8s.io/v1alpha2
        kind: ClusterNetworkPolicy
        metadata: {name: no-admin-port}
        spec:
          tier: Admin
          priority: 5
          subject: {namespaces: {}}
          egress:
          - name: nobody
            action: Deny
            to: [{namespaces: {}}]
            protocols: [{tcp: {destinationPort: {number: 9090}}}]

        """

    static func items(_ node: TestNode, _ arguments: [String]) throws -> [Item] {
        let outcome = try node.run(
            [Binaries.malla, "--socket", node.socket, "observe", "-o", "json"] + arguments)
        return try JSONDecoder().decode(Listing.self, from: Data(outcome.output.utf8)).items
    }

    @Test func `a denied connect shows the policy, the nearest rule and why; filters; follow`()
        throws
    {
        let bed = try Testbed("n1: client, near; n2: far")
        defer { bed.close() }
        for name in ["near", "far"] { _ = try bed[name].serve() }
        try bed.describe([])
        try bed.configure("policies.yaml", Self.policies)
        let node = bed[node: "n1"]
        let agent = try node.startAgent(more: ["--flow-sample", "1/1"])
        let lines = try node.start(
            "follow", [Binaries.malla, "--socket", node.socket, "observe", "-f", "-o", "json"])
        let table = try node.start(
            "table", [Binaries.malla, "--socket", node.socket, "observe", "-f", "--port", "9090"])
        let (near, far) = (bed["near"], bed["far"])

        // By default, in both families.
        for address in [near.v4, "[\(near.v6)]"] {
            _ = try bed["client"].curl("http://\(address):8080/", seconds: 1)
        }
        let denied = try Self.denied(node, agent, count: 2)
        #expect(Set(denied.map(\.target)) == [near.v4, near.v6])
        for item in denied {
            #expect(item.reason == "denied_ingress" && item.direction == "ingress")
            #expect(item.sourcePod == "bed/client" && item.targetPod == "bed/near")
            #expect(item.rule == "default deny (ingress)" && item.targetPort == 8080)
            #expect(item.policies == ["NetworkPolicy bed/wall"])
            #expect(item.nearest == "NetworkPolicy bed/wall ingress[0]")
            #expect(item.why == "bed/client is not app=friend")
        }

        // By a rule.
        _ = try bed["client"].curl("http://\(far.v4):9090/", seconds: 1)
        try eventually("the table that follows has the rule, and nothing else") {
            table.text.contains("ClusterNetworkPolicy no-admin-port egress[0] (nobody)")
        }
        #expect(!table.text.contains("bed/near"), "\(table.text)")
        let ruled = try Self.items(node, ["--verdict", "denied_egress", "--to", "bed/far"])
        #expect(ruled.map(\.policy) == ["ClusterNetworkPolicy no-admin-port"])

        // Of the sample.
        #expect(try bed["client"].curl("http://\(far.v4):8080/").status == 200)
        try eventually("the admitted flow is told") {
            try Self.items(node, ["--verdict", "allowed", "--from", "bed/client"]).contains {
                $0.targetPod == "bed/far" && $0.targetPort == 8080
            }
        }
        #expect(try Self.items(node, ["--from", "bed/near"]).isEmpty)
        #expect(try Self.items(node, ["--port", "8081"]).isEmpty)
        #expect(try Self.items(node, ["--last", "1"]).count == 1)

        try eventually("who follows has them all") {
            ["denied_ingress", "denied_egress", "allowed"].allSatisfy(lines.text.contains)
        }
        for line in lines.text.split(separator: "\n") {
            _ = try JSONDecoder().decode(Item.self, from: Data(line.utf8))
        }
        #expect(try node.metric("malla_flow_events_total{verdict=\"denied\"}") >= 3)
        #expect(try node.metric("malla_flow_events_lost_total") == 0)
    }

    private static func denied(
        _ node: TestNode, _ agent: TestProcess, count: Int
    ) throws -> [Item] {
        var found: [Item] = []
        try eventually("\(count) denied flows are told; \(agent.text.suffix(1000))") {
            found = try items(node, ["--verdict", "denied", "--pod", "bed/near"])
            return found.count == count
        }
        return found
    }

    @Test func `a connect that is refused for want of an endpoint names the service`() throws {
        let bed = try Testbed("n1: client, other")
        defer { bed.close() }
        try bed.describe([TestService("empty", 9, "tcp", to: [])])
        let node = bed[node: "n1"]
        try node.startAgent()
        for pod in ["client", "other"] {
            for _ in 0..<3 { _ = try bed[pod].curl("http://10.96.0.9/", seconds: 1) }
        }
        var found: [Item] = []
        try eventually("it is told, of each pod") {
            found = try Self.items(node, ["--verdict", "no_endpoint"])
            return found.count >= 2
        }
        #expect(found.count == 2, "told once in ten seconds: \(found)")
        #expect(Set(found.map(\.sourcePod)) == ["bed/client", "bed/other"])
        #expect(try Self.items(node, ["--pod", "bed/other"]).count == 1)
        #expect(found.first?.hook == "connect4" && found.first?.verdict == "denied")
        #expect(found.first?.targetService == "bed/empty" && found.first?.rule == "")
    }

    @Test func `an agent that starts anew goes on where the one before ended`() throws {
        let bed = try Testbed("n1: client, near")
        defer { bed.close() }
        _ = try bed["near"].serve()
        try bed.describe([])
        try bed.configure("policies.yaml", Self.policies)
        let node = bed[node: "n1"]
        let first = try node.startAgent()
        _ = try bed["client"].curl("http://\(bed["near"].v4):8080/", seconds: 1)
        _ = try Self.denied(node, first, count: 1)
        let maps = try node.malla("bpf", "maps").output
        let pinned = try Command.shell("ls \(node.bpffs)/malla/v*/ | grep malla_").split(
            separator: "\n")
        #expect(pinned.count > 20)
        for map in pinned { #expect(maps.contains(map + " "), "every map is listed") }
        _ = first.stop()

        // Nobody reads now; the ring keeps it.
        _ = try bed["client"].curl("http://[\(bed["near"].v6)]:8080/", seconds: 1)
        let second = try node.startAgent()
        let found = try Self.denied(node, second, count: 1)
        #expect(found.map(\.target) == [bed["near"].v6])
        #expect(found.map(\.rule) == ["default deny (ingress)"])
    }
}
