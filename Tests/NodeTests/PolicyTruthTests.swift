// The truth tables of Kubernetes' own end-to-end suite of NetworkPolicy (test/e2e/network/netpol),
// re-enacted with real connections: each case names its test there.

import Foundation
import TestSupport
import Testing

/// A case: policies, and who may still reach whom.
struct TruthTable: Sendable {
    var name: String
    var policies: [String]
    /// Besides pods that reach themselves.
    var allows: @Sendable (_ probe: PolicyProbe) -> Bool

    init(
        _ name: String, _ policies: [String], _ allows: @escaping @Sendable (PolicyProbe) -> Bool
    ) {
        self.name = name
        self.policies = policies
        self.allows = allows
    }
}

/// A NetworkPolicy in YAML's flow style.
func policy(_ name: String, in space: String = "x", _ spec: String) -> String {
    "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: \(name), "
        + "namespace: \(space)}, spec: \(spec)}"
}

private let x = "x"
private let a = "podSelector: {matchLabels: {pod: a}}"
private let onlyA = "{\(a)}"

extension PolicyProbe {
    func isTo(_ space: String, _ pod: String? = nil) -> Bool {
        to.space == space && (pod == nil || to.name == pod)
    }

    func isFrom(_ space: String, _ pod: String? = nil) -> Bool {
        from.space == space && (pod == nil || from.name == pod)
    }
}

@Suite("Kubernetes' truth tables of NetworkPolicy", .serialized)
struct PolicyTruthTests {
    /// By tunnels the engines of both nodes judge, with what the kernel judges by.
    @Test(arguments: [false, true])
    func `who reaches whom is what the tables say`(tunnels: Bool) throws {
        let mesh = try PolicyMesh(tunnels: tunnels)
        defer { mesh.close() }
        for table in Self.ingress + Self.peers + Self.ports + Self.egress
            + Self.blocks(mesh.bed) + Self.clusterWide(mesh.bed)
        {
            try mesh.enforce(table.policies)
            try Self.expect(mesh, table)
        }
        try mesh.enforce([])
        try Self.expect(
            mesh, TruthTable("stop enforcing policies after they are deleted", []) { _ in true })
        try labels(mesh)
        for node in ["n1", "n2"] {
            let carried = try mesh.bed[node: node].metric("malla_tunnel_streams_total")
            #expect((carried > 0) == tunnels, "\(node): \(carried)")
        }
    }

    /// Changes of labels, the policy staying as it is.
    private func labels(_ mesh: PolicyMesh) throws {
        let bySpace = policy(
            "p", "{\(a), ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y2}}}]}]}")
        let byPod = policy(
            "q",
            """
            {podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{namespaceSelector: \
            {matchLabels: {ns: z}}, podSelector: {matchLabels: {pod: new}}}]}]}
            """)
        let before = TruthTable("before labels change", [bySpace, byPod]) {
            !$0.isTo(x, "a") && !$0.isTo(x, "b")
        }
        try mesh.enforce(before.policies)
        try Self.expect(mesh, before)

        let zb = PolicyEnd(space: "z", name: "b")
        try mesh.describe(spaces: ["y": "y2"], pods: [zb: "new"])
        try mesh.enforce(before.policies)
        try Self.expect(
            mesh,
            TruthTable("allow ingress access from updated namespace and updated pod", []) {
                $0.isTo(x, "a") ? $0.isFrom("y") : !$0.isTo(x, "b") || $0.isFrom("z", "b")
            })
        // A pod that the policies do not select any more is open.
        try mesh.describe(pods: [PolicyEnd(space: x, name: "a"): "other"])
        try mesh.enforce(before.policies)
        try Self.expect(
            mesh, TruthTable("a pod that is no longer selected", []) { !$0.isTo(x, "b") })
        try mesh.describe()
        try mesh.enforce(before.policies)
        try Self.expect(
            mesh,
            TruthTable("deny ingress access to updated pod", []) {
                !$0.isTo(x, "a") && !$0.isTo(x, "b")
            })
    }

    private static func expect(_ mesh: PolicyMesh, _ table: TruthTable) throws {
        let expected = Set(PolicyProbe.all.filter { $0.from == $0.to || table.allows($0) })
        var shut: [String] = []
        // A loaded machine may miss the prober's second: what is shut is asked again. What is in
        // force, as both agents have said, denies from the first packet on.
        for _ in 0..<6 {
            let found = try mesh.reachable()
            shut = []
            for (family, probes) in [("IPv4", found.v4), ("IPv6", found.v6)] {
                let open = probes.subtracting(expected).map(\.description).sorted()
                try #require(
                    open == [], "\(table.name), \(family): open, though denied\n\(mesh.logs)")
                shut += expected.subtracting(probes).map { "\($0) by \(family)" }.sorted()
            }
            if shut.isEmpty { return }
        }
        #expect(shut == [], "\(table.name): shut, though allowed\n\(mesh.logs)")
    }

    // MARK: Tables

    private static let ingress: [TruthTable] = [
        TruthTable("no policy", []) { _ in true },
        TruthTable("default-deny-ingress", [policy("p", "{podSelector: {}}")]) { !$0.isTo(x) },
        TruthTable(
            "default-deny-all",
            [policy("p", "{podSelector: {}, policyTypes: [Ingress, Egress]}")]
        ) { !$0.isTo(x) && !$0.isFrom(x) },
        TruthTable(
            "allow traffic from pods within server namespace based on PodSelector",
            [
                policy(
                    "p",
                    "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}"
                )
            ]
        ) { !$0.isTo(x) || $0.isFrom(x, "b") },
        TruthTable(
            "allow ingress traffic for a target",
            [policy("p", "{podSelector: {}}"), policy("q", "{\(a), ingress: [{}]}")]
        ) { !$0.isTo(x) || $0.isTo(x, "a") },
        TruthTable(
            "allow ingress traffic from pods in all namespaces",
            [policy("p", "{\(a), ingress: [{from: [{namespaceSelector: {}}]}]}")]
        ) { _ in true },
        TruthTable(
            "allow traffic only from a different namespace, based on NamespaceSelector",
            [
                policy(
                    "p", "{\(a), ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]}")
            ]
        ) { !$0.isTo(x, "a") || $0.isFrom("y") },
        TruthTable("allow-all", [policy("p", "{podSelector: {}, ingress: [{}]}")]) { _ in true },
        TruthTable(
            "multiple ingress policies with ingress allow-all taking precedence",
            [
                policy("p", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"),
                policy("q", "{podSelector: {}, ingress: [{}]}"),
            ]
        ) { _ in true },
        TruthTable(
            "deny ingress from pods on other namespaces",
            [policy("p", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}")]
        ) { !$0.isTo(x) || $0.isFrom(x) },
    ]

    private static let peers: [TruthTable] = [
        TruthTable(
            "PodSelector with MatchExpressions",
            [
                policy(
                    "p",
                    """
                    {\(a), ingress: [{from: [{podSelector: {matchExpressions: [{key: pod, \
                    operator: In, values: [b]}]}}]}]}
                    """)
            ]
        ) { !$0.isTo(x, "a") || $0.isFrom(x, "b") },
        TruthTable(
            "NamespaceSelector with MatchExpressions",
            [
                policy(
                    "p",
                    """
                    {\(a), ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, \
                    operator: NotIn, values: [x, z]}]}}]}]}
                    """)
            ]
        ) { !$0.isTo(x, "a") || $0.isFrom("y") },
        TruthTable(
            "PodSelector or NamespaceSelector",
            [
                policy(
                    "p",
                    """
                    {\(a), ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}, \
                    {podSelector: {matchLabels: {pod: b}}}]}]}
                    """)
            ]
        ) { !$0.isTo(x, "a") || $0.isFrom("y") || $0.isFrom(x, "b") },
        TruthTable(
            "PodSelector and NamespaceSelector",
            [
                policy(
                    "p",
                    """
                    {\(a), ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}, \
                    podSelector: {matchLabels: {pod: b}}}]}]}
                    """)
            ]
        ) { !$0.isTo(x, "a") || $0.isFrom("y", "b") },
        TruthTable(
            "multiple PodSelectors and NamespaceSelectors",
            [
                policy(
                    "p",
                    """
                    {\(a), ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, \
                    operator: NotIn, values: [x]}]}, podSelector: {matchExpressions: [{key: pod, \
                    operator: In, values: [b, c]}]}}]}]}
                    """)
            ]
        ) { !$0.isTo(x, "a") || $0.from.space != x && $0.from.name != "a" },
        TruthTable(
            "any PodSelectors",
            [
                policy(
                    "p",
                    """
                    {\(a), ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}, \
                    {podSelector: {matchLabels: {pod: c}}}]}]}
                    """)
            ]
        ) { !$0.isTo(x, "a") || $0.isFrom(x, "b") || $0.isFrom(x, "c") },
        TruthTable(
            "NamespaceSelector with MatchLabels using default ns label",
            [
                policy(
                    "p",
                    """
                    {\(a), ingress: [{from: [{namespaceSelector: {matchLabels: \
                    {kubernetes.io/metadata.name: y}}}]}]}
                    """)
            ]
        ) { !$0.isTo(x, "a") || $0.isFrom("y") },
        TruthTable(
            "ingress and egress controlled independently based on PodSelector",
            [
                policy(
                    "p",

                    """
                    {\(a), policyTypes: [Ingress], ingress: [{from: [{podSelector: \
                    {matchLabels: {pod: b}}}]}]}
                    """
                ),
                policy(
                    "q",

                    """
                    {\(a), policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: \
                    {pod: c}}}]}]}
                    """
                ),
            ]
        ) {
            (!$0.isTo(x, "a") || $0.isFrom(x, "b")) && (!$0.isFrom(x, "a") || $0.isTo(x, "c"))
        },
    ]

    private static let ports: [TruthTable] = [
        TruthTable(
            "policy based on Ports",
            [
                policy(
                    "p",
                    """
                    {\(a), ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}], ports: \
                    [{port: 81, protocol: TCP}]}]}
                    """)
            ]
        ) { !$0.isTo(x, "a") || $0.isFrom("y") && $0.port == 81 && $0.transport == "TCP" },
        TruthTable(
            "stacked policies with overlapping podSelectors",
            [
                policy(
                    "p",

                    """
                    {\(a), ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}], \
                    ports: [{port: 81}]}]}
                    """
                ),
                policy(
                    "q",

                    """
                    {\(a), ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}], \
                    ports: [{port: 80}]}]}
                    """
                ),
            ]
        ) { !$0.isTo(x, "a") || $0.isFrom("y") && $0.transport == "TCP" },
        TruthTable(
            "ingress access on one named port",
            [policy("p", "{\(a), ingress: [{ports: [{port: serve-81-tcp}]}]}")]
        ) { !$0.isTo(x, "a") || $0.port == 81 && $0.transport == "TCP" },
        TruthTable(
            "ingress access from namespace on one named port",
            [
                policy(
                    "p",
                    """
                    {\(a), ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}], ports: \
                    [{port: serve-80-udp, protocol: UDP}]}]}
                    """)
            ]
        ) { !$0.isTo(x, "a") || $0.isFrom("y") && $0.port == 80 && $0.transport == "UDP" },
        TruthTable(
            "any port traffic to a server on a specific protocol",
            [policy("p", "{\(a), ingress: [{ports: [{protocol: UDP}]}]}")]
        ) { !$0.isTo(x, "a") || $0.transport == "UDP" },
        TruthTable(
            "not allow access by TCP when a policy specifies only UDP",
            [policy("p", "{\(a), ingress: [{ports: [{protocol: UDP, port: 81}]}]}")]
        ) { !$0.isTo(x, "a") || $0.transport == "UDP" && $0.port == 81 },
        TruthTable(
            "not mistakenly treat 'protocol: SCTP' as 'protocol: TCP'",
            [policy("p", "{\(a), ingress: [{ports: [{protocol: SCTP, port: 81}]}]}")]
        ) { !$0.isTo(x, "a") },
        TruthTable(
            "endPort",
            [policy("p", "{\(a), ingress: [{ports: [{port: 81, endPort: 90}]}]}")]
        ) { !$0.isTo(x, "a") || $0.port == 81 && $0.transport == "TCP" },
    ]

    private static let egress: [TruthTable] = [
        TruthTable(
            "egress access on one named port",
            [
                policy(
                    "p",
                    "{\(a), policyTypes: [Egress], egress: [{ports: [{port: serve-80-tcp}]}]}")
            ]
        ) { !$0.isFrom(x, "a") || $0.port == 80 && $0.transport == "TCP" },
        TruthTable(
            "endPort of egress",
            [
                policy(
                    "p",
                    "{\(a), policyTypes: [Egress], egress: [{ports: [{port: 81, endPort: 90}]}]}")
            ]
        ) { !$0.isFrom(x, "a") || $0.port == 81 && $0.transport == "TCP" },
        TruthTable(
            "deny egress from pods based on PodSelector",
            [policy("p", "{\(a), policyTypes: [Egress]}")]
        ) { !$0.isFrom(x, "a") },
        TruthTable(
            "deny egress from all pods in a namespace",
            [policy("p", "{podSelector: {}, policyTypes: [Egress]}")]
        ) { !$0.isFrom(x) },
        TruthTable(
            "Ingress, Egress specified together",
            [
                policy(
                    "p",
                    """
                    {\(a), policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: \
                    {matchLabels: {pod: b}}}]}], egress: [{ports: [{port: 80}]}]}
                    """)
            ]
        ) {
            (!$0.isTo(x, "a") || $0.isFrom(x, "b"))
                && (!$0.isFrom(x, "a") || $0.port == 80 && $0.transport == "TCP")
        },
        TruthTable(
            "denying of egress on the client side, though the server allows it",
            [
                policy(
                    "p",

                    """
                    {\(a), policyTypes: [Egress], egress: [{to: [{namespaceSelector: \
                    {matchLabels: {ns: z}}}]}]}
                    """
                ),
                policy(
                    "q", in: "y",

                    """
                    {podSelector: {}, ingress: [{from: [{namespaceSelector: \
                    {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: a}}}]}]}
                    """
                ),
            ]
        ) {
            (!$0.isFrom(x, "a") || $0.isTo("z"))
                && (!$0.isTo("y") || $0.isFrom(x, "a"))
        },
        TruthTable(
            "egress to a server in a different namespace",
            [
                policy(
                    "p",
                    """
                    {\(a), policyTypes: [Egress], egress: [{to: [{namespaceSelector: \
                    {matchLabels: {ns: y}}, podSelector: {matchLabels: {pod: a}}}]}]}
                    """)
            ]
        ) { !$0.isFrom(x, "a") || $0.isTo("y", "a") },
        TruthTable(
            "multiple egress policies with egress allow-all taking precedence",
            [
                policy(
                    "p",

                    """
                    {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: \
                    80}]}]}
                    """),
                policy("q", "{podSelector: {}, policyTypes: [Egress], egress: [{}]}"),
            ]
        ) { _ in true },
    ]

    /// The addresses are the bed's.
    private static func blocks(_ bed: Testbed) -> [TruthTable] {
        [
            TruthTable(
                "egress access to a server in a CIDR block",
                [
                    policy(
                        "p",
                        """
                        {\(a), policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: \
                        \(bed["y-b"].v4)/32}}, {ipBlock: {cidr: '\(bed["y-b"].v6)/128'}}]}]}
                        """)
                ]
            ) { !$0.isFrom(x, "a") || $0.isTo("y", "b") },
            TruthTable(
                "except clause while egress access to a server in a CIDR block",
                [
                    policy(
                        "p",
                        """
                        {\(a), policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: \
                        10.77.1.0/24, except: [\(bed["x-b"].v4)/32]}}, {ipBlock: {cidr: \
                        'fd00:77:1::/64', except: ['\(bed["x-b"].v6)/128']}}]}]}
                        """)
                ]
            ) {
                // Pods of the first node have these addresses.
                !$0.isFrom(x, "a")
                    || ($0.isTo(x) || $0.isTo("y", "a") || $0.isTo("y", "b")) && !$0.isTo(x, "b")
            },
            TruthTable(
                "an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed",
                [
                    policy(
                        "p",

                        """
                        {\(a), policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: \
                        10.77.0.0/16, except: [\(bed["x-b"].v4)/32]}}, {ipBlock: {cidr: \
                        'fd00:77::/32', except: ['\(bed["x-b"].v6)/128']}}]}]}
                        """
                    ),
                    policy(
                        "q",

                        """
                        {\(a), policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: \
                        \(bed["x-b"].v4)/32}}, {ipBlock: {cidr: '\(bed["x-b"].v6)/128'}}]}]}
                        """
                    ),
                ]
            ) { _ in true },
        ]
    }
}
