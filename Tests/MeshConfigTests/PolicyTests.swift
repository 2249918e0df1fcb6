internal import MeshConfig
internal import MeshModel
import Testing

@Suite("NetworkPolicy and ClusterNetworkPolicy become policies")
struct PolicyTests {
    /// rule, spec, whether the policy says something of ingress, of egress
    static let directions: [(String, String, Bool, Bool)] = [
        ("nothing: ingress", "{podSelector: {}}", true, false),
        ("only ingress", "{podSelector: {}, ingress: [{}]}", true, false),
        ("egress rules: both", "{podSelector: {}, egress: [{}]}", true, true),
        ("an empty list of egress rules is none", "{podSelector: {}, egress: []}", true, false),
        ("types decide", "{podSelector: {}, policyTypes: [Egress]}", false, true),
        ("types decide over rules", "{policyTypes: [Egress], ingress: [{}]}", false, true),
        ("both types", "{podSelector: {}, policyTypes: [Ingress, Egress]}", true, true),
    ]

    @Test(arguments: directions) func `policyTypes has its documented default`(
        _ rule: String, _ spec: String, _ ingress: Bool, _ egress: Bool
    ) throws {
        let policy = try Self.namespaced(spec)
        #expect((policy.ingress != nil) == ingress)
        #expect((policy.egress != nil) == egress)
    }

    static let peers: [(String, String, [PolicyPeer]?)] = [
        ("no peers: any", "{}", nil),
        ("an empty list: any", "{from: []}", nil),
        (
            "pods of the policy's namespace", "{from: [{podSelector: {}}]}",
            [.pods(PodSelection(.named("shop")))]
        ),
        (
            "all pods of namespaces", "{from: [{namespaceSelector: {matchLabels: {a: b}}}]}",
            [.pods(PodSelection(.selected(LabelSelector(["a": "b"]))))]
        ),
        (
            "both in one entry: and",
            "{from: [{namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}]}",
            [.pods(PodSelection(.selected(.everything), LabelSelector(["a": "b"])))]
        ),
        (
            "two entries: or", "{from: [{namespaceSelector: {}}, {podSelector: {}}]}",
            [
                .pods(PodSelection(.selected(.everything))),
                .pods(PodSelection(.named("shop"))),
            ]
        ),
        (
            "block with a hole",
            "{from: [{ipBlock: {cidr: 10.1.2.3/8, except: [10.1.0.0/16]}}]}",
            [.network(block("10.0.0.0/8"), except: [block("10.1.0.0/16")])]
        ),
        (
            "IPv6", "{from: [{ipBlock: {cidr: 'fd00::/8'}}]}",
            [.network(block("fd00::/8"), except: [])]
        ),
        (
            "expressions",
            """
            {from: [{podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [c, b]}, \
            {key: d, operator: Exists}]}}]}
            """,
            [
                .pods(
                    PodSelection(
                        .named("shop"),
                        LabelSelector(
                            [:], [.init("a", .isNotIn, ["b", "c"]), .init("d", .exists)])))
            ]
        ),
    ]

    @Test(arguments: peers) func `peers mean what they say`(
        _ rule: String, _ text: String, _ expected: [PolicyPeer]?
    ) throws {
        let policy = try Self.namespaced("{ingress: [\(text)]}")
        #expect(policy.ingress?.first?.peers == expected)
        #expect(policy.subject == PodSelection(.named("shop")))
    }

    static let ports: [(String, String, [PolicyPort]?)] = [
        ("none: everything, ICMP too", "[]", nil),
        ("TCP by default", "[{port: 80}]", [PolicyPort(.tcp, .range(80...80))]),
        ("a protocol alone", "[{protocol: UDP}]", [PolicyPort(.udp, .any)]),
        ("a range", "[{port: 80, endPort: 90}]", [PolicyPort(.tcp, .range(80...90))]),
        ("a name", "[{port: web, protocol: SCTP}]", [PolicyPort(.sctp, .named("web"))]),
    ]

    @Test(arguments: ports) func `ports mean what they say`(
        _ rule: String, _ text: String, _ expected: [PolicyPort]?
    ) throws {
        let policy = try Self.namespaced("{egress: [{ports: \(text)}]}")
        #expect(policy.egress?.first?.ports == expected)
    }

    @Test func `a ClusterNetworkPolicy has tier, priority, subject and actions`() throws {
        let result = try TestDirectory.load(
            """
            apiVersion: policy.networking.k8s.io/v1alpha2
            kind: ClusterNetworkPolicy
            metadata: {name: wall, annotations: {malla.io/policy-mode: audit}}
            spec:
              tier: Admin
              priority: 7
              subject: {pods: {namespaceSelector: {matchLabels: {a: b}}, podSelector: {}}}
              ingress:
                - {name: no one, action: Deny, from: [{namespaces: {}}]}
              egress:
                - action: Accept
                  to: [{networks: [10.0.0.0/8, 'fd00::/8']}, {nodes: {}}]
                  protocols: [{tcp: {destinationPort: {number: 53}}}]
                - action: Pass
                  to: [{pods: {podSelector: {matchLabels: {c: d}}}}]
                  protocols:
                    - {udp: {destinationPort: {range: {start: 5, end: 9}}}}
                    - {destinationNamedPort: dns}
            """)
        #expect(result.diagnostics.map(\.description) == [])
        let policy = try #require(result.mesh.policies.first)
        #expect(policy.tier == .admin && policy.priority == 7 && policy.isAudited)
        #expect(policy.name.description == "/wall")
        #expect(policy.subject == PodSelection(.selected(LabelSelector(["a": "b"]))))
        #expect(
            policy.ingress == [
                PolicyRule(
                    name: "no one", action: .deny,
                    peers: [.pods(PodSelection(.selected(.everything)))])
            ])
        #expect(
            policy.egress == [
                PolicyRule(
                    peers: [
                        .network(Self.block("10.0.0.0/8"), except: []),
                        .network(Self.block("fd00::/8"), except: []), .nodes(.everything),
                    ], ports: [PolicyPort(.tcp, .range(53...53))]),
                PolicyRule(
                    action: .pass,
                    peers: [
                        .pods(PodSelection(.selected(.everything), LabelSelector(["c": "d"])))
                    ],
                    ports: [PolicyPort(.udp, .range(5...9)), PolicyPort(nil, .named("dns"))]),
            ])
    }

    @Test func `domain names are named as unsupported, and accept nothing`() throws {
        let result = try TestDirectory.load(
            """
            apiVersion: policy.networking.k8s.io/v1alpha2
            kind: ClusterNetworkPolicy
            metadata: {name: names}
            spec:
              tier: Baseline
              priority: 0
              subject: {namespaces: {}}
              egress: [{action: Accept, to: [{domainNames: ['*.example.com']}]}]
            """)
        #expect(
            result.diagnostics.contains {
                $0.category == .unsupported && $0.field == "spec.egress[0].to[0].domainNames"
            })
        #expect(result.mesh.policies.first?.egress?.first?.peers == [.unsupported])
        #expect(result.mesh.policies.first?.ingress == nil)
    }

    @Test func `what policies look at in pods, namespaces and nodes is read`() throws {
        let result = try TestDirectory.load(
            """
            {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: red}}}
            ---
            {apiVersion: v1, kind: Node, metadata: {name: n, labels: {zone: a}}}
            ---
            apiVersion: v1
            kind: Pod
            metadata: {name: p, namespace: shop}
            spec:
              containers:
                - ports: [{name: web, containerPort: 80}, {containerPort: 81}]
                - ports: [{name: dns, containerPort: 53, protocol: UDP}]
            status: {podIP: 10.0.0.1}
            """)
        #expect(result.mesh.namespaces == ["shop": ["team": "red"]])
        #expect(result.mesh.nodes.first?.labels == ["zone": "a"])
        #expect(
            result.mesh.workloads.first?.ports
                == [NamedPort("web", .tcp, 80), NamedPort("dns", .udp, 53)])
    }

    static func namespaced(_ spec: String) throws -> NetworkPolicy {
        let result = try TestDirectory.load(
            """
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata: {name: p, namespace: shop}
            spec: \(spec)
            """)
        return try #require(
            result.mesh.policies.first, "\(result.diagnostics.map(\.description))")
    }

    static func block(_ text: String) -> IPPrefix {
        guard let block = IPPrefix(text) else { preconditionFailure("no block: \(text)") }
        return block
    }
}
