// The rules between fields of the two kinds of network policies: what the API server's validation
// says beyond the schema.

internal import MeshModel

/// Checks that both kinds share.
enum PolicyChecks {
    /// Keys and values that a label may have. In and NotIn need values, Exists and DoesNotExist
    /// must have none.
    static func selector(_ value: Value?, _ path: String, _ check: inout ShapeCheck) {
        for field in value?["matchLabels"]?.fields ?? [] {
            let place = path + ".matchLabels[\(field.name)]"
            word(field.name, .labelKey, place, field.line, &check)
            word(field.value.text, .labelValue, place, field.line, &check)
        }
        for (index, entry) in (value?["matchExpressions"]?.list ?? []).enumerated() {
            let place = path + ".matchExpressions[\(index)]"
            word(entry["key"]?.text, .labelKey, place + ".key", entry.line, &check)
            for (position, each) in (entry["values"]?.list ?? []).enumerated() {
                word(each.text, .labelValue, place + ".values[\(position)]", each.line, &check)
            }
        }
        for (index, entry) in (value?["matchExpressions"]?.list ?? []).enumerated() {
            let isSet = !(entry["values"]?.list ?? []).isEmpty
            let wants = ["In", "NotIn"].contains(entry["operator"]?.text ?? "")
            guard isSet != wants else { continue }
            check.error(
                path + ".matchExpressions[\(index)].values", entry.line,
                wants
                    ? "is required for In and NotIn"
                    : "must not be given for Exists and DoesNotExist")
        }
    }

    private static func word(
        _ text: String?, _ rule: TextRule, _ path: String, _ line: Int, _ check: inout ShapeCheck
    ) {
        if let text, let problem = rule.problem(with: text) { check.error(path, line, problem) }
    }

    static func block(
        _ value: Value?, _ path: String, _ check: inout ShapeCheck
    ) -> IPPrefix? {
        guard let value, let text = value.text else { return nil }
        guard let block = IPPrefix(text) else {
            check.error(
                path, value.line,
                "'\(text)' is no block of addresses such as 10.0.0.0/8 or fd00::/8")
            return nil
        }
        return block
    }

    static func audit(_ root: Value, _ check: inout ShapeCheck) {
        guard let mode = root["metadata"]?["annotations"]?[Annotation.policyMode],
            let text = mode.text, !["enforce", "audit"].contains(text)
        else { return }
        check.error(
            "metadata.annotations[\(Annotation.policyMode)]", mode.line,
            "'\(text)' is not one of enforce, audit")
    }
}

enum NetworkPolicyRules {
    static func check(_ root: Value, _ check: inout ShapeCheck) {
        PolicyChecks.audit(root, &check)
        guard let spec = root["spec"] else { return }
        PolicyChecks.selector(spec["podSelector"], "spec.podSelector", &check)
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for (index, rule) in (spec[direction]?.list ?? []).enumerated() {
                let path = "spec.\(direction)[\(index)]"
                for (place, port) in (rule["ports"]?.list ?? []).enumerated() {
                    checkPort(port, path + ".ports[\(place)]", &check)
                }
                for (place, peer) in (rule[peers]?.list ?? []).enumerated() {
                    checkPeer(peer, path + ".\(peers)[\(place)]", &check)
                }
            }
        }
        let types = (spec["policyTypes"]?.list ?? []).compactMap(\.text)
        for direction in ["Ingress", "Egress"] where !types.isEmpty && !types.contains(direction) {
            let rules = spec[direction.lowercased()]
            guard let rules, !rules.list.isEmpty else { continue }
            check.warn(
                .unsupported, "spec.\(direction.lowercased())", rules.line,
                "has no effect: spec.policyTypes does not hold \(direction)")
        }
    }

    private static func checkPort(_ port: Value, _ path: String, _ check: inout ShapeCheck) {
        let end = port["endPort"]
        guard let value = port["port"] else {
            if let end { check.error(path + ".endPort", end.line, "needs a port to begin with") }
            return
        }
        if let text = value.text {
            if !isPortName(text) {
                let isNumber = Int(text) != nil
                check.error(
                    path + ".port", value.line,
                    "'\(text)' is no port name: at most 15 of a-z, 0-9 and -, at least one letter"
                        + (isNumber ? "; a number must not be in quotes" : ""))
            }
            if let end {
                check.error(path + ".endPort", end.line, "must not be given with a port's name")
            }
        } else if let number = value.integer {
            if !(1...65535).contains(number) {
                check.error(path + ".port", value.line, "\(number) is not in 1...65535")
            }
            if let end, let last = end.integer, last < number {
                check.error(path + ".endPort", end.line, "\(last) is less than port \(number)")
            }
        }
    }

    /// Source: IsValidPortName of k8s.io/apimachinery.
    private static func isPortName(_ text: String) -> Bool {
        TextRule.isLabel(text, most: 15) && !text.contains("--")
            && text.utf8.contains { (97...122).contains($0) }
    }

    private static func checkPeer(_ peer: Value, _ path: String, _ check: inout ShapeCheck) {
        let block = peer["ipBlock"]
        let pods = peer["podSelector"]
        let namespaces = peer["namespaceSelector"]
        PolicyChecks.selector(pods, path + ".podSelector", &check)
        PolicyChecks.selector(namespaces, path + ".namespaceSelector", &check)
        if block == nil, pods == nil, namespaces == nil {
            check.error(
                path, peer.line, "needs a podSelector, a namespaceSelector or an ipBlock")
        }
        guard let block else { return }
        if pods != nil || namespaces != nil {
            check.error(path + ".ipBlock", block.line, "must not be given with a selector")
        }
        let whole = PolicyChecks.block(block["cidr"], path + ".ipBlock.cidr", &check)
        for (index, value) in (block["except"]?.list ?? []).enumerated() {
            let place = path + ".ipBlock.except[\(index)]"
            guard let hole = PolicyChecks.block(value, place, &check), let whole else { continue }
            if !whole.contains(hole) || hole == whole {
                check.error(place, value.line, "\(hole) is no part of \(whole)")
            }
        }
    }
}

enum ClusterNetworkPolicyRules {
    static func check(_ root: Value, _ check: inout ShapeCheck) {
        PolicyChecks.audit(root, &check)
        guard let spec = root["spec"] else { return }
        if let subject = spec["subject"] {
            checkChoice(subject, "spec.subject", of: ["namespaces", "pods"], &check)
            checkSelectors(subject, "spec.subject", &check)
        }
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for (index, rule) in (spec[direction]?.list ?? []).enumerated() {
                checkRule(rule, "spec.\(direction)[\(index)]", peers, &check)
            }
        }
    }

    private static func checkRule(
        _ rule: Value, _ path: String, _ peers: String, _ check: inout ShapeCheck
    ) {
        let protocols = rule["protocols"]?.list ?? []
        for (index, each) in protocols.enumerated() {
            checkProtocol(each, path + ".protocols[\(index)]", &check)
        }
        let named = protocols.first { $0["destinationNamedPort"] != nil }
        for (index, peer) in (rule[peers]?.list ?? []).enumerated() {
            let place = path + ".\(peers)[\(index)]"
            if peer.fields.count > 1 {
                check.error(place, peer.line, "holds \(peer.fields.count) fields, one is allowed")
            } else if peer.fields.isEmpty {
                check.error(place, peer.line, "is empty: name one kind of peer")
            }
            for field in peer.fields where !field.value.isNull {
                checkKind(field, place, peers, accepts: rule["action"]?.text == "Accept", &check)
            }
            checkSelectors(peer, place, &check)
            PolicyChecks.selector(peer["nodes"], place + ".nodes", &check)
            for (position, value) in (peer["networks"]?.list ?? []).enumerated() {
                _ = PolicyChecks.block(value, place + ".networks[\(position)]", &check)
            }
            for field in ["networks", "nodes", "domainNames"] where peer[field] != nil {
                if let named {
                    check.error(
                        path + ".protocols", named.line,
                        "holds a destinationNamedPort, which \(field) do not have")
                }
            }
            if let names = peer["domainNames"], rule["action"]?.text != "Accept" {
                check.error(
                    place + ".domainNames", names.line, "is for rules with action Accept only")
            }
        }
    }

    /// Whether the API has such a peer, and what becomes of it here if not.
    private static func checkKind(
        _ field: Value.Field, _ place: String, _ peers: String, accepts: Bool,
        _ check: inout ShapeCheck
    ) {
        let message: String
        switch (field.name, peers) {
        case ("namespaces", _), ("pods", _), ("networks", "to"), ("nodes", "to"),
            ("domainNames", "to"):
            return
        case ("networks", _), ("nodes", _):
            message = "the API has this peer for egress only; it is honoured here too"
        default:
            message =
                accepts
                ? "unknown peer: nothing is accepted for its sake"
                : "unknown peer: this rule denies everything, whatever its other peers and "
                    + "protocols"
        }
        check.warn(.unknown, "\(place).\(field.name)", field.line, message)
    }

    private static func checkProtocol(_ value: Value, _ path: String, _ check: inout ShapeCheck) {
        checkChoice(
            value, path, of: ["tcp", "udp", "sctp", "destinationNamedPort"], &check)
        for name in ["tcp", "udp", "sctp"] {
            guard let port = value[name]?["destinationPort"] else { continue }
            let place = path + ".\(name).destinationPort"
            checkChoice(port, place, of: ["number", "range"], &check)
            if let range = port["range"], let start = range["start"]?.integer,
                let end = range["end"]?.integer, start >= end
            {
                check.error(place + ".range", range.line, "start must be less than end")
            }
        }
    }

    private static func checkSelectors(_ value: Value, _ path: String, _ check: inout ShapeCheck) {
        PolicyChecks.selector(value["namespaces"], path + ".namespaces", &check)
        let pods = value["pods"]
        PolicyChecks.selector(pods?["podSelector"], path + ".pods.podSelector", &check)
        PolicyChecks.selector(pods?["namespaceSelector"], path + ".pods.namespaceSelector", &check)
    }

    /// Exactly one of the fields.
    private static func checkChoice(
        _ value: Value, _ path: String, of fields: [String], _ check: inout ShapeCheck
    ) {
        let count = fields.count { value[$0] != nil }
        guard count != 1 else { return }
        let list = fields.joined(separator: ", ")
        check.error(path, value.line, "holds \(count) of \(list): exactly one is needed")
    }
}
