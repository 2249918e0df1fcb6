/// Which labels an object must have. All requirements hold; without any, everything is selected.
///
/// - Source: metav1.LabelSelector; an entry of matchLabels is `In` with one value.
public struct LabelSelector: Hashable, Sendable {
    public enum Operation: String, Sendable, Hashable {
        case isIn = "In"
        case isNotIn = "NotIn"
        case exists = "Exists"
        case doesNotExist = "DoesNotExist"
    }

    public struct Requirement: Hashable, Sendable {
        public var key: String
        public var operation: Operation
        /// Sorted; empty for `exists` and `doesNotExist`.
        public var values: [String]

        public init(_ key: String, _ operation: Operation, _ values: [String] = []) {
            self.key = key
            self.operation = operation
            self.values = values.sorted()
        }

        func holds(_ labels: [String: String]) -> Bool {
            let value = labels[key]
            switch operation {
            case .isIn: return value.map(values.contains) ?? false
            case .isNotIn: return !(value.map(values.contains) ?? false)
            case .exists: return value != nil
            case .doesNotExist: return value == nil
            }
        }
    }

    public var requirements: [Requirement]

    public init(_ labels: [String: String] = [:], _ expressions: [Requirement] = []) {
        requirements =
            labels.sorted { $0.key < $1.key }.map { Requirement($0.key, .isIn, [$0.value]) }
            + expressions
    }

    public static let everything = LabelSelector()

    public func selects(_ labels: [String: String]) -> Bool {
        requirements.allSatisfy { $0.holds(labels) }
    }
}

extension LabelSelector: CustomStringConvertible {
    /// As kubectl writes it: `app=web,tier in (a,b),!canary`; `<all>` without requirements.
    public var description: String {
        if requirements.isEmpty { return "<all>" }
        return requirements.map { each in
            let values = each.values.joined(separator: ",")
            switch each.operation {
            case .isIn:
                return each.values.count == 1
                    ? "\(each.key)=\(values)" : "\(each.key) in (\(values))"
            case .isNotIn: return "\(each.key) notin (\(values))"
            case .exists: return each.key
            case .doesNotExist: return "!\(each.key)"
            }
        }.joined(separator: ",")
    }
}
