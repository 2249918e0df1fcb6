// What a Secret or ConfigMap that holds certificates must be like. A broken one is refused whole,
// so that its last good version stays in force.

internal import MeshModel

enum SecretRules {
    static func check(_ root: Value, _ check: inout ShapeCheck) {
        if root["type"]?.text == "kubernetes.io/tls" { checkPair(root, &check) }
        checkAuthorities(root, &check)
    }

    private static func checkPair(_ root: Value, _ check: inout ShapeCheck) {
        var bytes: [[UInt8]] = []
        for key in [PEMText.chainKey, PEMText.privateKey] {
            guard let found = field(root, key) else {
                check.error(
                    "data[\(key)]", root["data"]?.line ?? root.line,
                    "is required in a Secret of type kubernetes.io/tls")
                continue
            }
            guard let pem = PEMText.secret(root, key) else {
                check.error("data[\(key)]", found.line, "is no base64")
                continue
            }
            bytes.append(pem)
        }
        guard bytes.count == 2, let place = field(root, PEMText.chainKey),
            let problem = PEMText.problem(chain: bytes[0], key: bytes[1])
        else { return }
        check.error("data[\(PEMText.chainKey)]", place.line, problem)
    }

    private static func checkAuthorities(_ root: Value, _ check: inout ShapeCheck) {
        guard let place = field(root, PEMText.authoritiesKey) else { return }
        let name = "data[\(PEMText.authoritiesKey)]"
        guard let pem = PEMText.secret(root, PEMText.authoritiesKey) else {
            return check.error(name, place.line, "is no base64")
        }
        // cert-manager leaves it empty where it does not know the authority.
        guard !pem.isEmpty, let problem = PEMText.problem(authorities: pem) else { return }
        check.error(name, place.line, problem)
    }

    private static func field(_ root: Value, _ key: String) -> Value? {
        root["stringData"]?[key] ?? root["data"]?[key]
    }
}

enum ConfigMapRules {
    static func check(_ root: Value, _ check: inout ShapeCheck) {
        guard let place = root["data"]?[PEMText.authoritiesKey],
            let pem = PEMText.configMap(root, PEMText.authoritiesKey),
            let problem = PEMText.problem(authorities: pem)
        else { return }
        check.error("data[\(PEMText.authoritiesKey)]", place.line, problem)
    }
}
