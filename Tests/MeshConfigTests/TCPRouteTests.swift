internal import MeshConfig
internal import MeshModel
import Testing

@Suite("TCPRoute (Gateway API v1)")
struct TCPRouteTests {
    private static let base = """
        apiVersion: v1
        kind: Service
        metadata: {name: db, namespace: shop}
        spec: {clusterIP: 10.96.0.9, ports: [{name: tcp, port: 5432}, {name: u, port: 53, protocol: UDP}]}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: db2, namespace: shop}
        spec: {clusterIP: 10.96.0.10, ports: [{name: tcp, port: 5432}]}
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: shop}
        spec:
          gatewayClassName: malla
          listeners:
            - {name: sql, protocol: TCP, port: 5432}
            - {name: web, protocol: HTTP, port: 80}

        """
    private static let toDB = "rules: [{backendRefs: [{name: db2, port: 5432}]}]"

    private static func route(
        _ spec: String, kind: String = "TCPRoute", name: String = "r", version: String = "v1"
    ) -> String {
        """
        ---
        apiVersion: gateway.networking.k8s.io/\(version)
        kind: \(kind)
        metadata: {name: \(name), namespace: shop}
        spec: {\(spec)}

        """
    }

    /// rule, parentRef, reason of Accepted
    static let parents: [(String, String, String)] = [
        ("listener", "{name: edge, sectionName: sql}", "Accepted"),
        ("whole Gateway: its TCP listener", "{name: edge}", "Accepted"),
        ("listener of HTTP", "{name: edge, sectionName: web}", "NotAllowedByListeners"),
        ("Service", "{group: '', kind: Service, name: db, port: 5432}", "Accepted"),
        ("port of UDP", "{group: '', kind: Service, name: db, port: 53}", "NoMatchingParent"),
    ]

    @Test(arguments: parents) func `attaches where TCP is, and says why not elsewhere`(
        _ rule: String, _ parent: String, _ reason: String
    ) throws {
        let result = try TestDirectory.load(
            Self.base + Self.route("parentRefs: [\(parent)], \(Self.toDB)"))
        let status = try #require(result.routeStatuses.first)
        #expect(status.kind == "TCPRoute")
        #expect(status.parents[0].conditions[0].reason == reason, "\(rule)")
        #expect(result.mesh.routes.contains { $0.isTCP } == (reason == "Accepted"))
        #expect(!result.diagnostics.contains { $0.severity == .error }, "\(result.diagnostics)")
    }

    @Test func `an HTTPRoute does not attach to a listener of TCP`() throws {
        let result = try TestDirectory.load(
            Self.base
                + Self.route(
                    "parentRefs: [{name: edge, sectionName: sql}], \(Self.toDB)",
                    kind: "HTTPRoute"))
        let status = try #require(result.routeStatuses.first)
        #expect(status.parents[0].conditions[0].reason == "NotAllowedByListeners")
        let listeners = try #require(result.gatewayStatuses.first).listeners
        #expect(listeners.map(\.supportedKinds) == [["TCPRoute"], ["HTTPRoute"]])
        #expect(listeners.map(\.attachedRoutes) == [0, 0])
    }

    /// what is wrong, spec
    static let refused: [(String, String)] = [
        ("no rule", "parentRefs: [{name: edge}]"),
        (
            "two rules",
            "rules: [{backendRefs: [{name: db, port: 1}]}, {backendRefs: [{name: db, port: 1}]}]"
        ),
        ("no backend", "rules: [{backendRefs: []}]"),
        ("no port", "rules: [{backendRefs: [{name: db}]}]"),
    ]

    @Test(arguments: refused) func `is refused whole where its schema says so`(
        _ what: String, _ spec: String
    ) throws {
        let result = try TestDirectory.load(Self.base + Self.route(spec))
        #expect(result.mesh.routes.isEmpty, "\(what)")
        #expect(result.diagnostics.contains { $0.severity == .error })
        #expect(result.routeStatuses.first?.refusal?.reason == "UnsupportedValue")
    }

    @Test func `captures its port, unless HTTPRoutes have it, and the oldest of several counts`()
        throws
    {
        let service = "parentRefs: [{group: '', kind: Service, name: db, port: 5432}]"
        let second = "rules: [{backendRefs: [{name: db, port: 5432}]}]"
        func port(_ text: String) throws -> (SnapshotPort, Snapshot) {
            let mesh = try TestDirectory.load(Self.base + text).mesh
            let snapshot = SnapshotCompiler.compile(mesh, node: "n", version: 1)
            return (snapshot.ports[0], snapshot)
        }
        #expect(try port("").0.isCaptured == false)
        let both =
            Self.route("\(service), \(Self.toDB)", name: "a")
            + Self.route("\(service), \(second)", name: "b", version: "v1alpha2")
        let (routed, snapshot) = try port(both)
        #expect(routed.isCaptured && routed.speech == .opaque)
        let table = snapshot.routeTables[try #require(routed.routeTable)].compiled
        #expect(table.rules.count == 1)
        let target = snapshot.ports[Int(table.backends[0].port)].service
        #expect(target == ObjectName("shop", "db2"))
        let (web, _) = try port(
            both + Self.route("\(service), \(Self.toDB)", kind: "HTTPRoute", name: "h"))
        #expect(web.speech == .detected && !web.isTCPRouted)
    }

    @Test func `a socket of TCP is told from one of HTTP, and the older Gateway has it`() throws {
        let other = """
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata: {name: later, namespace: shop}
            spec:
              gatewayClassName: malla
              listeners: [{name: web, protocol: HTTP, port: 5432, hostname: a.b}]

            """
        let result = try TestDirectory.load(Self.base + other)
        let later = try #require(result.gatewayStatuses.first { $0.name.name == "later" })
        #expect(
            later.listeners[0].conditions.contains {
                $0.type == "Conflicted" && $0.reason == "ProtocolConflict"
            })
        let snapshot = SnapshotCompiler.compile(result.mesh, node: "n", version: 1)
        #expect(snapshot.gatewaySockets.map(\.isTCP) == [true, false])
        #expect(snapshot.gatewaySockets.map(\.port) == [5432, 80])
    }
}
