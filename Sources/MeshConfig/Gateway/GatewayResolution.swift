// Gateways of Malla's class -> listeners and conditions. Gateways of other classes are left alone
// and named.

internal import MeshModel

/// Which routes a listener lets in. Source: AllowedRoutes.
struct AllowedRoutes {
    enum Namespaces {
        case same
        case all
        case selector(LabelSelector)
    }

    var namespaces: Namespaces = .same
    var kinds: Set<String> = []
}

/// One listener on its way to a status.
struct ListenerState {
    var name: String
    var port: UInt16
    var hostname: String?
    var protocolName: String
    var allowed = AllowedRoutes()
    var supportedKinds: [String] = []
    /// Into `Mesh.listeners`; `nil` if it is not served.
    var index: Int?
    var attachedRoutes = 0
    /// `nil` for HTTP, and for HTTPS without any certificate.
    var tls: ListenerTLS?
    var accepted = Condition("Accepted", .isTrue, "Accepted")
    var resolvedRefs = Condition("ResolvedRefs", .isTrue, "ResolvedRefs")
    var conflicted = Condition("Conflicted", .isFalse, "NoConflicts")

    var isAccepted: Bool { accepted.status == .isTrue }
    var isHTTPS: Bool { protocolName == "HTTPS" }
    var isTCP: Bool { protocolName == "TCP" }
    /// What may be attached to it.
    var routeKind: String { isTCP ? "TCPRoute" : "HTTPRoute" }
    /// Why it is not served, as far as that is its own fault.
    var problem: String {
        if !isAccepted { return accepted.message }
        return isHTTPS && tls == nil ? resolvedRefs.message : ""
    }
}

/// One Gateway of Malla's class on its way to a status.
struct GatewayState {
    var object: ConfigObject
    var className: String
    var addresses: [IPAddress] = []
    var accepted = Condition("Accepted", .isTrue, "Accepted")
    var listeners: [ListenerState] = []

    /// Source: Istio, which names the ServiceAccount of a Gateway that it deploys so.
    var serviceAccount: String {
        let annotations = object.root["metadata"]?["annotations"]
        return annotations?[Annotation.gatewayAccount]?.text ?? "\(object.name.name)-\(className)"
    }
}

struct GatewayResolution {
    let objects: ObjectSet
    private(set) var listeners: [Listener] = []
    var diagnostics: [Diagnostic] = []
    var certificates: CertificateResolution
    var gateways: [ObjectName: GatewayState] = [:]
    /// Gateways of other classes, by name: their routes are not Malla's.
    private(set) var foreign: [ObjectName: String] = [:]

    init(objects: ObjectSet, mesh: Mesh) {
        self.objects = objects
        certificates = CertificateResolution(objects)
    }

    mutating func resolve() {
        noteClasses()
        var taken: [[String]: ObjectName] = [:]
        let classes = GatewayClasses(objects["GatewayClass"])
        // Older Gateways win a conflict, then the first by name.
        let ordered = objects["Gateway"].sorted { ($0.created, $0.name) < ($1.created, $1.name) }
        for object in ordered {
            let className = object.root["spec"]?["gatewayClassName"]?.text ?? ""
            guard classes.isOurs(className) else {
                foreign[object.name] = className
                diagnostics.note(
                    object, .info, .ignored, "spec.gatewayClassName", object.line,
                    "class '\(className)' is not Malla's (no GatewayClass of that name with "
                        + "controllerName \(gatewayControllerName)); the Gateway is ignored")
                continue
            }
            var state = GatewayState(object: object, className: className)
            readAddresses(&state)
            readListeners(&state, &taken)
            gateways[object.name] = state
        }
    }

    private mutating func noteClasses() {
        for object in objects["GatewayClass"] {
            let controller = object.root["spec"]?["controllerName"]?.text ?? ""
            guard controller != gatewayControllerName else { continue }
            diagnostics.note(
                object, .info, .ignored, "spec.controllerName", object.line,
                "belongs to '\(controller)', not to Malla; ignored")
        }
    }

    // MARK: Addresses

    private mutating func readAddresses(_ state: inout GatewayState) {
        for (index, entry) in (state.object.root["spec"]?["addresses"]?.list ?? []).enumerated() {
            let type = entry["type"]?.text ?? "IPAddress"
            guard let text = entry["value"]?.text, !text.isEmpty else { continue }
            guard type == "IPAddress", let address = IPAddress(text) else {
                let message =
                    "addresses of type \(type) are not supported by this build; the Gateway is "
                    + "not served: give an IPAddress or none"
                state.accepted = Condition("Accepted", .isFalse, "UnsupportedAddress", message)
                diagnostics.note(
                    state.object, .warning, .unsupported, "spec.addresses[\(index)]", entry.line,
                    message, .init(type: "Accepted", reason: "UnsupportedAddress"))
                continue
            }
            state.addresses.append(address)
        }
    }

    // MARK: Listeners

    private mutating func readListeners(
        _ state: inout GatewayState, _ taken: inout [[String]: ObjectName]
    ) {
        let values = state.object.root["spec"]?["listeners"]?.list ?? []
        let frontend = FrontendValidation(state.object, &self)
        var protocols: [Int: Set<String>] = [:]
        for value in values {
            protocols[value["port"]?.integer ?? 0, default: []].insert(family(value))
        }
        for (index, value) in values.enumerated() {
            let path = "spec.listeners[\(index)]"
            var listener = ListenerState(
                name: value["name"]?.text ?? "",
                port: UInt16(clamping: value["port"]?.integer ?? 0),
                hostname: value["hostname"]?.text?.lowercased(),
                protocolName: value["protocol"]?.text ?? "")
            readAllowed(value["allowedRoutes"], path, state.object, &listener)
            judge(&listener, value, path, state.object)
            let used = protocols[Int(listener.port)] ?? []
            if used.count > 1 {
                conflict(
                    &listener, "ProtocolConflict", value, path, state.object,
                    "port \(listener.port) is asked for with protocols "
                        + used.sorted().joined(separator: " and "))
            }
            if listener.isHTTPS {
                readTLS(value, path, state.object, &listener)
                validateClients(frontend[listener.port], &listener)
            }
            if listener.isAccepted, listener.problem.isEmpty, state.accepted.status == .isTrue {
                take(&listener, value, path, state, &taken)
            }
            state.listeners.append(listener)
        }
    }

    /// Protocols of one family may share a port: HTTPS and TLS are told apart by SNI.
    private func family(_ listener: Value) -> String {
        switch listener["protocol"]?.text ?? "" {
        case "HTTPS", "TLS": "TLS"
        case let other: other
        }
    }

    private mutating func judge(
        _ listener: inout ListenerState, _ value: Value, _ path: String, _ object: ConfigObject
    ) {
        guard !["HTTP", "HTTPS", "TCP"].contains(listener.protocolName) else { return }
        let known = ["TLS", "UDP"].contains(listener.protocolName)
        let standing = known ? "not supported by this build" : "unknown"
        let message =
            "protocol \(listener.protocolName) is \(standing)"
            + "; the listener is not served"
        listener.accepted = Condition("Accepted", .isFalse, "UnsupportedProtocol", message)
        listener.allowed.kinds = []
        listener.supportedKinds = []
        diagnostics.note(
            object, .warning, .unsupported, path + ".protocol",
            value["protocol"]?.line ?? value.line,
            message, .init(type: "Accepted", reason: "UnsupportedProtocol"))
    }

    private mutating func conflict(
        _ listener: inout ListenerState, _ reason: String, _ value: Value, _ path: String,
        _ object: ConfigObject, _ message: String
    ) {
        let text = message + "; the listener is not served: change one of them"
        listener.conflicted = Condition("Conflicted", .isTrue, reason, text)
        listener.accepted = Condition("Accepted", .isFalse, reason, text)
        diagnostics.note(
            object, .error, .invalid, path, value.line, text,
            .init(type: "Conflicted", reason: reason))
    }

    /// Serves the listener unless an older Gateway has the same address, port and hostname.
    private mutating func take(
        _ listener: inout ListenerState, _ value: Value, _ path: String, _ state: GatewayState,
        _ taken: inout [[String]: ObjectName]
    ) {
        let addresses = state.addresses.isEmpty ? ["*"] : state.addresses.map(\.description)
        let keys = addresses.map { [$0, "\(listener.port)", listener.hostname ?? ""] }
        for key in keys {
            guard let owner = taken[key], owner != state.object.name else { continue }
            return conflict(
                &listener, "HostnameConflict", value, path, state.object,
                "Gateway \(owner) has the same address, port \(listener.port) and hostname")
        }
        // What shares a socket is told apart by name, and TCP has none.
        for address in addresses {
            let sockets = ["TCP", "HTTP"].map { [address, "\(listener.port)", "", $0] }
            let (own, other) = listener.isTCP ? (sockets[0], sockets[1]) : (sockets[1], sockets[0])
            if let owner = taken[other] {
                return conflict(
                    &listener, "ProtocolConflict", value, path, state.object,
                    "Gateway \(owner) has the same address and port \(listener.port), with "
                        + "another protocol")
            }
            taken[own] = state.object.name
        }
        for key in keys { taken[key] = state.object.name }
        listener.index = listeners.count
        listeners.append(
            Listener(
                gateway: state.object.name, name: listener.name, addresses: state.addresses,
                port: listener.port, hostname: listener.hostname, tls: listener.tls,
                isTCP: listener.isTCP, serviceAccount: state.serviceAccount))
    }

    private mutating func readAllowed(
        _ value: Value?, _ path: String, _ object: ConfigObject, _ listener: inout ListenerState
    ) {
        listener.supportedKinds = [listener.routeKind]
        listener.allowed.kinds = [listener.routeKind]
        switch value?["namespaces"]?["from"]?.text ?? "Same" {
        case "All": listener.allowed.namespaces = .all
        case "Selector":
            listener.allowed.namespaces = .selector(
                LabelSelector(value?["namespaces"]?["selector"]))
        default: listener.allowed.namespaces = .same
        }
        let kinds = value?["kinds"]?.list ?? []
        guard !kinds.isEmpty else { return }
        listener.supportedKinds = []
        listener.allowed.kinds = []
        for (index, kind) in kinds.enumerated() {
            let group = kind["group"]?.text ?? Kind.gatewayGroup
            let name = kind["kind"]?.text ?? ""
            if group == Kind.gatewayGroup, name == listener.routeKind {
                listener.supportedKinds = [name]
                listener.allowed.kinds = [name]
                continue
            }
            let message =
                "routes of kind \(name) are not supported by this build for protocol "
                + listener.protocolName
            listener.resolvedRefs = Condition(
                "ResolvedRefs", .isFalse, "InvalidRouteKinds", message)
            diagnostics.note(
                object, .warning, .unsupported, "\(path).allowedRoutes.kinds[\(index)]", kind.line,
                message, .init(type: "ResolvedRefs", reason: "InvalidRouteKinds"))
        }
    }
}
