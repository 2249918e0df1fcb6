// What the tiers of ClusterNetworkPolicy mean to connections, beside NetworkPolicy and among
// themselves. Source: policy.networking.k8s.io/v1alpha2, the fields' own descriptions.

import TestSupport

private let x = "x"
private let a = "podSelector: {matchLabels: {pod: a}}"
private let ofX = "{namespaces: {matchLabels: {ns: x}}}"
private let y = "{namespaces: {matchLabels: {ns: y}}}"
private let z = "{namespaces: {matchLabels: {ns: z}}}"
private let anybody = "{namespaces: {}}"

/// The pod of this name of namespace y.
private func ofY(_ pod: String) -> String {
    "{pods: {namespaceSelector: {matchLabels: {ns: y}}, podSelector: {matchLabels: {pod: \(pod)}}}}"
}

/// A ClusterNetworkPolicy; `spec` is its rules.
private func wide(
    _ name: String, _ tier: String, _ priority: Int, subject: String = ofX, _ spec: String
) -> String {
    "{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: "
        + "{name: \(name)}, spec: {tier: \(tier), priority: \(priority), subject: \(subject), "
        + "\(spec)}}"
}

extension PolicyTruthTests {
    static func clusterWide(_ bed: Testbed) -> [TruthTable] {
        admin + passed + baseline + order + [elsewhere(bed)]
    }

    private static let admin: [TruthTable] = [
        TruthTable(
            "Admin's Accept beats a NetworkPolicy that denies",
            [
                policy("p", "{podSelector: {}}"),
                wide("c", "Admin", 5, "ingress: [{action: Accept, from: [\(y)]}]"),
            ]
        ) { !$0.isTo(x) || $0.isFrom("y") },
        TruthTable(
            "Admin's Deny beats a NetworkPolicy that allows",
            [
                policy("p", "{podSelector: {}, ingress: [{}]}"),
                wide("c", "Admin", 5, "ingress: [{action: Deny, from: [\(ofY("a")), \(z)]}]"),
            ]
        ) { !$0.isTo(x) || !$0.isFrom("y", "a") && !$0.isFrom("z") },
        TruthTable(
            "Admin's Deny of one port, of a range and of a name",
            [
                wide(
                    "c", "Admin", 0,
                    """
                    ingress: [{action: Deny, from: [\(y)], protocols: [{tcp: {destinationPort: \
                    {number: 81}}}]}, {action: Deny, from: [\(z)], protocols: [{udp: \
                    {destinationPort: {range: {start: 70, end: 80}}}}, {destinationNamedPort: \
                    serve-80-tcp}]}]
                    """)
            ]
        ) {
            guard $0.isTo(x) else { return true }
            if $0.isFrom("y") { return $0.transport == "UDP" || $0.port == 80 }
            return !$0.isFrom("z") || $0.port == 81
        },
    ]

    private static let passed: [TruthTable] = [
        TruthTable(
            "Pass hands on to NetworkPolicy, past what Admin says later",
            [
                wide("pass", "Admin", 1, "ingress: [{action: Pass, from: [\(y)]}]"),
                wide("wall", "Admin", 2, "ingress: [{action: Deny, from: [\(anybody)]}]"),
                policy(
                    "p",
                    """
                    {\(a), ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}, \
                    podSelector: {matchLabels: {pod: b}}}]}]}
                    """),
            ]
        ) { !$0.isTo(x) || $0.isFrom("y", "b") || $0.isFrom("y") && !$0.isTo(x, "a") },
        TruthTable(
            "Pass where no NetworkPolicy selects the pod hands on to Baseline",
            [
                wide("pass", "Admin", 1, "ingress: [{action: Pass, from: [\(y), \(z)]}]"),
                wide("wall", "Admin", 2, "ingress: [{action: Accept, from: [\(anybody)]}]"),
                wide("base", "Baseline", 0, "ingress: [{action: Deny, from: [\(y)]}]"),
            ]
        ) { !$0.isTo(x) || !$0.isFrom("y") },
    ]

    private static let baseline: [TruthTable] = [
        TruthTable(
            "Baseline is asked about pods that no NetworkPolicy selects",
            [
                wide("base", "Baseline", 3, "ingress: [{action: Deny, from: [\(anybody)]}]"),
                policy(
                    "p", "{\(a), ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]}"),
            ]
        ) { !$0.isTo(x) || $0.isTo(x, "a") && $0.isFrom("y") },
        TruthTable(
            "Baseline's Accept opens nothing that a NetworkPolicy closes",
            [
                wide("some", "Baseline", 1, "ingress: [{action: Accept, from: [\(z)]}]"),
                wide("base", "Baseline", 2, "ingress: [{action: Deny, from: [\(anybody)]}]"),
                policy("p", "{\(a)}"),
            ]
        ) { !$0.isTo(x) || !$0.isTo(x, "a") && $0.isFrom("z") },
        TruthTable(
            "Admin's Accept is Baseline's last word, too",
            [
                wide("c", "Admin", 1000, "ingress: [{action: Accept, from: [\(z)]}]"),
                wide("base", "Baseline", 0, "ingress: [{action: Deny, from: [\(anybody)]}]"),
            ]
        ) { !$0.isTo(x) || $0.isFrom("z") },
    ]

    private static let order: [TruthTable] = [
        TruthTable(
            "the lower number goes first, whatever the names say",
            [
                wide("a-late", "Admin", 10, "ingress: [{action: Accept, from: [\(y)]}]"),
                wide("z-early", "Admin", 9, "ingress: [{action: Deny, from: [\(ofY("b"))]}]"),
                policy("p", "{podSelector: {}}"),
            ]
        ) { !$0.isTo(x) || $0.isFrom("y") && !$0.isFrom("y", "b") },
        TruthTable(
            "the same with their numbers exchanged",
            [
                wide("a-late", "Admin", 9, "ingress: [{action: Accept, from: [\(y)]}]"),
                wide("z-early", "Admin", 10, "ingress: [{action: Deny, from: [\(ofY("b"))]}]"),
                policy("p", "{podSelector: {}}"),
            ]
        ) { !$0.isTo(x) || $0.isFrom("y") },
        TruthTable(
            "of one policy's rules the first that matches",
            [
                wide(
                    "c", "Admin", 0,
                    """
                    ingress: [{action: Accept, from: [\(ofY("b"))]}, {action: Deny, from: [\(y)]}, \
                    {action: Accept, from: [\(anybody)]}]
                    """), policy("p", "{podSelector: {}}"),
            ]
        ) { !$0.isTo(x) || !$0.isFrom("y") || $0.isFrom("y", "b") },
    ]

    /// The addresses are the bed's.
    private static func elsewhere(_ bed: Testbed) -> TruthTable {
        TruthTable(
            "egress, and the other end is asked for itself",
            [
                wide(
                    "c", "Admin", 7,
                    subject:
                        "{pods: {namespaceSelector: {matchLabels: {ns: x}}, podSelector: "
                        + "{matchLabels: {pod: a}}}}",
                    """
                    egress: [{action: Accept, to: [{networks: [\(bed["y-b"].v4)/32, \
                    '\(bed["y-b"].v6)/128']}], protocols: [{tcp: {destinationPort: {number: \
                    80}}}]}, {action: Deny, to: [\(z)]}, {action: Accept, to: [\(y)], protocols: \
                    [{udp: {destinationPort: {number: 81}}}]}]
                    """),
                policy("p", "{\(a), policyTypes: [Egress], egress: [{ports: [{port: 81}]}]}"),
                policy(
                    "q", in: "y",
                    "{podSelector: {matchLabels: {pod: c}}, ingress: [{ports: [{port: 80}]}]}"),
            ]
        ) {
            if $0.isTo("y", "c"), $0.port != 80 || $0.transport != "TCP" { return false }
            guard $0.isFrom(x, "a"), !$0.isTo("z") else { return !$0.isFrom(x, "a") }
            if $0.isTo("y", "b"), $0.port == 80, $0.transport == "TCP" { return true }
            return $0.port == 81 && ($0.transport == "TCP" || $0.isTo("y"))
        }
    }
}
