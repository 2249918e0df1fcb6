internal import Foundation
internal import MeshConfig
internal import MeshModel
import Testing

@Suite("References are followed as Gateway API says")
struct ResolutionTests {
    static let base = ConfigStoreTests.shop.replacing("*.Example.com", with: "*.example.com")

    /// What a route with this spec amounts to: reasons of Accepted and ResolvedRefs of its first
    /// parent, and whether it is in the mesh.
    static let attachments: [(String, String, String, String, Bool)] = [
        ("whole gateway", "{parentRefs: [{name: edge}]}", "Accepted", "ResolvedRefs", true),
        (
            "section", "{parentRefs: [{name: edge, sectionName: web}]}", "Accepted", "ResolvedRefs",
            true
        ),
        (
            "no such section", "{parentRefs: [{name: edge, sectionName: x}]}", "NoMatchingParent",
            "ResolvedRefs", false
        ),
        ("port", "{parentRefs: [{name: edge, port: 8000}]}", "Accepted", "ResolvedRefs", true),
        (
            "no such port", "{parentRefs: [{name: edge, port: 8001}]}", "NoMatchingParent",
            "ResolvedRefs", false
        ),
        (
            "no such gateway", "{parentRefs: [{name: edges}]}", "NoMatchingParent", "ResolvedRefs",
            false
        ),
        (
            "hostname in common", "{parentRefs: [{name: edge}], hostnames: [a.example.com]}",
            "Accepted", "ResolvedRefs", true
        ),
        (
            "no hostname in common", "{parentRefs: [{name: edge}], hostnames: [example.com]}",
            "NoMatchingListenerHostname", "ResolvedRefs", false
        ),
        (
            "service", "{parentRefs: [{group: '', kind: Service, name: web, port: 80}]}",
            "Accepted",
            "ResolvedRefs", true
        ),
        (
            "service without port", "{parentRefs: [{group: '', kind: Service, name: web}]}",
            "Accepted", "ResolvedRefs", true
        ),
        (
            "service, no such port",
            "{parentRefs: [{group: '', kind: Service, name: web, port: 81}]}",
            "NoMatchingParent", "ResolvedRefs", false
        ),
        (
            "no such service", "{parentRefs: [{group: '', kind: Service, name: x}]}",
            "NoMatchingParent", "ResolvedRefs", false
        ),
        (
            "service elsewhere",
            "{parentRefs: [{group: '', kind: Service, name: web, namespace: other}]}",
            "UnsupportedValue", "ResolvedRefs", false
        ),
        (
            "no such backend",
            "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: x, port: 80}]}]}",
            "Accepted", "BackendNotFound", true
        ),
        (
            "no such backend port",
            "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 81}]}]}",
            "Accepted", "BackendNotFound", true
        ),
        (
            "backend elsewhere without grant",
            """
            {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: w, namespace: b, \
            port: 80}]}]}
            """,
            "Accepted", "RefNotPermitted", true
        ),
        (
            "backend of another kind",
            """
            {parentRefs: [{name: edge}], rules: [{backendRefs: [{group: a.b, kind: C, name: \
            w}]}]}
            """,
            "Accepted", "InvalidKind", true
        ),
    ]

    @Test(arguments: attachments) func `a route attaches or says why not`(
        _ rule: String, _ spec: String, _ accepted: String, _ resolved: String, _ isServed: Bool
    ) throws {
        let result = try TestDirectory.load(Self.base + ConfigStoreTests.route(spec: spec))
        let conditions = try #require(result.routeStatuses.first?.parents.first).conditions
        #expect(conditions.first { $0.type == "Accepted" }?.reason == accepted)
        #expect(conditions.first { $0.type == "ResolvedRefs" }?.reason == resolved)
        #expect(result.mesh.routes.isEmpty != isServed)
        #expect(!result.diagnostics.contains { $0.severity == .error })
        if accepted != "Accepted" || resolved != "ResolvedRefs" {
            #expect(result.diagnostics.contains { $0.category == .reference })
        }
    }

    /// route's hostnames, listener's hostname, what they have in common
    static let hostnames: [([String], String?, [String])] = [
        ([], nil, ["*"]),
        (["a.com"], nil, ["a.com"]),
        ([], "a.com", ["a.com"]),
        (["a.b.com", "b.com"], "*.b.com", ["a.b.com"]),
        (["*.b.com"], "x.b.com", ["x.b.com"]),
        (["*.x.b.com"], "*.b.com", ["*.x.b.com"]),
        (["*.b.com"], "*.x.b.com", ["*.x.b.com"]),
        (["b.com"], "*.b.com", []),
        (["ab.com"], "*.b.com", []),
    ]

    @Test(arguments: hostnames) func `hostnames intersect`(
        _ route: [String], _ listener: String?, _ common: [String]
    ) throws {
        let list = route.map { "'\($0)'" }.joined(separator: ", ")
        let text = Self.base.replacing(
            #", hostname: "*.example.com""#, with: listener.map { ", hostname: '\($0)'" } ?? "")
        let result = try TestDirectory.load(
            text
                + ConfigStoreTests.route(
                    spec: "{parentRefs: [{name: edge}], hostnames: [\(list)]}"))
        let attached = result.mesh.routes.first?.attachments ?? []
        #expect(attached == (common.isEmpty ? [] : [.listener(0, hostnames: common)]))
    }

    /// allowedRoutes, labels of the route's namespace, whether the route gets in
    static let allowed: [(String, String, Bool)] = [
        ("{}", "{}", false),
        ("{namespaces: {from: Same}}", "{}", false),
        ("{namespaces: {from: All}}", "{}", true),
        ("{namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}", "{a: b}", true),
        ("{namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}", "{a: c}", false),
        (
            """
            {namespaces: {from: Selector, selector: {matchLabels: \
            {kubernetes.io/metadata.name: far}}}}
            """,
            "{}", true
        ),
        (
            """
            {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: \
            In, values: [b]}]}}}
            """,
            "{a: b}", true
        ),
        (
            """
            {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: \
            NotIn, values: [b]}]}}}
            """,
            "{a: b}", false
        ),
        (
            """
            {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: \
            Exists}]}}}
            """,
            "{}", false
        ),
        (
            """
            {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: \
            DoesNotExist}]}}}
            """,
            "{}", true
        ),
        ("{namespaces: {from: All}, kinds: [{kind: HTTPRoute}]}", "{}", true),
        ("{namespaces: {from: All}, kinds: [{kind: GRPCRoute}]}", "{}", false),
    ]

    @Test(arguments: allowed) func `a listener lets in what allowedRoutes says`(
        _ allowed: String, _ labels: String, _ isIn: Bool
    ) throws {
        let text =
            Self.base.replacing(
                "protocol: HTTP,", with: "protocol: HTTP, allowedRoutes: \(allowed),")
            + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: far, labels: \(labels)}\n"
            + ConfigStoreTests.route(spec: "{parentRefs: [{name: edge, namespace: shop}]}")
            .replacing("namespace: shop}\n", with: "namespace: far}\n")
        let result = try TestDirectory.load(text)
        let status = try #require(result.routeStatuses.first)
        #expect(status.name.namespace == "far")
        #expect(status.parents[0].isAccepted == isIn)
        #expect(isIn || status.parents[0].conditions[0].reason == "NotAllowedByListeners")
    }

    /// to, from's namespace, whether the backend is reached
    static let grants: [(String, String, Bool)] = [
        ("{group: '', kind: Service}", "shop", true),
        ("{group: '', kind: Service, name: w}", "shop", true),
        ("{group: '', kind: Service, name: x}", "shop", false),
        ("{group: '', kind: Secret}", "shop", false),
        ("{group: '', kind: Service}", "other", false),
    ]

    @Test(arguments: grants, ["v1", "v1beta1"]) func `a ReferenceGrant opens a namespace`(
        _ row: (to: String, from: String, isReached: Bool), _ version: String
    ) throws {
        let text =
            Self.base + """
                ---
                apiVersion: v1
                kind: Service
                metadata: {name: w, namespace: b}
                spec: {ports: [{port: 80}]}
                ---
                apiVersion: gateway.networking.k8s.io/\(version)
                kind: ReferenceGrant
                metadata: {name: g, namespace: b}
                spec:
                  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace:
                    \(row.from)}]
                  to: [\(row.to)]

                """
            + ConfigStoreTests.route(
                spec:
                    """
                    {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: w, \
                    namespace: b, port: 80}]}]}
                    """
            )
        let result = try TestDirectory.load(text)
        let target = try #require(result.mesh.routes.first?.rules[0].backends[0].target)
        if case .service = target {
            #expect(row.isReached)
        } else {
            #expect(!row.isReached)
        }
    }

    /// gateway spec, listeners served, reason of Accepted
    static let gateways: [(String, Int, String)] = [
        ("listeners: [{name: a, port: 80, protocol: HTTP}]", 1, "Accepted"),
        (
            """
            listeners: [{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: \
            [{name: c}]}}]
            """,
            0, "ListenersNotValid"
        ),
        (
            "listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 81, protocol: UDP}]",
            1,
            "ListenersNotValid"
        ),
        (
            "addresses: [{value: 10.0.0.9}], listeners: [{name: a, port: 80, protocol: HTTP}]", 1,
            "Accepted"
        ),
        (
            """
            addresses: [{type: Hostname, value: a.com}], listeners: [{name: a, port: 80, \
            protocol: HTTP}]
            """,
            0, "UnsupportedAddress"
        ),
        (
            "listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: UDP}]",
            0,
            "ListenersNotValid"
        ),
    ]

    @Test(arguments: gateways) func `a Gateway is served or says why not`(
        _ spec: String, _ served: Int, _ reason: String
    ) throws {
        let result = try TestDirectory.load(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\n"
                + "spec: {gatewayClassName: malla, \(spec)}\n")
        let status = try #require(result.gatewayStatuses.first)
        #expect(result.mesh.listeners.count == served)
        #expect(status.conditions.map(\.type) == ["Accepted", "Programmed"])
        #expect(status.conditions[0].reason == reason)
        #expect((status.conditions[1].status == .isTrue) == (served > 0))
    }

    @Test func `a Gateway has the account that Istio would give it, or the one it names`() throws {
        func account(_ annotations: String) throws -> [String] {
            let text =
                "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
                + "metadata: {name: edge, namespace: shop, annotations: \(annotations)}\n"
                + "spec: {gatewayClassName: malla, listeners: [{name: a, port: 80, protocol: HTTP}]}"
            return try TestDirectory.load(text).mesh.listeners.map(\.account.description)
        }
        #expect(try account("{}") == ["shop/edge-malla"])
        #expect(try account("{gateway.istio.io/service-account: door}") == ["shop/door"])
    }

    @Test func `a Gateway of another class is ignored and named, with its routes`() throws {
        let text = Self.base.replacing(
            "malla.io/gateway-controller", with: "istio.io/gateway-controller")
        let result = try TestDirectory.load(text + ConfigStoreTests.plainRoute)
        #expect(result.mesh.listeners.isEmpty && result.gatewayStatuses.isEmpty)
        let named = result.diagnostics.filter { $0.category == .ignored }.map(\.object)
        #expect(named == ["GatewayClass edge-class", "Gateway shop/edge", "HTTPRoute shop/web"])
    }

    /// What is in a Gateway of another class, valid or not
    static let foreign = [
        "listeners: [{name: a, port: 443, protocol: HTTPS, tls: {mode: Terminate, options: {a: b}}}]",
        "infrastructure: {parametersRef: {group: a, kind: B, name: c}}, listeners: []",
        "listeners: [{name: a, port: 99999, protocol: HTTP, colour: red}]",
    ]

    @Test(arguments: foreign) func `what is in a Gateway of another class is its controller's`(
        _ spec: String
    ) throws {
        let result = try TestDirectory.load(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\n"
                + "spec: {gatewayClassName: istio, \(spec)}\n"
                + ConfigStoreTests.route(spec: "{parentRefs: [{name: g, namespace: default}]}"))
        #expect(result.diagnostics.map(\.category) == [.ignored, .ignored])
        #expect(result.gatewayStatuses.isEmpty && result.routeStatuses.isEmpty)
    }

    @Test func `a refused route or Gateway without a good version has a status that says why`()
        throws
    {
        let directory = TestDirectory()
        directory.write(
            "a.yaml",
            Self.base.replacing("port: 8000", with: "port: 80000")
                + ConfigStoreTests.route(
                    spec: "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: 5}]}]}")
                + ConfigStoreTests.route("parentless", spec: "{parentRefs: 7}"))
        var store = ConfigStore(directory: directory.path)
        let result = try store.reload()
        let route = try #require(result.routeStatuses.first { $0.name.name == "web" })
        let condition = try #require(route.parents.first?.conditions.first)
        #expect(route.parents[0].name.name == "edge" && !route.parents[0].isAccepted)
        #expect(condition.reason == "UnsupportedValue" && condition.message.contains("backendRefs"))
        #expect(condition.message.hasPrefix("a.yaml:"))
        let other = try #require(result.routeStatuses.first { $0.name.name == "parentless" })
        #expect(other.parents.isEmpty && other.refusal?.status == .isFalse)
        let gateway = try #require(result.gatewayStatuses.first)
        #expect(gateway.conditions.map(\.status) == [.isFalse, .isFalse])
        #expect(gateway.conditions[0].message.contains("spec.listeners[0].port"))

        // With a good version in force the status is that version's.
        directory.write("a.yaml", Self.base + ConfigStoreTests.plainRoute)
        _ = try store.reload()
        directory.write("a.yaml", Self.base + ConfigStoreTests.route(spec: "{parentRefs: 7}"))
        let kept = try store.reload()
        #expect(kept.routeStatuses.map(\.refusal) == [nil])
        #expect(kept.routeStatuses[0].parents[0].isAccepted)
    }

    /// appProtocol and port name, whether a route names the port, the field that is named, captured
    static let unspoken: [(String, String, Bool, String?, Bool)] = [
        ("", "http", false, nil, true), ("", "grpc", false, "name", false),
        ("", "http2-a", false, "name", false),
        ("kubernetes.io/h2c", "x", false, "appProtocol", false),
        ("grpc", "x", true, "appProtocol", true), ("tcp", "grpc", false, nil, false),
        ("http", "grpc", false, nil, true), ("tcp", "x", true, nil, true),
    ]

    @Test(arguments: unspoken)
    func `HTTP that the engine does not speak stays in the kernel and is named`(
        _ application: String, _ name: String, _ isRouted: Bool, _ field: String?, _ captured: Bool
    ) throws {
        let result = try TestDirectory.load(
            "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\nspec: {clusterIP: "
                + "10.96.0.9, ports: [{port: 80, name: \(name), appProtocol: '\(application)'}]}\n"
                + (isRouted
                    ? ConfigStoreTests.route(
                        spec: "{parentRefs: [{group: '', kind: Service, name: s, port: 80}]}") : "")
        )
        let named = result.diagnostics.filter { $0.category == .unsupported }
        #expect(named.map(\.field) == (field.map { ["spec.ports[0]." + $0] } ?? []))
        #expect(named.allSatisfy { $0.severity == .warning })
        #expect(named.allSatisfy { $0.message.contains("505") == isRouted })
        let snapshot = SnapshotCompiler.compile(result.mesh, node: "n1", version: 1)
        #expect(snapshot.ports.map(\.isCaptured) == [captured])
    }

    @Test func `the older of two Gateways on one socket wins`() throws {
        func gateway(_ name: String, _ created: String) -> String {
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
                + "metadata: {name: \(name), creationTimestamp: \"\(created)\"}\n"
                    + """
                    spec: {gatewayClassName: malla, listeners: [{name: a, port: 80, protocol: \
                    HTTP}]}\n---\n
                    """
        }
        let result = try TestDirectory.load(
            gateway("a", "2026-02-01T00:00:00Z") + gateway("b", "2026-01-01T00:00:00+01:00"))
        #expect(result.mesh.listeners.map(\.gateway.name) == ["b"])
        let loser = try #require(result.gatewayStatuses.first { $0.name.name == "a" })
        #expect(loser.listeners[0].conditions.contains { $0.reason == "HostnameConflict" })
    }

    @Test func `filters become values, and those this build lacks become 500`() throws {
        let result = try TestDirectory.load(
            Self.base
                + ConfigStoreTests.route(
                    spec: """
                        {parentRefs: [{name: edge}], rules: [{
                          matches: [{path: {value: /a/}}],
                          filters: [
                            {type: RequestHeaderModifier, requestHeaderModifier: {set:
                              [{name: X-A, value: b}], remove: [c]}},
                            {type: URLRewrite, urlRewrite: {hostname: b.com, path: {type:
                              ReplacePrefixMatch, replacePrefixMatch: /c}}}],
                          timeouts: {request: 1m30s, backendRequest: 500ms},
                          backendRefs: [{name: web, port: 80, weight: 3}]},
                         {filters: [{type: CORS, cors: {allowOrigins: ["*"]}}], retry:
                           {attempts: 2}}]}
                        """))
        let rules = try #require(result.mesh.routes.first).rules
        #expect(rules[0].matches == [HTTPRouteMatch(path: .prefix("/a"))])
        #expect(
            rules[0].filters == [
                .requestHeaders(.init(set: [.init(name: "X-A", value: "b")], remove: ["c"])),
                .rewrite(.init(hostname: "b.com", path: .replacePrefixMatch("/c"))),
            ])
        #expect(rules[0].requestTimeoutMilliseconds == 90_000)
        #expect(rules[0].backendTimeoutMilliseconds == 500)
        #expect(rules[0].backends == [RouteBackend(target: .service(0, port: 0), weight: 3)])
        #expect(rules[1].filters == [.unsupported("CORS")])
        let named = result.diagnostics.filter { $0.category == .unsupported }.map(\.field)
        #expect(named.sorted() == ["spec.rules[1].filters[0].cors", "spec.rules[1].retry"])
        #expect(
            result.routeStatuses[0].parents[0].conditions.contains { $0.type == "PartiallyInvalid" }
        )
    }

    @Test(arguments: ["set: [{name: Host, value: b}]", "remove: [content-length]"])
    func `a filter of a field that is the connection's is named`(_ change: String) throws {
        let result = try TestDirectory.load(
            Self.base
                + ConfigStoreTests.route(
                    spec: """
                        {parentRefs: [{name: edge}], rules: [{filters: [
                          {type: RequestHeaderModifier, requestHeaderModifier: {\(change)}}],
                          backendRefs: [{name: web, port: 80}]}]}
                        """))
        let named = result.diagnostics.filter { $0.category == .unsupported }
        #expect(named.map(\.field) == ["spec.rules[0].filters[0]"])
        #expect(named.allSatisfy { $0.message.hasSuffix("answered with 500") })
        #expect(
            result.routeStatuses[0].parents[0].conditions.contains { $0.type == "PartiallyInvalid" }
        )
    }
}
