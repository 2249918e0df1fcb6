/// Which labels are meant. Source: metav1.LabelSelector; an empty one selects everything.
struct LabelSelector {
    private struct Expression {
        let key: String
        let operation: String
        let values: Set<String>
    }

    private let labels: [String: String]
    private let expressions: [Expression]

    init(_ value: Value?) {
        labels = value?["matchLabels"]?.texts ?? [:]
        expressions = (value?["matchExpressions"]?.list ?? []).map { entry in
            Expression(
                key: entry["key"]?.text ?? "", operation: entry["operator"]?.text ?? "",
                values: Set((entry["values"]?.list ?? []).compactMap(\.text)))
        }
    }

    func selects(_ candidate: [String: String]) -> Bool {
        labels.allSatisfy { candidate[$0.key] == $0.value }
            && expressions.allSatisfy { expression in
                let value = candidate[expression.key]
                switch expression.operation {
                case "In": return value.map(expression.values.contains) ?? false
                case "NotIn": return !(value.map(expression.values.contains) ?? false)
                case "Exists": return value != nil
                default: return value == nil
                }
            }
    }
}
