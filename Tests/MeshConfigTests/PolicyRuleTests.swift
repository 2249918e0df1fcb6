internal import MeshConfig
internal import MeshModel
import Testing

@Suite("A network policy that breaks a rule is refused whole")
struct PolicyRuleTests {
    /// what is wrong, the spec, the field that is blamed, a word of the message
    static let namespaced: [(String, String, String, String)] = [
        ("no spec", "null", "spec", "required"),
        (
            "policyTypes", "{policyTypes: [ingress]}", "spec.policyTypes[0]", "Ingress"
        ),
        (
            "operator", "{podSelector: {matchExpressions: [{key: a, operator: Is}]}}",
            "spec.podSelector.matchExpressions[0].operator", "DoesNotExist"
        ),
        (
            "In without values", "{podSelector: {matchExpressions: [{key: a, operator: In}]}}",
            "spec.podSelector.matchExpressions[0].values", "required"
        ),
        (
            "Exists with values",
            "{ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]}]}",
            "spec.ingress[0].from[0].podSelector.matchExpressions[0].values", "must not"
        ),
        ("a peer of nothing", "{ingress: [{from: [{}]}]}", "spec.ingress[0].from[0]", "needs"),
        (
            "block and selector",
            "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}",
            "spec.egress[0].to[0].ipBlock", "selector"
        ),
        (
            "block", "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0}}]}]}",
            "spec.egress[0].to[0].ipBlock.cidr", "no block"
        ),
        (
            "block's length", "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}",
            "spec.egress[0].to[0].ipBlock.cidr", "no block"
        ),
        (
            "hole outside",
            "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}",
            "spec.egress[0].to[0].ipBlock.except[0]", "no part"
        ),
        (
            "hole as large",
            "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}",
            "spec.egress[0].to[0].ipBlock.except[0]", "no part"
        ),
        ("port", "{ingress: [{ports: [{port: 0}]}]}", "spec.ingress[0].ports[0].port", "1...65535"),
        (
            "port's name", "{ingress: [{ports: [{port: Web}]}]}", "spec.ingress[0].ports[0].port",
            "port name"
        ),
        (
            "a number in quotes is no port's name", "{ingress: [{ports: [{port: '8080'}]}]}",
            "spec.ingress[0].ports[0].port", "quotes"
        ),
        (
            "two dashes in a port's name", "{ingress: [{ports: [{port: a--b}]}]}",
            "spec.ingress[0].ports[0].port", "port name"
        ),
        (
            "a label's key", "{podSelector: {matchLabels: {a b: c}}}",
            "spec.podSelector.matchLabels[a b]", "key of a label"
        ),
        (
            "a label's value", "{ingress: [{from: [{podSelector: {matchLabels: {a: b c}}}]}]}",
            "spec.ingress[0].from[0].podSelector.matchLabels[a]", "value of a label"
        ),
        (
            "an expression's key",
            "{podSelector: {matchExpressions: [{key: a b, operator: Exists}]}}",
            "spec.podSelector.matchExpressions[0].key", "key of a label"
        ),
        (
            "protocol", "{ingress: [{ports: [{protocol: ICMP}]}]}",
            "spec.ingress[0].ports[0].protocol", "TCP"
        ),
        (
            "endPort alone", "{ingress: [{ports: [{endPort: 5}]}]}",
            "spec.ingress[0].ports[0].endPort", "needs"
        ),
        (
            "endPort of a name", "{ingress: [{ports: [{port: web, endPort: 5}]}]}",
            "spec.ingress[0].ports[0].endPort", "name"
        ),
        (
            "endPort before port", "{ingress: [{ports: [{port: 6, endPort: 5}]}]}",
            "spec.ingress[0].ports[0].endPort", "less"
        ),
    ]

    @Test(arguments: namespaced) func `NetworkPolicy`(
        _ rule: String, _ spec: String, _ field: String, _ says: String
    ) throws {
        try expect("networking.k8s.io/v1", "NetworkPolicy", spec, field, says)
    }

    private static let head = "tier: Admin, priority: 1, subject: {namespaces: {}}"

    static let clusterWide: [(String, String, String, String)] = [
        (
            "tier", "{tier: NetworkPolicy, priority: 1, subject: {namespaces: {}}}", "spec.tier",
            "Baseline"
        ),
        (
            "priority", "{tier: Admin, priority: 1001, subject: {namespaces: {}}}", "spec.priority",
            "0...1000"
        ),
        ("subject", "{tier: Admin, priority: 1}", "spec.subject", "required"),
        (
            "subject of nothing", "{tier: Admin, priority: 1, subject: {}}", "spec.subject",
            "exactly one"
        ),
        (
            "subject of both",
            "{tier: Admin, priority: 1, subject: {namespaces: {}, pods: {podSelector: {}}}}",
            "spec.subject", "exactly one"
        ),
        (
            "action", "{\(head), ingress: [{from: [{namespaces: {}}]}]}", "spec.ingress[0].action",
            "required"
        ),
        (
            "action's name", "{\(head), ingress: [{action: Allow, from: [{namespaces: {}}]}]}",
            "spec.ingress[0].action", "Pass"
        ),
        ("peers", "{\(head), ingress: [{action: Deny}]}", "spec.ingress[0].from", "required"),
        (
            "no peers", "{\(head), ingress: [{action: Deny, from: []}]}", "spec.ingress[0].from",
            "at least 1"
        ),
        (
            "a peer of nothing", "{\(head), ingress: [{action: Deny, from: [{}]}]}",
            "spec.ingress[0].from[0]", "empty"
        ),
        (
            "a peer of two",
            "{\(head), egress: [{action: Deny, to: [{namespaces: {}, networks: [10.0.0.0/8]}]}]}",
            "spec.egress[0].to[0]", "one is allowed"
        ),
        (
            "network", "{\(head), egress: [{action: Deny, to: [{networks: [a]}]}]}",
            "spec.egress[0].to[0].networks[0]", "no block"
        ),
        (
            "names and networks",
            """
            {\(head), egress: [{action: Deny, to: [{networks: [10.0.0.0/8]}], protocols: \
            [{destinationNamedPort: a}]}]}
            """,
            "spec.egress[0].protocols", "destinationNamedPort"
        ),
        (
            "domain names are for Accept",
            "{\(head), egress: [{action: Deny, to: [{domainNames: [a.com]}]}]}",
            "spec.egress[0].to[0].domainNames", "Accept"
        ),
        (
            "a protocol of nothing",
            "{\(head), egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{}]}]}",
            "spec.egress[0].protocols[0]", "exactly one"
        ),
        (
            "a range that is none",
            """
            {\(head), egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{tcp: \
            {destinationPort: {range: {start: 5, end: 5}}}}]}]}
            """,
            "spec.egress[0].protocols[0].tcp.destinationPort.range", "less than"
        ),
    ]

    @Test(arguments: clusterWide) func `ClusterNetworkPolicy`(
        _ rule: String, _ spec: String, _ field: String, _ says: String
    ) throws {
        try expect(
            "policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", spec, field, says)
    }

    /// action, peer, what is said of it, the peers that it becomes
    static let strangePeers: [(String, String, String, [PolicyPeer])] = [
        (
            "Deny", "{networks: [10.0.0.0/8]}", "it is honoured here too",
            IPPrefix("10.0.0.0/8").map { [.network($0, except: [])] } ?? []
        ),
        ("Deny", "{nodes: {}}", "it is honoured here too", [.nodes(.everything)]),
        ("Deny", "{futurePeer: {}}", "this rule denies everything", [.unsupported]),
        ("Pass", "{domainnames: [a.b]}", "this rule denies everything", [.unsupported]),
        ("Accept", "{futurePeer: {}}", "nothing is accepted for its sake", [.unsupported]),
    ]

    @Test(arguments: strangePeers)
    func `a peer that the API does not have is named with what becomes of it`(
        _ action: String, _ peer: String, _ says: String, _ peers: [PolicyPeer]
    ) throws {
        let result = try TestDirectory.load(
            """
            apiVersion: policy.networking.k8s.io/v1alpha2
            kind: ClusterNetworkPolicy
            metadata: {name: a}
            spec: {\(Self.head), ingress: [{action: \(action), from: [\(peer)]}]}
            """)
        #expect(result.diagnostics.count == 1)
        #expect(result.diagnostics.first?.message.contains(says) == true)
        #expect(result.mesh.policies.first?.ingress?.first?.peers == peers)
    }

    private func expect(
        _ apiVersion: String, _ kind: String, _ spec: String, _ field: String, _ says: String
    ) throws {
        let result = try TestDirectory.load(
            """
            apiVersion: \(apiVersion)
            kind: \(kind)
            metadata: {name: bad}
            spec: \(spec)
            ---
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata: {name: good}
            spec: {}
            """)
        #expect(
            result.diagnostics.contains {
                $0.severity == .error && $0.field == field && $0.message.contains(says)
                    && $0.line > 0
            }, "\(result.diagnostics.map(\.description))")
        #expect(result.mesh.policies.map(\.name.name) == ["good"])
    }

    @Test func `a mode that is none is refused`() throws {
        let result = try TestDirectory.load(
            """
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata: {name: bad, annotations: {malla.io/policy-mode: "off"}}
            spec: {}
            """)
        #expect(
            result.diagnostics.map(\.field) == ["metadata.annotations[malla.io/policy-mode]"])
        #expect(result.mesh.policies == [])
    }
}
