// References to Secrets -> certificates of the mesh, each once.

internal import MeshModel

struct CertificateResolution {
    /// Why a reference cannot be followed.
    struct Refusal: Error {
        var reason: String
        var message: String
    }

    private let secrets: [ObjectName: ConfigObject]
    private let grants: ReferenceGrants
    private(set) var certificates: [Certificate] = []
    private var indices: [ObjectName: Int] = [:]

    init(_ objects: ObjectSet) {
        var secrets: [ObjectName: ConfigObject] = [:]
        for object in objects["Secret"] { secrets[object.name] = object }
        self.secrets = secrets
        grants = ReferenceGrants(objects)
    }

    /// Into `Mesh.certificates`.
    ///
    /// - Source: SecretObjectReference, as Gateway.spec.listeners.tls.certificateRefs has it.
    mutating func index(_ reference: Value, ofGatewayIn namespace: String) throws(Refusal) -> Int {
        let group = reference["group"]?.text ?? ""
        let kind = reference["kind"]?.text ?? "Secret"
        guard group.isEmpty, kind == "Secret" else {
            throw Refusal(
                reason: "InvalidCertificateRef",
                message: "certificates of kind \(kind) (group '\(group)') are not supported: "
                    + "refer to a Secret")
        }
        let other = reference["namespace"]?.text ?? ""
        let name = ObjectName(other.isEmpty ? namespace : other, reference["name"]?.text ?? "")
        guard grants.permit(from: "Gateway", in: namespace, to: "Secret", name) else {
            throw Refusal(
                reason: "RefNotPermitted",
                message: "no ReferenceGrant in namespace \(name.namespace) permits Gateways of "
                    + "\(namespace) to refer to Secret \(name.name)")
        }
        if let known = indices[name] { return known }
        guard let secret = secrets[name] else {
            throw Refusal(
                reason: "InvalidCertificateRef",
                message: "Secret \(name) does not exist (or was refused)")
        }
        guard secret.root["type"]?.text == "kubernetes.io/tls",
            let chain = PEMText.secret(secret.root, PEMText.chainKey),
            let key = PEMText.secret(secret.root, PEMText.privateKey)
        else {
            throw Refusal(
                reason: "InvalidCertificateRef",
                message: "Secret \(name) is not of type kubernetes.io/tls")
        }
        indices[name] = certificates.count
        certificates.append(Certificate(name: name, chain: chain, key: PrivateKey(pem: key)))
        return certificates.count - 1
    }
}
