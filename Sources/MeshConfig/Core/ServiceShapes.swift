// The shapes of Service and EndpointSlice.

extension Shape {
    static let service: Shape = .object(
        .honoured("spec", serviceSpec), .harmless("status"))

    private static let serviceSpec: Shape = .fields(
        [
            .honoured(
                "type", .oneOf(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", ""])),
            .honoured("clusterIP", .text(.any(bytesMax: 45))),
            .honoured(
                "clusterIPs", .list(.text(.any(bytesMax: 45)), counts: 0...2)),
            .honoured("externalIPs", .list(.text(.ipAddress), counts: 0...256)),
            .honoured("ports", .list(.fields(servicePort), counts: 0...1024)),
            .honoured("selector", .texts(countMax: .max)),
            .honoured("publishNotReadyAddresses", .boolean),
            .unsupported("externalName", "names outside are not resolved yet"),
            .unsupported(
                "internalTrafficPolicy", "all endpoints are used", trafficPolicy,
                unless: "Cluster"),
            .unsupported(
                "externalTrafficPolicy", "all endpoints are used", trafficPolicy,
                unless: "Cluster"),
            .unsupported(
                "sessionAffinity", "connections go to any endpoint",
                .oneOf(["None", "ClientIP", ""]), unless: "None"),
            .unsupported("sessionAffinityConfig", "connections go to any endpoint"),
            .unsupported("trafficDistribution", "all endpoints are used"),
            .unsupported("healthCheckNodePort", "no health check port is opened"),
            .unsupported("loadBalancerIP", "no load balancer is made"),
            .unsupported("loadBalancerClass", "no load balancer is made"),
            .unsupported("loadBalancerSourceRanges", "sources are not filtered"),
        ]
            + ShapeField.harmless([
                "ipFamilies", "ipFamilyPolicy", "allocateLoadBalancerNodePorts",
            ]))

    private static let trafficPolicy: Shape = .oneOf(["Cluster", "Local", ""])

    private static let servicePort: [ShapeField] = [
        .honoured("name", .text(.any(bytesMax: 63))),
        .required("port", .integer(1...65535)),
        .honoured("protocol", .oneOf(["TCP", "UDP", "SCTP"])),
        .honoured("appProtocol", .text(.any(bytesMax: 317))),
        .honoured("targetPort", .integerOrText),
        .honoured("nodePort", .integer(0...65535)),
    ]

    static let endpointSlice: Shape = .object(
        .required("addressType", .oneOf(["IPv4", "IPv6", "FQDN"])),
        .honoured("endpoints", .list(.fields(endpoint), counts: 0...1000)),
        .honoured(
            "ports",
            .list(
                .fields([
                    .honoured("name", .text(.any(bytesMax: 63))),
                    .honoured("port", .integer(1...65535)),
                    .honoured("protocol", .oneOf(["TCP", "UDP", "SCTP"])),
                    .harmless("appProtocol", .text(.any(bytesMax: 317))),
                ]), counts: 0...20000)))

    private static let endpoint: [ShapeField] = [
        .required("addresses", .list(.text(.nonEmpty(bytesMax: 253)), counts: 1...100)),
        .honoured(
            "conditions",
            .fields([
                .honoured("ready", .boolean), .honoured("serving", .boolean),
                .honoured("terminating", .boolean),
            ])),
        .honoured("nodeName", .text(.any(bytesMax: 253))),
        .harmless("targetRef"), .harmless("hostname"), .harmless("zone"),
        .harmless("deprecatedTopology"),
        .unsupported("hints", "all endpoints are used"),
    ]
}
