import Foundation
import TestSupport
import Testing

@Suite("On any host: what else is set up there (docs/operations.md)", .serialized)
struct HostTests {
    private static let kernelSealed = TestService("kernel-sealed", 10, "tcp", to: ["sealed"])
    private static let engineSealed = TestService("engine-sealed", 11, "http", to: ["sealed"])
    private static let services = [
        SmallMesh.kernelNear, SmallMesh.kernelFar, SmallMesh.engineNear, SmallMesh.engineFar,
    ]
    private static let sealed = [kernelSealed, engineSealed]

    /// Nodes that have identities. Tunnels lead to `sealed` and none to `far`, which is dialled in
    /// plain text; `inner` needs the engine for what others dial. Captured services lead to the
    /// node itself (there-50) and outside (there-52).
    private static func running(
        _ configure: (Testbed) throws -> Void = { _ in }
    ) throws -> SmallMesh.Running {
        let bed = try Testbed("n1: client, near, inner; n2: far, sealed")
        do {
            let near = try bed["near"].serve()
            let far = try bed["far"].serve()
            _ = try bed["inner"].serve()
            _ = try bed["sealed"].serve(
                locations: "location /who { return 200 \"$http_x_forwarded_client_cert\"; }")
            try bed.describe(services + sealed)
            try bed.annotate("inner", "malla.io/inbound: l7")
            try bed.configure(
                "plain.yaml",
                """
                apiVersion: security.istio.io/v1
                kind: PeerAuthentication
                metadata: {name: plain, namespace: \(Testbed.space)}
                spec: {selector: {matchLabels: {app: far}}, mtls: {mode: DISABLE}}

                """)
            try bed[node: "n1"].start("there", DialTests.python)
            _ = try bed.startOutside("there", DialTests.python)
            for (index, v4, v6) in [
                (50, bed[node: "n1"].v4, bed[node: "n1"].v6),
                (52, Topology.outsideV4, Topology.outsideV6),
            ] {
                try bed.configure(
                    "there-\(index).yaml", DialTests.service(index, v4: v4, v6: v6))
            }
            try configure(bed)
            let agents = try ["n1", "n2"].map { name in
                let more = ["--ca", "\(bed.directory)/ca"]
                return try bed[node: name].start(
                    "agent", bed[node: name].agentArguments(more: more))
            }
            for (name, agent) in zip(["n1", "n2"], agents) {
                try bed[node: name].waitUntilReady(agent)
            }
            return SmallMesh.Running(
                quiet: SmallMesh.Quiet(bed: bed, near: near, far: far), agents: agents)
        } catch {
            bed.close()
            throw error
        }
    }

    /// What does not work of all this, both families; empty if all is well.
    ///
    /// - Parameter hasOutside: whether there is a way to the outside at all.
    private static func faults(
        _ mesh: SmallMesh.Running, hasOutside: Bool = true
    ) throws -> [String] {
        try serviceFaults(mesh) + tunnelFaults(mesh) + inboundFaults(mesh, hasOutside)
            + dialFaults(mesh, hasOutside) + nodeFaults(mesh)
    }

    /// Direct calls of services, and captured ones, to a pod of this node and of another.
    private static func serviceFaults(_ mesh: SmallMesh.Running) throws -> [String] {
        var faults: [String] = []
        let before = try mesh.node.metric("malla_requests_total")
        for service in services {
            for (url, own) in zip(service.urls, [mesh.client.v4, mesh.client.v6]) {
                let answer = try mesh.client.curl(url + "/", seconds: 4)
                if answer.status != 200 || answer.headers["x-pod"] != service.pods[0] {
                    faults.append("\(service.name) \(url): \(answer.status) \(answer.problem)")
                } else if service.portName == "http", answer.headers["x-client"] != own {
                    faults.append("\(service.name) \(url): the server saw \(answer.headers)")
                }
            }
        }
        let captured = try mesh.node.metric("malla_requests_total") - before
        if captured != 4, faults.isEmpty { faults.append("\(captured) requests were captured") }
        return faults
    }

    /// Calls that a tunnel carries to the other node, which says who it is that calls.
    private static func tunnelFaults(_ mesh: SmallMesh.Running) throws -> [String] {
        var faults: [String] = []
        let who = "By=\(MutualTLSTests.id)sealed;URI=\(MutualTLSTests.id)client"
        for service in sealed {
            for (url, own) in zip(service.urls, [mesh.client.v4, mesh.client.v6]) {
                let answer = try mesh.client.curl(url + "/who", seconds: 4)
                if answer.status != 200 || answer.headers["x-client"] != own
                    || (service.portName == "http" && answer.body != who)
                {
                    faults.append("tunnel to \(url): \(answer)")
                }
            }
        }
        return faults
    }

    /// Whoever dials `inner` meets the engine of its node, which dials it as who that is.
    private static func inboundFaults(
        _ mesh: SmallMesh.Running, _ hasOutside: Bool
    ) throws -> [String] {
        var faults: [String] = []
        let inner = mesh.bed["inner"]
        let clients = InboundTests.clients(mesh).filter { hasOutside || $0.name != "outside" }
        let (requests, streams) = (
            "malla_requests_total", "malla_tunnel_streams_total{side=\"downstream\"}"
        )
        let before = try (mesh.node.metric(requests), mesh.node.metric(streams))
        for client in clients {
            for (url, own) in [
                ("http://\(inner.v4):8080/", client.v4), ("http://[\(inner.v6)]:8080/", client.v6),
            ] {
                let answer = try client.get(url)
                if answer.status != 200 || answer.headers["x-client"] != own {
                    faults.append("\(client.name) to inner, \(url): \(answer)")
                }
            }
        }
        // Those of the other node's pod come by a tunnel.
        let met = try mesh.node.metric(requests) - before.0
        let carried = try mesh.node.metric(streams) - before.1
        if met != Double(2 * clients.count - 2) || carried < 1, faults.isEmpty {
            faults.append("\(met) requests to inner met the engine, \(carried) tunnels came")
        }
        return faults
    }

    /// The engine dials the node itself, and the world: as well as the pod does, and as the same.
    private static func dialFaults(
        _ mesh: SmallMesh.Running, _ hasOutside: Bool
    ) throws -> [String] {
        var ways = [("10.96.0.50", mesh.node.v4), ("[fd00:96::50]", "[\(mesh.node.v6)]")]
        if hasOutside {
            ways += [
                ("10.96.0.52", Topology.outsideV4), ("[fd00:96::52]", "[\(Topology.outsideV6)]"),
            ]
        }
        var faults: [String] = []
        for (service, place) in ways {
            let own = try mesh.client.curl("http://\(place):8085/", seconds: 2)
            let answer = try mesh.client.curl("http://\(service)/", seconds: 4)
            let isSame =
                own.status == 200
                ? answer.status == 200 && answer.headers["x-client"] == own.headers["x-client"]
                : answer.status != 200
            if !isSame { faults.append("\(place): the pod: \(own), the engine: \(answer)") }
        }
        return faults
    }

    /// From the node's own address to captured services: as well as to the pod itself, of which
    /// the rules of the pod's node may judge.
    private static func nodeFaults(_ mesh: SmallMesh.Running) throws -> [String] {
        var faults: [String] = []
        for service in [SmallMesh.engineNear, SmallMesh.engineFar, engineSealed] {
            let pod = mesh.bed[service.pods[0]]
            for (url, place) in zip(service.urls, [pod.v4, "[\(pod.v6)]"]) {
                let own = try InboundTests.ask(mesh.node, "http://\(place):8080/", seconds: 2)
                let answer = try InboundTests.ask(mesh.node, url + "/")
                let isServed = answer.status == 200 && answer.headers["x-pod"] == pod.name
                if isServed != (own.status == 200) || (pod.name == "near" && !isServed) {
                    faults.append("the node to \(url): \(answer), to the pod: \(own)")
                }
            }
        }
        return faults
    }

    private static func run(_ script: String, on node: TestNode) throws {
        let outcome = try node.run(["sh", "-ec", script])
        #expect(outcome.status == 0, "\(outcome)\n\(script)")
    }

    @Test func `services and captured calls work beside each of them, and beside all at once`()
        throws
    {
        let mesh = try Self.running()
        defer { mesh.close() }
        let nodes = [mesh.node, mesh.bed[node: "n2"]]
        #expect(try Self.faults(mesh) == [], "before anything is set up")

        for shape in HostShape.all(Self.services + Self.sealed, mesh.bed) {
            for node in nodes { try Self.run(shape.apply, on: node) }
            let faults = try Self.faults(mesh)
            #expect(faults == [], "\(shape.name)\n\(mesh.logs)")
            for node in nodes { try Self.run(shape.undo, on: node) }
        }
        #expect(try Self.faults(mesh) == [], "after all is undone")
    }

    /// IPVS takes packets to services' addresses out of the stack at a hook of netfilter, and what
    /// it sends on is masqueraded. Whichever hook that is, and in whatever order: no packet that
    /// bears such an address gets to any, so that it has nothing to take.
    @Test
    func
        `no packet that bears a service's address meets the node's netfilter, whatever IPVS does there`()
        throws
    {
        let mesh = try Self.running()
        defer { mesh.close() }
        let shape = HostShape.boundAddresses(Self.services + Self.sealed)
        for name in ["n1", "n2"] {
            try Self.run(shape.apply + "\n" + HostShape.taken, on: mesh.bed[node: name])
        }

        #expect(try Self.faults(mesh) == [], "\(mesh.logs)")
        // Nor where the socket hooks do not see who dials, or nobody is to be captured.
        for service in Self.services {
            for url in service.urls {
                let unseen = try Command.run(
                    ["nsenter", "--net=" + mesh.bed.namespace("client")] + OpenMesh.ask + [url])
                #expect(Curl.response(unseen).status == 200, "\(url): \(unseen)")
            }
        }
        for name in ["n1", "n2"] {
            let rules = try mesh.bed[node: name].run(["nft", "list", "table", "inet", "taken"])
            let counted = rules.output.split(separator: "\n").filter { $0.contains("counter") }
            #expect(counted.count == 20, "\(rules)")
            #expect(counted.allSatisfy { $0.contains("packets 0 ") }, "\(rules.output)")
        }
    }

    @Test(
        .enabled(
            if: FileManager.default.fileExists(atPath: "/proc/net/ip_vs"),
            "this kernel has no IPVS (CONFIG_IP_VS); its addresses are tested above"))
    func `and beside kube-proxy's IPVS rules`() throws {
        let mesh = try Self.running()
        defer { mesh.close() }
        let shape = HostShape.ipvs(Self.services + Self.sealed, mesh.bed)
        for name in ["n1", "n2"] { try Self.run(shape.apply, on: mesh.bed[node: name]) }

        #expect(try Self.faults(mesh) == [], "\(mesh.logs)")
    }

    @Test
    func `where the way to the other node's pods is a vxlan, and unknown answers are dropped`()
        throws
    {
        let mesh = try Self.running { bed in
            for (own, other) in [("n1", "n2"), ("n2", "n1")] {
                try Self.run(Self.tunnel(from: own, to: other, bed), on: bed[node: own])
            }
        }
        defer { mesh.close() }
        let links = try mesh.node.malla("bpf", "programs")
        #expect(links.output.contains("flannel.1"), "\(links)")

        #expect(try Self.faults(mesh) == [], "\(mesh.logs)")
    }

    /// As flannel does: the pods' routes lead into the tunnel, the nodes' own addresses do not.
    private static func tunnel(from own: String, to other: String, _ bed: Testbed) -> String {
        let (here, there) = (bed[node: own], bed[node: other])
        let number = other.dropFirst()
        return """
            ip link add flannel.1 type vxlan id 1 dev eth0 local \(here.v4) remote \(there.v4) \
            dstport 8472
            ip addr add 10.78.0.\(own.dropFirst())/24 dev flannel.1
            ip addr add fd00:78::\(own.dropFirst())/64 dev flannel.1 nodad
            ip link set flannel.1 up
            ip route replace 10.77.\(number).0/24 via 10.78.0.\(number) dev flannel.1
            ip -6 route replace fd00:77:\(number)::/64 via fd00:78::\(number) dev flannel.1
            nft add table inet strict
            nft add chain inet strict forward '{ type filter hook forward priority 0; }'
            nft add rule inet strict forward ct state invalid counter drop
            """
    }

    @Test func `where the uplink has no link-layer header`() throws {
        let mesh = try Self.running { bed in
            let wire = try bed[node: "n1"].start(
                "wire", ["/usr/bin/python3", "-u", "-c", Self.wire, bed.namespace("n2")])
            try eventually("the wire is there: \(wire.text)") { wire.text.contains("ready") }
            for (own, other) in [("n1", "n2"), ("n2", "n1")] {
                try Self.run(Self.point(from: own, to: other, bed), on: bed[node: own])
            }
        }
        defer { mesh.close() }
        let links = try mesh.node.malla("bpf", "programs")
        #expect(links.output.contains("malla_uplink3"), "\(links)")

        #expect(try Self.faults(mesh, hasOutside: false) == [], "\(mesh.logs)")
    }

    /// The nodes' addresses and the routes between them are those of a point-to-point device.
    private static func point(from own: String, to other: String, _ bed: Testbed) -> String {
        let (here, there) = (bed[node: own], bed[node: other])
        let number = other.dropFirst()
        return """
            ip addr flush dev eth0
            ip link set eth0 down
            ip addr add \(here.v4)/32 dev wire0
            ip addr add \(here.v6)/128 dev wire0 nodad
            ip link set wire0 up
            ip route add \(there.v4)/32 dev wire0
            ip -6 route add \(there.v6)/128 dev wire0
            ip route replace 10.77.\(number).0/24 via \(there.v4) dev wire0 onlink
            ip -6 route replace fd00:77:\(number)::/64 dev wire0
            """
    }

    /// Two TUN devices, one in this namespace and one in that of `sys.argv[1]`, and what carries
    /// packets from one to the other.
    private static let wire = """
        import ctypes, fcntl, os, select, struct, sys
        def tun():
            device = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(device, 0x400454ca, struct.pack("16sH22x", b"wire0", 0x1001))
            return device
        first = tun()
        libc = ctypes.CDLL(None, use_errno=True)
        there = os.open(sys.argv[1], os.O_RDONLY)
        if libc.setns(there, 0x40000000): raise OSError(ctypes.get_errno())
        second = tun()
        print("ready")
        poll = select.poll()
        for device in (first, second): poll.register(device, select.POLLIN)
        while True:
            for device, event in poll.poll():
                try: os.write(second if device == first else first, os.read(device, 65536))
                except OSError: pass  # It is down: the packet is lost.
        """
}
