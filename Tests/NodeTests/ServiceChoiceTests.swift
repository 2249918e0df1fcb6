import Foundation
import TestSupport
import Testing

@Suite("Which endpoints serve (docs/configuration.md)", .serialized)
struct ServiceChoiceTests {
    /// Of the client's calls to each of the service's addresses, one connection each.
    private static func expect(
        _ pods: Set<String>, _ mesh: OpenMesh.Running, _ why: String
    ) throws {
        for address in OpenMesh.addresses {
            var last: Set<String> = []
            do {
                try eventually(why) {
                    last = Set(try mesh.bed["client"].run(OpenMesh.visits(address, 12)).words)
                    return last == pods
                }
            } catch {
                Issue.record("\(why), \(address): \(last) answer, not \(pods)\n\(mesh.logs)")
            }
        }
    }

    /// Changes one object of the bed: that of kind `kind` and this name.
    private static func edit(
        _ bed: Testbed, _ kind: String, _ name: String, _ change: (String) -> String
    ) throws {
        let objects = Command.text(bed.configuration + "/bed.yaml")
            .components(separatedBy: "\n---\n")
        let changed = objects.map { text in
            text.contains("kind: \(kind)\n")
                && (text.contains("  name: \(name)\n") || text.contains("{name: \(name)"))
                ? change(text) : text
        }
        #expect(changed != objects, "\(kind) \(name) was to change")
        try bed.configure("bed.yaml", changed.joined(separator: "\n---\n"))
    }

    private static func zone(_ bed: Testbed, _ node: String, _ zone: String) throws {
        try edit(bed, "Node", node) { text in
            let line = text.split(separator: "\n").first { $0.hasPrefix("metadata:") } ?? ""
            return text.replacing(
                line,
                with: "metadata: {name: \(node), labels: {topology.kubernetes.io/zone: \(zone)}}")
        }
    }

    private static func ready(_ bed: Testbed, _ pod: String, _ isReady: Bool) throws {
        let (old, new) = isReady ? ("False", "True") : ("True", "False")
        try edit(bed, "Pod", pod) {
            $0.replacing(
                "{type: Ready, status: \"\(old)\"}", with: "{type: Ready, status: \"\(new)\"}")
        }
    }

    private static func both(_ more: String) -> String {
        OpenMesh.service("web", pods: ["near", "far"], more: more)
    }

    @Test func `the same zone or node is preferred, where it has one; hints are followed`() throws {
        let mesh = try OpenMesh.running(Self.both("trafficDistribution: PreferSameZone")) { bed in
            try Self.zone(bed, "n1", "a")
            try Self.zone(bed, "n2", "b")
        }
        defer { mesh.close() }
        let bed = mesh.bed
        try Self.expect(["near"], mesh, "PreferSameZone, another zone is there")
        try Self.zone(bed, "n2", "a")
        try Self.expect(["near", "far"], mesh, "PreferSameZone, all in one zone")
        try bed.configure("service.yaml", Self.both("trafficDistribution: PreferSameNode"))
        try Self.expect(["near"], mesh, "PreferSameNode")
        try Self.ready(bed, "near", false)
        try Self.expect(["far"], mesh, "PreferSameNode, none is ready here")
        try Self.ready(bed, "near", true)
        try Self.expect(["near"], mesh, "PreferSameNode, it is ready again")

        let bare = OpenMesh.service("web", pods: []).replacing(
            "  selector: {app: none}\n", with: "")
        func hinted(_ near: String, _ far: String) -> String {
            bare
                + ["IPv4", "IPv6"].map { family in
                    let ends = [("near", near), ("far", far)].map { name, zone in
                        """
                        - addresses: ["\(family == "IPv4" ? bed[name].v4 : bed[name].v6)"]
                          nodeName: \(bed[name].node)
                          conditions: {ready: true}
                          targetRef: {kind: Pod, name: \(name), namespace: \(Testbed.space)}
                          hints: {forZones: [{name: \(zone)}]}
                        """
                    }
                    return """
                        ---
                        apiVersion: discovery.k8s.io/v1
                        kind: EndpointSlice
                        metadata:
                          name: web-\(family.lowercased())
                          namespace: \(Testbed.space)
                          labels: {kubernetes.io/service-name: web}
                        addressType: \(family)
                        endpoints:
                        \(ends.joined(separator: "\n"))
                        ports: [{name: tcp, port: 8080, protocol: TCP}]

                        """
                }.joined()
        }
        try bed.configure("service.yaml", hinted("b", "a"))
        try Self.expect(["far"], mesh, "a hint for this node's zone")
        try bed.configure("service.yaml", hinted("b", "b"))
        try Self.expect(["near", "far"], mesh, "no hint for this node's zone: all")
    }

    /// Of forty calls, how many near has answered; far all others.
    private static func near(_ outcome: Outcome) throws -> Int {
        let pods = outcome.words
        try #require(pods.count == 40 && Set(pods).isSubset(of: ["near", "far"]), "\(outcome)")
        return pods.count { $0 == "near" }
    }

    private static func weigh(_ bed: Testbed, _ pod: String, _ weight: Int) throws {
        try edit(bed, "Pod", pod) { text in
            let own = "malla.io/interface: lxc-\(pod)"
            let end = text.range(of: own).map { text[$0.upperBound...].prefix { $0 != "}" } } ?? ""
            return text.replacing(own + end, with: own + ", malla.io/weight: \"\(weight)\"")
        }
    }

    /// whether the engine has the service
    @Test(arguments: [false, true])
    func `a pod's weight is its share of new connections, on every way to it; of 0 it has none`(
        _ isCaptured: Bool
    ) throws {
        let mesh = try OpenMesh.running(Self.both("")) { bed in
            try Self.weigh(bed, "near", 19)
            if isCaptured {
                try bed.route("web", of: "web", rules: "- backendRefs: [{name: web, port: 80}]")
            }
        }
        defer { mesh.close() }
        var ways: [(String, [String])] = []
        for host in OpenMesh.addresses {
            let words = OpenMesh.visits(host, 40)
            ways.append(("at the socket", mesh.bed["client"].chain(words)))
            // In the pod's network namespace, but in no cgroup of the mesh.
            let namespace = mesh.bed.namespace("client")
            ways.append(("at the interface", ["nsenter", "--net=" + namespace] + words))
        }
        for host in ["10.76.0.1", "fd00:76::1"] {
            let namespace = mesh.bed.namespace(Topology.fabric)
            ways.append(
                (
                    "from outside",
                    ["nsenter", "--net=" + namespace] + OpenMesh.visits(host, port: 30080, 40)
                ))
        }
        var all = 0
        for (way, words) in ways {
            let near = try Self.near(Command.run(words))
            // 38 are its share; without weights it were 20.
            #expect(near >= 28, "\(way): \(near) of 40\n\(mesh.counters)")
            all += near
        }
        #expect(all < 40 * ways.count, "far has its share")
        let rows = try mesh.node.malla("bpf", "services").output
        for word in ["(19)", "(1)", "weighted"] { #expect(rows.contains(word), "\(rows)") }

        // Of what the engine has, each call goes anew.
        let client = try mesh.bed["client"].start(
            "tcp", ServiceTrafficTests.patientConnection + ["10.96.0.1"])
        try eventually("it is connected: \(client.text)") { client.text.contains("x-pod: ") }
        let held = client.text.contains("x-pod: near") ? "near" : "far"
        let other = held == "near" ? "far" : "near"
        try Self.weigh(mesh.bed, held, 0)
        try Self.expect([other], mesh, "weight 0")
        for (way, words) in ways {
            let near = try Self.near(Command.run(words))
            #expect(near == (other == "near" ? 40 : 0), "\(way)\n\(mesh.counters)")
        }
        func answers() -> Int { client.text.components(separatedBy: "x-pod: ").count }
        let before = answers()
        try eventually("what is open goes on: \(client.text.suffix(300))") {
            answers() > before + 2
        }
        if !isCaptured { #expect(!client.text.contains("x-pod: \(other)")) }
        let uses = try mesh.node.malla("services", "--endpoints").output
        #expect(uses.contains("weight 0"), "\(uses)")
        try Self.weigh(mesh.bed, other, 0)
        try Self.expect([isCaptured ? "503" : "refused"], mesh, "nobody takes any")
    }

    @Test func `who is not ready is not served, unless the service publishes it`() throws {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"]))
        defer { mesh.close() }
        try Self.ready(mesh.bed, "near", false)
        try Self.expect(["refused"], mesh, "it is not ready")
        try mesh.bed.configure(
            "service.yaml",
            OpenMesh.service("web", pods: ["near"], more: "publishNotReadyAddresses: true"))
        try Self.expect(["near"], mesh, "the service publishes it")
    }

    @Test
    func
        `who is being deleted keeps connections, gets no new ones, and serves if nobody else does`()
        throws
    {
        let mesh = try OpenMesh.running(OpenMesh.service("web", pods: ["near"]))
        defer { mesh.close() }
        let clients = try OpenMesh.addresses.map {
            try mesh.bed["client"].start("tcp-\($0)", ServiceTrafficTests.patientConnection + [$0])
        }
        func answers() -> [Int] {
            clients.map { $0.text.components(separatedBy: "x-pod: near").count }
        }
        try eventually("both are connected: \(clients.map(\.text))") {
            answers().allSatisfy { $0 > 1 }
        }
        try mesh.bed.configure("service.yaml", Self.both(""))
        try Self.expect(["near", "far"], mesh, "both are ready")

        try Self.edit(mesh.bed, "Pod", "near") {
            $0.replacing(
                "  name: near\n",
                with: "  name: near\n  deletionTimestamp: \"2026-01-01T00:00:00Z\"\n")
        }
        try Self.expect(["far"], mesh, "new connections go elsewhere")
        let before = answers()
        try eventually("the connections live: \(clients.map { $0.text.suffix(300) })") {
            zip(answers(), before).allSatisfy { $0 > $1 + 2 }
        }
        try Self.ready(mesh.bed, "far", false)
        try Self.expect(["near"], mesh, "nobody else is left")
        for client in clients {
            #expect(client.exitStatus == nil, "\(client.text.suffix(300))")
        }
    }

    @Test func `UDP to a service without endpoints is refused, at the socket and at the interface`()
        throws
    {
        let mesh = try OpenMesh.running(
            OpenMesh.service("dns", pods: [], port: 53, target: 5353, transport: "UDP"))
        defer { mesh.close() }
        for address in ["10.96.0.1", "fd00:96::1"] {
            let ask = ServiceTrafficTests.askDatagram + [address, "53"]
            let seen = try mesh.bed["client"].run(ask)
            #expect(seen.output == "refused\n", "\(address): \(seen)")
            let unseen = try Command.run(
                ["nsenter", "--net=" + mesh.bed.namespace("client")] + ask)
            #expect(unseen.output == "refused\n", "\(address): \(unseen)\n\(mesh.counters)")
        }
    }

    @Test func `a captured service is captured at all of its addresses, node ports too`() throws {
        let mesh = try OpenMesh.running(Self.both("")) { bed in
            try bed.route("web", of: "web", rules: "- backendRefs: [{name: web, port: 80}]")
        }
        defer { mesh.close() }
        func requests() throws -> Double { try mesh.node.metric("malla_requests_total") }
        for url in OpenMesh.urls {
            let before = try requests()
            let answer = try mesh.bed["client"].curl(url)
            #expect(answer.status == 200, "\(url): \(answer.problem)\n\(mesh.counters)")
            #expect(try requests() == before + 1, "\(url) passed the engine")
            let own = url.contains("[") ? mesh.bed["client"].v6 : mesh.bed["client"].v4
            #expect(answer.headers["x-client"] == own, "\(url): \(answer.headers)")
        }
        // Neither the node nor somebody outside is in the mesh.
        for url in OpenMesh.outerUrls {
            let node = Curl.response(try mesh.node.run(OpenMesh.ask + [url]))
            #expect(node.status == 200, "\(url): \(node.problem)")
            let outside = Curl.response(try mesh.bed.outside(OpenMesh.ask + [url]))
            #expect(outside.status == 200, "\(url): \(outside.problem)\n\(mesh.counters)")
        }
    }

    @Test func `a socket in a pod is reset by an agent that does not see the pod's processes`()
        throws
    {
        let mesh = try OpenMesh.running(
            OpenMesh.service("dns", pods: ["near"], port: 53, target: 5353, transport: "UDP"),
            wrapper: ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        ) { bed in
            for pod in ["near", "far"] {
                try bed[pod].start("udp", ServiceTrafficTests.datagramServer)
            }
        }
        defer { mesh.close() }
        let clients = try mesh.startDatagrams()
        try eventually("near answers: \(clients.map(\.text))") {
            clients.allSatisfy { $0.text.contains("from near") }
        }

        try mesh.bed.configure(
            "service.yaml",
            OpenMesh.service("dns", pods: ["far"], port: 53, target: 5353, transport: "UDP"))
        try eventually("far answers: \(mesh.logs)", within: 20) {
            clients.allSatisfy { $0.text.contains("from far") }
        }
        #expect(try mesh.node.metric("malla_sockets_reset_total{result=\"reset\"}") == 3)
        #expect(try mesh.node.metric("malla_sockets_reset_total{result=\"failed\"}") == 0)
    }
}
