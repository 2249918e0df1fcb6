internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("Snapshot to rows of the kernel's maps")
struct MapRowsTests {
    @Test func `an address is served by endpoints of its own family only`() throws {
        let rows = MapRows(snapshot([service("a", 1, both: 3)]), interfaces: [:], after: MapRows())

        let v4 = try #require(rows.services[end("10.96.0.1", 80)])
        let v6 = try #require(rows.services[end("fd96::1", 80)])
        #expect(v4.id != v6.id)
        #expect(v4.endpoints == 3 && v6.endpoints == 3)
        #expect(rows.endpoints.count == 6)
        for slot in 0..<v4.endpoints {
            let row = rows.endpoints[malla_endpoint_key(service: v4.id, slot: slot)]
            #expect(row?.address.words_be.2 == UInt32(0xffff).bigEndian, "an IPv4 endpoint")
        }
    }

    @Test func `a service keeps its number when others come and go before it`() throws {
        let first = MapRows(
            snapshot([service("a", 1, both: 1), service("b", 2, both: 1)]), interfaces: [:],
            after: MapRows())
        let second = MapRows(
            snapshot([service("c", 3, both: 1), service("b", 2, both: 1)]), interfaces: [:],
            after: first)

        let key = end("10.96.0.2", 80)
        #expect(first.services[key]?.id == second.services[key]?.id)
        let old = Set(first.services.values.map(\.id))
        let fresh = try #require(second.services[end("10.96.0.3", 80)]?.id)
        #expect(!old.contains(fresh), "no number changes its meaning within one change")
    }

    @Test func `two services on one address and port: the first has it, the second is named`() {
        let rows = MapRows(
            snapshot([service("a", 1, both: 1), service("b", 1, both: 2)]), interfaces: [:],
            after: MapRows())

        #expect(rows.services[end("10.96.0.1", 80)]?.endpoints == 1)
        #expect(rows.problems.map(\.subject) == ["service t/b", "service t/b"])
    }

    @Test func `only local pods with an interface that exists have a row`() {
        let workloads = [
            workload("here", "n1", "10.1.0.1", "v1"), workload("lost", "n1", "10.1.0.2", "v2"),
            workload("there", "n2", "10.1.0.3", "v1"), workload("plain", "n1", "10.1.0.4", nil),
        ]
        let rows = MapRows(
            snapshot([], workloads), interfaces: ["v1": 7], after: MapRows())

        #expect(rows.pods.count == 1)
        #expect(rows.pods.values.first?.interface == 7)
        #expect(rows.pods.values.first?.flags == UInt32(MALLA_POD_MESHED))
    }

    @Test func `a change holds what differs and nothing else`() {
        let change = MapChange(from: ["same": 1, "new value": 1, "gone": 1], to: [
            "same": 1, "new value": 2, "new": 3,
        ])

        #expect(change.writes.map(\.key).sorted() == ["new", "new value"])
        #expect(change.removals == ["gone"])
        #expect(MapChange(from: ["a": 1], to: ["a": 1]).isEmpty)
    }

    @Test func `the most specific route leads to another node`() {
        let all = Route(
            interface: "eth0", destination: .anyV4, prefixBits: 96, isDefault: true)
        let near = Route(
            interface: "eth1", destination: IPAddress("10.2.0.0")!, prefixBits: 96 + 16,
            isDefault: false)

        #expect(all.leads(to: IPAddress("10.2.0.1")!))
        #expect(near.leads(to: IPAddress("10.2.255.1")!))
        #expect(!near.leads(to: IPAddress("10.3.0.1")!))
        #expect(!all.leads(to: IPAddress("fd00::1")!))
    }

    private func end(_ text: String, _ port: UInt16) -> malla_end {
        malla_end(SocketAddress(IPAddress(text)!, port), .tcp)
    }

    private func service(_ name: String, _ number: Int, both count: Int) -> Service {
        let ends = (1...count).flatMap { index in
            ["10.1.0.\(index)", "fd10::\(index)"].map {
                Endpoint(address: SocketAddress(IPAddress($0)!, 8080))
            }
        }
        return Service(
            name: ObjectName("t", name),
            addresses: [IPAddress("10.96.0.\(number)")!, IPAddress("fd96::\(number)")!],
            ports: [ServicePort(name: "p", port: 80, endpoints: ends)])
    }

    private func workload(
        _ name: String, _ node: String, _ address: String, _ interface: String?
    ) -> Workload {
        Workload(
            name: ObjectName("t", name), serviceAccount: "", node: node, labels: [:],
            addresses: [IPAddress(address)!], interface: interface, isMeshed: true,
            workloadName: name)
    }

    private func snapshot(_ services: [Service], _ workloads: [Workload] = []) -> Snapshot {
        SnapshotCompiler.compile(
            Mesh(workloads: workloads, services: services), node: "n1", version: 1)
    }
}
