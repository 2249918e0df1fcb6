import MeshModel
import Testing

@Suite("The rule that came nearest to allowing a flow")
struct PolicyNearestTests {
    private static func pod(
        _ namespace: String, _ name: String, _ address: UInt32, _ labels: [String: String],
        ports: [NamedPort] = []
    ) -> Workload {
        Workload(
            name: ObjectName(namespace, name), serviceAccount: "", node: "n1", labels: labels,
            addresses: [IPAddress(v4: address)], interface: nil, isMeshed: true,
            workloadName: name, ports: ports)
    }

    private static let db: UInt32 = 0x0a01_0001
    private static let web: UInt32 = 0x0a01_0002
    private static let far: UInt32 = 0x0a01_0003
    private static let world: UInt32 = 0xc000_0201

    /// The policies of shop/db's ingress.
    private static func snapshot(_ policies: [NetworkPolicy]) -> Snapshot {
        SnapshotCompiler.compile(
            Mesh(
                workloads: [
                    pod("shop", "db", db, ["app": "db"], ports: [NamedPort("sql", .tcp, 5432)]),
                    pod("shop", "web", web, ["app": "web"]),
                    pod("prod", "web", far, ["app": "web"]),
                ], policies: policies, namespaces: ["prod": ["team": "blue"]]),
            node: "n1", version: 1)
    }

    private static func policy(
        _ name: String, _ rules: [PolicyRule], isAudited: Bool = false
    ) -> NetworkPolicy {
        NetworkPolicy(
            name: ObjectName("shop", name),
            subject: PodSelection(.named("shop"), LabelSelector(["app": "db"])), ingress: rules,
            isAudited: isAudited)
    }

    private static func pods(_ namespace: String, _ labels: [String: String]) -> PolicyPeer {
        .pods(PodSelection(.named(namespace), LabelSelector(labels)))
    }

    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let rules: [PolicyRule]
        let peer: UInt32
        let port: UInt16
        let nearest: Int?
        let why: String

        init(
            _ name: String, _ rules: [PolicyRule], from peer: UInt32, port: UInt16 = 5432,
            nearest: Int? = 0, _ why: String
        ) {
            testDescription = name
            self.rules = rules
            self.peer = peer
            self.port = port
            self.nearest = nearest
            self.why = why
        }
    }

    static let rows = [
        Row(
            "a label is missing", [PolicyRule(peers: [pods("shop", ["app": "api"])])], from: web,
            "shop/web is not app=api"),
        Row(
            "another namespace", [PolicyRule(peers: [pods("shop", ["app": "web"])])], from: far,
            "prod/web is not in namespace shop"),
        Row(
            "labels of the namespace",
            [
                PolicyRule(peers: [
                    .pods(PodSelection(.selected(LabelSelector(["team": "red"]))))
                ])
            ], from: far, "namespace prod is not team=red"),
        Row(
            "no pod", [PolicyRule(peers: [pods("shop", ["app": "web"])])], from: world,
            "192.0.2.1 is no pod"),
        Row(
            "another port",
            [
                PolicyRule(
                    peers: [pods("shop", [:])],
                    ports: [PolicyPort(.tcp, .range(80...80)), PolicyPort(.udp, .any)])
            ], from: web, "port 5432/TCP is not among 80/TCP, any/UDP"),
        Row(
            "a named port of the receiver", [PolicyRule(ports: [PolicyPort(.tcp, .named("sql"))])],
            from: web, port: 80, "port 80/TCP is not among sql/TCP"),
        Row(
            "peer and port",
            [
                PolicyRule(
                    peers: [pods("shop", ["app": "api"])],
                    ports: [PolicyPort(.tcp, .range(8000...8010))])
            ], from: web,
            "shop/web is not app=api; port 5432/TCP is not among 8000-8010/TCP"),
        Row(
            "the nearer of two rules",
            [
                PolicyRule(
                    peers: [pods("shop", ["app": "api", "tier": "back"])],
                    ports: [PolicyPort(.tcp, .range(80...80))]),
                PolicyRule(
                    peers: [pods("shop", ["app": "api"])],
                    ports: [PolicyPort(.tcp, .named("sql"))]),
            ], from: web, nearest: 1, "shop/web is not app=api"),
        Row(
            "the nearer of two peers",
            [
                PolicyRule(peers: [
                    pods("prod", ["app": "api"]),
                    .network(
                        IPPrefix(IPAddress(v4: 0x0a01_0000), length: 112),
                        except: [IPPrefix(IPAddress(v4: web))]),
                ])
            ], from: web, "10.1.0.2 is excepted by 10.1.0.2/32"),
        Row(
            "another block",
            [
                PolicyRule(peers: [
                    .network(IPPrefix(IPAddress(v4: 0x0a01_0000), length: 112), except: [])
                ])
            ], from: world, "192.0.2.1 is not in 10.1.0.0/16"),
        Row("nothing is allowed", [], from: web, nearest: nil, ""),
    ]

    @Test(arguments: rows) func `ingress of a database`(_ row: Row) throws {
        let snapshot = Self.snapshot([Self.policy("db", row.rules)])
        let found = snapshot.nearest(
            workload: 0, .ingress, peer: IPAddress(v4: row.peer), transport: 6, port: row.port)
        #expect(found?.why ?? "" == row.why)
        #expect(
            found?.rule.description
                == row.nearest.map { "NetworkPolicy shop/db ingress[\($0)]" })
        #expect(snapshot.policyTitles(ofWorkload: 0, .ingress) == ["NetworkPolicy shop/db"])
        #expect(snapshot.policyTitles(ofWorkload: 0, .egress) == [])
    }

    @Test func `policies on trial are asked only about what they themselves deny`() {
        let rules = [PolicyRule(peers: [Self.pods("shop", ["app": "api"])])]
        let snapshot = Self.snapshot([Self.policy("db", rules, isAudited: true)])
        func nearest(_ isAudited: Bool) -> PolicyNearest? {
            snapshot.nearest(
                workload: 0, .ingress, peer: IPAddress(v4: Self.web), transport: 6, port: 80,
                isAudited: isAudited)
        }
        #expect(nearest(false) == nil)
        #expect(nearest(true)?.why == "shop/web is not app=api")
    }

    @Test func `an echo has no port that a rule could name`() {
        let rules = [PolicyRule(ports: [PolicyPort(.tcp, .any)])]
        let found = Self.snapshot([Self.policy("db", rules)]).nearest(
            workload: 0, .ingress, peer: IPAddress(v4: Self.web), transport: 1, port: 0)
        #expect(found?.why == "it allows ports only")
    }
}
