// References to ConfigMaps and Secrets -> PEM of the authorities that they hold under `ca.crt`.

internal import MeshModel

struct AuthorityBundles {
    let objects: ObjectSet
    /// The condition's reason for a kind that holds no authorities; Gateway API has one for each
    /// place that refers to them.
    let kindReason: String

    /// The bundle that an object of `namespace` refers to, itself in `namespace` unless it says
    /// otherwise; whether it may is the caller's concern.
    func pem(
        _ reference: Value, in namespace: String
    ) throws(CertificateResolution.Refusal) -> [UInt8] {
        let (group, kind) = (reference["group"]?.text ?? "", reference["kind"]?.text ?? "")
        guard group.isEmpty, kind == "ConfigMap" || kind == "Secret" else {
            throw .init(
                reason: kindReason,
                message: "authorities of kind \(kind) (group '\(group)') are not supported: refer "
                    + "to a ConfigMap or a Secret")
        }
        let name = Self.name(reference, in: namespace)
        guard let found = objects[kind].first(where: { $0.name == name }) else {
            throw refusal("\(kind) \(name) does not exist (or was refused)")
        }
        let pem =
            kind == "Secret"
            ? PEMText.secret(found.root, PEMText.authoritiesKey)
            : PEMText.configMap(found.root, PEMText.authoritiesKey)
        guard let pem, !pem.isEmpty else {
            throw refusal("\(kind) \(name) has no \(PEMText.authoritiesKey)")
        }
        return pem + [UInt8(ascii: "\n")]
    }

    static func name(_ reference: Value, in namespace: String) -> ObjectName {
        let other = reference["namespace"]?.text ?? ""
        return ObjectName(other.isEmpty ? namespace : other, reference["name"]?.text ?? "")
    }

    private func refusal(_ message: String) -> CertificateResolution.Refusal {
        .init(reason: "InvalidCACertificateRef", message: message)
    }
}
