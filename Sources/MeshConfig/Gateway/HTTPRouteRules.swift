// The rules between fields of an HTTPRoute: the CEL rules of its schema, in its order, and what
// only a compiler of routes can say (regular expressions).

internal import MeshModel

enum HTTPRouteRules {
    static let matchesMax = 128

    static func check(_ root: Value, _ check: inout ShapeCheck) {
        guard let spec = root["spec"] else { return }
        checkParents(spec["parentRefs"]?.list ?? [], &check)
        let rules = spec["rules"]?.list ?? []
        let count = rules.reduce(0) { $0 + ($1["matches"]?.list.count ?? 0) }
        if count > matchesMax {
            check.error(
                "spec.rules", spec.line, "hold \(count) matches, at most \(matchesMax) allowed")
        }
        var names: Set<String> = []
        for (index, rule) in rules.enumerated() {
            checkRule(rule, "spec.rules[\(index)]", &check)
            if let name = rule["name"], let text = name.text, !names.insert(text).inserted {
                check.error(
                    "spec.rules[\(index)].name", name.line, "'\(text)' names two rules")
            }
        }
    }

    /// Two references to one parent must tell themselves apart, all in the same way.
    private static func checkParents(_ parents: [Value], _ check: inout ShapeCheck) {
        var groups: [[String]: [Int]] = [:]
        for (index, parent) in parents.enumerated() {
            let key = [
                parent["group"]?.text ?? Kind.gatewayGroup, parent["kind"]?.text ?? "Gateway",
                parent["namespace"]?.text ?? "", parent["name"]?.text ?? "",
            ]
            groups[key, default: []].append(index)
        }
        for indices in groups.values where indices.count > 1 {
            let sections = indices.map { parents[$0]["sectionName"]?.text ?? "" }
            let ports = indices.map { parents[$0]["port"]?.integer ?? 0 }
            let path = "spec.parentRefs[\(indices[1])]"
            let line = parents[indices[1]].line
            let isUniform =
                Set(sections.map(\.isEmpty)).count == 1 && Set(ports.map { $0 == 0 }).count == 1
            let isTold = !(sections[0].isEmpty && ports[0] == 0)
            if !isUniform || !isTold {
                check.error(
                    path, line,
                    "sectionName or port must be given in each reference to the same parent")
            } else if Set(zip(sections, ports).map { "\($0)/\($1)" }).count != indices.count {
                check.error(
                    path, line,
                    "sectionName and port must differ between references to the same parent")
            }
        }
    }

    private static func checkRule(
        _ rule: Value, _ path: String, _ check: inout ShapeCheck
    ) {
        let matches = rule["matches"]?.list ?? []
        for (index, match) in matches.enumerated() {
            HTTPRouteMatchRules.check(match, "\(path).matches[\(index)]", &check)
        }
        let filters = rule["filters"]?.list ?? []
        let isPrefix = Self.isOnePrefix(matches)
        HTTPRouteFilterRules.check(filters, path + ".filters", isPrefix, &check)
        let backends = rule["backendRefs"]?.list ?? []
        if !backends.isEmpty, let redirect = filters.first(where: { $0["requestRedirect"] != nil })
        {
            check.error(
                path + ".backendRefs", redirect.line,
                "must not be given with a RequestRedirect filter: remove one of them")
        }
        for (index, backend) in backends.enumerated() {
            let field = "\(path).backendRefs[\(index)]"
            checkBackend(backend, field, &check)
            HTTPRouteFilterRules.check(
                backend["filters"]?.list ?? [], field + ".filters", isPrefix, &check)
        }
        checkTimeouts(rule["timeouts"], path + ".timeouts", &check)
    }

    private static func checkBackend(
        _ backend: Value, _ path: String, _ check: inout ShapeCheck
    ) {
        let isService =
            (backend["group"]?.text ?? "").isEmpty
            && backend["kind"]?.text ?? "Service" == "Service"
        if isService, backend["port"] == nil {
            check.error(path + ".port", backend.line, "is required for a Service")
        }
    }

    /// The rules of a TCPRoute, which are among these.
    static func checkTCP(_ root: Value, _ check: inout ShapeCheck) {
        guard let spec = root["spec"] else { return }
        checkParents(spec["parentRefs"]?.list ?? [], &check)
        for (number, rule) in (spec["rules"]?.list ?? []).enumerated() {
            for (index, backend) in (rule["backendRefs"]?.list ?? []).enumerated() {
                checkBackend(backend, "spec.rules[\(number)].backendRefs[\(index)]", &check)
            }
        }
    }

    /// What ReplacePrefixMatch needs; no matches mean the default, a prefix of `/`.
    private static func isOnePrefix(_ matches: [Value]) -> Bool {
        guard let match = matches.first else { return true }
        return matches.count == 1
            && (match["path"]?["type"]?.text ?? "PathPrefix") == "PathPrefix"
    }

    private static func checkTimeouts(
        _ timeouts: Value?, _ path: String, _ check: inout ShapeCheck
    ) {
        guard let request = timeouts?["request"]?.text.flatMap(Duration.gatewayAPI),
            let backend = timeouts?["backendRequest"],
            let inner = backend.text.flatMap(Duration.gatewayAPI)
        else { return }
        if request != .zero, inner > request {
            check.error(
                path + ".backendRequest", backend.line, "must not be longer than request")
        }
    }
}

/// One match of a rule.
enum HTTPRouteMatchRules {
    static func check(_ match: Value, _ path: String, _ check: inout ShapeCheck) {
        if let value = match["path"]?["value"], let text = value.text {
            let type = match["path"]?["type"]?.text ?? "PathPrefix"
            let field = path + ".path.value"
            if type == "RegularExpression" {
                checkPattern(text, field, value.line, &check)
            } else if let problem = pathProblem(text) {
                check.error(field, value.line, problem)
            }
        }
        for name in ["headers", "queryParams"] {
            for (index, entry) in (match[name]?.list ?? []).enumerated() {
                guard entry["type"]?.text == "RegularExpression", let value = entry["value"],
                    let text = value.text
                else { continue }
                checkPattern(text, "\(path).\(name)[\(index)].value", value.line, &check)
            }
        }
    }

    private static func checkPattern(
        _ text: String, _ field: String, _ line: Int, _ check: inout ShapeCheck
    ) {
        if let problem = Pattern.problem(with: text) { check.error(field, line, problem) }
    }

    static func pathProblem(_ text: String) -> String? {
        guard text.hasPrefix("/") else { return "'\(text)' must start with /" }
        for part in ["//", "/./", "/../", "%2f", "%2F", "#"] where text.contains(part) {
            return "'\(text)' must not contain '\(part)'"
        }
        for end in ["/..", "/."] where text.hasSuffix(end) {
            return "'\(text)' must not end with '\(end)'"
        }
        let bytes = Array(text.utf8)
        let others = "-/._~!$&'()*+,;=:@".utf8
        var index = 0
        while index < bytes.count {
            let byte = bytes[index]
            let isLetterOrDigit =
                (byte >= 48 && byte <= 57) || ((byte | 0x20) >= 97 && (byte | 0x20) <= 122)
            if byte == UInt8(ascii: "%") {
                guard index + 2 < bytes.count, isHex(bytes[index + 1]), isHex(bytes[index + 2])
                else { return "'\(text)' holds a % that no two hexadecimal digits follow" }
                index += 3
            } else if isLetterOrDigit || others.contains(byte) {
                index += 1
            } else {
                return "'\(text)' holds a character that no path may hold: percent-encode it"
            }
        }
        return nil
    }

    private static func isHex(_ byte: UInt8) -> Bool {
        (byte >= 48 && byte <= 57) || ((byte | 0x20) >= 97 && (byte | 0x20) <= 102)
    }
}

/// The filters of a rule or of a backendRef.
enum HTTPRouteFilterRules {
    /// Type and the one field that goes with it.
    static let fields = [
        ("RequestHeaderModifier", "requestHeaderModifier"),
        ("ResponseHeaderModifier", "responseHeaderModifier"),
        ("RequestMirror", "requestMirror"), ("RequestRedirect", "requestRedirect"),
        ("URLRewrite", "urlRewrite"), ("ExtensionRef", "extensionRef"), ("CORS", "cors"),
        ("ExternalAuth", "externalAuth"),
    ]
    private static let repeatable: Set<String> = ["RequestMirror", "ExtensionRef", "ExternalAuth"]

    static func check(
        _ filters: [Value], _ path: String, _ isOnePrefix: Bool, _ check: inout ShapeCheck
    ) {
        var seen: Set<String> = []
        for (index, filter) in filters.enumerated() {
            let field = "\(path)[\(index)]"
            let type = filter["type"]?.text ?? ""
            if !seen.insert(type).inserted, !repeatable.contains(type) {
                check.error(field + ".type", filter.line, "\(type) stands twice: merge them")
            }
            for (name, key) in fields {
                if type == name, filter[key] == nil {
                    check.error("\(field).\(key)", filter.line, "is required for type \(name)")
                } else if type != name, let value = filter[key] {
                    check.error("\(field).\(key)", value.line, "does not belong to type \(type)")
                }
            }
            for key in ["requestRedirect", "urlRewrite"] {
                guard let modifier = filter[key]?["path"] else { continue }
                checkModifier(modifier, "\(field).\(key).path", isOnePrefix, &check)
            }
        }
        if seen.contains("RequestRedirect"), seen.contains("URLRewrite") {
            check.error(
                path, filters[0].line,
                "RequestRedirect and URLRewrite exclude each other: remove one of them",
                condition: .init(type: "Accepted", reason: "IncompatibleFilters"))
        }
    }

    private static func checkModifier(
        _ modifier: Value, _ path: String, _ isOnePrefix: Bool, _ check: inout ShapeCheck
    ) {
        let type = modifier["type"]?.text
        for (name, key) in [
            ("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch"),
        ] {
            if type == name, modifier[key] == nil {
                check.error("\(path).\(key)", modifier.line, "is required for type \(name)")
            } else if type != name, let value = modifier[key] {
                check.error("\(path).\(key)", value.line, "needs type \(name)")
            }
        }
        if type == "ReplacePrefixMatch", !isOnePrefix {
            check.error(
                path + ".type", modifier.line,
                "ReplacePrefixMatch needs exactly one match, of type PathPrefix")
        }
    }
}
