import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("Who is reached how, from one configuration to the next")
struct MeshPeersTests {
    private static let table = MeshTable(contexts: [:], trustDomain: nil, trust: MeshTrust([:]))
    private static let own = SocketAddress(IPAddress("10.77.1.10")!, 8080)
    private static let far = SocketAddress(IPAddress("10.77.2.10")!, 8080)
    private static let later = SocketAddress(IPAddress("10.77.2.11")!, 8080)

    private static func mesh(_ endpoints: [SocketAddress]) -> Mesh {
        var workloads = [own, far, later].enumerated().map { index, address in
            Workload.client("shop", "pod\(index)", "\(address.address)")
        }
        for index in workloads.indices { workloads[index].node = index == 0 ? "a" : "b" }
        let port = ServicePort(
            name: "http", port: 80, application: .http,
            endpoints: endpoints.map { Endpoint(address: $0, node: $0 == own ? "a" : "b") })
        return Mesh(
            nodes: [Node(name: "a", addresses: []), Node(name: "b", addresses: [])],
            workloads: workloads,
            services: [
                Service(
                    name: ObjectName("shop", "s"), addresses: [IPAddress("10.96.0.1")!],
                    ports: [port])
            ])
    }

    @Test func `endpoints that come and go are known as in a configuration of their own`() {
        let steps: [[SocketAddress]] = [
            [Self.far], [Self.far, Self.later], [Self.far, Self.own], [Self.own], [Self.own],
            [], [Self.own, Self.later],
        ]
        var snapshot: Snapshot?
        var peers: MeshPeers?
        for (number, endpoints) in steps.enumerated() {
            let next = SnapshotCompiler.compile(
                Self.mesh(endpoints), node: "a", version: UInt64(number + 1), after: snapshot)
            let fresh = MeshPeers(Self.table, next)
            let grown = MeshPeers(Self.table, next, after: peers)
            #expect(grown.inbound(Self.own) == fresh.inbound(Self.own), "step \(number)")
            #expect((fresh.inbound(Self.own) != nil) == endpoints.contains(Self.own))
            #expect(grown.inbound(Self.far) == nil)
            (snapshot, peers) = (next, grown)
        }
    }

    @Test func `a snapshot that was left out is no reason to know less`() {
        let first = SnapshotCompiler.compile(Self.mesh([Self.far]), node: "a", version: 1)
        let peers = MeshPeers(Self.table, first)
        let skipped = SnapshotCompiler.compile(
            Self.mesh([Self.far, Self.own]), node: "a", version: 2, after: first)
        let last = SnapshotCompiler.compile(
            Self.mesh([Self.later, Self.own]), node: "a", version: 3, after: skipped)
        #expect(MeshPeers(Self.table, last, after: peers).inbound(Self.own) != nil)
    }

    @Test func `only pods of other nodes are reached by tunnels`() {
        let snapshot = SnapshotCompiler.compile(
            Self.mesh([Self.far]), node: "a", version: 1)
        let peers = MeshPeers(Self.table, snapshot)
        func isPlain(_ client: Int32, _ to: SocketAddress) -> Bool {
            let workload = peers.workload(at: to.address)
            return if case .plain = peers.way(from: client, to: workload, port: to.port) {
                true
            } else {
                false
            }
        }
        #expect(isPlain(0, Self.own))
        // Without a certificate there is no way, and never a plain one.
        #expect(!isPlain(0, Self.far))
        #expect(isPlain(-1, Self.far))
        #expect(peers.serves(Self.own.address) && !peers.serves(Self.far.address))
    }

    @Test func `another intermediate above the same leaf is shown from then on`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let svid = try authority.svid("spiffe://cluster.local/ns/shop/sa/web")
        let roots = PEM.blocks(authority.bundle)
        let bundle = TrustBundle(trustDomain: .standard, roots: roots)
        var store = MeshStore()
        func shown(_ chain: [[UInt8]]) -> UInt32? {
            let svid = X509SVID(
                id: svid.id, chain: chain, key: svid.key, notBefore: svid.notBefore,
                notAfter: svid.notAfter)
            store.adopt(Credentials(svids: [svid.id: svid], bundles: [.standard: bundle]))
            return store.table?.contexts[svid.id]?.number
        }
        let first = shown(svid.chain)
        #expect(first != nil && shown(svid.chain) == first)
        let second = shown(svid.chain + roots)
        #expect(second != nil && second != first)
    }

    /// Two Gateways share a port by hostname, each with a certificate of its own or none.
    @Test func `a Gateway goes by tunnels to pods of other nodes, each as itself`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let id = "spiffe://cluster.local/ns/edge/sa/one-malla"
        var store = MeshStore()
        let svid = try authority.svid(id)
        store.adopt(
            Credentials(
                version: 1, svids: [svid.id: svid],
                bundles: [
                    .standard: TrustBundle(
                        trustDomain: .standard, roots: PEM.blocks(authority.bundle))
                ]))
        var mesh = Self.mesh([Self.far])
        mesh.listeners = ["one", "two"].map { name in
            Listener(
                gateway: ObjectName("edge", name), name: "http", addresses: [], port: 80,
                hostname: "\(name).example", serviceAccount: name + "-malla")
        }
        let table = try #require(store.table)
        func shown(_ scope: Int32, _ to: SocketAddress, _ mesh: Mesh) -> String {
            let snapshot = SnapshotCompiler.compile(mesh, node: "a", version: 1)
            let peers = MeshPeers(table, snapshot)
            let workload = peers.workload(at: to.address)
            return
                switch peers.way(
                    fromGateway: 0, scope: scope, to: workload, port: to.port)
            {
            case .plain: "plain"
            case .unavailable: "unavailable"
            case .tunnel(let contexts): contexts.id.description
            }
        }
        #expect(shown(0, Self.far, mesh) == id)
        #expect(shown(1, Self.far, mesh) == "unavailable")
        #expect(shown(0, Self.own, mesh) == "plain")
        mesh.peerAuthentications = [
            PeerAuthentication(name: ObjectName("shop", "all"), mode: .disable)
        ]
        #expect(shown(0, Self.far, mesh) == "plain")
        // Known from any node, whoever has the certificate.
        let peers = MeshPeers(
            table, SnapshotCompiler.compile(mesh, node: "b", version: 1))
        #expect(peers.isGateway(id))
        #expect(peers.isGateway("spiffe://cluster.local/ns/edge/sa/two-malla"))
        #expect(!peers.isGateway("spiffe://cluster.local/ns/shop/sa/one-malla"))
        #expect(!peers.isGateway("spiffe://elsewhere/ns/edge/sa/one-malla"))
    }

    /// Who shows what from where, by where the Nodes say that pods are, and whether it is believed.
    struct Shown: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var account = "web"
        var address = "192.0.2.1"
        var blocks = [["10.77.1.0/24"], ["10.77.2.0/24"]]
        var isBelieved = true
    }

    static let shown = [
        Shown(testDescription: "a pod's identity outside of all blocks", isBelieved: false),
        Shown(testDescription: "in a block, which a new pod may be in", address: "10.77.2.200"),
        Shown(testDescription: "an identity that no pod has", account: "edge"),
        Shown(testDescription: "a Gateway's, though a pod has it, too", account: "gate"),
        Shown(testDescription: "a pod that is known", address: "10.77.1.10"),
        Shown(
            testDescription: "another pod's, from one that is known", account: "gate",
            address: "10.77.1.10", isBelieved: false),
        Shown(testDescription: "no blocks are known", blocks: [[], []]),
        Shown(testDescription: "of one node none is known", blocks: [["10.77.0.0/16"], []]),
        Shown(
            testDescription: "pods have addresses elsewhere",
            blocks: [["10.77.1.0/24"], ["10.77.9.0/24"]]),
        Shown(testDescription: "no blocks of this family are known", address: "2001:db8::1"),
        Shown(
            testDescription: "outside of all blocks of this family", address: "2001:db8::1",
            blocks: [["fd00:1::/64"], ["fd00:2::/64"]], isBelieved: false),
        Shown(
            testDescription: "in a block of this family", address: "fd00:2::9",
            blocks: [["fd00:1::/64"], ["fd00:2::/64"]]),
    ]

    @Test(arguments: shown) func `a pod's identity is believed where a pod may be`(_ row: Shown) {
        var mesh = Self.mesh([Self.far])
        for (index, account) in ["web", "gate", "web"].enumerated() {
            mesh.workloads[index].serviceAccount = account
        }
        mesh.listeners = [
            Listener(
                gateway: ObjectName("shop", "one"), name: "http", addresses: [], port: 80,
                hostname: "one.example", serviceAccount: "gate")
        ]
        for (index, blocks) in row.blocks.enumerated() {
            mesh.nodes[index].podBlocks = blocks.map { IPPrefix($0)! }
        }
        let table = MeshTable(contexts: [:], trustDomain: .standard, trust: MeshTrust([:]))
        let peers = MeshPeers(table, SnapshotCompiler.compile(mesh, node: "a", version: 1))
        #expect(
            peers.believes(
                "spiffe://cluster.local/ns/shop/sa/\(row.account)", at: IPAddress(row.address)!)
                == row.isBelieved)
    }
}
