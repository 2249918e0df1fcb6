// `spec.tls.frontend` of a Gateway -> whose certificates the clients of its HTTPS listeners must
// bring. What a Gateway asks for and cannot have stops its listeners: nobody is let in unseen.

internal import MeshModel

struct FrontendValidation {
    /// What the HTTPS listeners of one port have in common.
    struct Rule {
        /// `nil`: none of the references could be followed.
        var clients: ClientValidation?
        /// Of the last reference that could not be followed.
        var refusal: CertificateResolution.Refusal?
    }

    private var common: Rule?
    /// A port that is named here has no share in `common`, even where it asks for nothing.
    private var ports: [UInt16: Rule?] = [:]

    subscript(port: UInt16) -> Rule? { ports[port] ?? common }

    init(_ object: ConfigObject, _ resolution: inout GatewayResolution) {
        guard let frontend = object.root["spec"]?["tls"]?["frontend"] else { return }
        let path = "spec.tls.frontend"
        common = Self.rule(
            frontend["default"]?["validation"], path + ".default.validation", object, &resolution)
        for (index, entry) in (frontend["perPort"]?.list ?? []).enumerated() {
            let port = UInt16(clamping: entry["port"]?.integer ?? 0)
            ports[port] = .some(
                Self.rule(
                    entry["tls"]?["validation"], path + ".perPort[\(index)].tls.validation", object,
                    &resolution))
        }
    }

    private static func rule(
        _ validation: Value?, _ path: String, _ object: ConfigObject,
        _ resolution: inout GatewayResolution
    ) -> Rule? {
        guard let validation else { return nil }
        let bundles = AuthorityBundles(
            objects: resolution.objects, kindReason: "InvalidCACertificateKind")
        let grants = ReferenceGrants(resolution.objects)
        var rule = Rule()
        var authorities: [UInt8] = []
        for (index, reference) in (validation["caCertificateRefs"]?.list ?? []).enumerated() {
            do throws(CertificateResolution.Refusal) {
                try permit(reference, object, grants)
                authorities += try bundles.pem(reference, in: object.name.namespace)
            } catch {
                rule.refusal = error
                resolution.diagnostics.note(
                    object, .warning, .reference, "\(path).caCertificateRefs[\(index)]",
                    reference.line, error.message + "; clients that it vouches for are refused",
                    .init(type: "ResolvedRefs", reason: error.reason))
            }
        }
        if !authorities.isEmpty {
            rule.clients = ClientValidation(
                authorities: authorities,
                isOptional: validation["mode"]?.text == "AllowInsecureFallback")
        }
        return rule
    }

    private static func permit(
        _ reference: Value, _ object: ConfigObject, _ grants: ReferenceGrants
    ) throws(CertificateResolution.Refusal) {
        let (kind, namespace) = (reference["kind"]?.text ?? "", object.name.namespace)
        let name = AuthorityBundles.name(reference, in: namespace)
        guard grants.permit(from: "Gateway", in: namespace, to: kind, name) else {
            throw .init(
                reason: "RefNotPermitted",
                message: "no ReferenceGrant in namespace \(name.namespace) permits Gateways of "
                    + "\(namespace) to refer to \(kind) \(name.name)")
        }
    }
}

extension GatewayResolution {
    /// Puts the Gateway's rule for the listener's port into force.
    func validateClients(_ rule: FrontendValidation.Rule?, _ listener: inout ListenerState) {
        guard let rule else { return }
        listener.tls?.clients = rule.clients
        guard let refusal = rule.refusal else { return }
        listener.resolvedRefs = Condition(
            "ResolvedRefs", .isFalse, refusal.reason, refusal.message)
        if rule.clients == nil, listener.isAccepted {
            listener.accepted = Condition(
                "Accepted", .isFalse, "NoValidCACertificate", refusal.message)
        }
    }
}
