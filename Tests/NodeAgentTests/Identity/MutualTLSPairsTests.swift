import AdminAPI
import BPFLoader
import L7Engine
import MeshModel
import Testing

@testable import NodeAgent

@Suite("Who talks to whom, and what of it is encrypted (malla mtls)")
struct MutualTLSPairsTests {
    private static func pod(_ name: String, _ node: String, _ address: String) -> Workload {
        Workload(
            name: ObjectName("shop", name + "-1"), serviceAccount: name, node: node, labels: [:],
            addresses: [IPAddress(address)!], interface: nil, isMeshed: true, workloadName: name)
    }

    private static let snapshot = SnapshotCompiler.compile(
        Mesh(
            nodes: [
                Node(name: "n1", addresses: [IPAddress("10.76.0.1")!]),
                Node(name: "n2", addresses: [IPAddress("10.76.0.2")!]),
            ],
            workloads: [
                pod("web", "n1", "10.1.0.1"), pod("cart", "n1", "10.1.0.2"),
                pod("stock", "n2", "10.2.0.1"),
            ],
            listeners: [
                Listener(
                    gateway: ObjectName("shop", "edge"), name: "http", addresses: [], port: 80,
                    hostname: nil, serviceAccount: "edge-malla")
            ],
            peerAuthentications: [
                PeerAuthentication(name: ObjectName("shop", "all"), mode: .strict)
            ]), node: "n1", version: 1)

    private static func end(_ address: String, _ port: UInt16) -> SocketAddress {
        SocketAddress(IPAddress(address)!, port)
    }

    private static func shown(_ flow: FlowEntry) -> [String] {
        var pairs = MutualTLSPairs(snapshot, trustDomain: .standard)
        pairs.note(flow)
        return pairs.items.map { "\($0.source) \($0.target) \($0.security) \($0.protocol)" }
    }

    private static let (web, cart, stock) = ("10.1.0.1", "10.1.0.2", "10.2.0.1")

    private static let rows: [(rule: String, flow: FlowEntry, shown: [String])] = [
        (
            "a tunnel that this node dialled",
            FlowEntry(
                source: end(web, 61_000), target: end(stock, 15_008),
                kind: "dialled", isTunnel: true), ["shop/web shop/stock mutual_tls HBONE"]
        ),
        (
            "what it carries is no second pair",
            FlowEntry(
                source: end(web, 40_000), target: end(stock, 5_432),
                kind: "captured", isCarried: true), []
        ),
        (
            "a tunnel that came",
            FlowEntry(
                source: end(stock, 61_000), target: end(cart, 15_008),
                kind: "captured", isTunnel: true), ["shop/stock shop/cart mutual_tls HBONE"]
        ),
        (
            "what the engine dials at its end",
            FlowEntry(
                source: end(stock, 63_300), target: end(cart, 8_080),
                kind: "dialled"), []
        ),
        (
            "two pods of this node",
            FlowEntry(
                source: end(web, 40_000), target: end(cart, 8_080), kind: "own"),
            ["shop/web shop/cart local TCP"]
        ),
        (
            "a service's address is nobody",
            FlowEntry(
                source: end(web, 40_000), target: end("10.96.0.1", 80),
                kind: "captured"), []
        ),
        (
            "plain to another node",
            FlowEntry(
                source: end(web, 61_001), target: end(stock, 8_080), kind: "dialled"),
            ["shop/web shop/stock none TCP"]
        ),
        (
            "UDP is as it is",
            FlowEntry(
                protocolNumber: 17, source: end(web, 40_000), target: end(stock, 53),
                kind: "own"), ["shop/web shop/stock none UDP"]
        ),
        (
            "ends that are no pods",
            FlowEntry(
                source: end("192.0.2.1", 40_000), target: end(cart, 8_080),
                kind: "own"), ["outside shop/cart none TCP"]
        ),
        (
            "a probe",
            FlowEntry(
                source: end("10.76.0.1", 40_000), target: end(cart, 8_080),
                kind: "own"), ["node n1 shop/cart local TCP"]
        ),
        (
            "what is over",
            FlowEntry(
                source: end(web, 40_000), target: end(cart, 8_080), kind: "own",
                state: "closed"), []
        ),
    ]

    @Test func `each kind of flow is what it is on the wire`() {
        for row in Self.rows { #expect(Self.shown(row.flow) == row.shown, "\(row.rule)") }
    }

    private static func id(_ account: String) -> String {
        "spiffe://cluster.local/ns/shop/sa/\(account)"
    }

    private static func tunnel(
        _ source: String, _ target: String, own: String, peer: String, isServer: Bool,
        open: Int = 1, endedAt: Int64 = 0
    ) throws -> TunnelRecord {
        TunnelRecord(
            ends: .init(
                isServer: isServer, source: IPAddress(source)!, target: IPAddress(target)!,
                own: try SPIFFEID(id(own)), peer: id(peer)), open: open, endedAt: endedAt)
    }

    @Test func `of a tunnel is said what its handshake has verified, whoever dialled`() throws {
        let tunnels = [
            try Self.tunnel(Self.web, Self.stock, own: "web", peer: "stock", isServer: false),
            // Where policy expects `stock`: what was proved is said, not what was meant.
            try Self.tunnel(Self.stock, Self.cart, own: "cart", peer: "other", isServer: true),
            try Self.tunnel("::", Self.stock, own: "edge-malla", peer: "stock", isServer: false),
            try Self.tunnel(
                "10.76.0.2", Self.cart, own: "cart", peer: "edge-malla", isServer: true),
            try Self.tunnel("192.0.2.9", Self.cart, own: "cart", peer: "host", isServer: true),
            try Self.tunnel(
                "10.76.0.2", Self.web, own: "web", peer: "host", isServer: true, open: 0,
                endedAt: 970),
        ]
        var pairs = MutualTLSPairs(
            Self.snapshot, trustDomain: .standard, tunnels: tunnels, at: 1_000)
        pairs.note(
            FlowEntry(
                source: Self.end(Self.web, 61_000), target: Self.end(Self.stock, 15_008),
                kind: "dialled", bytes: (10, 20), isTunnel: true))
        let shown = pairs.items.map {
            "\($0.source) \($0.target) \($0.flows) \($0.bytesSent) "
                + "\($0.peer.split(separator: "/").last ?? "") \($0.message)"
        }
        #expect(
            shown == [
                "gateway shop/edge shop/cart 1 0 edge-malla ",
                "gateway shop/edge shop/stock 1 0 stock ",
                "node n2 shop/web 0 0 host ended 30 s ago",
                "outside shop/cart 1 0 host ",
                "shop/stock shop/cart 1 0 other ",
                "shop/web shop/stock 1 10 stock ",
            ])
        let first = try #require(pairs.items.last)
        #expect(first.sourcePrincipal == Self.id("web") && first.targetPrincipal == first.peer)
        #expect(first.tlsVersion == "TLSv1.3" && first.cipher == "TLS_AES_128_GCM_SHA256")
    }

    @Test func `plain text from before the tunnels is called so, and what has ended goes`() {
        func shown(_ state: String, idle: Duration, _ domain: TrustDomain?) -> [String] {
            var flow = FlowEntry(
                source: Self.end(Self.web, 40_000), target: Self.end(Self.stock, 5_432),
                kind: "own", state: state)
            flow.idle = idle
            var pairs = MutualTLSPairs(Self.snapshot, trustDomain: domain)
            pairs.note(flow)
            return pairs.items.map { "\($0.security) \($0.message)" }
        }
        #expect(shown("open", idle: .seconds(60), .standard) == ["none older than the tunnels"])
        #expect(shown("open", idle: .zero, nil) == ["none "])
        #expect(shown("closing", idle: .seconds(60), .standard) == [])
        #expect(shown("closing", idle: .zero, .standard) == ["none older than the tunnels"])
    }

    @Test func `flows of a pair are added up, and the ends are named`() {
        var pairs = MutualTLSPairs(Self.snapshot, trustDomain: .standard)
        for port in UInt16(40_000)..<40_003 {
            pairs.note(
                FlowEntry(
                    source: Self.end("10.1.0.1", port), target: Self.end("10.1.0.2", 8_080),
                    kind: "own", bytes: (100, 1_000)))
        }
        #expect(
            pairs.items == [
                MutualTLSItem(
                    source: "shop/web", target: "shop/cart", security: "local", protocol: "TCP",
                    sourcePrincipal: "spiffe://cluster.local/ns/shop/sa/web",
                    targetPrincipal: "spiffe://cluster.local/ns/shop/sa/cart", mode: "STRICT",
                    flows: 3, bytesSent: 300, bytesReceived: 3_000)
            ])
    }
}
