// Just enough of Swift's (and C's) lexical grammar to tell code from comments, strings and raw
// identifiers. Interpolations count as part of their string.

struct Lexer {
    private let bytes: [UInt8]
    private var at = 0
    private var line = 1
    private(set) var blanked: [UInt8] = []
    private(set) var literals: [SourceText.Literal] = []

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        blanked.reserveCapacity(bytes.count)
    }

    mutating func run() {
        while at < bytes.count {
            if starts("//") {
                while at < bytes.count, bytes[at] != newline { blank() }
            } else if starts("/*") {
                blockComment()
            } else if starts("#\"") || starts("##\"") {
                string(hashes: starts("##\"") ? 2 : 1)
            } else if starts("\"") {
                string(hashes: 0)
            } else if starts("'\\''") || starts("'\"'") || starts("'{'") || starts("'}'") {
                blank(starts("'\\''") ? 4 : 3)
            } else if starts("`") {
                blank()
                while at < bytes.count, bytes[at] != newline, !starts("`") { blank() }
                blank()
            } else {
                keep()
            }
        }
    }

    private var newline: UInt8 { UInt8(ascii: "\n") }

    private func starts(_ text: StaticString) -> Bool {
        let text = text.description.utf8
        return at + text.count <= bytes.count && bytes[at..<at + text.count].elementsEqual(text)
    }

    private mutating func keep() {
        if bytes[at] == newline { line += 1 }
        blanked.append(bytes[at])
        at += 1
    }

    private mutating func blank(_ count: Int = 1) {
        for _ in 0..<count where at < bytes.count {
            if bytes[at] == newline {
                keep()
            } else {
                blanked.append(UInt8(ascii: " "))
                at += 1
            }
        }
    }

    private mutating func blockComment() {
        var depth = 0
        repeat {
            if starts("/*") {
                depth += 1
                blank(2)
            } else if starts("*/") {
                depth -= 1
                blank(2)
            } else {
                blank()
            }
        } while depth > 0 && at < bytes.count
    }

    private mutating func string(hashes: Int) {
        let first = line
        blank(hashes)
        let isLong = starts("\"\"\"")
        blank(isLong ? 3 : 1)
        let start = at
        var end = at
        while at < bytes.count {
            end = at
            if closes(isLong: isLong, hashes: hashes) {
                blank((isLong ? 3 : 1) + hashes)
                break
            }
            if !isLong && bytes[at] == newline { break }
            if bytes[at] == UInt8(ascii: "\\") && hashes == 0 {
                blank()
                if at < bytes.count, bytes[at] == UInt8(ascii: "(") {
                    interpolation()
                } else {
                    blank()
                }
            } else {
                blank()
            }
        }
        let text = String(decoding: bytes[start..<end], as: UTF8.self)
        literals.append(SourceText.Literal(line: first, text: text))
    }

    private func closes(isLong: Bool, hashes: Int) -> Bool {
        let quotes = isLong ? 3 : 1
        guard at + quotes + hashes <= bytes.count else { return false }
        let tail = bytes[at..<at + quotes + hashes]
        return tail.prefix(quotes).allSatisfy { $0 == UInt8(ascii: "\"") }
            && tail.dropFirst(quotes).allSatisfy { $0 == UInt8(ascii: "#") }
    }

    private mutating func interpolation() {
        var depth = 0
        repeat {
            if starts("\"") {
                string(hashes: 0)
                continue
            }
            if starts("(") { depth += 1 }
            if starts(")") { depth -= 1 }
            blank()
        } while depth > 0 && at < bytes.count
    }
}
