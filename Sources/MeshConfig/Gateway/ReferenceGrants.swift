// Who may refer across namespaces.

internal import MeshModel

struct ReferenceGrants {
    private struct Grant: Hashable {
        let fromGroup: String
        let fromKind: String
        let fromNamespace: String
        let toGroup: String
        let toKind: String
        let toNamespace: String
        /// Empty: every name.
        let toName: String
    }

    private var grants: Set<Grant> = []

    init(_ objects: ObjectSet) {
        for object in objects["ReferenceGrant"] {
            let spec = object.root["spec"]
            for from in spec?["from"]?.list ?? [] {
                for to in spec?["to"]?.list ?? [] {
                    grants.insert(
                        Grant(
                            fromGroup: from["group"]?.text ?? "",
                            fromKind: from["kind"]?.text ?? "",
                            fromNamespace: from["namespace"]?.text ?? "",
                            toGroup: to["group"]?.text ?? "", toKind: to["kind"]?.text ?? "",
                            toNamespace: object.name.namespace, toName: to["name"]?.text ?? ""))
                }
            }
        }
    }

    /// Whether objects of a kind of Gateway API may refer to a core object.
    func permit(from kind: String, in namespace: String, to target: String, _ name: ObjectName)
        -> Bool
    {
        if namespace == name.namespace { return true }
        return ["", name.name].contains { text in
            grants.contains(
                Grant(
                    fromGroup: Kind.gatewayGroup, fromKind: kind, fromNamespace: namespace,
                    toGroup: "", toKind: target, toNamespace: name.namespace, toName: text))
        }
    }
}
