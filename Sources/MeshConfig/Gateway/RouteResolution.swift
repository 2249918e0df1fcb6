// HTTPRoutes and TCPRoutes -> routes with their attachments, backends as indices, conditions for
// every parent.

internal import MeshModel

/// What backends are looked up in. Apart from what resolving adds to: a route that held that too
/// would have all of it copied with every addition.
struct BackendReferences {
    let services: [Service]
    let serviceIndex: [ObjectName: Int]
    let grants: ReferenceGrants
}

struct RouteResolution {
    let objects: ObjectSet
    let backends: BackendReferences
    var gateways: GatewayResolution
    private(set) var routes: [HTTPRoute] = []
    private(set) var statuses: [RouteStatus] = []
    private(set) var diagnostics: [Diagnostic] = []

    init(
        objects: ObjectSet, services: [Service], serviceIndex: [ObjectName: Int],
        gateways: GatewayResolution
    ) {
        self.objects = objects
        self.gateways = gateways
        backends = BackendReferences(
            services: services, serviceIndex: serviceIndex, grants: ReferenceGrants(objects))
    }

    mutating func resolve() {
        for object in objects["HTTPRoute"] + objects["TCPRoute"] { resolve(object) }
    }

    private mutating func resolve(_ object: ConfigObject) {
        let spec = object.root["spec"]
        let hostnames = (spec?["hostnames"]?.list ?? []).compactMap { $0.text?.lowercased() }
        var attachments: [RouteAttachment] = []
        var parents: [RouteParentStatus] = []
        let refs = spec?["parentRefs"]?.list ?? []
        for (index, ref) in refs.enumerated() {
            let parent = ParentReference(ref, path: "spec.parentRefs[\(index)]", of: object)
            guard var status = attach(object, parent, hostnames, &attachments) else { continue }
            if let accepted = status.conditions.first, accepted.status != .isTrue {
                diagnostics.note(
                    object, .warning, .reference, parent.path, ref.line,
                    accepted.message, .init(type: "Accepted", reason: accepted.reason))
            }
            status.port = parent.port
            parents.append(status)
        }
        if refs.isEmpty {
            diagnostics.note(
                object, .warning, .reference, "spec.parentRefs", object.line,
                "the route names no parent and takes no effect: add a parentRef")
        }
        var rules = RuleResolution(backends, object)
        rules.resolve()
        diagnostics += rules.diagnostics
        for index in parents.indices {
            parents[index].conditions.append(rules.resolvedRefs)
            if let partial = rules.partiallyInvalid { parents[index].conditions.append(partial) }
        }
        if !parents.isEmpty {
            statuses.append(
                RouteStatus(
                    kind: object.kind, name: object.name, hostnames: hostnames,
                    ruleCount: rules.rules.count,
                    parents: parents))
        }
        guard !attachments.isEmpty else { return }
        routes.append(
            HTTPRoute(
                name: object.name, created: object.created, attachments: attachments,
                rules: rules.rules, isTCP: object.kind == "TCPRoute"))
    }

    /// `nil`: the parent is not Malla's to judge.
    private mutating func attach(
        _ object: ConfigObject, _ parent: ParentReference, _ hostnames: [String],
        _ attachments: inout [RouteAttachment]
    ) -> RouteParentStatus? {
        var status = RouteParentStatus(
            kind: parent.kind, name: parent.name, sectionName: parent.sectionName,
            port: parent.port, conditions: [])
        switch (parent.group, parent.kind) {
        case (Kind.gatewayGroup, "Gateway"):
            if let className = gateways.foreign[parent.name] {
                diagnostics.note(
                    object, .info, .ignored, parent.path, parent.line,
                    "Gateway \(parent.name) is of class '\(className)', not Malla's; this parent "
                        + "is ignored")
                return nil
            }
            status.conditions = [attach(object, toGateway: parent, hostnames, &attachments)]
        case ("", "Service"):
            if !hostnames.isEmpty {
                diagnostics.note(
                    object, .info, .ignored, "spec.hostnames", parent.line,
                    "hostnames do not count for the parent Service \(parent.name)")
            }
            status.conditions = [attach(object, toService: parent, &attachments)]
        default:
            diagnostics.note(
                object, .warning, .unsupported, parent.path, parent.line,
                "a parent of kind \(parent.kind) (group '\(parent.group)') is not supported by "
                    + "this build; it is ignored")
            return nil
        }
        return status
    }

    // MARK: Gateways

    private mutating func attach(
        _ object: ConfigObject, toGateway parent: ParentReference, _ hostnames: [String],
        _ attachments: inout [RouteAttachment]
    ) -> Condition {
        func refused(_ reason: String, _ message: String) -> Condition {
            Condition("Accepted", .isFalse, reason, message)
        }
        guard let state = gateways.gateways[parent.name] else {
            return refused(
                "NoMatchingParent", "Gateway \(parent.name) does not exist (or was refused): add it"
            )
        }
        let named = state.listeners.indices.filter { index in
            let listener = state.listeners[index]
            return (parent.sectionName == nil || listener.name == parent.sectionName)
                && (parent.port == nil || listener.port == parent.port)
        }
        guard !named.isEmpty else {
            return refused(
                "NoMatchingParent",
                "Gateway \(parent.name) has no listener \(parent.selection): correct the reference")
        }
        let allowing = named.filter { allows(state.listeners[$0], state.object, object) }
        guard !allowing.isEmpty else {
            return refused(
                "NotAllowedByListeners",
                "no listener of Gateway \(parent.name) allows \(object.kind)s of namespace "
                    + "\(object.name.namespace): see its allowedRoutes")
        }
        let matching = allowing.filter {
            !Hostnames.intersection(route: hostnames, listener: state.listeners[$0].hostname)
                .isEmpty
        }
        guard !matching.isEmpty else {
            return refused(
                "NoMatchingListenerHostname",
                "no listener of Gateway \(parent.name) has a hostname in common with the route")
        }
        for index in matching {
            gateways.gateways[parent.name]?.listeners[index].attachedRoutes += 1
            guard let listener = state.listeners[index].index else { continue }
            let common = Hostnames.intersection(
                route: hostnames, listener: state.listeners[index].hostname)
            attachments.append(.listener(listener, hostnames: common))
        }
        if matching.allSatisfy({ state.listeners[$0].index == nil }) {
            let problem = state.listeners[matching[0]].problem
            return refused(
                "UnsupportedValue",
                "no matching listener of Gateway \(parent.name) is served: "
                    + (problem.isEmpty ? state.accepted.message : problem))
        }
        return Condition("Accepted", .isTrue, "Accepted")
    }

    private func allows(
        _ listener: ListenerState, _ gateway: ConfigObject, _ route: ConfigObject
    ) -> Bool {
        guard listener.allowed.kinds.contains(route.kind) else { return false }
        switch listener.allowed.namespaces {
        case .all: return true
        case .same: return gateway.name.namespace == route.name.namespace
        case .selector(let selector):
            return selector.selects(objects.labels(ofNamespace: route.name.namespace))
        }
    }

    // MARK: Services

    private mutating func attach(
        _ object: ConfigObject, toService parent: ParentReference,
        _ attachments: inout [RouteAttachment]
    ) -> Condition {
        func refused(_ reason: String, _ message: String) -> Condition {
            Condition("Accepted", .isFalse, reason, message)
        }
        guard parent.name.namespace == object.name.namespace else {
            return refused(
                "UnsupportedValue",
                "routes of a consumer's namespace are not supported by this build: put the route "
                    + "into namespace \(parent.name.namespace), with its Service")
        }
        guard let index = backends.serviceIndex[parent.name] else {
            return refused(
                "NoMatchingParent", "Service \(parent.name) does not exist (or was refused): add it"
            )
        }
        let service = backends.services[index]
        let ports = service.ports.indices.filter { port in
            let candidate = service.ports[port]
            return candidate.transport == .tcp
                && (parent.port == nil || candidate.port == parent.port)
                && (parent.sectionName == nil || candidate.name == parent.sectionName)
        }
        guard !ports.isEmpty else {
            return refused(
                "NoMatchingParent",
                "Service \(parent.name) has no TCP port \(parent.selection): correct the reference")
        }
        attachments += ports.map { .service(index, port: $0) }
        return Condition("Accepted", .isTrue, "Accepted")
    }
}

/// A parentRef with its defaults filled in.
struct ParentReference {
    let group: String
    let kind: String
    let name: ObjectName
    let sectionName: String?
    let port: UInt16?
    let path: String
    let line: Int

    init(_ value: Value, path: String, of object: ConfigObject) {
        group = value["group"]?.text ?? Kind.gatewayGroup
        kind = value["kind"]?.text ?? "Gateway"
        let namespace = value["namespace"]?.text ?? ""
        name = ObjectName(
            namespace.isEmpty ? object.name.namespace : namespace, value["name"]?.text ?? "")
        sectionName = value["sectionName"]?.text
        port = value["port"]?.integer.map { UInt16(clamping: $0) }
        self.path = path
        line = value.line
    }

    /// `'web' on port 80`, for messages.
    var selection: String {
        let section = sectionName.map { "'\($0)'" } ?? ""
        let number = port.map { "on port \($0)" } ?? ""
        return section.isEmpty || number.isEmpty ? section + number : section + " " + number
    }
}
