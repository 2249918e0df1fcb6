// The rules of one HTTPRoute: matches with their defaults, filters, backends as indices.

internal import MeshModel

struct RuleResolution {
    private let references: BackendReferences
    private let object: ConfigObject
    private(set) var rules: [HTTPRouteRule] = []
    private(set) var diagnostics: [Diagnostic] = []
    private(set) var resolvedRefs = Condition("ResolvedRefs", .isTrue, "ResolvedRefs")
    /// Set when a rule asks for a filter that this build does not do.
    private(set) var partiallyInvalid: Condition?

    init(_ references: BackendReferences, _ object: ConfigObject) {
        self.references = references
        self.object = object
    }

    mutating func resolve() {
        let values = object.root["spec"]?["rules"]?.list ?? []
        // The schema's default: one rule that matches everything, without a backend.
        guard !values.isEmpty else {
            rules = [HTTPRouteRule()]
            return
        }
        for (index, value) in values.enumerated() {
            rules.append(rule(value, "spec.rules[\(index)]"))
        }
    }

    private mutating func rule(_ value: Value, _ path: String) -> HTTPRouteRule {
        let matches = (value["matches"]?.list ?? []).map { HTTPRouteMatch($0) }
        let timeouts = value["timeouts"]
        var backends: [RouteBackend] = []
        for (index, backend) in (value["backendRefs"]?.list ?? []).enumerated() {
            backends.append(self.backend(backend, "\(path).backendRefs[\(index)]"))
        }
        return HTTPRouteRule(
            name: value["name"]?.text ?? "",
            matches: matches.isEmpty ? [HTTPRouteMatch()] : matches,
            filters: filters(value["filters"], path), backends: backends,
            requestTimeoutMilliseconds: Self.milliseconds(timeouts?["request"]),
            backendTimeoutMilliseconds: Self.milliseconds(timeouts?["backendRequest"]))
    }

    private static func milliseconds(_ value: Value?) -> UInt32 {
        value?.text.flatMap(Duration.gatewayAPI)?.wholeMilliseconds ?? 0
    }

    // MARK: Backends

    private mutating func backend(_ value: Value, _ path: String) -> RouteBackend {
        RouteBackend(
            target: target(value, path), weight: UInt32(clamping: value["weight"]?.integer ?? 1),
            filters: filters(value["filters"], path))
    }

    private mutating func target(_ value: Value, _ path: String) -> RouteBackend.Target {
        let group = value["group"]?.text ?? ""
        let kind = value["kind"]?.text ?? "Service"
        guard group.isEmpty, kind == "Service" else {
            return unresolved(
                "InvalidKind", value, path + ".kind",
                "a backend of kind \(kind) (group '\(group)') is not supported by this build")
        }
        let namespace = value["namespace"]?.text ?? ""
        let name = ObjectName(
            namespace.isEmpty ? object.name.namespace : namespace, value["name"]?.text ?? "")
        let isPermitted = references.grants.permit(
            from: object.kind, in: object.name.namespace, to: "Service", name)
        guard isPermitted else {
            return unresolved(
                "RefNotPermitted", value, path + ".namespace",
                "no ReferenceGrant in namespace \(name.namespace) permits \(object.kind)s of "
                    + "\(object.name.namespace) to refer to Service \(name.name)")
        }
        guard let index = references.serviceIndex[name] else {
            return unresolved(
                "BackendNotFound", value, path + ".name",
                "Service \(name) does not exist (or was refused)")
        }
        let number = value["port"]?.integer ?? 0
        let service = references.services[index]
        guard
            let port = service.ports.firstIndex(where: {
                Int($0.port) == number && $0.transport == .tcp
            })
        else {
            return unresolved(
                "BackendNotFound", value, path + ".port",
                "Service \(name) has no TCP port \(number)")
        }
        if service.type == "ExternalName" {
            return unresolved(
                "UnsupportedProtocol", value, path + ".name",
                "Service \(name) is of type ExternalName, not supported by this build")
        }
        return .service(index, port: port)
    }

    private mutating func unresolved(
        _ reason: String, _ value: Value, _ field: String, _ message: String
    ) -> RouteBackend.Target {
        if resolvedRefs.status == .isTrue {
            resolvedRefs = Condition("ResolvedRefs", .isFalse, reason, message)
        }
        diagnostics.note(
            object, .warning, .reference, field, value.line,
            message
                + (object.kind == "TCPRoute"
                    ? "; its share of the connections is reset"
                    : "; its share of the requests is answered with 500"),
            .init(type: "ResolvedRefs", reason: reason))
        return .unresolved(message)
    }

    // MARK: Filters

    private mutating func filters(_ value: Value?, _ path: String) -> [HTTPRouteFilter] {
        var filters: [HTTPRouteFilter] = []
        for (index, entry) in (value?.list ?? []).enumerated() {
            let filter = HTTPRouteFilter(entry)
            if let field = filter.framingField {
                let message =
                    "\(field) belongs to the connection and not to a rule, so no filter sets, adds "
                    + "or removes it; requests of its rule are answered with 500"
                diagnostics.note(
                    object, .warning, .unsupported, "\(path).filters[\(index)]", entry.line, message
                )
                partiallyInvalid = Condition(
                    "PartiallyInvalid", .isTrue, "UnsupportedValue", message)
            }
            if case .unsupported(let name) = filter {
                // Named already, field by field, when the shape was checked.
                partiallyInvalid = Condition(
                    "PartiallyInvalid", .isTrue, "UnsupportedValue",
                    "filter \(name) is not supported by this build; requests of its rule are "
                        + "answered with 500")
            }
            filters.append(filter)
        }
        return filters
    }
}

extension HTTPRouteMatch {
    init(_ value: MeshConfig.Value) {
        let text = value["path"]?["value"]?.text ?? "/"
        let path: Path
        switch value["path"]?["type"]?.text {
        case "Exact"?: path = .exact(text)
        case "RegularExpression"?: path = .regularExpression(text)
        default:
            path = .prefix(text.count > 1 && text.hasSuffix("/") ? String(text.dropLast()) : text)
        }
        self.init(
            path: path, method: value["method"]?.text,
            headers: Self.named(value["headers"], isHeader: true),
            query: Self.named(value["queryParams"], isHeader: false))
    }

    /// Of names that HTTP takes for the same one, the first counts (HTTPHeaderMatch.name).
    private static func named(_ value: MeshConfig.Value?, isHeader: Bool) -> [Named] {
        var seen: Set<String> = []
        return (value?.list ?? []).compactMap { entry in
            let name = entry["name"]?.text ?? ""
            let key = isHeader ? name.lowercased() : name
            guard seen.insert(key).inserted else { return nil }
            let text = entry["value"]?.text ?? ""
            return Named(
                name: key,
                value: entry["type"]?.text == "RegularExpression"
                    ? .regularExpression(text) : .exact(text))
        }
    }
}

extension HTTPRouteFilter {
    fileprivate var framingField: String? {
        switch self {
        case .requestHeaders(let modifier), .responseHeaders(let modifier): modifier.framingField
        case .redirect, .rewrite, .unsupported: nil
        }
    }

    init(_ value: Value) {
        switch value["type"]?.text ?? "" {
        case "RequestHeaderModifier":
            self = .requestHeaders(HeaderModifier(value["requestHeaderModifier"]))
        case "ResponseHeaderModifier":
            self = .responseHeaders(HeaderModifier(value["responseHeaderModifier"]))
        case "RequestRedirect":
            let redirect = value["requestRedirect"]
            self = .redirect(
                Redirect(
                    scheme: redirect?["scheme"]?.text, hostname: redirect?["hostname"]?.text,
                    path: PathModifier(redirect?["path"]),
                    port: redirect?["port"]?.integer.map { UInt16(clamping: $0) },
                    status: UInt16(clamping: redirect?["statusCode"]?.integer ?? 302)))
        case "URLRewrite":
            let rewrite = value["urlRewrite"]
            self = .rewrite(
                Rewrite(
                    hostname: rewrite?["hostname"]?.text, path: PathModifier(rewrite?["path"])))
        case let other:
            self = .unsupported(other)
        }
    }
}

extension HTTPRouteFilter.HeaderModifier {
    init(_ value: Value?) {
        func fields(_ name: String) -> [Field] {
            (value?[name]?.list ?? []).map {
                Field(name: $0["name"]?.text ?? "", value: $0["value"]?.text ?? "")
            }
        }
        self.init(
            set: fields("set"), add: fields("add"),
            remove: (value?["remove"]?.list ?? []).compactMap(\.text))
    }
}

extension HTTPRouteFilter.PathModifier {
    init?(_ value: Value?) {
        if let text = value?["replaceFullPath"]?.text {
            self = .replaceFullPath(text)
        } else if let text = value?["replacePrefixMatch"]?.text {
            self = .replacePrefixMatch(text)
        } else {
            return nil
        }
    }
}
