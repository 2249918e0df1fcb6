// The rules between fields of a Gateway: the CEL rules of its schema, in its order.

internal import MeshModel

enum GatewayRules {
    static func check(_ root: Value, _ check: inout ShapeCheck) {
        guard let spec = root["spec"] else { return }
        checkAddresses(spec["addresses"]?.list ?? [], &check)
        var combinations: Set<[String]> = []
        for (index, listener) in (spec["listeners"]?.list ?? []).enumerated() {
            let path = "spec.listeners[\(index)]"
            checkTLS(listener, path, &check)
            checkSelector(listener, path, &check)
            let name = listener["protocol"]?.text ?? ""
            let hostname = listener["hostname"]
            if ["TCP", "UDP"].contains(name), let hostname {
                check.error(
                    path + ".hostname", hostname.line, "must not be given for protocol \(name)")
            }
            let combination = [
                "\(listener["port"]?.integer ?? 0)", name, hostname?.text ?? "",
            ]
            if !combinations.insert(combination).inserted {
                check.error(
                    path, listener.line,
                    "has the port, protocol and hostname of another listener: change one of them")
            }
        }
    }

    private static func checkTLS(
        _ listener: Value, _ path: String, _ check: inout ShapeCheck
    ) {
        let name = listener["protocol"]?.text ?? ""
        let tls = listener["tls"]
        let mode = tls?["mode"]?.text
        if let tls, ["HTTP", "TCP", "UDP"].contains(name) {
            check.error(path + ".tls", tls.line, "must not be given for protocol \(name)")
            return
        }
        if name == "HTTPS", let tls, mode == "Passthrough" {
            check.error(path + ".tls.mode", tls.line, "must be Terminate for protocol HTTPS")
        }
        if name == "TLS", mode == nil {
            check.error(
                path + ".tls.mode", tls?.line ?? listener.line, "is required for protocol TLS")
        }
        if let tls, mode ?? "Terminate" == "Terminate",
            (tls["certificateRefs"]?.list ?? []).isEmpty,
            (tls["options"]?.fields ?? []).isEmpty
        {
            check.error(
                path + ".tls.certificateRefs", tls.line,
                "is required (or options) where the mode is Terminate")
        }
    }

    private static func checkSelector(
        _ listener: Value, _ path: String, _ check: inout ShapeCheck
    ) {
        let namespaces = listener["allowedRoutes"]?["namespaces"]
        let isSelector = namespaces?["from"]?.text == "Selector"
        let field = path + ".allowedRoutes.namespaces.selector"
        if isSelector, namespaces?["selector"] == nil {
            check.error(
                field, namespaces?.line ?? listener.line, "is required where from is Selector")
        }
        for (index, entry) in (namespaces?["selector"]?["matchExpressions"]?.list ?? [])
            .enumerated()
        {
            let isSet = !(entry["values"]?.list ?? []).isEmpty
            let wants = ["In", "NotIn"].contains(entry["operator"]?.text ?? "")
            if isSet != wants {
                check.error(
                    field + ".matchExpressions[\(index)].values", entry.line,
                    wants
                        ? "is required for In and NotIn"
                        : "must not be given for Exists and DoesNotExist")
            }
        }
    }

    private static func checkAddresses(_ addresses: [Value], _ check: inout ShapeCheck) {
        var seen: Set<[String]> = []
        for (index, address) in addresses.enumerated() {
            let path = "spec.addresses[\(index)].value"
            let type = address["type"]?.text ?? "IPAddress"
            guard let value = address["value"], let text = value.text, !text.isEmpty else {
                continue
            }
            switch type {
            case "IPAddress":
                if let problem = TextRule.ipAddress.problem(with: text) {
                    check.error(path, value.line, problem)
                }
            case "Hostname":
                if let problem = TextRule.hostname.problem(with: text) {
                    check.error(path, value.line, problem)
                }
            default:
                break
            }
            if !seen.insert([type, text]).inserted {
                check.error(path, value.line, "'\(text)' stands twice")
            }
        }
    }
}
