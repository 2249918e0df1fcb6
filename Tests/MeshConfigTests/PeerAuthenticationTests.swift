import MeshConfig
import MeshModel
import Testing

@Suite("PeerAuthentication objects are read as Istio reads them")
struct PeerAuthenticationTests {
    @Test func `selector, mode and ports reach the mesh`() throws {
        let result = try TestDirectory.load(
            """
            apiVersion: security.istio.io/v1
            kind: PeerAuthentication
            metadata:
              name: web
              namespace: shop
              creationTimestamp: "2026-01-02T03:04:05Z"
            spec:
              selector: {matchLabels: {app: web}}
              mtls: {mode: PERMISSIVE}
              portLevelMtls:
                8080: {mode: DISABLE}
                9090: {mode: UNSET}
                9091: {}
            ---
            apiVersion: security.istio.io/v1beta1
            kind: PeerAuthentication
            metadata: {name: default, namespace: istio-system}
            spec: {}
            """)
        #expect(result.diagnostics == [])
        #expect(
            result.mesh.peerAuthentications == [
                PeerAuthentication(name: ObjectName("istio-system", "default")),
                PeerAuthentication(
                    name: ObjectName("shop", "web"), created: 1_767_323_045,
                    selector: LabelSelector(["app": "web"]), mode: .permissive,
                    ports: [8080: .disable, 9090: nil, 9091: nil]),
            ])
    }

    /// rule, spec, field, what is said of it
    static let refused: [(String, String, String, String)] = [
        ("mode", "{mtls: {mode: strict}}", "spec.mtls.mode", "is not one of"),
        (
            "ports want a selector", "{portLevelMtls: {80: {mode: STRICT}}}", "spec.portLevelMtls",
            "needs a selector"
        ),
        (
            "an empty selector is none",
            "{selector: {matchLabels: {}}, portLevelMtls: {80: {mode: STRICT}}}",
            "spec.portLevelMtls", "needs a selector"
        ),
        (
            "port 0", "{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {mode: STRICT}}}",
            "spec.portLevelMtls[0]", "no port"
        ),
        (
            "a port's name",
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {http: {mode: STRICT}}}",
            "spec.portLevelMtls[http]", "no port"
        ),
        (
            "a port's mode",
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: MUTUAL}}}",
            "spec.portLevelMtls[80].mode", "is not one of"
        ),
        (
            "no ports at all", "{selector: {matchLabels: {a: b}}, portLevelMtls: {}}",
            "spec.portLevelMtls", "must not be empty"
        ),
        (
            "a wildcard", "{selector: {matchLabels: {a: 'b*'}}}",
            "spec.selector.matchLabels[a]", "wildcards"
        ),
    ]

    @Test(arguments: refused) func `what the API server would refuse is refused`(
        _ rule: String, _ spec: String, _ field: String, _ message: String
    ) throws {
        let result = try TestDirectory.load(Self.object("web", spec))
        let found = try #require(result.diagnostics.first { $0.severity == .error })
        #expect(found.field == field)
        #expect(found.message.contains(message))
        #expect(result.mesh.peerAuthentications == [])
    }

    @Test func `an unknown field is named`() throws {
        let result = try TestDirectory.load(
            Self.object("web", "{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {moed: x}}}"))
        #expect(result.diagnostics.map(\.field) == ["spec.portLevelMtls[80].moed"])
        #expect(result.diagnostics.first?.category == .unknown)
    }

    @Test func `what has no effect is said`() throws {
        let result = try TestDirectory.load(
            [
                Self.object(
                    "old", "{mtls: {mode: PERMISSIVE}}", "creationTimestamp: '2020-01-01T00:00:00Z'"
                ),
                Self.object(
                    "new", "{mtls: {mode: DISABLE}}", "creationTimestamp: '2021-01-01T00:00:00Z'"),
                """
                apiVersion: security.istio.io/v1
                kind: PeerAuthentication
                metadata: {name: web, namespace: istio-system}
                spec: {selector: {matchLabels: {a: b}}}
                """,
            ].joined(separator: "\n---\n"))
        #expect(
            Set(result.diagnostics.map { "\($0.object) \($0.field)" }) == [
                "PeerAuthentication shop/new ",
                "PeerAuthentication istio-system/web spec.selector",
            ])
    }

    @Test func `STRICT needs no remark`() throws {
        let result = try TestDirectory.load(Self.object("web", "{mtls: {mode: STRICT}}"))
        #expect(result.diagnostics.isEmpty)
        #expect(result.mesh.peerAuthentications.first?.mode == .strict)
    }

    @Test func `the root namespace is the store's`() throws {
        let directory = TestDirectory()
        directory.write("mesh.yaml", Self.object("web", "{selector: {matchLabels: {a: b}}}"))
        var store = ConfigStore(directory: directory.path, rootNamespace: "shop")
        let result = try store.reload()
        #expect(result.mesh.rootNamespace == "shop")
        #expect(result.diagnostics.map(\.field) == ["spec.selector"])
    }

    @Test func `a pod that ztunnel serves is known by its annotation`() throws {
        let result = try TestDirectory.load(
            """
            apiVersion: v1
            kind: Pod
            metadata:
              name: web
              namespace: shop
              annotations: {ambient.istio.io/redirection: enabled}
            status: {podIP: 10.1.0.1}
            """)
        #expect(result.mesh.workloads.map(\.isRedirected) == [true])
    }

    private static func object(_ name: String, _ spec: String, _ metadata: String = "") -> String {
        """
        apiVersion: security.istio.io/v1
        kind: PeerAuthentication
        metadata:
          name: \(name)
          namespace: shop
          \(metadata)
        spec: \(spec)
        """
    }
}
