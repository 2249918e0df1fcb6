// The shapes of HTTPRoute and TCPRoute. Source: Gateway API v1.6, both channels.

extension Shape {
    static let httpRoute: Shape = .object(
        .required(
            "spec",
            .fields([
                parentRefs,
                .honoured("hostnames", .list(.text(.hostname), counts: 0...16)),
                .honoured("rules", .list(.fields(rule), counts: 1...16)),
                .unsupported("useDefaultGateways", "routes attach by their parentRefs only"),
            ])), .harmless("status"))

    static let tcpRoute: Shape = .object(
        .required(
            "spec",
            .fields([
                parentRefs,
                .required(
                    "rules",
                    .list(
                        .fields([
                            .honoured("name", .text(.subdomain)),
                            .required(
                                "backendRefs", .list(.fields(backendRef), counts: 1...16)),
                        ]), counts: 1...1)),
                .unsupported("useDefaultGateways", "routes attach by their parentRefs only"),
            ])), .harmless("status"))

    private static let parentRefs: ShapeField = .honoured(
        "parentRefs",
        .list(
            .fields([
                .honoured("group", .text(.group)), .honoured("kind", .text(.kind)),
                .honoured("namespace", .text(.label)),
                .required("name", .text(.objectName)),
                .honoured("sectionName", .text(.subdomain)),
                .honoured("port", .integer(1...65535)),
            ]), counts: 0...32))

    private static let backendRef: [ShapeField] = [
        .honoured("group", .text(.group)), .honoured("kind", .text(.kind)),
        .required("name", .text(.objectName)),
        .honoured("namespace", .text(.label)),
        .honoured("port", .integer(1...65535)),
        .honoured("weight", .integer(0...1_000_000)),
    ]

    private static let rule: [ShapeField] = [
        .honoured("name", .text(.subdomain)),
        .honoured("matches", .list(.fields(match), counts: 0...64)),
        .honoured("filters", .list(.fields(filter), counts: 0...16)),
        .honoured(
            "backendRefs",
            .list(
                .fields(
                    backendRef + [
                        .honoured("filters", .list(.fields(filter), counts: 0...16))
                    ]), counts: 0...16)),
        .honoured(
            "timeouts",
            .fields([
                .honoured("request", .text(.duration)),
                .honoured("backendRequest", .text(.duration)),
            ])),
        .unsupported("retry", "requests are not repeated"),
        .unsupported("sessionPersistence", "requests of one client go to any endpoint"),
    ]

    static let methods = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ]

    private static let match: [ShapeField] = [
        .honoured(
            "path",
            .fields([
                .honoured("type", .oneOf(["Exact", "PathPrefix", "RegularExpression"])),
                .honoured("value", .text(.any(bytesMax: 1024))),
            ])),
        .honoured("method", .oneOf(methods)),
        .honoured("headers", named(valueBytesMax: 4096)),
        .honoured("queryParams", named(valueBytesMax: 1024)),
    ]

    private static func named(valueBytesMax: Int) -> Shape {
        .list(
            .fields([
                .honoured("type", .oneOf(["Exact", "RegularExpression"])),
                .required("name", .text(.headerName)),
                .required("value", .text(.nonEmpty(bytesMax: valueBytesMax))),
            ]), counts: 0...16, uniqueBy: "name")
    }

    /// Filters that this build does not do answer 500 for the requests of their rule.
    private static let answers500 = "requests of this rule are answered with 500"

    private static let filter: [ShapeField] = [
        .required(
            "type",
            .oneOf([
                "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror",
                "RequestRedirect", "URLRewrite", "ExtensionRef", "CORS", "ExternalAuth",
            ])),
        .honoured("requestHeaderModifier", headerModifier),
        .honoured("responseHeaderModifier", headerModifier),
        .honoured(
            "requestRedirect",
            .fields([
                .honoured("scheme", .oneOf(["http", "https"])),
                .honoured("hostname", .text(.preciseHostname)),
                .honoured("path", pathModifier),
                .honoured("port", .integer(1...65535)),
                .honoured("statusCode", .integerIn([301, 302, 303, 307, 308])),
            ])),
        .honoured(
            "urlRewrite",
            .fields([
                .honoured("hostname", .text(.preciseHostname)), .honoured("path", pathModifier),
            ])),
        .unsupported("requestMirror", answers500),
        .unsupported("cors", answers500),
        .unsupported("extensionRef", answers500),
        .unsupported("externalAuth", answers500),
    ]

    private static let headerModifier: Shape = .fields([
        .honoured("set", headerFields), .honoured("add", headerFields),
        .honoured("remove", .list(.text(.headerName), counts: 0...16)),
    ])

    private static let headerFields: Shape = .list(
        .fields([
            .required("name", .text(.headerName)),
            .required("value", .text(.fieldValue)),
        ]), counts: 0...16, uniqueBy: "name")

    private static let pathModifier: Shape = .fields([
        .required("type", .oneOf(["ReplaceFullPath", "ReplacePrefixMatch"])),
        .honoured("replaceFullPath", .text(.replacedPath)),
        .honoured("replacePrefixMatch", .text(.replacedPath)),
    ])
}
