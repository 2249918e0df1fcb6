// The shapes of GatewayClass, Gateway and ReferenceGrant. Source: Gateway API v1.6, both channels.

extension Shape {
    static let gatewayClass: Shape = .object(
        .required(
            "spec",
            .fields([
                .required("controllerName", .text(.controllerName)),
                .harmless("description", .text(.any(bytesMax: 256))),
                .unsupported("parametersRef", "a class of Malla has no parameters"),
            ])), .harmless("status"))

    static let referenceGrant: Shape = .object(
        .required(
            "spec",
            .fields([
                .required(
                    "from",
                    .list(
                        .fields([
                            .required("group", .text(.group)), .required("kind", .text(.kind)),
                            .required("namespace", .text(.label)),
                        ]), counts: 1...16)),
                .required(
                    "to",
                    .list(
                        .fields([
                            .required("group", .text(.group)), .required("kind", .text(.kind)),
                            .honoured("name", .text(.objectName)),
                        ]), counts: 1...16)),
            ])), .harmless("status"))

    static let gateway: Shape = .object(
        .required(
            "spec",
            .fields([
                .required("gatewayClassName", .text(.objectName)),
                .required(
                    "listeners", .list(.fields(listener), counts: 1...64, uniqueBy: "name")),
                .honoured("addresses", .list(.fields(gatewayAddress), counts: 0...16)),
                .unsupported("allowedListeners", "ListenerSets attach nowhere"),
                .unsupported("infrastructure", "no resources are made for a Gateway"),
                .honoured("tls", gatewayTLS),
                .unsupported("defaultScope", "routes attach by their parentRefs only"),
            ])), .harmless("status"))

    private static let gatewayTLS: Shape = .fields([
        .honoured(
            "frontend",
            .fields([
                .required("default", .fields([.honoured("validation", clientValidation)])),
                .honoured(
                    "perPort",
                    .list(
                        .fields([
                            .required("port", .integer(1...65535)),
                            .required(
                                "tls", .fields([.honoured("validation", clientValidation)])),
                        ]), counts: 0...64, uniqueBy: "port")),
            ])),
        .unsupported("backend", "backends are shown no certificate"),
    ])

    private static let clientValidation: Shape = .fields([
        .required(
            "caCertificateRefs",
            .list(
                .fields([
                    .required("group", .text(.group)), .required("kind", .text(.kind)),
                    .required("name", .text(.objectName)),
                    .honoured("namespace", .text(.label)),
                ]), counts: 1...16)),
        .honoured("mode", .oneOf(["AllowValidOnly", "AllowInsecureFallback"])),
    ])

    private static let gatewayAddress: [ShapeField] = [
        .honoured("type", .text(.nonEmpty(bytesMax: 253))),
        .honoured("value", .text(.any(bytesMax: 253))),
    ]

    private static let listener: [ShapeField] = [
        .required("name", .text(.subdomain)),
        .honoured("hostname", .text(.hostname)),
        .required("port", .integer(1...65535)),
        .required("protocol", .text(.nonEmpty(bytesMax: 255))),
        .honoured("tls", listenerTLS),
        .honoured(
            "allowedRoutes",
            .fields([
                .honoured(
                    "kinds",
                    .list(
                        .fields([
                            .honoured("group", .text(.group)), .required("kind", .text(.kind)),
                        ]), counts: 0...8)),
                .honoured(
                    "namespaces",
                    .fields([
                        .honoured("from", .oneOf(["All", "Selector", "Same"])),
                        .honoured("selector", labelSelector),
                    ])),
            ])),
    ]

    private static let listenerTLS: Shape = .fields([
        .honoured("mode", .oneOf(["Terminate", "Passthrough"])),
        .honoured(
            "certificateRefs",
            .list(
                .fields([
                    .honoured("group", .text(.group)), .honoured("kind", .text(.kind)),
                    .required("name", .text(.objectName)),
                    .honoured("namespace", .text(.label)),
                ]), counts: 0...64)),
        .honoured("options", .texts(countMax: 16)),
    ])

    /// metav1.LabelSelector.
    static let labelSelector: Shape = .fields([
        .honoured("matchLabels", .texts(countMax: .max)),
        .honoured(
            "matchExpressions",
            .list(
                .fields([
                    .required("key", .text(.nonEmpty(bytesMax: 317))),
                    .required("operator", .oneOf(["In", "NotIn", "Exists", "DoesNotExist"])),
                    .honoured("values", .list(.text(.any(bytesMax: 63)), counts: 0...1024)),
                ]), counts: 0...1024)),
    ])
}
