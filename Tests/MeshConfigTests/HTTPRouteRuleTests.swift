internal import MeshConfig
internal import MeshModel
import Testing

/// One object that breaks one rule.
struct RefusalRow: Sendable, CustomTestStringConvertible {
    let rule: String
    /// A spec in YAML's flow style, or a rule where the suite says so.
    let text: String
    let field: String
    let says: String

    var testDescription: String { rule }

    init(_ rule: String, _ text: String, _ field: String, _ says: String) {
        self.rule = rule
        self.text = text
        self.field = field
        self.says = says
    }
}

@Suite("An HTTPRoute that breaks a rule of its schema is refused whole")
struct HTTPRouteRuleTests {
    static let many = (0..<17).map { "{backendRefs: [{name: s\($0), port: 80}]}" }
        .joined(separator: ", ")
    static let matches = (0..<65).map { "{path: {value: /\($0)}}" }.joined(separator: ", ")
    static let half = (0..<50).map { "{path: {value: /\($0)}}" }.joined(separator: ", ")

    static let specs: [RefusalRow] = [
        .init("rules 1...16", "{rules: [\(many)]}", "spec.rules", "at most 16"),
        .init("rules not empty", "{rules: []}", "spec.rules", "at least 1"),
        .init(
            "matches at most 64", "{rules: [{matches: [\(matches)]}]}", "spec.rules[0].matches",
            "at most 64"),
        .init(
            "matches at most 128 in all",
            "{rules: [{matches: [\(half)]}, {matches: [\(half)]}, {matches: [\(half)]}]}",
            "spec.rules", "150 matches"),
        .init(
            "hostname is lower case", "{hostnames: [Example.com]}", "spec.hostnames[0]",
            "no hostname"),
        .init(
            "hostname is no address", "{hostnames: [10.0.0.1]}", "spec.hostnames[0]",
            "an IP address"),
        .init("wildcard in front only", "{hostnames: [a.*.com]}", "spec.hostnames[0]", "in front"),
        .init(
            "parent's name", "{parentRefs: [{port: 80}]}", "spec.parentRefs[0].name",
            "required"),
        .init(
            "parent's port", "{parentRefs: [{name: e, port: 70000}]}", "spec.parentRefs[0].port",
            "1...65535"),
        .init(
            "two references, no section", "{parentRefs: [{name: e}, {name: e}]}",
            "spec.parentRefs[1]", "must be given"),
        .init(
            "two references, one section",
            "{parentRefs: [{name: e, sectionName: a}, {name: e, sectionName: a}]}",
            "spec.parentRefs[1]", "must differ"),
        .init(
            "two references, section on one",
            "{parentRefs: [{name: e, sectionName: a}, {name: e}]}", "spec.parentRefs[1]",
            "must be given"),
        .init(
            "rule names differ", "{rules: [{name: a}, {name: a}]}", "spec.rules[1].name",
            "two rules"),
        .init("text is text", "{hostnames: [80]}", "spec.hostnames[0]", "quotes"),
        .init("list is list", "{hostnames: a.com}", "spec.hostnames", "a list"),
    ]

    @Test(arguments: specs) func `a broken spec is refused`(_ row: RefusalRow) throws {
        try expect(row, spec: row.text)
    }

    static let rules: [RefusalRow] = [
        .init(
            "path starts with /", "matches: [{path: {value: a}}]", "matches[0].path.value",
            "start with /"),
        .init("no //", "matches: [{path: {value: /a//b}}]", "matches[0].path.value", "'//'"),
        .init("no /./", "matches: [{path: {value: /a/./b}}]", "matches[0].path.value", "'/./'"),
        .init("no /../", "matches: [{path: {value: /a/../b}}]", "matches[0].path.value", "'/../'"),
        .init("no %2f", "matches: [{path: {value: /a%2fb}}]", "matches[0].path.value", "'%2f'"),
        .init("no #", "matches: [{path: {value: '/a#b'}}]", "matches[0].path.value", "'#'"),
        .init(
            "no /.. at the end", "matches: [{path: {value: /a/..}}]", "matches[0].path.value",
            "end with"),
        .init(
            "path characters", "matches: [{path: {value: '/a b'}}]", "matches[0].path.value",
            "percent-encode"),
        .init(
            "percent needs digits", "matches: [{path: {value: '/a%g0'}}]",
            "matches[0].path.value", "hexadecimal"),
        .init(
            "path type", "matches: [{path: {type: Prefix, value: /}}]", "matches[0].path.type",
            "PathPrefix"),
        .init(
            "path is at most 1024",
            "matches: [{path: {value: /\(String(repeating: "a", count: 1024))}}]",
            "matches[0].path.value", "at most 1024"),
        .init(
            "expression compiles", "matches: [{path: {type: RegularExpression, value: '/('}}]",
            "matches[0].path.value", "regular expression"),
        .init(
            "no look-ahead",
            "matches: [{headers: [{type: RegularExpression, name: a, value: '(?=b)'}]}]",
            "matches[0].headers[0].value", "look around"),
        .init("method", "matches: [{method: get}]", "matches[0].method", "GET"),
        .init(
            "header name", "matches: [{headers: [{name: 'a b', value: c}]}]",
            "matches[0].headers[0].name", "no name of a header"),
        .init(
            "header value required", "matches: [{headers: [{name: a}]}]",
            "matches[0].headers[0].value", "required"),
        .init(
            "headers once", "matches: [{headers: [{name: a, value: b}, {name: a, value: c}]}]",
            "matches[0].headers[1].name", "twice"),
        .init(
            "query once",
            "matches: [{queryParams: [{name: a, value: b}, {name: a, value: c}]}]",
            "matches[0].queryParams[1].name", "twice"),
        .init(
            "weight at most 1000000", "backendRefs: [{name: s, port: 80, weight: 1000001}]",
            "backendRefs[0].weight", "0...1000000"),
        .init(
            "weight not negative", "backendRefs: [{name: s, port: 80, weight: -1}]",
            "backendRefs[0].weight", "0...1000000"),
        .init(
            "service needs a port", "backendRefs: [{name: s}]", "backendRefs[0].port",
            "required for a Service"),
        .init(
            "backend namespace", "backendRefs: [{name: s, port: 80, namespace: A}]",
            "backendRefs[0].namespace", "DNS label"),
        .init("duration", "timeouts: {request: 10}", "timeouts.request", "quotes"),
        .init("duration unit", "timeouts: {request: 10d}", "timeouts.request", "no duration"),
        .init(
            "backend timeout within request", "timeouts: {request: 1s, backendRequest: 2s}",
            "timeouts.backendRequest", "longer"),
        .init("filter type", "filters: [{type: Magic}]", "filters[0].type", "not one of"),
        .init(
            "filter field required", "filters: [{type: URLRewrite}]", "filters[0].urlRewrite",
            "required"),
        .init(
            "filter field of another type",
            """
            filters: [{type: URLRewrite, urlRewrite: {hostname: a.com}, requestRedirect: \
            {port: 80}}]
            """,
            "filters[0].requestRedirect", "does not belong"),
        .init(
            "filter once",
            "filters: [{type: URLRewrite, urlRewrite: {}}, {type: URLRewrite, urlRewrite: {}}]",
            "filters[1].type", "twice"),
        .init(
            "redirect or rewrite",
            """
            filters: [{type: URLRewrite, urlRewrite: {}}, {type: RequestRedirect, \
            requestRedirect: {}}]
            """,
            "filters", "exclude"),
        .init(
            "redirect without backends",
            """
            filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: \
            s, port: 80}]
            """,
            "backendRefs", "RequestRedirect"),
        .init(
            "redirect status",
            "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 300}}]",
            "filters[0].requestRedirect.statusCode", "301"),
        .init(
            "redirect scheme", "filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp}}]",
            "filters[0].requestRedirect.scheme", "https"),
        .init(
            "rewritten hostname has no wildcard",
            "filters: [{type: URLRewrite, urlRewrite: {hostname: '*.a.com'}}]",
            "filters[0].urlRewrite.hostname", "no wildcard"),
        .init(
            "replaceFullPath required",
            "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}]",
            "filters[0].urlRewrite.path.replaceFullPath", "required"),
        .init(
            "modifier field of another type",
            """
            filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, \
            replaceFullPath: /a, replacePrefixMatch: /b}}}]
            """,
            "filters[0].urlRewrite.path.replacePrefixMatch", "needs type"),
        .init(
            "ReplacePrefixMatch needs a prefix",
            """
            matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, \
            urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]
            """,
            "filters[0].urlRewrite.path.type", "exactly one match"),
        .init(
            "ReplacePrefixMatch needs one match",
            """
            matches: [{path: {value: /a}}, {path: {value: /b}}], filters: [{type: \
            URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: \
            /b}}}]
            """,
            "filters[0].urlRewrite.path.type", "exactly one match"),
        .init(
            "set once",
            """
            filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, \
            value: b}, {name: a, value: c}]}}]
            """,
            "filters[0].requestHeaderModifier.set[1].name", "twice"),
        .init(
            "a header's value ends its line: a field smuggled in",
            #"""
            filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, \#
            value: "b\r\nX-C: d"}]}}]
            """#,
            "filters[0].requestHeaderModifier.set[0].value", "control character"),
        .init(
            "a header of answers ends its line",
            #"""
            filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: a, \#
            value: "b\nX-C: d"}]}}]
            """#,
            "filters[0].responseHeaderModifier.add[0].value", "control character"),
        .init(
            "a replaced prefix that leaves the root",
            """
            matches: [{path: {value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: \
            {type: ReplacePrefixMatch, replacePrefixMatch: /../x}}}]
            """,
            "filters[0].urlRewrite.path.replacePrefixMatch", "the segment . or .."),
        .init(
            "a replaced path with hidden dots",
            """
            matches: [{path: {value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: \
            {type: ReplaceFullPath, replaceFullPath: /x/.%2E/y}}}]
            """,
            "filters[0].urlRewrite.path.replaceFullPath", "the segment . or .."),
        .init(
            "removed header name",
            "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: ['a b']}}]",
            "filters[0].requestHeaderModifier.remove[0]", "no name of a header"),
    ]

    @Test(arguments: rules) func `a broken rule refuses its route`(_ row: RefusalRow) throws {
        let moved = RefusalRow(row.rule, row.text, "spec.rules[0]." + row.field, row.says)
        try expect(moved, spec: "{parentRefs: [{name: edge}], rules: [{\(row.text)}]}")
    }

    /// The broken route is refused with its field and line; its neighbour takes effect.
    private func expect(_ row: RefusalRow, spec: String) throws {
        let good = ConfigStoreTests.plainRoute
        let text = ConfigStoreTests.shop.replacing("*.Example.com", with: "*.example.com") + good
        let result = try TestDirectory.load(text + ConfigStoreTests.route("bad", spec: spec))
        let errors = result.diagnostics.filter { $0.severity == .error }
        let found = errors.first { $0.field == row.field && $0.message.contains(row.says) }
        #expect(found != nil, "\(result.diagnostics.map(\.description))")
        #expect(found?.object == "HTTPRoute shop/bad" && found?.file == "mesh.yaml")
        #expect(found?.condition?.type == "Accepted")
        #expect((found?.line ?? 0) > text.split(separator: "\n").count)
        #expect(Set(errors.map(\.object)) == ["HTTPRoute shop/bad"])
        #expect(result.mesh.routes.map(\.name.name) == ["web"])
    }

    static let accepted: [RefusalRow] = [
        .init("empty filter lists", "filters: [], matches: []", "", ""),
        .init(
            "all of a match",
            """
            matches: [{path: {type: RegularExpression, value: '/a[0-9]+'}, method: GET, \
            headers: [{name: X-A, value: b}], queryParams: [{name: q, value: r}]}]
            """,
            "", ""),
        .init("null is absent", "name: null, matches: [{path: {value: null}}]", "", ""),
        .init(
            "prefix replaced by the default match",
            """
            filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, \
            replacePrefixMatch: ''}}}]
            """,
            "", ""),
        .init("no request limit", "timeouts: {request: 0s, backendRequest: 1h30m10s500ms}", "", ""),
    ]

    @Test(arguments: accepted) func `what the schema allows is accepted`(_ row: RefusalRow) throws {
        let spec = "{parentRefs: [{name: edge}], rules: [{\(row.text)}]}"
        let text = ConfigStoreTests.shop.replacing("*.Example.com", with: "*.example.com")
        let result = try TestDirectory.load(text + ConfigStoreTests.route("ok", spec: spec))
        #expect(result.diagnostics.map(\.description) == [])
        #expect(result.mesh.routes.count == 1)
    }
}
