// The shapes of NetworkPolicy (networking.k8s.io/v1) and ClusterNetworkPolicy
// (policy.networking.k8s.io/v1alpha2, both channels).

extension Shape {
    static let networkPolicy: Shape = .object(
        .required(
            "spec",
            .fields([
                .honoured("podSelector", labelSelector),
                .honoured(
                    "policyTypes", .list(.oneOf(["Ingress", "Egress"]), counts: 0...2)),
                .honoured("ingress", .list(policyRule(peers: "from"), counts: 0...4096)),
                .honoured("egress", .list(policyRule(peers: "to"), counts: 0...4096)),
            ])), .harmless("status"))

    private static func policyRule(peers: String) -> Shape {
        .fields([
            .honoured(
                "ports",
                .list(
                    .fields([
                        .honoured("protocol", .oneOf(["TCP", "UDP", "SCTP"])),
                        .honoured("port", .integerOrText),
                        .honoured("endPort", .integer(1...65535)),
                    ]), counts: 0...4096)),
            .honoured(
                peers,
                .list(
                    .fields([
                        .honoured("podSelector", labelSelector),
                        .honoured("namespaceSelector", labelSelector),
                        .honoured(
                            "ipBlock",
                            .fields([
                                .required("cidr", .text(.nonEmpty(bytesMax: 64))),
                                .honoured(
                                    "except",
                                    .list(.text(.nonEmpty(bytesMax: 64)), counts: 0...4096)),
                            ])),
                    ]), counts: 0...4096)),
        ])
    }

    static let clusterNetworkPolicy: Shape = .object(
        .required(
            "spec",
            .fields([
                .required("tier", .oneOf(["Admin", "Baseline"])),
                .required("priority", .integer(0...1000)),
                .required("subject", podChoice),
                .honoured(
                    "ingress",
                    .list(clusterRule("from", clusterPods + clusterNetworks), counts: 0...25)),
                .honoured(
                    "egress",
                    .list(
                        clusterRule("to", clusterPods + clusterNetworks + clusterNames),
                        counts: 0...25)),
            ])), .harmless("status"))

    private static let clusterPods: [ShapeField] = [
        .honoured("namespaces", labelSelector),
        .honoured(
            "pods",
            .fields([
                .honoured("namespaceSelector", labelSelector),
                .required("podSelector", labelSelector),
            ])),
    ]

    private static let podChoice: Shape = .fields(clusterPods)

    private static let clusterNetworks: [ShapeField] = [
        .honoured("networks", .list(.text(.nonEmpty(bytesMax: 43)), counts: 1...25)),
        .honoured("nodes", labelSelector),
    ]

    private static let clusterNames: [ShapeField] = [
        .unsupported(
            "domainNames", "no connection is accepted for the sake of a name",
            .list(.text(.nonEmpty(bytesMax: 254)), counts: 1...25))
    ]

    private static func clusterRule(_ peers: String, _ fields: [ShapeField]) -> Shape {
        .fields([
            .honoured("name", .text(.any(bytesMax: 100))),
            .required("action", .oneOf(["Accept", "Deny", "Pass"])),
            .required(peers, .list(.fields(fields, isOpen: true), counts: 1...25)),
            .honoured(
                "protocols",
                .list(
                    .fields([
                        .honoured("tcp", clusterPort), .honoured("udp", clusterPort),
                        .honoured("sctp", clusterPort),
                        .honoured("destinationNamedPort", .text(.nonEmpty(bytesMax: 63))),
                    ]), counts: 1...25)),
        ])
    }

    private static let clusterPort: Shape = .fields([
        .required(
            "destinationPort",
            .fields([
                .honoured("number", .integer(1...65535)),
                .honoured(
                    "range",
                    .fields([
                        .required("start", .integer(1...65535)),
                        .required("end", .integer(1...65535)),
                    ])),
            ]))
    ])
}
