import Foundation
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
            try bed.configure(
                "checked.yaml",
                OpenMesh.service(
                    "checked", pods: ["near"], at: 30,
                    more: "externalTrafficPolicy: Local\nhealthCheckNodePort: 31999"))
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
        try Self.expectDatagrams(quiet.bed, agent, isIPv4: true)
        let outside = Curl.response(
            try quiet.bed.outside(["curl", "-sSi", "-m", "5", "http://\(node.v4)/"]))
        #expect(outside.headers["x-pod"] == "far", "\(outside)\n\(agent.text)")
        let checked = Curl.response(
            try quiet.bed.outside(["curl", "-sSi", "-m", "5", "http://\(node.v4):31999/"]))
        #expect(checked.status == 200, "\(checked.problem)\n\(agent.text)")
        #expect(try node.metric("malla_datapath_problems") == 0, "\(agent.text)")
        #expect(!agent.text.contains("warning"), "\(agent.text)")
    }

    @Test func `and one without IPv4 serves all that is IPv6`() throws {
        let quiet = try SmallMesh.bed { bed in
            try bed.configure("bed.yaml", Self.withoutIPv4(bed))
            try bed.configure("gateway.yaml", RouteTests.gateway)
            try bed.route(
                "front", parent: "{name: front}",
                rules: "- backendRefs: [{name: engine-far, port: 80}]")
        }
        defer { quiet.bed.close() }
        for place in ["n1", "n2", "client", "near", "far"] {
            try Command.shell(
                """
                for device in eth0 lxc-client lxc-near lxc-far; do
                  ip -n malla-\(quiet.bed.name)-\(place) -4 addr flush dev $device || true
                done
                """)
        }
        let node = quiet.bed[node: "n1"]
        let client = quiet.bed["client"]
        #expect(try client.run(["ip", "-4", "route"]).output.isEmpty)

        let agent = try node.startAgent()

        for service in SmallMesh.services where service.portName != "udp" {
            let answer = try client.curl(service.urls[1])
            #expect(answer.status == 200, "\(service.name): \(answer.problem)\n\(agent.text)")
            #expect(answer.headers["x-client"] == client.v6)
        }
        try Self.expectDatagrams(quiet.bed, agent, isIPv4: false)
        let outside = Curl.response(
            try quiet.bed.outside(["curl", "-sSi", "-m", "5", "http://[\(node.v6)]/"]))
        #expect(outside.headers["x-pod"] == "far", "\(outside)\n\(agent.text)")
        #expect(try node.metric("malla_datapath_problems") == 0, "\(agent.text)")
        #expect(!agent.text.contains("warning"), "\(agent.text)")
    }

    /// UDP by services, and echo requests to the pods themselves.
    private static func expectDatagrams(
        _ bed: Testbed, _ agent: TestProcess, isIPv4: Bool
    ) throws {
        for (service, name) in [(SmallMesh.datagramNear, "near"), (SmallMesh.datagramFar, "far")] {
            let pod = bed[name]
            try pod.start("udp", ServiceTrafficTests.datagramServer)
            let address = isIPv4 ? service.v4 : service.v6
            try eventually("\(name) answers by UDP\n\(agent.text)") {
                try bed["client"].run(ServiceTrafficTests.askDatagram + [address, "5300"]).output
                    == "answer from \(name)\n"
            }
            let echo = try bed["client"].run(askEcho + [isIPv4 ? pod.v4 : pod.v6])
            #expect(echo.output == "answered\n", "\(name): \(echo)\n\(agent.text)")
        }
    }

    private static let askEcho = [
        "/usr/bin/python3", "-c",
        """
        import socket, struct, sys
        six = ":" in sys.argv[1]
        s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, 58 if six else 1)
        s.settimeout(5)
        kind, sum = (128, 0) if six else (8, 0xffff - 0x0808)
        s.sendto(struct.pack("!BBHHH", kind, 0, sum, 7, 1), (sys.argv[1], 0))
        while True:
            text = s.recv(2048)
            if text[0 if six else 20] == (129 if six else 0):
                print("answered")
                break
        """,
    ]

    /// The bed's objects with IPv6 addresses only.
    private static func withoutIPv4(_ bed: Testbed) throws -> String {
        var text = Command.text(bed.configuration + "/bed.yaml")
        for pod in bed.topology.pods {
            text = text.replacing(
                "podIP: \(pod.v4)\n  podIPs: [{ip: \(pod.v4)}, ",
                with: "podIP: \"\(pod.v6)\"\n  podIPs: [")
        }
        for service in SmallMesh.services {
            text = text.replacing(
                """
                clusterIP: \(service.v4)
                  clusterIPs: [\(service.v4), "\(service.v6)"]
                  ipFamilies: [IPv4, IPv6]
                """,
                with: """
                    clusterIP: "\(service.v6)"
                      clusterIPs: ["\(service.v6)"]
                      ipFamilies: [IPv6]
                    """)
        }
        for node in bed.topology.nodes {
            text = text.replacing("    - {type: InternalIP, address: \(node.v4)}\n", with: "")
        }
        let objects = text.components(separatedBy: "\n---\n")
            .filter { !$0.contains("addressType: IPv4") }
        let left = objects.joined(separator: "\n---\n")
        #expect(!left.contains("10.7") && !left.contains("10.9"), "\(left)")
        return left
    }
}
