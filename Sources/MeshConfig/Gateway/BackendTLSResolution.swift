// BackendTLSPolicies -> TLS of service ports. What a policy asks for and cannot have makes its
// ports unreachable, never plain.

internal import MeshModel

struct BackendTLSResolution {
    private let objects: ObjectSet
    private let serviceIndex: [ObjectName: Int]
    private(set) var services: [Service]
    private(set) var statuses: [PolicyStatus] = []
    private(set) var diagnostics: [Diagnostic] = []
    /// Which policy a service (section: empty) or one of its ports is taken by.
    private var owners: [[String]: ObjectName] = [:]
    /// Ports with a policy of their own: one for the whole service does not count there.
    private var named: Set<[Int]> = []

    init(_ objects: ObjectSet, services: [Service], serviceIndex: [ObjectName: Int]) {
        self.objects = objects
        self.services = services
        self.serviceIndex = serviceIndex
    }

    mutating func resolve() {
        // The older policy wins a conflict, then the first by name.
        let ordered = objects["BackendTLSPolicy"].sorted {
            ($0.created, $0.name) < ($1.created, $1.name)
        }
        for object in ordered { resolve(object) }
    }

    private mutating func resolve(_ object: ConfigObject) {
        let validation = object.root["spec"]?["validation"]
        var status = PolicyStatus(
            kind: "BackendTLSPolicy", name: object.name,
            conditions: [
                Condition("Accepted", .isTrue, "Accepted"),
                Condition("ResolvedRefs", .isTrue, "ResolvedRefs"),
            ])
        let tls = BackendTLS(
            policy: object.name, hostname: (validation?["hostname"]?.text ?? "").lowercased(),
            names: names(validation), authorities: authorities(validation, object, &status))
        for (index, target) in (object.root["spec"]?["targetRefs"]?.list ?? []).enumerated() {
            attach(tls, target, "spec.targetRefs[\(index)]", object, &status)
        }
        statuses.append(status)
    }

    /// SANs replace the hostname where there are any.
    private func names(_ validation: Value?) -> [BackendTLS.Name] {
        let alternatives = validation?["subjectAltNames"]?.list ?? []
        guard !alternatives.isEmpty else {
            return [.host((validation?["hostname"]?.text ?? "").lowercased())]
        }
        return alternatives.map { name in
            name["type"]?.text == "URI"
                ? .uri(name["uri"]?.text ?? "") : .host((name["hostname"]?.text ?? "").lowercased())
        }
    }

    // MARK: Authorities

    private mutating func authorities(
        _ validation: Value?, _ object: ConfigObject, _ status: inout PolicyStatus
    ) -> BackendTLS.Authorities {
        let references = validation?["caCertificateRefs"]?.list ?? []
        if references.isEmpty {
            let name = validation?["wellKnownCACertificates"]?.text ?? ""
            if name == "System" { return .system }
            let message = "'\(name)' is no set of certificates that is known here: System is"
            status.refuse("Accepted", "Invalid", message)
            note(
                object, "spec.validation.wellKnownCACertificates",
                validation?["wellKnownCACertificates"]?.line ?? object.line, message,
                .init(type: "Accepted", reason: "Invalid"))
            return .unresolved(message)
        }
        let bundles = AuthorityBundles(objects: objects, kindReason: "InvalidKind")
        var bundle: [UInt8] = []
        var problem = ""
        for (index, reference) in references.enumerated() {
            do throws(CertificateResolution.Refusal) {
                bundle += try bundles.pem(reference, in: object.name.namespace)
            } catch {
                problem = error.message
                status.refuse("ResolvedRefs", error.reason, problem)
                note(
                    object, "spec.validation.caCertificateRefs[\(index)]", reference.line, problem,
                    .init(type: "ResolvedRefs", reason: error.reason))
            }
        }
        guard bundle.isEmpty else { return .bundle(bundle) }
        status.refuse("Accepted", "NoValidCACertificate", problem)
        return .unresolved(problem)
    }

    // MARK: Targets

    private mutating func attach(
        _ tls: BackendTLS, _ target: Value, _ path: String, _ object: ConfigObject,
        _ status: inout PolicyStatus
    ) {
        let (group, kind) = (target["group"]?.text ?? "", target["kind"]?.text ?? "")
        guard group.isEmpty, kind == "Service" else {
            let message = "a target of kind \(kind) (group '\(group)') is not supported: Service is"
            return refuse(object, path, target, "Invalid", message, &status)
        }
        let name = ObjectName(object.name.namespace, target["name"]?.text ?? "")
        guard let index = serviceIndex[name] else {
            let message = "Service \(name) does not exist (or was refused)"
            return refuse(object, path, target, "TargetNotFound", message, &status)
        }
        let section = target["sectionName"]?.text ?? ""
        let ports = services[index].ports.indices.filter {
            section.isEmpty || services[index].ports[$0].name == section
        }
        guard !ports.isEmpty else {
            let message = "Service \(name) has no port named '\(section)'"
            return refuse(object, path, target, "TargetNotFound", message, &status)
        }
        let key = [name.namespace, name.name, section]
        if let owner = owners[key], owner != object.name {
            let message = "BackendTLSPolicy \(owner) has the same target and is older (or first)"
            return refuse(object, path, target, "Conflicted", message, &status)
        }
        owners[key] = object.name
        for port in ports where !section.isEmpty || !named.contains([index, port]) {
            services[index].ports[port].tls = tls
            if !section.isEmpty { named.insert([index, port]) }
        }
    }

    private mutating func refuse(
        _ object: ConfigObject, _ path: String, _ target: Value, _ reason: String,
        _ message: String, _ status: inout PolicyStatus
    ) {
        status.refuse("Accepted", reason, message)
        note(object, path, target.line, message, .init(type: "Accepted", reason: reason))
    }

    private mutating func note(
        _ object: ConfigObject, _ field: String, _ line: Int, _ message: String,
        _ condition: Diagnostic.Condition
    ) {
        diagnostics.note(object, .warning, .reference, field, line, message, condition)
    }
}
