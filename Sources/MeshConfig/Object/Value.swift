// One YAML node with the line it stands on. Reading is lenient (a missing or mistyped field is
// `nil`), because a Shape has checked the object before anything is read from it.
//
// Nodes are kept packed, as ValueBytes writes them: a mesh of ten thousand services has millions,
// and as values of their own they would be ten times as long. A node is read where it is asked for.

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

    /// Of the whole document; shared by all its nodes.
    private let bytes: ValueBytes
    private let place: Int

    init(_ bytes: ValueBytes, at place: Int = 0) {
        self.bytes = bytes
        self.place = place
    }

    /// From 1.
    var line: Int { bytes.head(at: place).line }

    /// The node, and those in it one level deep.
    var content: Content {
        let head = bytes.head(at: place)
        switch head.tag {
        case .null: return .null
        case .boolean: return .boolean(bytes.boolean(head))
        case .integer: return .integer(Int(Int64(bitPattern: bytes.word(head))))
        case .number: return .number(Double(bitPattern: bytes.word(head)))
        case .text: return .text(bytes.text(head))
        case .list: return .list(list)
        case .fields: return .fields(fields)
        }
    }

    /// The field of that name; `nil` too where it is null, as Kubernetes reads it.
    subscript(name: String) -> Value? {
        guard let place = bytes.field(name, of: bytes.head(at: place)),
            bytes.head(at: place).tag != .null
        else { return nil }
        return Value(bytes, at: place)
    }

    var text: String? {
        let head = bytes.head(at: place)
        return head.tag == .text ? bytes.text(head) : nil
    }

    // Swift 6.3.1 fails to optimise this inlined ("Found ownership error" in CopyPropagation).
    @inline(never) var integer: Int? {
        let head = bytes.head(at: place)
        return head.tag == .integer ? Int(Int64(bitPattern: bytes.word(head))) : nil
    }

    // Swift 6.3.1 fails to optimise this inlined ("Found ownership error" in CopyPropagation).
    @inline(never) var boolean: Bool? {
        let head = bytes.head(at: place)
        return head.tag == .boolean ? bytes.boolean(head) : nil
    }

    var list: [Value] {
        let head = bytes.head(at: place)
        guard head.tag == .list else { return [] }
        var list: [Value] = []
        list.reserveCapacity(head.count)
        var next = head.payload
        for _ in 0..<head.count {
            list.append(Value(bytes, at: next))
            next = bytes.end(of: bytes.head(at: next))
        }
        return list
    }

    var fields: [Field] {
        let head = bytes.head(at: place)
        guard head.tag == .fields else { return [] }
        var fields: [Field] = []
        fields.reserveCapacity(head.count)
        var next = head.payload
        for _ in 0..<head.count {
            let name = bytes.name(at: next)
            fields.append(
                Field(
                    name: bytes.text(name.name), line: name.line,
                    value: Value(bytes, at: name.node)))
            next = bytes.end(of: bytes.head(at: name.node))
        }
        return fields
    }

    /// Nodes in a list, or fields.
    var count: Int { bytes.head(at: place).count }

    var isNull: Bool { bytes.head(at: place).tag == .null }

    /// A map of texts such as labels; values that are no texts are left out.
    var texts: [String: String] {
        var texts: [String: String] = [:]
        for field in fields {
            if let text = field.value.text { texts[field.name] = text }
        }
        return texts
    }

    /// Whether both say the same, on whatever lines.
    func says(_ other: Value) -> Bool {
        switch (content, other.content) {
        case (.null, .null): true
        case (.boolean(let left), .boolean(let right)): left == right
        case (.integer(let left), .integer(let right)): left == right
        case (.number(let left), .number(let right)): left == right
        case (.text(let left), .text(let right)): left == right
        case (.list(let left), .list(let right)):
            left.count == right.count && zip(left, right).allSatisfy { $0.says($1) }
        case (.fields(let left), .fields(let right)):
            left.count == right.count
                && zip(left, right).allSatisfy { $0.name == $1.name && $0.value.says($1.value) }
        default: false
        }
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
    init(_ node: Yams.Node, line: Int, budget: inout Int) throws(ParseFailure) {
        var bytes = ValueBytes()
        try Self.put(node, line: line, &budget, into: &bytes)
        self.init(bytes.packed)
    }

    private static func put(
        _ node: Yams.Node, line outer: Int, _ budget: inout Int, into bytes: inout ValueBytes
    ) throws(ParseFailure) {
        let line = node.mark?.line ?? outer
        budget -= 1
        guard budget >= 0 else {
            throw ParseFailure(line: line, problem: "more than \(Limit.nodesMax) nodes in one file")
        }
        switch node {
        case .scalar(let scalar):
            bytes.put(content(of: scalar), line: line)
        case .sequence(let sequence):
            let place = bytes.open()
            for child in sequence { try put(child, line: line, &budget, into: &bytes) }
            bytes.close(.list, place, line: line, count: sequence.count)
        case .mapping(let mapping):
            let place = bytes.open()
            for (key, child) in mapping {
                let keyLine = key.mark?.line ?? line
                guard case .scalar(let name) = key else {
                    throw ParseFailure(line: keyLine, problem: "a key that is no scalar")
                }
                bytes.put(name: name.string, line: keyLine)
                try put(child, line: keyLine, &budget, into: &bytes)
            }
            bytes.close(.fields, place, line: line, count: mapping.count)
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
