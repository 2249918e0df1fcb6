internal import CMallaABI
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("Snapshot to rows of the kernel's maps")
struct MapRowsTests {
    @Test func `only local pods with an interface that exists have a row`() {
        let workloads = [
            workload("here", "n1", "10.1.0.1", "v1"), workload("lost", "n1", "10.1.0.2", "v2"),
            workload("there", "n2", "10.1.0.3", "v1"), workload("plain", "n1", "10.1.0.4", nil),
        ]
        let rows = MapRows(
            snapshot(workloads), interfaces: ["v1": 7], after: MapRows())

        #expect(rows.pods.count == 1)
        #expect(rows.pods.values.first?.interface == 7)
        #expect(rows.pods.values.first?.flags == UInt32(MALLA_POD_MESHED))
    }

    @Test func `what a pod excludes is rows under its number, and a flag of its own`() throws {
        var pod = workload("a", "n1", "10.1.0.1", "v1")
        pod.exclusions = Exclusions(
            ports: [3306], blocks: [try #require(IPPrefix("10.0.0.0/8")), .allIPv6])
        let rows = MapRows(
            snapshot([pod, workload("b", "n1", "10.1.0.2", "v2")]),
            interfaces: ["v1": 7, "v2": 8], after: MapRows())

        let row = try #require(rows.pods.values.first { $0.interface == 7 })
        #expect(row.flags == UInt32(MALLA_POD_MESHED | MALLA_POD_EXCLUDES))
        let other = try #require(rows.pods.values.first { $0.interface == 8 })
        #expect(other.flags == UInt32(MALLA_POD_MESHED))
        #expect(rows.exclusions.keys.allSatisfy { $0.endpoint == row.endpoint })
        let lengths = rows.exclusions.map { "\($0.key.prefix_bits) \($0.value)" }.sorted()
        #expect(lengths == ["168 0", "64 0", "64 6"])
    }

    @Test func `what it excludes of what others dial counts where that needs the engine`() throws {
        var pod = workload("a", "n1", "10.1.0.1", "v1")
        pod.inboundExclusions = Exclusions(
            ports: [9090], blocks: [try #require(IPPrefix("10.0.0.0/8"))])
        for isInbound in [false, true] {
            pod.engineUse.isInbound = isInbound
            let rows = MapRows(snapshot([pod]), interfaces: ["v1": 7], after: MapRows())
            let flags = try #require(rows.pods.values.first).flags
            #expect(flags & UInt32(MALLA_POD_EXCLUDES_INBOUND) == (isInbound ? 16 : 0))
            #expect(flags & UInt32(MALLA_POD_EXCLUDES) == 0)
            let lengths = rows.exclusions.keys.map { "\($0.prefix_bits) \($0.is_inbound)" }
            #expect(lengths.sorted() == (isInbound ? ["168 1", "64 1"] : []))
        }
    }

    @Test func `who insists on mutual TLS is a flag, and a row where a port differs`() throws {
        let pods = [
            workload("open", "n1", "10.1.0.1", "v1"), workload("closed", "n1", "10.1.0.2", "v2"),
        ]
        var outside = workload("outside", "n1", "10.1.0.3", "v3")
        outside.isMeshed = false
        var mesh = Mesh(workloads: pods + [outside])
        mesh.workloads[1].labels = ["app": "closed"]
        mesh.workloads[2].labels = ["app": "closed"]
        mesh.peerAuthentications = [
            PeerAuthentication(
                name: .init("t", "closed"), selector: LabelSelector(["app": "closed"]),
                mode: .strict, ports: [80: .disable, 81: .permissive, 82: .strict])
        ]
        let rows = MapRows(
            SnapshotCompiler.compile(mesh, node: "n1", version: 1),
            interfaces: ["v1": 1, "v2": 2, "v3": 3], after: MapRows())

        let flags = Dictionary(
            uniqueKeysWithValues: rows.pods.values.map { ($0.interface, Int32($0.flags)) })
        #expect(flags[1] == MALLA_POD_MESHED)
        #expect(flags[2] == MALLA_POD_MESHED | MALLA_POD_STRICT | MALLA_POD_MODES)
        #expect(flags[3] == 0)
        let number = try #require(rows.pods.values.first { $0.interface == 2 }).endpoint
        #expect(rows.modes.keys.allSatisfy { $0.endpoint == number })
        #expect(Set(rows.modes.keys.map { UInt16(bigEndian: $0.port_be) }) == [80, 81])
        #expect(rows.modes.values.allSatisfy { $0 == UInt32(MALLA_MODE_OPEN) })
    }

    @Test func `tunnels lead to pods of nodes with an agent, but for those that disable them`() {
        var mesh = Mesh(
            nodes: [
                Node(name: "n1", addresses: []), Node(name: "n2", addresses: []),
                Node(name: "n3", addresses: [], labels: ["malla.io/agent": "absent"]),
            ],
            workloads: [
                workload("here", "n1", "10.1.0.1", "v1"), workload("there", "n2", "10.2.0.1", nil),
                workload("plain", "n2", "10.2.0.2", nil), workload("bare", "n3", "10.3.0.1", nil),
            ])
        mesh.workloads[2].labels = ["app": "plain"]
        mesh.peerAuthentications = [
            PeerAuthentication(
                name: .init("t", "plain"), selector: LabelSelector(["app": "plain"]),
                mode: .disable)
        ]
        func rows(_ hasTunnels: Bool) -> MapRows {
            MapRows(
                SnapshotCompiler.compile(mesh, node: "n1", version: 1), interfaces: ["v1": 1],
                after: MapRows(), hasTunnels: hasTunnels)
        }

        // All pods elsewhere are known; to one of them tunnels lead.
        func peers(_ hasTunnels: Bool) -> [malla_address: Int32] {
            rows(hasTunnels).peers.mapValues { Int32($0) }
        }
        let elsewhere = ["10.2.0.1", "10.2.0.2", "10.3.0.1"].map { malla_address(IPAddress($0)!) }
        #expect(Set(peers(true).keys) == Set(elsewhere))
        #expect(peers(true)[elsewhere[0]] == MALLA_PEER_POD | MALLA_PEER_HBONE)
        #expect(elsewhere.dropFirst().allSatisfy { peers(true)[$0] == MALLA_PEER_POD })
        #expect(
            rows(true).pods.values.map { Int32($0.flags) } == [MALLA_POD_MESHED | MALLA_POD_TUNNELS]
        )
        #expect(peers(false).values.allSatisfy { $0 == MALLA_PEER_POD })
        #expect(rows(false).pods.values.map { Int32($0.flags) } == [MALLA_POD_MESHED])
    }

    @Test func `who insists elsewhere, and has no agent, is closed to plain text, port by port`() {
        var mesh = Mesh(
            nodes: [
                Node(name: "n1", addresses: []), Node(name: "n2", addresses: []),
                Node(name: "n3", addresses: [], labels: ["malla.io/agent": "absent"]),
            ],
            workloads: [
                workload("here", "n1", "10.1.0.1", "v1"), workload("there", "n2", "10.2.0.1", nil),
                workload("bare", "n3", "10.3.0.1", nil), workload("ports", "n3", "10.3.0.2", nil),
                workload("same", "n3", "10.3.0.3", nil), workload("open", "n3", "10.3.0.4", nil),
                workload("outside", "n3", "10.3.0.5", nil),
            ])
        mesh.workloads[6].isMeshed = false
        mesh.peerAuthentications = [
            PeerAuthentication(name: .init("t", "all"), mode: .strict)
        ]
        for (index, name) in [(3, "ports"), (4, "ports"), (5, "open")] {
            mesh.workloads[index].labels = ["app": name]
        }
        mesh.peerAuthentications += [
            PeerAuthentication(
                name: .init("t", "ports"), selector: LabelSelector(["app": "ports"]),
                ports: [80: .permissive, 81: .disable, 82: .strict]),
            PeerAuthentication(
                name: .init("t", "open"), selector: LabelSelector(["app": "open"]),
                mode: .permissive),
        ]
        for hasTunnels in [true, false] {
            let rows = MapRows(
                SnapshotCompiler.compile(mesh, node: "n1", version: 1), interfaces: ["v1": 1],
                after: MapRows(), hasTunnels: hasTunnels)
            func flags(_ text: String) -> Int32 {
                Int32(bitPattern: rows.peers[malla_address(IPAddress(text)!)] ?? 0)
            }
            // Its own node refuses for it.
            #expect(flags("10.2.0.1") & MALLA_PEER_STRICT == 0)
            #expect(flags("10.3.0.1") == MALLA_PEER_POD | MALLA_PEER_STRICT)
            let ports = flags("10.3.0.2")
            #expect(ports & 255 == MALLA_PEER_POD | MALLA_PEER_STRICT | MALLA_PEER_MODES)
            #expect(flags("10.3.0.3") == ports, "they differ in the same way")
            #expect(flags("10.3.0.4") == MALLA_PEER_POD && flags("10.3.0.5") == MALLA_PEER_POD)
            let number =
                UInt32(bitPattern: ports) >> UInt32(MALLA_PEER_SHIFT) | UInt32(MALLA_MODE_FAR)
            let open = rows.modes.filter { $0.key.endpoint == number }
            #expect(Set(open.keys.map { UInt16(bigEndian: $0.port_be) }) == [80, 81])
            #expect(open.values.allSatisfy { $0 == UInt32(MALLA_MODE_OPEN) })
        }
    }

    @Test func `a change holds what differs and nothing else`() {
        let change = MapChange(
            from: ["same": 1, "new value": 1, "gone": 1],
            to: [
                "same": 1, "new value": 2, "new": 3,
            ])

        #expect(change.writes.map(\.key).sorted() == ["new", "new value"])
        #expect(change.removals == ["gone"])
        #expect(MapChange(from: ["a": 1], to: ["a": 1]).isEmpty)
    }

    @Test func `the most specific route leads to another node`() {
        let all = Route(interface: 2, table: 254, destination: .anyV4, prefixBits: 96)
        let near = Route(
            interface: 3, table: 254, destination: IPAddress("10.2.0.0")!, prefixBits: 96 + 16)

        #expect(all.isDefault && !near.isDefault)
        #expect(all.leads(to: IPAddress("10.2.0.1")!))
        #expect(near.leads(to: IPAddress("10.2.255.1")!))
        #expect(!near.leads(to: IPAddress("10.3.0.1")!))
        #expect(!all.leads(to: IPAddress("fd00::1")!))
    }

    @Test func `uplinks are found in every table, and by every next hop`() {
        func route(_ interface: UInt32, _ table: UInt32, _ prefix: String) -> Route {
            let block = IPPrefix(prefix)!
            return Route(
                interface: interface, table: table, destination: block.address,
                prefixBits: Int(block.length))
        }
        let links = (1...9).map {
            NetworkLink(
                name: "l\($0)", index: $0, isLoopback: $0 == 1, hasLinkHeader: true,
                mac: (0, 0, 0, 0, 0, 0))
        }
        let chosen = Uplinks.choose(
            links: links,
            routes: [
                route(2, 254, "0.0.0.0/0"), route(3, 100, "::/0"),
                // Of each table the most specific, with all of its next hops.
                route(4, 254, "10.9.0.0/24"), route(5, 254, "10.9.0.0/24"),
                route(6, 254, "10.9.0.0/16"), route(7, 101, "10.8.0.0/16"),
                route(8, 102, "10.7.0.0/16"), route(9, 102, "10.7.0.0/16"),
                route(1, 102, "10.7.0.0/16"),
            ], own: [], others: [IPAddress("10.9.0.2")!],
            pods: [IPAddress("10.7.0.1")!], excluded: [9])
        #expect(chosen.map(\.index) == [2, 3, 4, 5, 8])
    }

    private func workload(
        _ name: String, _ node: String, _ address: String, _ interface: String?
    ) -> Workload {
        Workload(
            name: ObjectName("t", name), serviceAccount: "", node: node, labels: [:],
            addresses: [IPAddress(address)!], interface: interface, isMeshed: true,
            workloadName: name)
    }

    private func snapshot(_ workloads: [Workload]) -> Snapshot {
        SnapshotCompiler.compile(Mesh(workloads: workloads), node: "n1", version: 1)
    }
}
