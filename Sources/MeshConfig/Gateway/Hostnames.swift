/// Hostnames of listeners and routes: lower case, `*.` in front for a wildcard.
enum Hostnames {
    /// What a route's hostnames and a listener's have in common; empty: nothing.
    ///
    /// - Source: HTTPRoute.spec.hostnames: the more specific of the two counts.
    static func intersection(route: [String], listener: String?) -> [String] {
        guard let listener else { return route.isEmpty ? ["*"] : route }
        guard !route.isEmpty else { return [listener] }
        var common: [String] = []
        for hostname in route {
            let found: String?
            if covers(listener, hostname) {
                found = hostname
            } else if covers(hostname, listener) {
                found = listener
            } else {
                found = nil
            }
            if let found, !common.contains(found) { common.append(found) }
        }
        return common
    }

    /// Whether every host that `inner` names is named by `outer` too.
    static func covers(_ outer: String, _ inner: String) -> Bool {
        if outer == inner { return true }
        guard outer.hasPrefix("*.") else { return false }
        // "*.example.com" covers "a.example.com", "a.b.example.com" and "*.b.example.com", never
        // "example.com".
        let suffix = outer.dropFirst(1)
        let name = inner.hasPrefix("*.") ? inner.dropFirst(1) : inner[...]
        return name.hasSuffix(suffix) && name.count > suffix.count
    }
}
