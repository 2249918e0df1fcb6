// One object against its kind: is the kind known, does its shape fit, do the rules between its
// fields hold. What refers to other objects is judged later, in Resolution.

internal import MeshModel

enum ObjectCheck {
    static func findings(_ object: ConfigObject) -> [ShapeCheck.Finding] {
        var check = ShapeCheck()
        let root = object.root
        switch Kind.of(group: object.group, kind: object.kind) {
        case .honoured(let shape, _, let versions)?:
            guard versions.contains(object.version) else {
                check.warn(
                    .unsupported, "apiVersion", root["apiVersion"]?.line ?? root.line,
                    "version '\(object.version)' of \(object.kind) is not supported by this "
                        + "build, the object is ignored: write it as "
                        + versions.sorted().joined(separator: " or "))
                return check.findings
            }
            check.walk(root, shape, at: "")
            checkName(object, &check)
            // Rules between fields presume that every field has its type.
            if !check.findings.contains(where: { $0.severity == .error }) {
                checkRules(object, &check)
            }
        case .ignored(let reason)?:
            check.note(root.line, "\(object.kind) is read and ignored: \(reason)")
        case .unsupported?:
            check.warn(
                .unsupported, "kind", root["kind"]?.line ?? root.line,
                "\(object.kind) (\(object.groupTitle)) is not supported by this build; "
                    + "the object is ignored")
        case nil:
            check.warn(
                .unknown, "kind", root["kind"]?.line ?? root.line,
                "\(object.kind) (\(object.groupTitle)) is an unknown kind; the object is ignored: "
                    + "check kind and apiVersion")
        }
        return check.findings
    }

    private static func checkName(_ object: ConfigObject, _ check: inout ShapeCheck) {
        let metadata = object.root["metadata"]
        let name = object.name.name
        let line = metadata?["name"]?.line ?? object.line
        let rule: TextRule =
            object.group.isEmpty && ["Namespace", "Service"].contains(object.kind)
            ? .label : .subdomain
        if let problem = rule.problem(with: name) { check.error("metadata.name", line, problem) }
        if let namespace = metadata?["namespace"], let text = namespace.text, !text.isEmpty {
            if object.name.namespace.isEmpty {
                check.warn(
                    .unknown, "metadata.namespace", namespace.line,
                    "\(object.kind) belongs to no namespace; ignored: remove it")
            } else if let problem = TextRule.label.problem(with: text) {
                check.error("metadata.namespace", namespace.line, problem)
            }
        }
    }

    private static func checkRules(_ object: ConfigObject, _ check: inout ShapeCheck) {
        switch object.kind {
        case "Node": NodeRules.check(object.root, &check)
        case "Pod": PodRules.check(object.root, &check)
        case "Service": ServiceRules.check(object.root, &check)
        case "EndpointSlice": EndpointSliceRules.check(object.root, &check)
        case "NetworkPolicy": NetworkPolicyRules.check(object.root, &check)
        case "ClusterNetworkPolicy": ClusterNetworkPolicyRules.check(object.root, &check)
        case "PeerAuthentication": PeerAuthenticationRules.check(object.root, &check)
        case "Secret": SecretRules.check(object.root, &check)
        case "ConfigMap": ConfigMapRules.check(object.root, &check)
        case "BackendTLSPolicy": BackendTLSRules.check(object.root, &check)
        case "Gateway": GatewayRules.check(object.root, &check)
        case "HTTPRoute": HTTPRouteRules.check(object.root, &check)
        case "TCPRoute": HTTPRouteRules.checkTCP(object.root, &check)
        default: break
        }
    }
}

extension ShapeCheck {
    mutating func note(_ line: Int, _ message: String, field: String = "") {
        add(
            Finding(
                severity: .info, category: .ignored, line: line, field: field, condition: nil,
                message: message))
    }
}

extension ConfigObject {
    var groupTitle: String { group.isEmpty ? "core/\(version)" : "\(group)/\(version)" }
}
