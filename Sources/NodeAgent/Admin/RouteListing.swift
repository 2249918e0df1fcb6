internal import AdminAPI
internal import MeshConfig
internal import MeshModel

extension Agent {
    func routeItems() -> [RouteItem] {
        guard let mesh = snapshot?.mesh else { return [] }
        return config.result.routeStatuses.map { status in
            let isTCP = status.kind == "TCPRoute"
            let route = mesh.routes.first { $0.name == status.name && $0.isTCP == isTCP }
            var parents = status.parents.map(Self.parent)
            if parents.isEmpty, let refusal = status.refusal {
                parents = [
                    RouteItem.Parent(
                        parent: "", accepted: false, reason: refusal.reason,
                        message: refusal.message)
                ]
            }
            return RouteItem(
                kind: status.kind, namespace: status.name.namespace, name: status.name.name,
                hostnames: status.hostnames, parents: parents,
                rules: (route?.rules ?? []).map { Self.rule($0, mesh, isTCP: isTCP) },
                refusal: route == nil
                    ? "" : config.refusal(of: "\(status.kind) \(status.name)") ?? "")
        }
    }

    private static func parent(_ status: RouteParentStatus) -> RouteItem.Parent {
        let accepted = status.conditions.first { $0.type == "Accepted" }
        let resolved = status.conditions.first { $0.type == "ResolvedRefs" }
        var name = "\(status.kind) \(status.name)"
        if let section = status.sectionName { name += "/\(section)" }
        if let port = status.port { name += ":\(port)" }
        let messages = [accepted, resolved].compactMap { $0?.message }.filter { !$0.isEmpty }
        return RouteItem.Parent(
            parent: name, accepted: status.isAccepted, reason: accepted?.reason ?? "",
            resolvedRefs: resolved?.status != .isFalse, resolvedRefsReason: resolved?.reason ?? "",
            message: messages.joined(separator: "; "))
    }

    private static func rule(
        _ rule: HTTPRouteRule, _ mesh: Mesh, isTCP: Bool
    ) -> RouteItem.Rule {
        RouteItem.Rule(
            name: rule.name, matches: isTCP ? [] : rule.matches.map(text),
            filters: rule.filters.map(text),
            backends: rule.backends.map { backend in
                switch backend.target {
                case .service(let service, let port):
                    RouteItem.Backend(
                        name: mesh.services[service].name.description,
                        port: Int(mesh.services[service].ports[port].port),
                        weight: Int(backend.weight))
                case .unresolved(let why):
                    RouteItem.Backend(name: "", weight: Int(backend.weight), problem: why)
                }
            })
    }

    private static func text(_ match: HTTPRouteMatch) -> String {
        var words: [String] = match.method.map { [$0] } ?? []
        switch match.path {
        case .exact(let path): words.append("path \(path)")
        case .prefix(let path): words.append("path \(path)*")
        case .regularExpression(let pattern): words.append("path ~\(pattern)")
        }
        words += match.headers.map { "header \($0.name)\(text($0.value))" }
        words += match.query.map { "query \($0.name)\(text($0.value))" }
        return words.joined(separator: " ")
    }

    private static func text(_ value: HTTPRouteMatch.Value) -> String {
        switch value {
        case .exact(let text): "=\(text)"
        case .regularExpression(let pattern): "~\(pattern)"
        }
    }

    private static func text(_ filter: HTTPRouteFilter) -> String {
        switch filter {
        case .requestHeaders(let change): "request headers: \(text(change))"
        case .responseHeaders(let change): "response headers: \(text(change))"
        case .redirect(let to):
            "redirect \(to.status)" + (to.scheme.map { " scheme \($0)" } ?? "")
                + (to.hostname.map { " host \($0)" } ?? "") + (to.path.map { text($0) } ?? "")
                + (to.port.map { " port \($0)" } ?? "")
        case .rewrite(let to):
            "rewrite" + (to.hostname.map { " host \($0)" } ?? "") + (to.path.map { text($0) } ?? "")
        case .unsupported(let what): "unsupported: \(what)"
        }
    }

    private static func text(_ path: HTTPRouteFilter.PathModifier) -> String {
        switch path {
        case .replaceFullPath(let path): " path \(path)"
        case .replacePrefixMatch(let path): " prefix \(path)"
        }
    }

    private static func text(_ change: HTTPRouteFilter.HeaderModifier) -> String {
        let words =
            change.set.map { "set \($0.name)=\($0.value)" }
            + change.add.map { "add \($0.name)=\($0.value)" } + change.remove.map { "remove \($0)" }
        return words.joined(separator: ", ")
    }
}
