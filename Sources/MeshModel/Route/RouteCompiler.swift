// HTTPRoute values -> CompiledRoutes. Runs when the configuration changes; may allocate.

struct RouteCompiler {
    private let routes: [HTTPRoute]
    private var text: [UInt8] = [0]
    private var names: [ByteRange] = []
    private var rules: [CompiledRule] = []
    private var backends: [CompiledBackend] = []
    private var redirects: [CompiledRedirect] = []
    private var parts = CompiledRoutes.Parts()
    private var expressionsByText: [String: Int32] = [:]
    private var rulesBySource: [[Int]: Int32] = [:]

    init(routes: [HTTPRoute]) { self.routes = routes }

    /// One match of one rule with all that precedence asks.
    private struct Row {
        let route: Int
        let rule: Int
        let number: Int
        let match: HTTPRouteMatch
    }

    mutating func compile(
        _ scopes: [RouteTable.Scope], portIndex: (Int, Int) -> PortIndex
    ) -> CompiledRoutes {
        // Listeners with the same hostname are one scope.
        var order: [String] = []
        var sources: [String: [RouteTable.Source]] = [:]
        for scope in scopes {
            let key = scope.hostname ?? "*"
            if sources[key] == nil { order.append(key) }
            sources[key, default: []] += scope.sources
        }
        var hosts: [(String, Int32)] = []
        for key in order {
            let map = compile(sources[key] ?? [], portIndex: portIndex)
            hosts.append((key, Int32(parts.scopeHosts.count)))
            parts.scopeHosts.append(map)
        }
        parts.scopes = hostMap(hosts)
        return CompiledRoutes(
            text: text, names: names, rules: rules, backends: backends, redirects: redirects,
            parts: parts)
    }

    private mutating func compile(
        _ sources: [RouteTable.Source], portIndex: (Int, Int) -> PortIndex
    ) -> CompiledRoutes.HostMap {
        var order: [String] = []
        var rows: [String: [Row]] = [:]
        for source in sources {
            let route = routes[source.route]
            for (index, rule) in route.rules.enumerated() {
                compileRule(source.route, index, portIndex)
                for hostname in source.hostnames {
                    if rows[hostname] == nil { order.append(hostname) }
                    for (number, match) in rule.matches.enumerated() {
                        rows[hostname, default: []].append(
                            Row(route: source.route, rule: index, number: number, match: match))
                    }
                }
            }
        }
        var hosts: [(String, Int32)] = []
        for hostname in order {
            let group = self.group(of: rows[hostname] ?? [])
            hosts.append((hostname, Int32(parts.groups.count)))
            parts.groups.append(group)
        }
        return hostMap(hosts)
    }

    private mutating func hostMap(_ hosts: [(String, Int32)]) -> CompiledRoutes.HostMap {
        var map = CompiledRoutes.HostMap()
        map.any = hosts.first { $0.0 == "*" }?.1 ?? -1
        map.wildcard = slotMap(
            hosts.filter { $0.0.hasPrefix("*.") }.map { (String($0.0.dropFirst()), $0.1) })
        for (name, _) in hosts where name.hasPrefix("*.") {
            map.labels.insert(name.utf8.count { $0 == UInt8(ascii: ".") })
        }
        map.exact = slotMap(hosts.filter { !$0.0.hasPrefix("*") })
        return map
    }

    /// At most half full, so that a search ends soon.
    private mutating func slotMap(_ entries: [(String, Int32)]) -> CompiledRoutes.SlotMap {
        guard !entries.isEmpty else { return CompiledRoutes.SlotMap() }
        var count = 4
        while count < entries.count * 2 { count *= 2 }
        let first = parts.slots.count
        parts.slots += repeatElement(CompiledRoutes.Slot(), count: count)
        for (key, value) in entries {
            let range = append(key)
            let hash = hashOf(range)
            var place = Int(hash) & (count - 1)
            while parts.slots[first + place].value >= 0 { place = (place + 1) & (count - 1) }
            parts.slots[first + place] = CompiledRoutes.Slot(hash: hash, key: range, value: value)
        }
        return CompiledRoutes.SlotMap(first: Int32(first), count: Int32(count))
    }

    private func hashOf(_ range: ByteRange) -> UInt32 {
        // Safe: the pointer does not leave the closure.
        unsafe text.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return 0 }
            return unsafe hash(
                Bytes(base, count: buffer.count), range.lower, range.upper, ignoringCase: false)
        }
    }

    private mutating func append(_ string: String) -> ByteRange {
        let start = text.count
        text += Array(string.utf8)
        return ByteRange(start, text.count)
    }

    private mutating func expression(_ text: String) -> Int32 {
        if let known = expressionsByText[text] { return known }
        // MeshConfig refused what is no expression; one that slipped through matches nothing.
        guard let compiled = (try? RegularExpression(text)) ?? (try? RegularExpression("[^\\D\\d]"))
        else {
            preconditionFailure("a constant expression compiles")
        }
        parts.expressions.append(compiled)
        expressionsByText[text] = Int32(parts.expressions.count - 1)
        return Int32(parts.expressions.count - 1)
    }
}

// MARK: - Matches

extension RouteCompiler {
    private mutating func group(of rows: [Row]) -> CompiledRoutes.Group {
        var exact: [String: [Row]] = [:]
        var prefix: [String: [Row]] = [:]
        var all: [Row] = []
        var patterns: [Row] = []
        for row in rows {
            switch row.match.path {
            case .exact(let path): exact[path, default: []].append(row)
            case .prefix(let path) where path == "/" || path.isEmpty: all.append(row)
            case .prefix(let path): prefix[path, default: []].append(row)
            case .regularExpression: patterns.append(row)
            }
        }
        var group = CompiledRoutes.Group()
        group.exact = pathMap(exact)
        group.prefix = pathMap(prefix)
        let lengths = Set(prefix.keys.map { Int32($0.utf8.count) }).sorted(by: >)
        group.lengths.start = Int32(parts.prefixLengths.count)
        parts.prefixLengths += lengths
        group.lengths.end = Int32(parts.prefixLengths.count)
        group.expressions = candidates(patterns)
        group.all = candidates(all)
        return group
    }

    private mutating func pathMap(_ rows: [String: [Row]]) -> CompiledRoutes.SlotMap {
        var entries: [(String, Int32)] = []
        for path in rows.keys.sorted() {
            let range = candidates(rows[path] ?? [])
            entries.append((path, Int32(parts.ranges.count)))
            parts.ranges.append(range)
        }
        return slotMap(entries)
    }

    private mutating func candidates(_ rows: [Row]) -> CompiledRoutes.Candidates {
        let start = parts.candidates.count
        for row in rows.sorted(by: precedes) {
            let candidate = self.candidate(row)
            parts.candidates.append(candidate)
        }
        return CompiledRoutes.Candidates(start: Int32(start), end: Int32(parts.candidates.count))
    }

    /// Gateway API's order among matches of one path.
    private func precedes(_ left: Row, _ right: Row) -> Bool {
        if case .regularExpression(let one) = left.match.path,
            case .regularExpression(let other) = right.match.path,
            one.utf8.count != other.utf8.count
        {
            return one.utf8.count > other.utf8.count
        }
        let (one, other) = (left.match, right.match)
        if (one.method != nil) != (other.method != nil) { return one.method != nil }
        if one.headers.count != other.headers.count {
            return one.headers.count > other.headers.count
        }
        if one.query.count != other.query.count { return one.query.count > other.query.count }
        let (route, otherRoute) = (routes[left.route], routes[right.route])
        if route.created != otherRoute.created { return route.created < otherRoute.created }
        if route.name != otherRoute.name { return route.name < otherRoute.name }
        return (left.rule, left.number) < (right.rule, right.number)
    }

    private mutating func candidate(_ row: Row) -> CompiledRoutes.Candidate {
        var prefixLength = 0
        var pathExpression: Int32 = -1
        switch row.match.path {
        case .exact: break
        case .prefix(let path): prefixLength = path == "/" ? 0 : path.utf8.count
        case .regularExpression(let text): pathExpression = expression(text)
        }
        return CompiledRoutes.Candidate(
            rule: rulesBySource[[row.route, row.rule]] ?? 0, prefixLength: Int32(prefixLength),
            pathExpression: pathExpression, method: append(row.match.method ?? ""),
            headers: conditions(row.match.headers, lowering: true),
            query: conditions(row.match.query, lowering: false))
    }

    private mutating func conditions(
        _ list: [HTTPRouteMatch.Named], lowering: Bool
    ) -> CompiledRoutes.Candidates {
        let start = parts.conditions.count
        var seen: Set<String> = []
        for item in list {
            let name = lowering ? item.name.lowercased() : item.name
            // Of entries with the same name only the first counts (HTTPHeaderMatch.name).
            guard seen.insert(name).inserted else { continue }
            let nameRange = append(name)
            switch item.value {
            case .exact(let value):
                let valueRange = append(value)
                parts.conditions.append(
                    CompiledRoutes.Condition(name: nameRange, value: valueRange, expression: -1))
            case .regularExpression(let value):
                let index = expression(value)
                parts.conditions.append(
                    CompiledRoutes.Condition(name: nameRange, value: .empty, expression: index))
            }
        }
        return CompiledRoutes.Candidates(start: Int32(start), end: Int32(parts.conditions.count))
    }
}

// MARK: - Rules

extension RouteCompiler {
    private mutating func compileRule(
        _ routeIndex: Int, _ index: Int, _ portIndex: (Int, Int) -> PortIndex
    ) {
        guard rulesBySource[[routeIndex, index]] == nil else { return }
        let route = routes[routeIndex]
        let rule = route.rules[index]
        let filters = self.filters(rule.filters)
        let start = backends.count
        var total: UInt64 = 0
        for backend in rule.backends where backend.weight > 0 {
            total += UInt64(backend.weight)
            let own = self.filters(backend.filters)
            var port: Int32 = -1
            if case .service(let service, let servicePort) = backend.target {
                port = Int32(portIndex(service, servicePort).value)
            }
            let cannot =
                own.isUnsupported || own.redirect >= 0 || own.host != nil || own.path.kind != .keep
            backends.append(
                CompiledBackend(
                    weightEnd: total, port: port, isUnsupported: cannot, requestEdits: own.request,
                    responseEdits: own.response))
        }
        let label =
            route.name.name.isEmpty ? ByteRange.empty : append("\(route.name)/\(index)")
        rulesBySource[[routeIndex, index]] = Int32(rules.count)
        rules.append(
            CompiledRule(
                route: Int32(routeIndex), number: Int32(index), label: label,
                requestTimeoutMilliseconds: rule.requestTimeoutMilliseconds,
                backendTimeoutMilliseconds: rule.backendTimeoutMilliseconds,
                backendsStart: Int32(start), backendsEnd: Int32(backends.count), weightTotal: total,
                redirect: filters.redirect, rewriteHost: filters.host, rewritePath: filters.path,
                requestEdits: filters.request, responseEdits: filters.response,
                isUnsupported: filters.isUnsupported))
    }

    private struct Filters {
        var request = HeaderEdits()
        var response = HeaderEdits()
        var redirect: Int32 = -1
        var host: ByteRange?
        var path = CompiledPath()
        var isUnsupported = false
    }

    private mutating func filters(_ list: [HTTPRouteFilter]) -> Filters {
        var filters = Filters()
        for filter in list {
            switch filter {
            case .requestHeaders(var modifier):
                // `Host` is the authority: setting it is rewriting it.
                if let host = modifier.set.first(where: { $0.name.lowercased() == "host" }) {
                    filters.host = append(host.value)
                    modifier.set.removeAll { $0.name.lowercased() == "host" }
                }
                filters.isUnsupported = filters.isUnsupported || modifier.framingField != nil
                filters.request = edits(modifier)
            case .responseHeaders(let modifier):
                filters.isUnsupported = filters.isUnsupported || modifier.framingField != nil
                filters.response = edits(modifier)
            case .redirect(let redirect):
                let scheme = redirect.scheme.map { append($0) }
                let hostname = redirect.hostname.map { append($0) }
                redirects.append(
                    CompiledRedirect(
                        scheme: scheme, hostname: hostname, path: path(redirect.path),
                        port: redirect.port, status: redirect.status))
                filters.redirect = Int32(redirects.count - 1)
            case .rewrite(let rewrite):
                filters.host = rewrite.hostname.map { append($0) } ?? filters.host
                filters.path = path(rewrite.path)
            case .unsupported: filters.isUnsupported = true
            }
        }
        return filters
    }

    private mutating func path(_ modifier: HTTPRouteFilter.PathModifier?) -> CompiledPath {
        var path = CompiledPath()
        switch modifier {
        case .none: break
        case .replaceFullPath(let text):
            path.kind = .full
            path.text = append(text.isEmpty ? "/" : text)
        case .replacePrefixMatch(let text):
            path.kind = .prefix
            // Without its trailing slash, so that joining needs no case of its own.
            path.text = append(text.hasSuffix("/") ? String(text.dropLast()) : text)
        }
        return path
    }

    /// Order: set, add, remove; so what is removed is not added either.
    private mutating func edits(_ modifier: HTTPRouteFilter.HeaderModifier) -> HeaderEdits {
        var edits = HeaderEdits()
        let removed = Set(modifier.remove.map { $0.lowercased() })
        edits.dropsStart = Int32(names.count)
        let dropped = modifier.set.map(\.name) + modifier.remove
        for name in dropped.map({ $0.lowercased() }) {
            names.append(append(name))
        }
        edits.dropsEnd = Int32(names.count)
        let start = text.count
        for field in modifier.set + modifier.add where !removed.contains(field.name.lowercased()) {
            _ = append("\(field.name): \(field.value)\r\n")
        }
        edits.lines = ByteRange(start, text.count)
        return edits
    }
}
