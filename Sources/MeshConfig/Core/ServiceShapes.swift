// The shapes of Service and EndpointSlice.

extension Shape {
    static let service: Shape = .object(
        .honoured("spec", serviceSpec), .honoured("status", serviceStatus))

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
            .harmless("externalName", .text(.any(bytesMax: 253))),
            .honoured("internalTrafficPolicy", trafficPolicy),
            .honoured("externalTrafficPolicy", trafficPolicy),
            .honoured("sessionAffinity", .oneOf(["None", "ClientIP", ""])),
            .honoured("sessionAffinityConfig", affinity),
            .honoured("trafficDistribution", .oneOf(distributions)),
            .honoured("healthCheckNodePort", .integer(0...65535)),
            .honoured(
                "loadBalancerSourceRanges", .list(.text(.any(bytesMax: 64)), counts: 0...1024)),
            .unsupported("loadBalancerIP", "no load balancer is made"),
            .unsupported("loadBalancerClass", "no load balancer is made"),
        ]
            + ShapeField.harmless([
                "ipFamilies", "ipFamilyPolicy", "allocateLoadBalancerNodePorts",
            ]))

    private static let distributions = ["PreferSameZone", "PreferSameNode", "PreferClose", ""]

    /// Up to a day, as the API says.
    private static let affinity: Shape = .fields([
        .honoured("clientIP", .fields([.honoured("timeoutSeconds", .integer(1...86400))]))
    ])

    private static let serviceStatus: Shape = .fields([
        .honoured(
            "loadBalancer",
            .fields([
                .honoured(
                    "ingress",
                    .list(
                        .fields([
                            .honoured("ip", .text(.any(bytesMax: 45))),
                            .honoured("ipMode", .oneOf(["VIP", "Proxy", ""])),
                            .harmless("hostname"), .harmless("ports"),
                        ]), counts: 0...256))
            ])),
        .harmless("conditions"),
    ])

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
        .honoured("zone", .text(.any(bytesMax: 253))),
        .honoured(
            "hints", .fields([.honoured("forZones", hints), .honoured("forNodes", hints)])),
        .harmless("targetRef"), .harmless("hostname"), .harmless("deprecatedTopology"),
    ]

    private static let hints: Shape = .list(
        .fields([.required("name", .text(.nonEmpty(bytesMax: 253)))]), counts: 0...64)
}
