// Labels as small numbers, reduced to what selectors ask for: two objects whose reduced labels are
// equal are selected alike by every selector that was mentioned.

/// Labels after the reduction: pairs of a key's and a value's number, sorted. Value 0 stands for
/// every value that no selector names.
struct ReducedLabels: Hashable, Sendable {
    var pairs: [UInt64] = []

    static func pair(_ key: UInt32, _ value: UInt32) -> UInt64 { UInt64(key) << 32 | UInt64(value) }

    /// - Complexity: linear; an object has a handful of labels that count.
    func value(of key: UInt32) -> UInt32? {
        for pair in pairs where UInt32(pair >> 32) == key {
            return UInt32(truncatingIfNeeded: pair)
        }
        return nil
    }
}

struct LabelReduction: Sendable {
    private struct Mention: Sendable {
        var number: UInt32
        var values: [String: UInt32] = [:]
    }

    /// A selector in numbers.
    struct Numbered: Sendable {
        struct Requirement: Sendable {
            var key: UInt32
            var operation: LabelSelector.Operation
            var values: [UInt32]
        }
        var requirements: [Requirement]

        func selects(_ labels: ReducedLabels) -> Bool {
            requirements.allSatisfy { each in
                let value = labels.value(of: each.key)
                switch each.operation {
                case .isIn: return value.map(each.values.contains) ?? false
                case .isNotIn: return !(value.map(each.values.contains) ?? false)
                case .exists: return value != nil
                case .doesNotExist: return value == nil
                }
            }
        }
    }

    private var mentions: [String: Mention] = [:]
    private var keys: [String] = []
    private var values: [[String]] = []

    /// Makes the selector's keys and values count.
    mutating func mention(_ selector: LabelSelector) {
        for requirement in selector.requirements {
            var mention =
                mentions[requirement.key] ?? Mention(number: UInt32(keys.count))
            if Int(mention.number) == keys.count {
                keys.append(requirement.key)
                values.append(["*"])
            }
            for value in requirement.values where mention.values[value] == nil {
                mention.values[value] = UInt32(values[Int(mention.number)].count)
                values[Int(mention.number)].append(value)
            }
            mentions[requirement.key] = mention
        }
    }

    /// - Precondition: the selector was mentioned.
    func numbered(_ selector: LabelSelector) -> Numbered {
        Numbered(
            requirements: selector.requirements.compactMap { each in
                guard let mention = mentions[each.key] else { return nil }
                return .init(
                    key: mention.number, operation: each.operation,
                    values: each.values.compactMap { mention.values[$0] })
            })
    }

    func reduced(_ labels: [String: String]) -> ReducedLabels {
        var pairs: [UInt64] = []
        for (key, value) in labels {
            guard let mention = mentions[key] else { continue }
            pairs.append(ReducedLabels.pair(mention.number, mention.values[value] ?? 0))
        }
        if pairs.count > 1 { pairs.sort() }
        return ReducedLabels(pairs: pairs)
    }

    /// `KEY=VALUE`, sorted: the same text for the same labels, whatever their numbers are.
    func texts(_ labels: ReducedLabels) -> [String] {
        labels.pairs.map { pair in
            let key = Int(pair >> 32)
            return "\(keys[key])=\(values[key][Int(truncatingIfNeeded: pair & 0xffff_ffff)])"
        }.sorted()
    }
}

/// Distinct values in the order of their first appearance, by index.
struct Interner<Value: Hashable & Sendable>: Sendable {
    private(set) var values: [Value] = []
    private var indices: [Value: Int] = [:]

    mutating func index(of value: Value) -> Int {
        if let known = indices[value] { return known }
        indices[value] = values.count
        values.append(value)
        return values.count - 1
    }

    func known(_ value: Value) -> Int? { indices[value] }
}
