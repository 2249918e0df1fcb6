// One YAML node with the line it stands on. Reading is lenient (a missing or mistyped field is
// `nil`), because a Shape has checked the object before anything is read from it.

internal import MeshModel
internal import Yams

struct Value: Sendable {
    struct Field: Sendable {
        let name: String
        let line: Int
        let value: Value
    }

    enum Content: Sendable {
        case null
        case boolean(Bool)
        case integer(Int)
        case number(Double)
        case text(String)
        case list([Value])
        case fields([Field])
    }

    /// From 1.
    let line: Int
    let content: Content

    /// The field of that name; `nil` too where it is null, as Kubernetes reads it.
    subscript(name: String) -> Value? {
        guard case .fields(let fields) = content,
            let field = fields.first(where: { $0.name == name })
        else { return nil }
        if case .null = field.value.content { return nil }
        return field.value
    }

    var text: String? {
        if case .text(let text) = content { return text }
        return nil
    }

    // Swift 6.3.1 fails to optimise this inlined ("Found ownership error" in CopyPropagation).
    @inline(never) var integer: Int? {
        if case .integer(let integer) = content { return integer }
        return nil
    }

    // Swift 6.3.1 fails to optimise this inlined ("Found ownership error" in CopyPropagation).
    @inline(never) var boolean: Bool? {
        if case .boolean(let boolean) = content { return boolean }
        return nil
    }

    var list: [Value] {
        if case .list(let list) = content { return list }
        return []
    }

    var fields: [Field] {
        if case .fields(let fields) = content { return fields }
        return []
    }

    var isNull: Bool {
        if case .null = content { return true }
        return false
    }

    /// A map of texts such as labels; values that are no texts are left out.
    var texts: [String: String] {
        var texts: [String: String] = [:]
        for field in fields {
            if let text = field.value.text { texts[field.name] = text }
        }
        return texts
    }

    /// What it is, for messages.
    var nounOfContent: String {
        switch content {
        case .null: "null"
        case .boolean: "a boolean"
        case .integer: "an integer"
        case .number: "a number"
        case .text: "a string"
        case .list: "a list"
        case .fields: "a map"
        }
    }
}

extension Value {
    /// Copies a node, aliases included.
    ///
    /// - Parameter budget: nodes that may still be made: an alias copied a million times ends here.
    /// - Throws: `ParseFailure` when the budget is used up or a key is no scalar.
    init(_ node: Yams.Node, line outer: Int, budget: inout Int) throws(ParseFailure) {
        let line = node.mark?.line ?? outer
        budget -= 1
        guard budget >= 0 else {
            throw ParseFailure(line: line, problem: "more than \(Limit.nodesMax) nodes in one file")
        }
        self.line = line
        switch node {
        case .scalar(let scalar):
            content = Self.content(of: scalar)
        case .sequence(let sequence):
            var list: [Value] = []
            list.reserveCapacity(sequence.count)
            for child in sequence {
                list.append(try Value(child, line: line, budget: &budget))
            }
            content = .list(list)
        case .mapping(let mapping):
            var fields: [Field] = []
            fields.reserveCapacity(mapping.count)
            for (key, child) in mapping {
                let keyLine = key.mark?.line ?? line
                guard case .scalar(let name) = key else {
                    throw ParseFailure(line: keyLine, problem: "a key that is no scalar")
                }
                let value = try Value(child, line: keyLine, budget: &budget)
                fields.append(Field(name: name.string, line: keyLine, value: value))
            }
            content = .fields(fields)
        case .alias:
            throw ParseFailure(line: line, problem: "an alias that cannot be followed")
        }
    }

    /// YAML 1.1 as Kubernetes reads it: `yes`, `on` and friends are booleans when not quoted.
    private static func content(of scalar: Yams.Node.Scalar) -> Content {
        let text = scalar.string
        guard scalar.style == .plain || scalar.style == .any else { return .text(text) }
        if scalar.tag.description == Tag.Name.str.rawValue { return .text(text) }
        switch text {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON": return .boolean(true)
        case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF":
            return .boolean(false)
        default: break
        }
        guard let first = text.utf8.first, isNumberStart(first) else { return .text(text) }
        if let integer = Int(text) { return .integer(integer) }
        if text.hasPrefix("0x"), let integer = Int(text.dropFirst(2), radix: 16) {
            return .integer(integer)
        }
        let isNumeric = text.utf8.allSatisfy { byte in
            isNumberStart(byte) || byte == UInt8(ascii: "e") || byte == UInt8(ascii: "E")
        }
        if isNumeric, let number = Double(text) { return .number(number) }
        return .text(text)
    }

    private static func isNumberStart(_ byte: UInt8) -> Bool {
        (byte >= 48 && byte <= 57) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+")
            || byte == UInt8(ascii: ".")
    }
}
