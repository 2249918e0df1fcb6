// One file of the state directory as bytes: a magic word, a checksum of the rest, then the
// configuration directory, the file's path below it, and its objects with the lines they stand on.
// Whatever else is read is refused, never followed.

internal import MeshModel

/// Why a file of the state directory is not used.
struct LastGoodFailure: Error, Equatable {
    let problem: String
}

/// Writes the format.
///
/// - Units: numbers are variable-length, seven bits a byte, low bits first; texts and lists begin
///   with their count.
struct LastGoodBytes {
    /// The last figure is the format's version.
    static let magic = Array("MALLAGC1".utf8)
    static let headerBytes = 16
    /// An object nested deeper is not kept: nothing that a mesh honours is.
    static let depthMax = 64

    private(set) var bytes: [UInt8] = []

    /// - Returns: the whole file; objects nested too deeply are left out.
    static func encode(_ objects: [ConfigObject], file: String, of directory: String) -> [UInt8] {
        var body = LastGoodBytes()
        body.put(directory)
        body.put(file)
        let kept = objects.filter { Self.depth($0.root) <= depthMax }
        body.put(UInt64(kept.count))
        for object in kept {
            body.put(object.group)
            body.put(object.version)
            body.put(object.kind)
            body.put(object.name.namespace)
            body.put(object.name.name)
            body.put(object.file)
            body.put(UInt64(object.line))
            body.put(object.root)
        }
        return magic + header(checksum(body.bytes[...])) + body.bytes
    }

    /// FNV-1a of 64 bits: it tells a damaged file from a whole one, nothing more.
    static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
    }

    private static func header(_ word: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(8 * $0)) }
    }

    private static func depth(_ value: Value) -> Int {
        switch value.content {
        case .list(let list): 1 + (list.map(depth).max() ?? 0)
        case .fields(let fields): 1 + (fields.map { depth($0.value) }.max() ?? 0)
        default: 1
        }
    }

    private mutating func put(_ number: UInt64) {
        var rest = number
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    private mutating func put(_ text: String) {
        put(UInt64(text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }

    private mutating func put(_ value: Value) {
        bytes.append(value.content.tag.rawValue)
        put(UInt64(value.line))
        switch value.content {
        case .null: break
        case .boolean(let flag): bytes.append(flag ? 1 : 0)
        case .integer(let integer): put(UInt64(bitPattern: Int64(integer)))
        case .number(let number): put(number.bitPattern)
        case .text(let text): put(text)
        case .list(let list):
            put(UInt64(list.count))
            for item in list { put(item) }
        case .fields(let fields):
            put(UInt64(fields.count))
            for field in fields {
                put(field.name)
                put(UInt64(field.line))
                put(field.value)
            }
        }
    }
}

/// Reads the format. Every count is checked against the bytes that are left.
struct LastGoodReader {
    private var rest: ArraySlice<UInt8>

    struct Contents {
        var directory: String
        var file: String
        var objects: [ConfigObject]
    }

    /// - Throws: `LastGoodFailure` when the bytes are not a whole file of this format.
    static func decode(_ bytes: [UInt8]) throws(LastGoodFailure) -> Contents {
        guard bytes.starts(with: LastGoodBytes.magic) else {
            throw LastGoodFailure(problem: "is not in this version's format")
        }
        guard bytes.count >= LastGoodBytes.headerBytes else {
            throw LastGoodFailure(problem: "is cut off")
        }
        let body = bytes[LastGoodBytes.headerBytes...]
        let sum = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[8 + $1]) << UInt64(8 * $1) }
        guard LastGoodBytes.checksum(body) == sum else {
            throw LastGoodFailure(problem: "is damaged: its checksum does not fit")
        }
        var reader = LastGoodReader(rest: body)
        let directory = try reader.text()
        let file = try reader.text()
        var objects: [ConfigObject] = []
        for _ in 0..<(try reader.count()) { objects.append(try reader.object()) }
        return Contents(directory: directory, file: file, objects: objects)
    }

    private mutating func object() throws(LastGoodFailure) -> ConfigObject {
        let group = try text()
        let version = try text()
        let kind = try text()
        let namespace = try text()
        let name = try text()
        let file = try text()
        let line = Int(truncatingIfNeeded: try number())
        return ConfigObject(
            group: group, version: version, kind: kind, name: ObjectName(namespace, name),
            file: file, line: line, root: try root())
    }

    private mutating func root() throws(LastGoodFailure) -> Value {
        var bytes = ValueBytes()
        try value(depth: 1, into: &bytes)
        return Value(bytes.packed)
    }

    private mutating func value(
        depth: Int, into bytes: inout ValueBytes
    ) throws(LastGoodFailure) {
        guard depth <= LastGoodBytes.depthMax, let byte = rest.popFirst(),
            let tag = ValueBytes.Tag(rawValue: byte)
        else { throw LastGoodFailure(problem: "holds a value that is none") }
        let line = try lineNumber()
        switch tag {
        case .null: bytes.put(.null, line: line)
        case .boolean: bytes.put(.boolean(rest.popFirst() == 1), line: line)
        case .integer:
            bytes.put(.integer(Int(Int64(bitPattern: try number()))), line: line)
        case .number: bytes.put(.number(Double(bitPattern: try number())), line: line)
        case .text: bytes.put(.text(try text()), line: line)
        case .list:
            let count = try count()
            let place = bytes.open()
            for _ in 0..<count { try value(depth: depth + 1, into: &bytes) }
            bytes.close(tag, place, line: line, count: count)
        case .fields:
            let count = try count()
            let place = bytes.open()
            for _ in 0..<count {
                let name = try text()
                bytes.put(name: name, line: try lineNumber())
                try value(depth: depth + 1, into: &bytes)
            }
            bytes.close(tag, place, line: line, count: count)
        }
    }

    private mutating func lineNumber() throws(LastGoodFailure) -> Int {
        Int(clamping: try number())
    }

    private mutating func number() throws(LastGoodFailure) -> UInt64 {
        var number: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            guard let byte = rest.popFirst() else { break }
            number |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return number }
        }
        throw LastGoodFailure(problem: "holds a number that is none")
    }

    /// A count of things of at least one byte each.
    private mutating func count() throws(LastGoodFailure) -> Int {
        let number = try number()
        guard number <= UInt64(rest.count) else {
            throw LastGoodFailure(problem: "counts more than it holds")
        }
        return Int(number)
    }

    private mutating func text() throws(LastGoodFailure) -> String {
        let count = try count()
        defer { rest = rest.dropFirst(count) }
        guard let text = String(validating: rest.prefix(count), as: UTF8.self) else {
            throw LastGoodFailure(problem: "holds text that is no UTF-8")
        }
        return text
    }
}

extension Value.Content {
    fileprivate var tag: ValueBytes.Tag {
        switch self {
        case .null: .null
        case .boolean: .boolean
        case .integer: .integer
        case .number: .number
        case .text: .text
        case .list: .list
        case .fields: .fields
        }
    }
}
