import MeshModel
import Testing

/// One request as text, matched against a table: answers the rule's name, or `nil` for 404.
private func find(
    _ table: RouteTable, _ routes: [HTTPRoute], _ target: String, method: String = "GET",
    host: String = "shop.example", headers: [(String, String)] = []
) -> String? {
    var bytes: [UInt8] = []
    func put(_ text: String) -> ByteRange {
        let start = bytes.count
        bytes += Array(text.utf8)
        return ByteRange(start, bytes.count)
    }
    let parts = target.split(separator: "?", maxSplits: 1).map(String.init)
    let (methodRange, path) = (put(method), put(parts[0]))
    let query = put(parts.count > 1 ? parts[1] : "")
    let hostRange = put(host)
    let fields = headers.map { FieldRange(name: put($0.0), value: put($0.1), kind: 0) }
    // Safe: both pointers stay inside the closures.
    let match = unsafe bytes.withUnsafeBufferPointer { buffer in
        unsafe fields.withUnsafeBufferPointer { fieldBuffer in
            var none = FieldRange(name: .empty, value: .empty, kind: 0)
            return unsafe withUnsafePointer(to: &none) { placeholder in
                let head = unsafe RequestHead(
                    bytes: Bytes(buffer.baseAddress!, count: buffer.count), method: methodRange,
                    path: path, query: query, host: hostRange,
                    fields: fieldBuffer.baseAddress ?? placeholder, fieldsCount: fields.count)
                return table.find(head)
            }
        }
    }
    guard let match else { return nil }
    let rule = table.compiled.rules[Int(match.rule)]
    return routes[Int(rule.route)].rules[Int(rule.number)].name
}

private func route(_ name: String, created: Int64 = 0, _ rules: [(String, HTTPRouteMatch)])
    -> HTTPRoute
{
    HTTPRoute(
        name: ObjectName("shop", name), created: created, attachments: [],
        rules: rules.map { HTTPRouteRule(name: $0.0, matches: [$0.1]) })
}

private func table(_ routes: [HTTPRoute], hosts: [[String]]? = nil) -> RouteTable {
    let sources = routes.indices.map {
        RouteTable.Source(route: $0, hostnames: hosts?[$0] ?? ["*"])
    }
    return RouteTable([.init(hostname: nil, sources: sources)], routes: routes) { _, port in
        PortIndex(port)
    }
}

struct PrecedenceRow: CustomTestStringConvertible {
    let rule: String
    let target: String
    var method = "GET"
    var headers: [(String, String)] = []
    let wins: String?
    var testDescription: String { rule }
}

@Suite("Gateway API HTTPRouteRule: precedence of matches")
struct RoutePrecedenceTests {
    static let routes = [
        route(
            "one",
            [
                ("any", HTTPRouteMatch()),
                ("prefix-cart", HTTPRouteMatch(path: .prefix("/cart"))),
                ("prefix-cart-items", HTTPRouteMatch(path: .prefix("/cart/items"))),
                ("exact", HTTPRouteMatch(path: .exact("/cart/items/1"))),
                ("post", HTTPRouteMatch(path: .prefix("/cart"), method: "POST")),
                (
                    "header",
                    HTTPRouteMatch(
                        path: .prefix("/cart"),
                        headers: [.init(name: "x-version", value: .exact("2"))])
                ),
                (
                    "headers",
                    HTTPRouteMatch(
                        path: .prefix("/cart"),
                        headers: [
                            .init(name: "x-version", value: .exact("2")),
                            .init(name: "x-user", value: .exact("eva")),
                        ])
                ),
                (
                    "query",
                    HTTPRouteMatch(
                        path: .prefix("/cart"), query: [.init(name: "v", value: .exact("2"))])
                ),
            ])
    ]

    static let rows = [
        PrecedenceRow(
            rule: "an exact path beats every prefix", target: "/cart/items/1", wins: "exact"),
        PrecedenceRow(
            rule: "the longest prefix wins", target: "/cart/items/2", wins: "prefix-cart-items"),
        PrecedenceRow(rule: "a prefix is whole segments", target: "/cartoon", wins: "any"),
        PrecedenceRow(rule: "a prefix matches itself", target: "/cart", wins: "prefix-cart"),
        PrecedenceRow(
            rule: "a prefix matches with a trailing slash", target: "/cart/", wins: "prefix-cart"),
        PrecedenceRow(rule: "a method beats none", target: "/cart", method: "POST", wins: "post"),
        PrecedenceRow(
            rule: "a method beats headers", target: "/cart", method: "POST",
            headers: [("X-Version", "2")], wins: "post"),
        PrecedenceRow(
            rule: "names of fields have no case", target: "/cart", headers: [("X-VERSION", "2")],
            wins: "header"),
        PrecedenceRow(
            rule: "more headers beat fewer", target: "/cart",
            headers: [("x-version", "2"), ("x-user", "eva")], wins: "headers"),
        PrecedenceRow(
            rule: "values have case", target: "/cart",
            headers: [("x-version", "2"), ("x-user", "Eva")], wins: "header"),
        PrecedenceRow(
            rule: "headers beat query", target: "/cart?v=2", headers: [("x-version", "2")],
            wins: "header"),
        PrecedenceRow(rule: "query beats nothing", target: "/cart?a=1&v=2", wins: "query"),
        PrecedenceRow(
            rule: "the first value of a parameter counts", target: "/cart?v=1&v=2",
            wins: "prefix-cart"),
        PrecedenceRow(rule: "parameters are decoded", target: "/cart?v=%32", wins: "query"),
        PrecedenceRow(
            rule: "a longer prefix beats headers of a shorter one", target: "/cart/items",
            headers: [("x-version", "2")], wins: "prefix-cart-items"),
        PrecedenceRow(
            rule: "a repeated field is a list", target: "/cart",
            headers: [("x-version", "2"), ("x-version", "3")], wins: "prefix-cart"),
    ]

    @Test(arguments: rows)
    func `the most specific match wins`(row: PrecedenceRow) {
        let found = find(
            table(Self.routes), Self.routes, row.target, method: row.method, headers: row.headers)

        #expect(found == row.wins)
    }

    @Test
    func `of equal matches the oldest route wins, then the first by name, then the first rule`() {
        let young = route("a", created: 2, [("young", HTTPRouteMatch())])
        let old = route("z", created: 1, [("old", HTTPRouteMatch()), ("second", HTTPRouteMatch())])
        let sameAge = route("b", created: 2, [("later-name", HTTPRouteMatch())])

        #expect(find(table([young, old]), [young, old], "/") == "old")
        #expect(find(table([sameAge, young]), [sameAge, young], "/") == "young")
    }

    @Test func `a less specific rule serves what the more specific one does not match`() {
        let routes = [
            route(
                "one",
                [
                    ("get", HTTPRouteMatch(path: .prefix("/a/b"), method: "GET")),
                    ("all", HTTPRouteMatch(path: .prefix("/a"))),
                ])
        ]

        #expect(find(table(routes), routes, "/a/b/c", method: "PUT") == "all")
        #expect(find(table(routes), routes, "/b") == nil)
    }

    @Test func `regular expressions match whole values, and only valid ones are accepted`() {
        let routes = [
            route(
                "one",
                [
                    ("path", HTTPRouteMatch(path: .regularExpression("/v\\d+/(?:a|b)"))),
                    (
                        "header",
                        HTTPRouteMatch(headers: [.init(name: "x", value: .regularExpression("a.c"))]
                        )
                    ),
                ])
        ]

        #expect(find(table(routes), routes, "/v12/a") == "path")
        #expect(find(table(routes), routes, "/v12/ab") == nil)
        #expect(find(table(routes), routes, "/", headers: [("X", "abc")]) == "header")
        #expect(find(table(routes), routes, "/", headers: [("X", "xabc")]) == nil)
        #expect(RouteTable.problem(regularExpression: "a(b|c)*") == nil)
        #expect(RouteTable.problem(regularExpression: "a(b") != nil)
    }
}

@Suite("Gateway API Listener and HTTPRoute hostnames")
struct RouteHostTests {
    static let routes = ["exact", "wild", "deep", "any"].map {
        route($0, [($0, HTTPRouteMatch())])
    }

    @Test(arguments: [
        ("shop.example", "exact"), ("SHOP.Example", "exact"), ("a.example", "wild"),
        ("a.b.example", "deep"), ("x.a.b.example", "deep"), ("example", "any"), ("other", "any"),
    ])
    func `an exact name beats the longest wildcard, which beats the catch-all`(
        host: String, wins: String
    ) {
        let table = table(
            Self.routes, hosts: [["shop.example"], ["*.example"], ["*.b.example"], ["*"]])

        #expect(find(table, Self.routes, "/", host: host) == wins)
    }

    @Test(arguments: [1, 62, 63, 64, 120])
    func `wildcards of any number of labels are found below names of many`(_ labels: Int) {
        let suffix = String(repeating: "a.", count: labels) + "z"
        let table = table(Self.routes, hosts: [["*.\(suffix)"], ["*.b.\(suffix)"], ["*.a"], ["*"]])

        for (host, wins) in [
            ("x.\(suffix)", "exact"), ("b.\(suffix)", "exact"), ("x.b.\(suffix)", "wild"),
            ("y.x.b.\(suffix.uppercased())", "wild"), (".\(suffix)", "any"),
            (suffix, "any"), ("x.\(suffix)z", "any"), ("..\(suffix)", "exact"),
        ] {
            #expect(find(table, Self.routes, "/", host: host) == wins, "\(host)")
        }
    }

    @Test func `a request belongs to the most specific listener, and to no other`() {
        let routes = [route("a", [("a", HTTPRouteMatch(path: .prefix("/a")))]), Self.routes[3]]
        let table = RouteTable(
            [
                .init(
                    hostname: "shop.example",
                    sources: [.init(route: 0, hostnames: ["shop.example"])]),
                .init(hostname: nil, sources: [.init(route: 1, hostnames: ["*"])]),
            ], routes: routes
        ) { _, _ in PortIndex(0) }

        #expect(find(table, routes, "/a") == "a")
        #expect(find(table, routes, "/b") == nil)
        #expect(find(table, routes, "/b", host: "other") == "any")
    }

    @Test func `ten thousand hosts are found`() {
        let routes = [Self.routes[0]]
        let names = (0..<10_000).map { "h\($0).example" }
        let table = RouteTable(
            [.init(hostname: nil, sources: [.init(route: 0, hostnames: names)])], routes: routes
        ) { _, _ in PortIndex(0) }

        #expect(find(table, routes, "/", host: "h9999.example") == "exact")
        #expect(find(table, routes, "/", host: "h10000.example") == nil)
    }
}
