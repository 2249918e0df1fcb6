// ServiceRows against the kernel's own maps, below a bpffs mount of the test's own.

internal import CMallaABI
internal import Foundation
internal import Glibc
internal import MeshModel
internal import Testing

@testable internal import BPFLoader

@Suite("Services' rows in the kernel", .enabled(if: isRoot, "needs root"), .serialized)
struct ServiceRowsTests {
    @Test func `a change of one endpoint writes its slot and its table, and nothing else`() throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        let before = try rows.apply(Self.snapshot(services: 50, endpoints: 10))
        #expect(before.problems.isEmpty)
        #expect(before.writes == 50 * 2 * (10 + 4 + 1) + 1, "endpoints, table, row; a node")
        let same = try rows.apply(Self.snapshot(services: 50, endpoints: 10))
        #expect(same.writes == 0)

        let after = try rows.apply(
            Self.snapshot(services: 50, endpoints: 10, replacing: "10.1.7.3", by: "10.9.9.9"))
        #expect(after.writes == 1 + 4, "one slot, four pieces; the row stays")
        #expect(after.gone.map(\.socket.description) == ["10.1.7.3:8080"])
    }

    @Test func `the next agent finds the rows, keeps their numbers, and takes out what is left`()
        throws
    {
        let place = try BPFMount()
        var first = try ServiceRows(place.load())
        _ = try first.apply(Self.snapshot(services: 3, endpoints: 2))
        let key = malla_end(SocketAddress(IPAddress("10.96.0.1")!, 80), .tcp)
        let had = Self.row(first, key)
        let number = try #require(had).inside.id

        var second = try ServiceRows(place.load())
        let outcome = try second.apply(Self.snapshot(services: 2, endpoints: 2))
        #expect(outcome.problems.isEmpty)
        let has = Self.row(second, key)
        #expect(has?.inside.id == number)
        let gone = malla_end(SocketAddress(IPAddress("10.96.0.2")!, 80), .tcp)
        let left = Self.row(second, gone)
        #expect(left == nil)
        #expect(Self.counts(second) == [4, 8, 4])
    }

    @Test func `a weight is in the table, in the row and in the listing, and goes from all three`()
        throws
    {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.snapshot(services: 1, endpoints: 3, isDual: false).mesh
        let key = malla_end(SocketAddress(IPAddress("10.96.0.0")!, 80), .tcp)
        let rounds = [([1, 1, 1], 170), ([8, 1, 1], 407), ([8, 0, 0], 0), ([5, 5, 5], 170)]
        for (weights, share) in rounds {
            for (end, weight) in weights.enumerated() {
                mesh.services[0].ports[0].endpoints[end].weight = UInt16(weight)
            }
            _ = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
            let held = Self.row(rows, key)
            let row = try #require(held)
            let isWeighted = weights == [8, 1, 1]
            #expect((row.flags & UInt32(MALLA_SERVICE_WEIGHTED) != 0) == isWeighted, "\(weights)")
            let first = rows.entries().first?.inside
            let listed = try #require(first)
            #expect(listed.endpoints.count == weights.count { $0 > 0 })
            #expect(listed.weights == (isWeighted ? [8, 1, 1] : []))
            let count = Self.positions(rows, row.inside).count { $0 == 0 }
            #expect(abs(count - share) <= 1, "\(weights): \(count) positions of slot 0")
        }
    }

    /// The slots of a group's table, as the kernel has it.
    private static func positions(
        _ rows: borrowing ServiceRows, _ group: malla_group
    ) -> [UInt8] {
        let bytes: [UInt8] = (0...group.positions / UInt32(MALLA_MAGLEV_BYTES)).flatMap { piece in
            let key = malla_maglev_key(group: group.id, piece: piece)
            var value =
                rows.maps.pieces.value(of: key, placeholder: malla_maglev())
                ?? malla_maglev()
            // The record is bytes and nothing else.
            return unsafe withUnsafeBytes(of: &value) { unsafe [UInt8]($0) }
        }
        return Array(bytes.prefix(Int(group.positions)))
    }

    @Test func `no service leaves no row`() throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        _ = try rows.apply(Self.snapshot(services: 5, endpoints: 3))
        _ = try rows.apply(Self.snapshot(services: 0, endpoints: 0))
        #expect(Self.counts(rows) == [0, 0, 0])
    }

    @Test func `two services on one address and port: the first has it, the second is named`()
        throws
    {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.snapshot(services: 2, endpoints: 1).mesh
        mesh.services[1].addresses = mesh.services[0].addresses
        for round in ["first", "again"] {
            let both = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
            #expect(
                both.problems.map(\.subject) == ["service t/s1", "service t/s1"], "\(round)")
        }
        mesh.services.removeFirst()
        let one = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
        #expect(one.problems.isEmpty, "the second has it once the first is gone")
        #expect(Self.counts(rows)[0] == 2)
    }

    @Test func `two services that exchange their addresses have them after one change`() throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.snapshot(services: 2, endpoints: 1).mesh
        _ = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
        let keys = mesh.services.map { malla_end(SocketAddress($0.addresses[0], 80), .tcp) }
        let first = mesh.services[0].addresses
        mesh.services[0].addresses = mesh.services[1].addresses
        mesh.services[1].addresses = first
        let outcome = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 2))
        #expect(outcome.problems.isEmpty, "\(outcome.problems)")
        let owners = keys.map { rows.owner(of: $0)?.owner.name }
        #expect(owners == ["s1", "s0"])
        let isServed = keys.allSatisfy { Self.row(rows, $0)?.inside.endpoints == 1 }
        #expect(isServed)
    }

    @Test func `a host port takes over no address that is not the node's, and is named`() throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        let ports = [
            "10.0.0.1", "10.0.0.7", "198.51.100.1", "127.0.0.1", "192.0.2.53", "169.254.169.254",
        ]
        var mesh = Self.mesh(ports)
        mesh.nodes[0].externalAddresses = [IPAddress("198.51.100.1")!]
        mesh.hostAddresses = [IPAddress("10.0.0.7")!]
        for round in ["first", "again"] {
            let outcome = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
            #expect(outcome.problems.map(\.subject) == ["pod t/p", "pod t/p"], "\(round)")
            #expect(outcome.problems.allSatisfy { $0.isWaiting })
            #expect(outcome.problems.first?.message.contains("192.0.2.53") == true)
        }
        let served = Self.served(rows)
        #expect(served == ["10.0.0.1", "10.0.0.7", "127.0.0.1", "198.51.100.1"])
        // An address that the node loses is not served any more.
        mesh.hostAddresses = []
        _ = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 2))
        let less = Self.served(rows)
        #expect(less == ["10.0.0.1", "127.0.0.1", "198.51.100.1"])
    }

    @Test func `one host port at several addresses is in force at each`() throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.mesh(["10.0.0.1", "fd00::1"])
        mesh.hostAddresses = [IPAddress("fd00::1")!]
        let outcome = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
        #expect(outcome.problems.isEmpty)
        let served = Self.served(rows)
        #expect(served == ["10.0.0.1", "fd00::1"])
        let lengths = rows.entries().map(\.inside.endpoints.count)
        #expect(lengths == [1, 1])
    }

    /// What a row leads to, and for whom.
    private static func listed(_ rows: borrowing ServiceRows) -> [String] {
        rows.entries().map {
            "\($0.end) \($0.transport) \($0.inside.endpoints) \($0.outside.endpoints.count)"
        }
    }

    @Test func `host ports of other nodes' pods are served to this node's, and to nobody else`()
        throws
    {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        // Of the pod's node are 10.0.0.2, fd00::2 and 198.51.100.2.
        var mesh = Self.mesh(["198.51.100.2", "127.0.0.1", "10.0.0.1", "192.0.2.53"])
        mesh.nodes.append(
            Node(
                name: "n2",
                addresses: ["10.0.0.2", "fd00::2", "0.0.0.0"].map { IPAddress($0)! },
                externalAddresses: [IPAddress("198.51.100.2")!]))
        mesh.workloads[0].node = "n2"
        mesh.workloads[0].hostPorts += [
            HostPort(port: 8443, target: 443), HostPort(port: 53, transport: .udp, target: 5353),
            HostPort(port: 9, transport: .sctp, target: 9),
        ]
        let outcome = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
        #expect(outcome.problems.isEmpty, "its own node says what is not served")
        let all = [
            "[fd00::2]:53 udp [[fd10::9]:5353] 0", "[fd00::2]:8443 tcp [[fd10::9]:443] 0",
            "10.0.0.2:53 udp [10.1.0.9:5353] 0", "10.0.0.2:8443 tcp [10.1.0.9:443] 0",
            "198.51.100.2:15353 tcp [10.1.0.9:443] 0",
        ]
        let found = Self.listed(rows).map { $0.lowercased() }.sorted()
        #expect(found == all.sorted())
        let serves = Self.serves(rows)
        #expect(!serves, "nothing is served to those outside")
        // An address that is this node's as well is for its own.
        mesh.hostAddresses = [IPAddress("10.0.0.2")!]
        _ = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 2))
        let less = Self.served(rows)
        #expect(less == ["198.51.100.2", "fd00::2", "fd00::2"])
        mesh.workloads = []
        _ = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 3))
        let none = Self.counts(rows)
        #expect(none == [0, 0, 0])
    }

    /// hostIP, whose row it is beside a service at the same address, and who is told. An ingress
    /// controller's load balancer and its host ports are so on each node: nothing to be told.
    @Test(
        arguments: [
            (nil, "service t/s0", []), ("10.0.0.2", "pod t/p", ["service t/s0"]),
        ] as [(String?, String, [String])])
    func `a service at another node's address goes before a host port without hostIP`(
        _ address: String?, _ winner: String, _ told: [String]
    ) throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.snapshot(services: 1, endpoints: 1, isDual: false).mesh
        let services = mesh.services
        mesh.nodes.append(Node(name: "n2", addresses: [IPAddress("10.0.0.2")!]))
        mesh.workloads = Self.mesh([]).workloads
        mesh.workloads[0].node = "n2"
        mesh.workloads[0].hostPorts = [
            HostPort(address: address.flatMap { IPAddress($0) }, port: 80, target: 443)
        ]
        mesh.services[0].externalAddresses = [IPAddress("10.0.0.2")!]
        let both = mesh
        let key = malla_end(SocketAddress(IPAddress("10.0.0.2")!, 80), .tcp)
        func owner() -> String {
            rows.owner(of: key).map { ($0.isHostPort ? "pod " : "service ") + "\($0.owner)" } ?? ""
        }
        // Whoever was there first.
        for (version, services, workloads) in [
            (UInt64(1), [], both.workloads), (2, both.services, both.workloads),
            (3, both.services, []), (4, both.services, both.workloads),
        ] {
            mesh.services = services
            mesh.workloads = workloads
            let outcome = try rows.apply(
                SnapshotCompiler.compile(mesh, node: "n1", version: version))
            let has = owner()
            guard !services.isEmpty, !workloads.isEmpty else { continue }
            #expect(has == winner, "version \(version)")
            #expect(outcome.problems.map(\.subject) == told, "version \(version)")
        }
        mesh.services = services
        let last = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 5))
        let has = owner()
        #expect(last.problems.isEmpty && has == "pod t/p")
    }

    @Test func `host ports of other nodes leave services their room in the map`() throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load(["malla_service": 16]))
        var mesh = Self.snapshot(services: 12, endpoints: 1, isDual: false).mesh
        mesh.nodes.append(Node(name: "n2", addresses: [IPAddress("10.0.0.2")!]))
        mesh.workloads = Self.mesh([]).workloads
        mesh.workloads[0].node = "n2"
        mesh.workloads[0].hostPorts = (1...20).map { HostPort(port: $0, target: 443) }
        let outcome = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
        #expect(outcome.problems.map(\.subject) == ["map malla_service"])
        #expect(outcome.problems.first?.message.contains("20 host ports") == true)
        let counts = Self.counts(rows)
        #expect(counts[0] == 16)
    }

    @Test func `connections from outside are served on when the last service is gone`() throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.snapshot(services: 1, endpoints: 1).mesh
        mesh.services[0].ports[0].nodePort = 30080
        _ = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
        let atFirst = Self.serves(rows)
        #expect(atFirst)
        try rows.maps.translations.set(malla_flow_key(), to: malla_snat())
        mesh.services = []
        _ = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 2))
        rows.rest()
        let withFlow = Self.serves(rows)
        #expect(withFlow, "a flow is left")
        try rows.maps.translations.remove(malla_flow_key())
        rows.rest()
        let atLast = Self.serves(rows)
        #expect(!atLast)
    }

    @Test func `a node that has no address to dial from says so`() throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.snapshot(services: 2, endpoints: 1).mesh
        mesh.services[1].externalAddresses = [IPAddress("fd98::1")!]
        let outcome = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
        #expect(outcome.problems.map(\.subject) == ["service t/s1"])
        #expect(outcome.problems.first?.message.contains("no InternalIP of IPv6") == true)
        mesh.nodes[0].addresses.append(IPAddress("fd00::1")!)
        let after = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 2))
        #expect(after.problems.isEmpty)
    }

    @Test func `a change of endpoints says so too, and takes it back`() throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.snapshot(services: 3, endpoints: 1).mesh
        let remote = mesh.services[2].ports[0].endpoints
        mesh.services[2].externalAddresses = [IPAddress("fd98::1")!]
        mesh.services[2].ports[0].endpoints = []
        var snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        let before = try rows.apply(snapshot)
        #expect(before.problems.isEmpty)
        // Of another service's change it stays.
        let steps: [(service: Int, ends: [Endpoint], problems: [String])] = [
            (2, remote, ["service t/s2"]), (1, [], ["service t/s2"]), (2, [], []),
        ]
        for (step, version) in zip(steps, UInt64(2)...) {
            mesh.services[step.service].ports[0].endpoints = step.ends
            let next = SnapshotCompiler.compile(
                mesh, node: "n1", version: version, after: snapshot)
            try #require(next.follows(snapshot))
            let outcome = try rows.apply(next)
            #expect(outcome.problems.map(\.subject) == step.problems, "version \(version)")
            snapshot = next
        }
    }

    /// Who comes first: the pod, the service, both at once.
    @Test(arguments: [[1], [0], []])
    func `a host port goes before a node port, whichever was there first`(
        _ first: [Int]
    ) throws {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load())
        var mesh = Self.snapshot(services: 1, endpoints: 1, isDual: false).mesh
        mesh.services[0].ports[0].nodePort = 30080
        let named = Self.mesh([]).workloads.map {
            var pods = [$0, $0]
            for (index, name) in ["old", "a-new"].enumerated() {
                pods[index].name = ObjectName("t", name)
                pods[index].created = Int64(index)
                pods[index].hostPorts = [HostPort(port: 30080, target: UInt16(443 + index))]
            }
            return pods
        }[0]
        mesh.workloads = named
        var before = mesh
        if first == [0] { before.workloads = [named[1]] }
        if first == [1] { before.workloads = [] }
        if !first.isEmpty {
            _ = try rows.apply(SnapshotCompiler.compile(before, node: "n1", version: 1))
        }
        let key = malla_end(SocketAddress(.anyV4, 30080), .tcp)
        for round in ["then", "again"] {
            let both = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 2))
            let ends = Self.ends(rows, key)
            #expect(ends.keys.sorted() == ["10.1.0.9:443"], "the older pod's, \(round)")
            let subjects = both.problems.map(\.subject)
            #expect(subjects == ["pod t/a-new", "pod t/a-new", "service t/s0"])
            #expect(both.problems.allSatisfy { $0.isWaiting })
        }
        mesh.workloads = []
        let last = try rows.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 3))
        #expect(last.problems.isEmpty)
        let left = Self.ends(rows, key).keys.sorted()
        #expect(left == ["10.1.0.1:8080"], "the service has it back")
        let key6 = malla_end(SocketAddress(.anyV6, 30080), .tcp)
        let none = Self.row(rows, key6)
        #expect(none == nil)
    }

    /// The addresses of all rows, sorted as texts.
    private static func served(_ rows: borrowing ServiceRows) -> [String] {
        rows.entries().map(\.end.address.description).sorted()
    }

    private static func serves(_ rows: borrowing ServiceRows) -> Bool {
        let row = rows.maps.node.value(of: 0, placeholder: malla_node())
        return row?.flags == UInt32(MALLA_NODE_SERVES)
    }

    /// A pod with host port 15353 at each of these addresses.
    private static func mesh(_ addresses: [String]) -> Mesh {
        var mesh = snapshot(services: 0, endpoints: 0).mesh
        mesh.workloads = [
            Workload(
                name: ObjectName("t", "p"), serviceAccount: "default", node: "n1", labels: [:],
                addresses: [IPAddress("10.1.0.9")!, IPAddress("fd10::9")!], interface: nil,
                isMeshed: false, workloadName: "p",
                hostPorts: addresses.map {
                    HostPort(address: IPAddress($0)!, port: 15353, target: 443)
                })
        ]
        return mesh
    }

    @Test
    func `a full map keeps what is there, names what is not, and takes it once there is room`()
        throws
    {
        let place = try BPFMount()
        var rows = try ServiceRows(place.load(["malla_endpoint": 40]))
        _ = try rows.apply(Self.snapshot(services: 2, endpoints: 10))
        let full = try rows.apply(Self.snapshot(services: 3, endpoints: 10))
        #expect(full.problems.map(\.subject) == ["map malla_endpoint"])
        let key = malla_end(SocketAddress(IPAddress("10.96.0.0")!, 80), .tcp)
        let row = Self.row(rows, key)
        #expect(row?.inside.endpoints == 10)
        let less = try rows.apply(Self.snapshot(services: 3, endpoints: 5))
        #expect(less.problems.isEmpty)
        #expect(Self.counts(rows)[0] == 6)
    }

    @Test func `10 000 services of ten endpoints load within two seconds, a change within 10 ms`()
        throws
    {
        let place = try BPFMount()
        var rows = try ServiceRows(
            place.load(["malla_endpoint": 262_144, "malla_maglev": 131_072]))
        let all = Self.snapshot(services: 10000, endpoints: 10, isDual: false)
        // Of this thread, since other tests may have the processors.
        let start = Self.processorSeconds()
        let whole = try rows.apply(all)
        let load = Self.processorSeconds() - start
        #expect(whole.problems.isEmpty)
        var mesh = all.mesh
        mesh.services[7].ports[0].endpoints[2].address = SocketAddress(IPAddress("10.9.9.9")!, 8080)
        let middle = Self.processorSeconds()
        let one = try rows.apply(
            SnapshotCompiler.compile(mesh, node: "n1", version: 2, after: all))
        let change = Self.processorSeconds() - middle
        #expect(one.writes == 5)
        #expect(load < 2, "first load, seconds")
        #expect(change < 0.01, "compiled and in the kernel, seconds")
    }

    @Test func `after any changes of endpoints the kernel holds what a first load would`() throws {
        let place = try BPFMount()
        var chain = try ServiceRows(place.load())
        var mesh = Self.snapshot(services: 6, endpoints: 4).mesh
        var snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        _ = try chain.apply(snapshot)
        var dice = SystemRandomNumberGenerator()
        for version in 2..<120 {
            let service = Int.random(in: mesh.services.indices, using: &dice)
            var ends = mesh.services[service].ports[0].endpoints
            if ends.count > 1, Bool.random(using: &dice) {
                ends.remove(at: Int.random(in: ends.indices, using: &dice))
            } else {
                let address = IPAddress(v4: 0x0a02_0000 + UInt32(version))
                ends.insert(
                    Endpoint(address: SocketAddress(address, 8080)),
                    at: Int.random(in: 0...ends.count, using: &dice))
            }
            mesh.services[service].ports[0].endpoints = ends
            let next = SnapshotCompiler.compile(
                mesh, node: "n1", version: UInt64(version), after: snapshot)
            try #require(next.follows(snapshot))
            let outcome = try chain.apply(next)
            #expect(outcome.problems.isEmpty && outcome.writes <= 2 * (3 + 9))
            snapshot = next
        }
        let other = try BPFMount()
        var fresh = try ServiceRows(other.load())
        _ = try fresh.apply(SnapshotCompiler.compile(mesh, node: "n1", version: 1))
        #expect(Self.counts(chain) == Self.counts(fresh))
        for service in mesh.services {
            for address in service.addresses {
                let key = malla_end(SocketAddress(address, 80), .tcp)
                let (has, wants) = (Self.ends(chain, key), Self.ends(fresh, key))
                #expect(has == wants, "\(address)")
            }
        }
    }

    /// What a connection to `key` may get, and by which shares of the table.
    private static func ends(_ rows: borrowing ServiceRows, _ key: malla_end) -> [String: Int] {
        guard let row = row(rows, key) else { return [:] }
        var names: [String] = []
        for slot in 0..<row.inside.endpoints {
            let key = malla_endpoint_key(group: row.inside.id, slot: slot)
            guard let end = rows.maps.endpoints.value(of: key, placeholder: malla_end()) else {
                return [:]
            }
            names.append(end.socket.description)
        }
        var shares = Dictionary(uniqueKeysWithValues: names.map { ($0, 0) })
        for position in 0..<Int(row.inside.positions) {
            let bytes = Int(MALLA_MAGLEV_BYTES)
            let key = malla_maglev_key(
                group: row.inside.id, piece: UInt32(position / bytes))
            guard let piece = rows.maps.pieces.value(of: key, placeholder: malla_maglev()) else {
                return [:]
            }
            // A byte a position, below 257 endpoints.
            let slot = unsafe withUnsafeBytes(of: piece) { unsafe $0[position % bytes] }
            guard Int(slot) < names.count else { return [:] }
            shares[names[Int(slot)], default: 0] += 1
        }
        return shares
    }

    private static func processorSeconds() -> Double {
        var time = timespec()
        // The call fills one struct.
        _ = unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Rows of services, endpoints and pieces of tables.
    private static func counts(_ rows: borrowing ServiceRows) -> [UInt64] {
        [rows.maps.services.count(), rows.maps.endpoints.count(), rows.maps.pieces.count()]
    }

    private static func row(
        _ rows: borrowing ServiceRows, _ key: malla_end
    ) -> malla_service? {
        rows.maps.services.value(of: key, placeholder: malla_service())
    }

    /// Services 10.96.x.y and fd96::x:y with endpoints 10.1+.
    static func snapshot(
        services: Int, endpoints: Int, isDual: Bool = true, replacing: String = "", by: String = ""
    ) -> Snapshot {
        let old = IPAddress(replacing)
        let list = (0..<services).map { index in
            let high = UInt32(index >> 8)
            let low = UInt32(index & 255)
            var ends: [Endpoint] = []
            for end in 1..<max(endpoints + 1, 1) {
                let v4 = IPAddress(v4: 0x0a01_0000 + high << 16 + low << 8 + UInt32(end))
                let used = v4 == old ? IPAddress(by)! : v4
                ends.append(Endpoint(address: SocketAddress(used, 8080)))
                if isDual {
                    let v6 = IPAddress(high: 0xfd10 << 48, low: UInt64(index) << 16 | UInt64(end))
                    ends.append(Endpoint(address: SocketAddress(v6, 8080)))
                }
            }
            var addresses = [IPAddress(v4: 0x0a60_0000 + UInt32(index))]
            if isDual { addresses.append(IPAddress(high: 0xfd96 << 48, low: UInt64(index) + 1)) }
            return Service(
                name: ObjectName("t", "s\(index)"), addresses: addresses,
                ports: [ServicePort(name: "p", port: 80, endpoints: ends)])
        }
        return SnapshotCompiler.compile(
            Mesh(nodes: [Node(name: "n1", addresses: [IPAddress("10.0.0.1")!])], services: list),
            node: "n1", version: 1)
    }
}

/// A bpffs of its own, taken away afterwards.
final class BPFMount {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "malla-rows-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        guard unsafe mount("bpf", path, "bpf", 0, nil) == 0 else {
            throw KernelFailure("cannot mount bpffs at \(path): errno \(errno)")
        }
    }

    deinit {
        _ = unsafe umount2(path, Int32(MNT_DETACH))
        try? FileManager.default.removeItem(atPath: path)
    }

    /// The programs with small maps, pinned here.
    func load(_ sizes: [String: UInt32] = [:]) throws -> BPFObject {
        var all: [String: UInt32] = [
            "malla_endpoint": 4096, "malla_maglev": 4096, "malla_flow": 1024, "malla_snat": 1024,
            "malla_dialled": 1024, "malla_affinity": 1024, "malla_ring": 1024,
        ]
        all.merge(sizes) { $1 }
        return try BPFObject.load(sizes: all, directory: PinDirectory(bpffsPath: path).path)
    }
}
