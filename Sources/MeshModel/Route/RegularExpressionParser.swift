/// Text -> nodes, by RE2's grammar. Expressions are short (`Pattern.bytesMax`), and so is the
/// recursion, which `depthMax` bounds.
struct RegularExpressionParser {
    static let depthMax = 100
    /// RE2's.
    static let repeatsMax = 1000

    private let text: [UInt8]
    private var at = 0
    private var depth = 0
    private(set) var foldsCase = false

    init(_ text: String) { self.text = Array(text.utf8) }

    mutating func parse() throws(RegularExpressionError) -> RegularExpressionNode {
        if text.starts(with: Array("(?i)".utf8)) {
            foldsCase = true
            at = 4
        }
        let node = try choice()
        guard at == text.count else { throw error("a ')' that no '(' opened") }
        try checkAnchors(node, isFirst: true, isLast: true)
        return node
    }

    private func error(_ what: String) -> RegularExpressionError {
        RegularExpressionError(description: what, offset: at)
    }

    private var peek: UInt8? { at < text.count ? text[at] : nil }

    private static let lookingAround = "expressions that look around are not part of RE2"

    private func startsHere(_ word: String) -> Bool { text[at...].starts(with: word.utf8) }

    private mutating func skip(_ word: StaticString) -> Bool {
        let bytes = word.description.utf8
        guard text[at...].starts(with: bytes) else { return false }
        at += bytes.count
        return true
    }

    private mutating func choice() throws(RegularExpressionError) -> RegularExpressionNode {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.depthMax else {
            throw error("groups nested deeper than \(Self.depthMax)")
        }
        var branches = [try sequence()]
        while skip("|") { branches.append(try sequence()) }
        return branches.count == 1 ? branches[0] : .choice(branches)
    }

    private mutating func sequence() throws(RegularExpressionError) -> RegularExpressionNode {
        var nodes: [RegularExpressionNode] = []
        while let byte = peek, byte != UInt8(ascii: "|"), byte != UInt8(ascii: ")") {
            nodes.append(try repeated(try atom()))
        }
        return nodes.count == 1 ? nodes[0] : .sequence(nodes)
    }

    // MARK: Repeats

    private mutating func repeated(
        _ node: RegularExpressionNode
    ) throws(RegularExpressionError) -> RegularExpressionNode {
        guard let (least, most) = try counts() else { return node }
        switch node {
        case .begin, .end: throw error("a repeat of '^' or '$'")
        default: break
        }
        // Lazy or not is the same where only the whole text may match.
        _ = skip("?")
        let start = at
        if try counts() != nil {
            at = start
            throw error("a repeat of a repeat: put the first into a group")
        }
        return .repeated(node, least: least, most: most)
    }

    private mutating func counts() throws(RegularExpressionError) -> (Int, Int?)? {
        if skip("*") { return (0, nil) }
        if skip("+") { return (1, nil) }
        if skip("?") { return (0, 1) }
        guard peek == UInt8(ascii: "{") else { return nil }
        let start = at
        at += 1
        // As RE2: what is no repeat is a brace.
        guard let least = number() else {
            at = start
            return nil
        }
        var most: Int? = least
        if skip(",") { most = number() }
        guard skip("}") else {
            at = start
            return nil
        }
        guard max(least, most ?? 0) <= Self.repeatsMax, least <= most ?? .max else {
            at = start
            throw error("a repeat must count up, and to \(Self.repeatsMax) at most")
        }
        return (least, most)
    }

    private mutating func number() -> Int? {
        var value: Int?
        while let byte = peek, (0x30...0x39).contains(byte), value ?? 0 < 1_000_000 {
            value = (value ?? 0) * 10 + Int(byte - 0x30)
            at += 1
        }
        return value
    }

    // MARK: Atoms

    private mutating func atom() throws(RegularExpressionError) -> RegularExpressionNode {
        guard let byte = peek else { return .nothing }
        let start = at
        at += 1
        switch byte {
        case UInt8(ascii: "("): return try group()
        case UInt8(ascii: "["): return .one(try bracket())
        case UInt8(ascii: "."): return .one(ByteSet([0x0a]).inverted)
        case UInt8(ascii: "^"): return .begin(offset: start)
        case UInt8(ascii: "$"): return .end(offset: start)
        case UInt8(ascii: "\\"): return try escape()
        case UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"):
            at = start
            throw error("a repeat of nothing")
        default: return character(byte)
        }
    }

    /// One character, which may be several bytes that a repeat repeats together.
    private mutating func character(_ byte: UInt8) -> RegularExpressionNode {
        var nodes = [RegularExpressionNode.one(ByteSet([byte]))]
        if byte >= 0xc0 {
            while let next = peek, (0x80...0xbf).contains(next) {
                nodes.append(.one(ByteSet([next])))
                at += 1
            }
        }
        return nodes.count == 1 ? nodes[0] : .sequence(nodes)
    }

    private mutating func group() throws(RegularExpressionError) -> RegularExpressionNode {
        if peek == UInt8(ascii: "?") {
            let isAround = ["?=", "?!", "?<=", "?<!"].contains { startsHere($0) }
            if skip("?P<") || skip("?<") {
                guard !isAround else { throw error(Self.lookingAround) }
                guard let end = text[at...].firstIndex(of: UInt8(ascii: ">")), end > at,
                    text[at..<end].allSatisfy({ Self.word.contains($0) })
                else { throw error("a group's name is missing, or is none") }
                at = end + 1
            } else if isAround {
                throw error(Self.lookingAround)
            } else if !skip("?:") {
                throw error("'(?' with a flag or a condition: only (?: and (?P<name> may be")
            }
        }
        let node = try choice()
        guard skip(")") else { throw error("a '(' that no ')' closes") }
        return node
    }

    private mutating func escape() throws(RegularExpressionError) -> RegularExpressionNode {
        guard let byte = peek else { throw error("a '\\' at the end") }
        at += 1
        if let set = Self.perl(byte) { return .one(set) }
        switch byte {
        case UInt8(ascii: "A"): return .begin(offset: at - 2)
        case UInt8(ascii: "z"): return .end(offset: at - 2)
        default: return character(try literal(byte))
        }
    }

    private mutating func literal(_ byte: UInt8) throws(RegularExpressionError) -> UInt8 {
        switch byte {
        case UInt8(ascii: "a"): return 7
        case UInt8(ascii: "f"): return 12
        case UInt8(ascii: "n"): return 10
        case UInt8(ascii: "r"): return 13
        case UInt8(ascii: "t"): return 9
        case UInt8(ascii: "v"): return 11
        case UInt8(ascii: "x"):
            guard at + 2 <= text.count,
                let value = UInt8(String(decoding: text[at..<at + 2], as: UTF8.self), radix: 16)
            else { throw error("'\\x' without two hexadecimal digits") }
            at += 2
            return value
        default:
            guard !Self.word.contains(byte) || byte == UInt8(ascii: "_"), byte < 0x80 else {
                at -= 2
                let shown = byte < 0x80 ? String(Unicode.Scalar(byte)) : "…"
                if (0x31...0x39).contains(byte) || byte == UInt8(ascii: "k") {
                    throw error("'\\\(shown)' is a back-reference: not part of RE2")
                }
                throw error("'\\\(shown)' is not known here")
            }
            return byte
        }
    }

    // MARK: Classes

    private static let digits = ByteSet(0x30...0x39)
    private static let word = ByteSet(
        Array(0x30...0x39) + Array(0x41...0x5a) + Array(0x61...0x7a) + [0x5f])
    private static let space = ByteSet([9, 10, 12, 13, 32])

    private static func perl(_ byte: UInt8) -> ByteSet? {
        switch byte {
        case UInt8(ascii: "d"): digits
        case UInt8(ascii: "D"): digits.inverted
        case UInt8(ascii: "w"): word
        case UInt8(ascii: "W"): word.inverted
        case UInt8(ascii: "s"): space
        case UInt8(ascii: "S"): space.inverted
        default: nil
        }
    }

    private static func named(_ name: String) -> ByteSet? {
        switch name {
        case "alnum": ByteSet((0...127).filter { word.contains($0) && $0 != 0x5f })
        case "alpha": ByteSet(Array(0x41...0x5a) + Array(0x61...0x7a))
        case "ascii": ByteSet(0...127)
        case "blank": ByteSet([9, 32])
        case "cntrl": ByteSet(Array(0...31) + [127])
        case "digit": digits
        case "graph": ByteSet(0x21...0x7e)
        case "lower": ByteSet(0x61...0x7a)
        case "print": ByteSet(0x20...0x7e)
        case "punct": ByteSet((0x21...0x7e).filter { !word.contains($0) || $0 == 0x5f })
        case "space": ByteSet([9, 10, 11, 12, 13, 32])
        case "upper": ByteSet(0x41...0x5a)
        case "word": word
        case "xdigit": ByteSet(Array(0x30...0x39) + Array(0x41...0x46) + Array(0x61...0x66))
        default: nil
        }
    }

    private mutating func bracket() throws(RegularExpressionError) -> ByteSet {
        var set = ByteSet()
        let isInverted = skip("^")
        var isFirst = true
        while true {
            guard let byte = peek else { throw error("a '[' that no ']' closes") }
            if byte == UInt8(ascii: "]"), !isFirst {
                at += 1
                return isInverted ? set.inverted : set
            }
            isFirst = false
            if skip("[:") {
                set.formUnion(try namedClass())
                continue
            }
            if byte == UInt8(ascii: "\\"), at + 1 < text.count, let perl = Self.perl(text[at + 1]) {
                at += 2
                set.formUnion(perl)
                continue
            }
            let low = try bracketByte()
            guard peek == UInt8(ascii: "-"), at + 1 < text.count,
                text[at + 1] != UInt8(ascii: "]")
            else {
                set.insert(low)
                continue
            }
            at += 1
            let high = try bracketByte()
            guard low <= high else { throw error("a range that counts down") }
            for byte in low...high { set.insert(byte) }
        }
    }

    private mutating func namedClass() throws(RegularExpressionError) -> ByteSet {
        let isInverted = skip("^")
        let start = at
        while let byte = peek, byte != UInt8(ascii: ":") { at += 1 }
        let name = String(decoding: text[start..<at], as: UTF8.self)
        guard skip(":]"), let set = Self.named(name) else {
            at = start
            throw error("no class is called '[:\(name):]'")
        }
        return isInverted ? set.inverted : set
    }

    private mutating func bracketByte() throws(RegularExpressionError) -> UInt8 {
        guard let byte = peek else { throw error("a '[' that no ']' closes") }
        guard byte < 0x80 else { throw error("a class of other characters than ASCII's") }
        at += 1
        guard byte == UInt8(ascii: "\\") else { return byte }
        guard let escaped = peek else { throw error("a '\\' at the end") }
        at += 1
        return try literal(escaped)
    }

    // MARK: Anchors

    /// `^` and `$` say what holds anyway, at an end; anywhere else nothing could ever match.
    private func checkAnchors(
        _ node: RegularExpressionNode, isFirst: Bool, isLast: Bool
    ) throws(RegularExpressionError) {
        switch node {
        case .nothing, .one: break
        case .begin(let offset):
            guard isFirst else {
                throw RegularExpressionError(
                    description: "'^' behind something matches nothing", offset: offset)
            }
        case .end(let offset):
            guard isLast else {
                throw RegularExpressionError(
                    description: "'$' before something matches nothing", offset: offset)
            }
        case .choice(let nodes):
            for node in nodes { try checkAnchors(node, isFirst: isFirst, isLast: isLast) }
        case .repeated(let node, _, let most):
            let isOnce = most == 1
            try checkAnchors(node, isFirst: isFirst && isOnce, isLast: isLast && isOnce)
        case .sequence(let nodes):
            for (index, node) in nodes.enumerated() {
                try checkAnchors(
                    node, isFirst: isFirst && nodes[..<index].allSatisfy(Self.isAnchor),
                    isLast: isLast && nodes[(index + 1)...].allSatisfy(Self.isAnchor))
            }
        }
    }

    private static func isAnchor(_ node: RegularExpressionNode) -> Bool {
        switch node {
        case .nothing, .begin, .end: true
        default: false
        }
    }
}
