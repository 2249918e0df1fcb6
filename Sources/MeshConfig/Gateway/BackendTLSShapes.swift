// The shape of BackendTLSPolicy and ConfigMap. Source: Gateway API v1.6, standard channel.

extension Shape {
    static let configMap: Shape = .object(
        .honoured("data", .texts(countMax: .max)), .harmless("binaryData"), .harmless("immutable"))

    static let backendTLSPolicy: Shape = .object(
        .required(
            "spec",
            .fields([
                .required("targetRefs", .list(.fields(policyTarget), counts: 1...16)),
                .required("validation", .fields(backendValidation)),
                .unsupported("options", "they are ignored", .texts(countMax: 16)),
            ])), .harmless("status"))

    private static let policyTarget: [ShapeField] = [
        .required("group", .text(.group)), .required("kind", .text(.kind)),
        .required("name", .text(.objectName)),
        .honoured("sectionName", .text(.subdomain)),
    ]

    private static let backendValidation: [ShapeField] = [
        .honoured(
            "caCertificateRefs",
            .list(
                .fields([
                    .required("group", .text(.group)), .required("kind", .text(.kind)),
                    .required("name", .text(.objectName)),
                ]), counts: 0...8)),
        .required("hostname", .text(.subdomain)),
        .honoured(
            "subjectAltNames",
            .list(
                .fields([
                    .required("type", .oneOf(["Hostname", "URI"])),
                    .honoured("hostname", .text(.hostname)),
                    .honoured("uri", .text(.any(bytesMax: 253))),
                ]), counts: 0...5)),
        .honoured("wellKnownCACertificates", .text(.any(bytesMax: 253))),
    ]
}

enum BackendTLSRules {
    static func check(_ root: Value, _ check: inout ShapeCheck) {
        guard let spec = root["spec"], let validation = spec["validation"] else { return }
        let references = validation["caCertificateRefs"]?.list ?? []
        let wellKnown = validation["wellKnownCACertificates"]?.text ?? ""
        if references.isEmpty == wellKnown.isEmpty {
            check.error(
                "spec.validation", validation.line,
                references.isEmpty
                    ? "needs caCertificateRefs or wellKnownCACertificates"
                    : "must not have both caCertificateRefs and wellKnownCACertificates")
        }
        for (index, name) in (validation["subjectAltNames"]?.list ?? []).enumerated() {
            let path = "spec.validation.subjectAltNames[\(index)]"
            let isHost = name["type"]?.text == "Hostname"
            for (field, isWanted) in [("hostname", isHost), ("uri", !isHost)]
            where ((name[field]?.text ?? "").isEmpty) == isWanted {
                check.error(
                    "\(path).\(field)", name.line,
                    isWanted
                        ? "is required for type \(isHost ? "Hostname" : "URI")"
                        : "must not be given for type \(isHost ? "Hostname" : "URI")")
            }
        }
        checkTargets(spec["targetRefs"]?.list ?? [], &check)
    }

    private static func checkTargets(_ targets: [Value], _ check: inout ShapeCheck) {
        var sections: [[String]: Set<String>] = [:]
        for (index, target) in targets.enumerated() {
            let key = ["group", "kind", "name"].map { target[$0]?.text ?? "" }
            let section = target["sectionName"]?.text ?? ""
            let known = sections[key] ?? []
            let isMixed = !known.isEmpty && known.contains("") != section.isEmpty
            if known.contains(section) || isMixed {
                check.error(
                    "spec.targetRefs[\(index)]", target.line,
                    "names the target of another entry: give each a sectionName of its own")
            }
            sections[key, default: []].insert(section)
        }
    }
}
