// metav1.LabelSelector as the objects write it; a missing or empty one selects everything.

internal import MeshModel

extension LabelSelector {
    init(_ value: Value?) {
        self.init(
            value?["matchLabels"]?.texts ?? [:],
            (value?["matchExpressions"]?.list ?? []).map { entry in
                Requirement(
                    entry["key"]?.text ?? "",
                    Operation(rawValue: entry["operator"]?.text ?? "") ?? .doesNotExist,
                    (entry["values"]?.list ?? []).compactMap(\.text))
            })
    }
}
