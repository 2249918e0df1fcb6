// The nodes of one document, packed: a byte that says what a node is, its line, and then what is in
// it. Whoever writes calls `put`, `open` and `close` in the order of the text; whoever reads asks
// Value. The bytes are of this process's own making, and are not checked again.

/// - Units: numbers are variable-length, seven bits a byte, low bits first. A field's name is its
///   line, then twice its length and its text, or twice its place in `FieldNames` and one.
struct ValueBytes: Sendable {
    /// What a node is. The state directory has the same figures: they are never given anew.
    enum Tag: UInt8 {
        case null = 0
        case boolean
        case integer
        case number
        case text
        case list
        case fields
    }

    /// What stands before the contents of a node.
    struct Head {
        var tag: Tag
        var line: Int
        /// Of nodes in it, for lists and fields.
        var count = 0
        /// Where its contents begin, and how long they are.
        var payload: Int
        var length = 0
    }

    private var bytes: [UInt8] = []

    /// Without room to grow. (An array made of a whole slice would share its storage.)
    var packed: ValueBytes {
        var copy = ValueBytes()
        copy.bytes.reserveCapacity(bytes.count)
        copy.bytes.append(contentsOf: bytes)
        return copy
    }

    // MARK: Writing

    /// A node without others in it.
    mutating func put(_ content: Value.Content, line: Int) {
        switch content {
        case .null: put(.null, line)
        case .boolean(let flag):
            put(.boolean, line)
            bytes.append(flag ? 1 : 0)
        case .integer(let integer):
            put(.integer, line)
            put(word: UInt64(bitPattern: Int64(integer)))
        case .number(let number):
            put(.number, line)
            put(word: number.bitPattern)
        case .text(let text):
            put(.text, line)
            put(text)
        case .list, .fields: preconditionFailure("lists and fields are opened and closed")
        }
    }

    /// Begins a list or fields; `close` gets the answer.
    func open() -> Int { bytes.count }

    /// Ends it: everything written since `open` is in it.
    mutating func close(_ tag: Tag, _ place: Int, line: Int, count: Int) {
        var head = ValueBytes()
        head.put(tag, line)
        head.put(number: UInt64(bytes.count - place))
        head.put(number: UInt64(count))
        bytes.insert(contentsOf: head.bytes, at: place)
    }

    /// The name of the field whose node is written next.
    mutating func put(name: String, line: Int) {
        put(number: UInt64(line))
        if let place = FieldNames.place(of: name) {
            put(number: UInt64(place) << 1 | 1)
        } else {
            put(number: UInt64(name.utf8.count) << 1)
            bytes.append(contentsOf: name.utf8)
        }
    }

    private mutating func put(_ tag: Tag, _ line: Int) {
        bytes.append(tag.rawValue)
        put(number: UInt64(max(0, line)))
    }

    private mutating func put(_ text: String) {
        put(number: UInt64(text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }

    private mutating func put(word: UInt64) {
        for index in 0..<UInt64(8) { bytes.append(UInt8(truncatingIfNeeded: word >> (8 * index))) }
    }

    private mutating func put(number: UInt64) {
        var rest = number
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    // MARK: Reading

    func head(at place: Int) -> Head {
        guard let tag = Tag(rawValue: bytes[place]) else {
            preconditionFailure("no node begins here")
        }
        var next = place + 1
        var head = Head(tag: tag, line: number(&next), payload: 0)
        switch tag {
        case .null: break
        case .boolean: head.length = 1
        case .integer, .number: head.length = 8
        case .text: head.length = number(&next)
        case .list, .fields:
            head.length = number(&next)
            head.count = number(&next)
        }
        head.payload = next
        return head
    }

    /// Where the node after this one begins.
    func end(of head: Head) -> Int { head.payload + head.length }

    func boolean(_ head: Head) -> Bool { bytes[head.payload] == 1 }

    func word(_ head: Head) -> UInt64 {
        (0..<8).reduce(0) { $0 | UInt64(bytes[head.payload + $1]) << UInt64(8 * $1) }
    }

    func text(_ head: Head) -> String { text(head.payload..<end(of: head)) }

    func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }

    /// What a field is called: by `FieldNames`, or by a text here.
    enum Name {
        case known(Int)
        case text(Range<Int>)
    }

    /// A field's name, and where its node begins.
    func name(at place: Int) -> (line: Int, name: Name, node: Int) {
        var next = place
        let line = number(&next)
        let word = number(&next)
        if word & 1 == 1 { return (line, .known(word >> 1), next) }
        let end = next + word >> 1
        return (line, .text(next..<end), end)
    }

    func text(_ name: Name) -> String {
        switch name {
        case .known(let place): FieldNames.all[place]
        case .text(let range): text(range)
        }
    }

    /// Where the node of the field begins.
    func field(_ name: String, of head: Head) -> Int? {
        guard head.tag == .fields else { return nil }
        let known = FieldNames.place(of: name)
        var next = head.payload
        for _ in 0..<head.count {
            let found = self.name(at: next)
            switch found.name {
            case .known(let place):
                if place == known { return found.node }
            case .text(let range):
                if known == nil, range.count == name.utf8.count,
                    bytes[range].elementsEqual(name.utf8)
                {
                    return found.node
                }
            }
            next = end(of: self.head(at: found.node))
        }
        return nil
    }

    private func number(_ next: inout Int) -> Int {
        var number = 0
        var shift = 0
        while true {
            let byte = bytes[next]
            next += 1
            number |= Int(byte & 0x7f) << shift
            if byte < 0x80 { return number }
            shift += 7
        }
    }
}
