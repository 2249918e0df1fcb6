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
}
