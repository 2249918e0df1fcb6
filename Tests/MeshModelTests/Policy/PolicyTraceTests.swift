import MeshModel
import Testing

/// Pod b lets nobody in; Service s leads to it.
@Suite("malla policy trace answers as the kernel does (docs/cli.md)")
struct PolicyTraceTests {
    private static let a = IPAddress(v4: 0x0a01_0001)
    private static let b = IPAddress(v4: 0x0a01_0002)
    private static let cluster = IPAddress(v4: 0x0a60_0001)
    /// For b only.
    private static let balancer = IPAddress(v4: 0x0a63_0001)

    private static func pod(_ name: String, _ address: IPAddress) -> Workload {
        Workload(
            name: ObjectName("x", name), serviceAccount: "", node: "n1", labels: ["app": name],
            addresses: [address], interface: "lxc-\(name)", isMeshed: true, workloadName: name)
    }

    private static func snapshot() throws -> Snapshot {
        let range = try #require(AddressRange("10.1.0.2/32"))
        let service = Service(
            name: ObjectName("x", "s"), addresses: [cluster], loadBalancerAddresses: [balancer],
            traffic: ServiceTraffic(sourceRanges: [range]),
            ports: [
                ServicePort(
                    name: "http", port: 80,
                    endpoints: [Endpoint(address: SocketAddress(b, 8080), node: "n1")])
            ])
        let wall = NetworkPolicy(
            name: ObjectName("x", "wall"),
            subject: PodSelection(.named("x"), LabelSelector(["app": "b"])), ingress: [])
        return SnapshotCompiler.compile(
            Mesh(
                workloads: [pod("a", a), pod("b", b)], services: [service], policies: [wall]),
            node: "n1", version: 1)
    }

    private static func trace(
        _ from: IPAddress, _ to: IPAddress, _ port: UInt16 = 80,
        inForce: @escaping (PolicyAsk) -> PolicyInForce? = { _ in nil }
    ) throws -> PolicyTrace {
        let traces = try snapshot().trace(
            from: .address(from), to: .address(to), transport: 6, port: port, isHostAllowed: true,
            inForce: inForce)
        #expect(traces.count == 1)
        return try #require(traces.first)
    }

    @Test func `a service is judged at its endpoint, and a pod reaches itself through it`() throws {
        let other = try Self.trace(Self.a, Self.cluster)
        #expect(other.verdict == .denied && other.target == Self.b && other.port == 8080)
        #expect(other.note == "an endpoint of Service x/s")
        let itself = try Self.trace(Self.b, Self.cluster)
        #expect(itself.verdict == .allowed)
        #expect(itself.note == "an endpoint of Service x/s; a pod always reaches itself")
    }

    @Test func `a load balancer's address outside of its ranges is refused, whatever policies say`()
        throws
    {
        let outside = try Self.trace(Self.a, Self.balancer)
        #expect(outside.verdict == .denied && outside.ingress == nil)
        #expect(outside.note.hasPrefix("source_refused: loadBalancerSourceRanges of Service x/s"))
        #expect(try Self.trace(Self.b, Self.balancer).verdict == .allowed)
        let unserved = try Self.trace(Self.a, Self.cluster, 81)
        #expect(unserved.note == "an address of Service x/s, which does not serve this port")
    }

    @Test func `what the kernel does not hold does not count`() throws {
        let closed = try Self.trace(Self.b, Self.a, 8080) { ask in
            ask.direction == .egress ? .closed : .open
        }
        #expect(closed.verdict == .denied)
        #expect(closed.note == "its policies did not fit into the map malla_policy: nothing passes")
        #expect(closed.egress?.rule.description == "default deny (egress)")
        let open = try Self.trace(Self.a, Self.b, 8080) { _ in .open }
        #expect(open.verdict == .allowed)
        let row = PolicyDecision(isAllowed: true, rule: 0)
        #expect(try Self.trace(Self.a, Self.b, 8080) { _ in .decision(row) }.verdict == .allowed)
        #expect(try Self.trace(Self.a, Self.b, 8080) { _ in .notReady }.verdict == .denied)
        let loose = try Self.trace(Self.b, Self.a, 8080) { _ in .unattached }
        #expect(loose.verdict == .allowed && loose.note.contains("none of its policies"))
    }

    @Test func `who dials through a Gateway is judged as himself, at the endpoint's own port`()
        throws
    {
        let gate = PolicyGate(try Self.snapshot(), isHostAllowed: true)
        #expect(!gate.isOpen)
        for client in [Self.a, IPAddress(v4: 0xc000_0201)] {
            #expect(!gate.admits(client, to: SocketAddress(Self.b, 8080), asksClient: false))
            #expect(gate.admits(client, to: SocketAddress(Self.a, 8080), asksClient: false))
        }
        #expect(gate.admits(Self.b, to: SocketAddress(Self.b, 8080), asksClient: true))
    }

    // MARK: Node ports and host ports

    private static let n1 = IPAddress(v4: 0x0a56_0001)
    private static let n2 = IPAddress(v4: 0x0a56_0002)
    /// On node n2; lets in those of 10.1.0.0/24 and n1.
    private static let d = IPAddress(v4: 0x0a01_0102)
    private static let world = IPAddress(v4: 0x0a56_00fe)

    /// Node port 30080 leads to b, 30081 to d; with policy Local 30082 leads to d. Host port 18080
    /// leads to b, 18081 to d. Pod a may dial pods only.
    private static func nodePorts() throws -> Snapshot {
        var pods = [pod("a", a), pod("b", b), pod("d", d)]
        pods[1].hostPorts = [HostPort(port: 18080, target: 8080)]
        pods[2].hostPorts = [HostPort(port: 18081, target: 8080)]
        pods[2].node = "n2"
        func service(_ index: UInt8, _ end: IPAddress, _ node: String, _ local: Bool) -> Service {
            Service(
                name: ObjectName("x", "s\(index)"),
                addresses: [IPAddress(v4: 0x0a60_0010 + UInt32(index))],
                traffic: ServiceTraffic(externalPolicy: local ? .local : .cluster),
                ports: [
                    ServicePort(
                        name: "t", port: 80, nodePort: 30080 + UInt16(index),
                        endpoints: [Endpoint(address: SocketAddress(end, 8080), node: node)])
                ])
        }
        func policy(_ name: String, ingress: [PolicyRule]? = nil, egress: [PolicyRule]? = nil)
            -> NetworkPolicy
        {
            NetworkPolicy(
                name: ObjectName("x", name),
                subject: PodSelection(.named("x"), LabelSelector(["app": name])),
                ingress: ingress, egress: egress)
        }
        func from(_ block: String) throws -> PolicyPeer {
            .network(try #require(IPPrefix(block)), except: [])
        }
        let pods10 = PolicyRule(peers: [try from("10.1.0.0/16")], ports: nil)
        return SnapshotCompiler.compile(
            Mesh(
                nodes: [Node(name: "n1", addresses: [n1]), Node(name: "n2", addresses: [n2])],
                workloads: pods,
                services: [
                    service(0, b, "n1", false), service(1, d, "n2", false),
                    service(2, d, "n2", true),
                ],
                policies: [
                    policy("a", egress: [pods10]), policy("b", ingress: []),
                    policy(
                        "d",
                        ingress: [
                            PolicyRule(
                                peers: [try from("10.1.0.0/24"), try from("10.86.0.1/32")],
                                ports: nil)
                        ]),
                ]), node: "n1", version: 1)
    }

    /// who dials, what, the endpoint, whether it is allowed
    static let nodePortCases: [(IPAddress, SocketAddress, IPAddress, Bool)] = [
        (a, SocketAddress(n1, 30080), b, false), (a, SocketAddress(n2, 30080), b, false),
        // The pod's node balances it: the policies of the pod are asked about the endpoint.
        (a, SocketAddress(n1, 30081), d, true), (a, SocketAddress(n2, 30081), d, true),
        // So it does with policy Local, though by the other node's endpoints.
        (a, SocketAddress(n2, 30082), d, true), (world, SocketAddress(n2, 30082), d, false),
        (a, SocketAddress(n1, 18080), b, false), (d, SocketAddress(n1, 18080), b, false),
        // And with other nodes' host ports.
        (a, SocketAddress(n2, 18081), d, true),
        (world, SocketAddress(n1, 30080), b, false), (world, SocketAddress(n1, 18080), b, false),
        // n1 dials d in its stead; n2 does not.
        (world, SocketAddress(n1, 30081), d, true), (world, SocketAddress(n2, 30081), d, false),
        (world, SocketAddress(n2, 18081), d, false),
        (d, SocketAddress(n1, 30081), d, true),
    ]

    @Test(arguments: nodePortCases)
    func `node ports and host ports are judged at their endpoints`(
        _ from: IPAddress, _ to: SocketAddress, _ end: IPAddress, _ isAllowed: Bool
    ) throws {
        let traces = try Self.nodePorts().trace(
            from: .address(from), to: .address(to.address), transport: 6, port: to.port,
            isHostAllowed: true)
        #expect(traces.count == 1)
        let trace = try #require(traces.first)
        #expect(trace.target == end && trace.port == 8080)
        #expect((trace.verdict == .allowed) == isAllowed, "\(trace)")
    }

    /// node n1 with host port 30080 for b, as a node port that leads to d; n2 with none.
    static let contested: [(IPAddress, IPAddress, IPAddress)] = [
        (a, n1, b), (world, n1, b),
        // a's node has a host port of its own there, and a row for n2's node port.
        (a, n2, d), (world, n2, d),
        // On d's node, too.
        (d, n1, b),
    ]

    @Test(arguments: contested)
    func `a host port goes before a node port where it is served`(
        _ from: IPAddress, _ node: IPAddress, _ end: IPAddress
    ) throws {
        var mesh = try Self.nodePorts().mesh
        mesh.workloads[1].hostPorts = [HostPort(port: 30081, target: 8080)]
        mesh.policies = []
        let snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        let traces = try snapshot.trace(
            from: .address(from), to: .address(node), transport: 6, port: 30081,
            isHostAllowed: true)
        #expect(traces.map(\.target) == [end])
    }

    @Test func `with policy Local another node's address leads to its own endpoints or to none`()
        throws
    {
        var mesh = try Self.nodePorts().mesh
        mesh.policies = []
        mesh.services[2].ports[0].endpoints.append(
            Endpoint(address: SocketAddress(Self.b, 8080), node: "n1"))
        mesh.nodes.append(Node(name: "n3", addresses: [Self.world]))
        let snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
        for (node, ends) in [(Self.n1, [Self.b, Self.d]), (Self.n2, [Self.d])] {
            let traces = try snapshot.trace(
                from: .address(Self.a), to: .address(node), transport: 6, port: 30082,
                isHostAllowed: true)
            #expect(Set(traces.map(\.target)) == Set(ends), "\(node)")
        }
        let none = try snapshot.trace(
            from: .address(Self.a), to: .address(Self.world), transport: 6, port: 30082,
            isHostAllowed: true)
        #expect(none.map(\.verdict) == [.denied])
        #expect(none.first?.note.contains("no_endpoint") == true)
    }

    /// node n2 with host port 30080 for d, as a node port that leads to b.
    static let far: [(IPAddress, IPAddress, IPAddress)] = [
        (a, n2, d), (d, n2, d), (world, n2, d), (a, n1, b), (d, n1, b), (world, n1, b),
    ]

    @Test(arguments: far)
    func `a host port goes before a node port at its own node's addresses, from others too`(
        _ from: IPAddress, _ node: IPAddress, _ end: IPAddress
    ) throws {
        var mesh = try Self.nodePorts().mesh
        mesh.workloads[2].hostPorts = [HostPort(port: 30080, target: 8080)]
        mesh.policies = []
        // Whichever node's agent is asked.
        for place in ["n1", "n2"] {
            let snapshot = SnapshotCompiler.compile(mesh, node: place, version: 1)
            let traces = try snapshot.trace(
                from: .address(from), to: .address(node), transport: 6, port: 30080,
                isHostAllowed: true)
            #expect(traces.map(\.target) == [end], "asked at \(place)")
        }
    }

    @Test func `a service's external address goes before a host port, unless hostIP names it`()
        throws
    {
        var mesh = try Self.nodePorts().mesh
        mesh.policies = []
        mesh.services[0].externalAddresses = [Self.n2]
        for (address, end) in [(nil, Self.b), (Self.n2, Self.d)] {
            mesh.workloads[2].hostPorts = [HostPort(address: address, port: 80, target: 8080)]
            let snapshot = SnapshotCompiler.compile(mesh, node: "n1", version: 1)
            let traces = try snapshot.trace(
                from: .address(Self.a), to: .address(Self.n2), transport: 6, port: 80,
                isHostAllowed: true)
            #expect(traces.map(\.target) == [end])
        }
    }

    /// ICMP's number, of either family, and of whose addresses.
    @Test(arguments: [(UInt8(58), "10.1.0.1", "10.1.0.2"), (1, "fd00::1", "fd00::2")])
    func `ICMP of the other family is an error`(
        _ transport: UInt8, _ from: String, _ to: String
    ) throws {
        let (from, to) = (try #require(IPAddress(from)), try #require(IPAddress(to)))
        let snapshot = try Self.snapshot()
        #expect(throws: PolicyTraceError.otherFamily) {
            try snapshot.trace(
                from: .address(from), to: .address(to), transport: transport, port: 0,
                isHostAllowed: true)
        }
    }

    @Test func `what stays within a pod is asked of no policy`() throws {
        let snapshot = try Self.nodePorts()
        let trace = try #require(
            try snapshot.trace(
                from: .address(Self.a), to: .address(IPAddress(v4: 0x7f00_0001)), transport: 6,
                port: 8080, isHostAllowed: true
            ).first)
        #expect(trace.verdict == .allowed && trace.note == "it never leaves the pod")
    }

    /// Nodes 1 and 2 have agents, 3 and 4 have none; `target` is on node 3.
    @Test func `who insists without an agent is closed to the pods of nodes that have one`() throws
    {
        func address(_ node: UInt32) -> IPAddress { IPAddress(v4: 0x0a01_0000 | node << 8 | 1) }
        var pods = (1...4).map { Self.pod("p\($0)", address($0)) }
        for index in pods.indices { pods[index].node = "n\(index + 1)" }
        var strict = PeerAuthentication(name: ObjectName("x", "all"), mode: .strict)
        func verdicts(_ mode: MutualTLSMode) throws -> [PolicyTrace] {
            strict.mode = mode
            let nodes = (1...4).map {
                Node(
                    name: "n\($0)", addresses: [],
                    labels: $0 > 2 ? ["malla.io/agent": "absent"] : [:])
            }
            let snapshot = SnapshotCompiler.compile(
                Mesh(nodes: nodes, workloads: pods, peerAuthentications: [strict]), node: "n1",
                version: 1)
            return try [address(1), address(2), address(4), IPAddress(v4: 0xc000_0201)].flatMap {
                try snapshot.trace(
                    from: .address($0), to: .address(address(3)), transport: 6, port: 80,
                    isHostAllowed: true, hasTunnels: true)
            }
        }
        let found = try verdicts(.strict)
        #expect(found.map(\.verdict) == [.denied, .denied, .allowed, .allowed])
        #expect(found[0].note.hasSuffix("reset at the client's node (plain_refused)"))
        #expect(found[3].note.hasSuffix("no agent is there to refuse plain text"))
        for mode in [MutualTLSMode.permissive, .disable] {
            #expect(try verdicts(mode).allSatisfy { $0.verdict == .allowed && $0.note.isEmpty })
        }
    }
}
