internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("Services to rows of the kernel's maps")
struct ServicePlanTests {
    @Test func `an address is served by endpoints of its own family only`() {
        let input = Self.input(Self.service())

        let v4 = input.plan(isIPv4: true)
        let v6 = input.plan(isIPv4: false)
        #expect(v4.rows.map(\.key.socket.description) == ["10.96.0.1:80"])
        #expect(v6.rows.map(\.key.socket.description) == ["[fd96::1]:80"])
        #expect(v4.cluster.count == 2 && v4.cluster.allSatisfy { $0.address.address.isIPv4 })
        #expect(v6.cluster.count == 2 && v6.cluster.allSatisfy { !$0.address.address.isIPv4 })
    }

    /// The rule, how the service departs from a plain one, then for each row of IPv4: address and
    /// port, who may be chosen from inside, from outside, flags.
    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let traffic: ServiceTraffic
        let rows: [String]
    }

    static let external = [
        Row(
            testDescription: "by default all endpoints serve everywhere",
            traffic: ServiceTraffic(),
            rows: [
                "10.96.0.1:80 cluster none 0", "192.0.2.1:80 cluster cluster 0",
                "192.0.2.2:80 cluster cluster 0", "0.0.0.0:30080 cluster cluster 0",
            ]),
        Row(
            testDescription: "externalTrafficPolicy Local is for those outside only",
            traffic: ServiceTraffic(externalPolicy: .local),
            rows: [
                "10.96.0.1:80 cluster none 0", "192.0.2.1:80 cluster local 0",
                "192.0.2.2:80 cluster local 0", "0.0.0.0:30080 cluster local 4",
            ]),
        Row(
            testDescription: "internalTrafficPolicy Local is for ClusterIPs only",
            traffic: ServiceTraffic(internalPolicy: .local),
            rows: [
                "10.96.0.1:80 local none 0", "192.0.2.1:80 cluster cluster 0",
                "192.0.2.2:80 cluster cluster 0", "0.0.0.0:30080 cluster cluster 0",
            ]),
        Row(
            testDescription: "source ranges are for the load balancer's addresses only",
            traffic: ServiceTraffic(sourceRanges: [AddressRange("10.0.0.0/8")!]),
            rows: [
                "10.96.0.1:80 cluster none 0", "192.0.2.1:80 cluster cluster 0",
                "192.0.2.2:80 cluster cluster 2", "0.0.0.0:30080 cluster cluster 0",
            ]),
    ]

    @Test(arguments: external)
    func `every address of a service leads to the group that its policy names`(_ row: Row) {
        var service = Self.service()
        service.type = "LoadBalancer"
        service.externalAddresses = [IPAddress("192.0.2.1")!]
        service.loadBalancerAddresses = [IPAddress("192.0.2.2")!]
        service.ports[0].nodePort = 30080
        service.traffic = row.traffic

        let plan = Self.input(service).plan(isIPv4: true)

        #expect(
            plan.rows.map { "\($0.key.socket) \($0.inside) \($0.outside) \($0.flags)" } == row.rows)
        #expect(plan.local.map(\.address.description) == ["10.1.0.1:8080"])
    }

    @Test func `a host port leads to its own pod, at this node's addresses`() {
        let port = HostPort(port: 8443, target: 443)
        let input = HostPortInput(port: port, addresses: [IPAddress("10.1.0.9")!])

        let plan = input.plan(isIPv4: true)
        #expect(plan.rows.map(\.key.socket.description) == ["0.0.0.0:8443"])
        #expect(plan.rows[0].flags == UInt32(MALLA_SERVICE_THIS_NODE))
        #expect(plan.cluster.map(\.address.description) == ["10.1.0.9:443"])
        #expect(input.plan(isIPv4: false).rows.isEmpty)
    }

    @Test func `a host port at a loopback address is for the node alone`() {
        for address in ["127.0.0.1", "::1"] {
            let at = IPAddress(address)!
            let port = HostPort(address: at, port: 8443, target: 443)
            let input = HostPortInput(
                port: port, addresses: [IPAddress("10.1.0.9")!, IPAddress("fd10::9")!])
            let row = input.plan(isIPv4: at.isIPv4).rows.first
            #expect(row?.key.socket == SocketAddress(at, 8443))
            #expect(row?.inside == .cluster && row?.outside == ServicePlan.Group.none)
            #expect(input.plan(isIPv4: !at.isIPv4).rows.isEmpty)
        }
    }

    @Test func `a host port of another node is for those who dial it from here`() {
        let node = IPAddress("10.0.0.2")!
        let input = HostPortInput(
            port: HostPort(address: node, port: 8443, transport: .udp, target: 443),
            addresses: [IPAddress("10.1.0.9")!, IPAddress("fd10::9")!], isFar: true)
        let plan = input.plan(isIPv4: true)
        #expect(plan.rows.map(\.key.socket.description) == ["10.0.0.2:8443"])
        #expect(plan.rows.map(\.inside) == [.cluster] && plan.rows.map(\.outside) == [.none])
        #expect(plan.cluster.map(\.address.description) == ["10.1.0.9:443"])
        #expect(input.plan(isIPv4: false).rows.isEmpty)
    }

    @Test func `an endpoint keeps its slot while it stays, and no slot is empty`() {
        let ends = (1...5).map { Self.end("10.1.0.\($0)") }
        let before = GroupRows(id: 1).with(ends)
        #expect(before.slots == ends)

        let fewer = before.with([ends[0], ends[2], ends[4]])
        #expect(fewer.slots == [ends[0], ends[4], ends[2]])
        let swapped = before.with([ends[0], ends[1], ends[2], ends[3], Self.end("10.1.0.9")])
        #expect(swapped.slots == [ends[0], ends[1], ends[2], ends[3], Self.end("10.1.0.9")])
        #expect(before.with([]).slots.isEmpty)
    }

    @Test func `a table is stored in pieces, a byte a position up to 256 endpoints`() {
        func group(_ count: Int) -> GroupRows {
            GroupRows(id: 1).with((0..<count).map { Self.end("10.\($0 >> 8).\($0 & 255).1") })
        }
        #expect(group(1).positions == 0 && group(1).pieces().isEmpty)
        #expect(group(2).positions == 251 && group(2).pieces().count == 1)
        #expect(group(10).positions == 1021 && group(10).pieces().count == 4)
        #expect(group(256).positions == 16381 && group(256).pieces().count == 64)
        #expect(group(257).pieces().count == 128)
    }

    static func end(_ address: String) -> PlannedEnd {
        PlannedEnd(address: SocketAddress(IPAddress(address)!, 8080), weight: 1)
    }

    static func input(_ service: Service) -> ServiceInput {
        ServiceInput(service: service, portIndex: 0, isCaptured: false, node: "n1", zone: "")
    }

    /// Two endpoints of each family, one on this node.
    static func service() -> Service {
        let ends = [("10.1.0.1", "n1"), ("10.1.0.2", "n2"), ("fd10::1", "n1"), ("fd10::2", "n2")]
        return Service(
            name: ObjectName("t", "s"),
            addresses: [IPAddress("10.96.0.1")!, IPAddress("fd96::1")!],
            ports: [
                ServicePort(
                    name: "p", port: 80,
                    endpoints: ends.map {
                        Endpoint(address: SocketAddress(IPAddress($0.0)!, 8080), node: $0.1)
                    })
            ])
    }
}
