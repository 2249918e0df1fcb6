import Foundation
import TestSupport
import Testing

@Suite("On any host: what else is set up there (docs/operations.md)", .serialized)
struct HostTests {
    private static let services = [
        SmallMesh.kernelNear, SmallMesh.kernelFar, SmallMesh.engineNear, SmallMesh.engineFar,
    ]

    /// A direct call of a service, and a captured one, to a pod of this node and of another, both
    /// families; empty if all is well.
    private static func faults(_ mesh: SmallMesh.Running) throws -> [String] {
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

    private static func run(_ script: String, on node: TestNode) throws {
        let outcome = try node.run(["sh", "-ec", script])
        #expect(outcome.status == 0, "\(outcome)\n\(script)")
    }

    @Test func `services and captured calls work beside each of them, and beside all at once`()
        throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let nodes = [mesh.node, mesh.bed[node: "n2"]]
        #expect(try Self.faults(mesh) == [], "before anything is set up")

        for shape in HostShape.all(Self.services, mesh.bed) {
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
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let shape = HostShape.boundAddresses(Self.services)
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
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let shape = HostShape.ipvs(Self.services, mesh.bed)
        for name in ["n1", "n2"] { try Self.run(shape.apply, on: mesh.bed[node: name]) }

        #expect(try Self.faults(mesh) == [], "\(mesh.logs)")
    }

    @Test
    func `where the way to the other node's pods is a vxlan, and unknown answers are dropped`()
        throws
    {
        let mesh = try SmallMesh.running { bed in
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
        let mesh = try SmallMesh.running { bed in
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

        #expect(try Self.faults(mesh) == [], "\(mesh.logs)")
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
