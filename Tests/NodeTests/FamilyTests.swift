import TestSupport
import Testing

@Suite("A node without IPv6 (docs/operations.md)", .serialized)
struct FamilyTests {
    @Test func `serves all that is IPv4`() throws {
        let quiet = try SmallMesh.bed { bed in
            try bed.configure("gateway.yaml", RouteTests.gateway)
            try bed.route(
                "front", parent: "{name: front}",
                rules: "- backendRefs: [{name: engine-far, port: 80}]")
        }
        defer { quiet.bed.close() }
        for place in ["n1", "client", "near"] {
            try Command.shell(
                """
                nsenter --net=\(quiet.bed.namespace(place)) sysctl -qw \
                net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
                """)
        }
        let node = quiet.bed[node: "n1"]
        let client = quiet.bed["client"]
        #expect(try client.run(["ip", "-6", "address"]).output.isEmpty)

        let agent = try node.startAgent()

        for service in SmallMesh.services where service.portName != "udp" {
            let answer = try client.curl(service.urls[0])
            #expect(answer.status == 200, "\(service.name): \(answer.problem)\n\(agent.text)")
            #expect(answer.headers["x-client"] == client.v4)
        }
        let outside = Curl.response(
            try quiet.bed.outside(["curl", "-sSi", "-m", "5", "http://\(node.v4)/"]))
        #expect(outside.headers["x-pod"] == "far", "\(outside)\n\(agent.text)")
        #expect(try node.metric("malla_datapath_problems") == 0, "\(agent.text)")
        #expect(!agent.text.contains("warning"), "\(agent.text)")
    }
}
