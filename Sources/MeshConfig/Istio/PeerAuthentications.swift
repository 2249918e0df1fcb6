// PeerAuthentication (security.istio.io/v1): its shape, the rules that the API server would check,
// and the way into the mesh.

internal import MeshModel

extension Shape {
    static let peerAuthentication: Shape = .object(
        .honoured(
            "spec",
            .fields([
                .honoured(
                    "selector", .fields([.honoured("matchLabels", .texts(countMax: 4_096))])),
                .honoured("mtls", mutualTLS),
                // The keys are ports: PeerAuthenticationRules walks them.
                .honoured("portLevelMtls", .anything),
            ])), .harmless("status"))

    static let mutualTLS: Shape = .fields([
        .honoured("mode", .oneOf(["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]))
    ])
}

enum PeerAuthenticationRules {
    static func check(_ root: Value, _ check: inout ShapeCheck) {
        guard let spec = root["spec"] else { return }
        let labels = spec["selector"]?["matchLabels"]
        checkLabels(labels, &check)
        guard let ports = spec["portLevelMtls"] else { return }
        let path = "spec.portLevelMtls"
        guard case .fields(let fields) = ports.content else {
            return check.error(
                path, ports.line, "must be a map of ports, is \(ports.nounOfContent)")
        }
        if fields.isEmpty { check.error(path, ports.line, "must not be empty") }
        if (labels?.fields ?? []).isEmpty {
            check.error(path, ports.line, "needs a selector: ports belong to workloads")
        }
        for field in fields {
            let place = "\(path)[\(field.name)]"
            guard let port = Int(field.name), (1...65535).contains(port) else {
                check.error(place, field.line, "'\(field.name)' is no port from 1 to 65535")
                continue
            }
            guard !field.value.isNull else { continue }
            check.walk(field.value, .mutualTLS, at: place)
        }
    }

    private static func checkLabels(_ labels: Value?, _ check: inout ShapeCheck) {
        for field in labels?.fields ?? [] {
            let place = "spec.selector.matchLabels[\(field.name)]"
            if field.name.isEmpty { check.error(place, field.line, "a label has a name") }
            let value = field.value.text ?? ""
            if value.utf8.count > 63 {
                check.error(place, field.line, "its value is longer than 63 bytes")
            }
            if field.name.contains("*") || value.contains("*") {
                check.error(place, field.line, "wildcards are not allowed in a selector")
            }
        }
    }
}

extension PeerAuthentication {
    init(_ object: ConfigObject) {
        let spec = object.root["spec"]
        let labels = spec?["selector"]?["matchLabels"]?.texts ?? [:]
        var ports: [UInt16: MutualTLSMode?] = [:]
        for field in spec?["portLevelMtls"]?.fields ?? [] {
            guard let port = UInt16(field.name) else { continue }
            ports[port] = .some(Self.mode(field.value))
        }
        self.init(
            name: object.name, created: object.created,
            selector: labels.isEmpty ? nil : LabelSelector(labels),
            mode: Self.mode(spec?["mtls"]), ports: ports)
    }

    /// UNSET, and nothing, are `nil`.
    private static func mode(_ value: Value?) -> MutualTLSMode? {
        value?["mode"]?.text.flatMap(MutualTLSMode.init)
    }
}

extension Resolution {
    /// All of them go into the mesh; what has no effect there is named.
    mutating func resolvePeerAuthentications() {
        let root = mesh.rootNamespace
        var scopes: [String: ObjectName] = [:]
        let policies = objects["PeerAuthentication"].map {
            (object: $0, policy: PeerAuthentication($0))
        }
        for (object, policy) in policies.sorted(by: {
            PeerAuthentication.precedes($0.policy, $1.policy)
        }) {
            if policy.selector != nil {
                guard object.name.namespace == root else { continue }
                notePeerAuthentication(
                    object, "spec.selector",
                    "has no effect in the root namespace (\(root)): put it into the namespace of "
                        + "the workloads, or remove the selector")
            } else if let winner = scopes[object.name.namespace] {
                notePeerAuthentication(
                    object, "",
                    "has no effect: \(winner) covers the namespace and is older (or its name comes "
                        + "first): remove one of them")
            } else {
                scopes[object.name.namespace] = object.name
            }
        }
        mesh.peerAuthentications = policies.map(\.policy)
    }

    private mutating func notePeerAuthentication(
        _ object: ConfigObject, _ field: String, _ message: String
    ) {
        let spec = object.root["spec"]
        let line = (field.hasPrefix("spec.s") ? spec?["selector"]?.line : spec?["mtls"]?.line)
        note(
            object,
            .init(
                severity: .warning, category: .unsupported, line: line ?? object.line, field: field,
                condition: nil, message: message))
    }
}
