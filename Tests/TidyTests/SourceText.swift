// One source file, read once: its lines, the same lines without comments and literals (so that a
// rule about code does not stumble over prose), and its string literals.

struct SourceText {
    /// Relative to the repository's root.
    let path: String
    let lines: [String]
    /// As `lines`, with comments, literals and raw identifiers blanked; same columns, in bytes.
    let code: [String]
    let literals: [Literal]

    struct Literal {
        /// From 1.
        let line: Int
        let text: String
    }

    init(path: String, text: String) {
        self.path = path
        lines = Self.split(text)
        var lexer = Lexer(Array(text.utf8))
        lexer.run()
        code = Self.split(String(decoding: lexer.blanked, as: UTF8.self))
        literals = lexer.literals
    }

    /// Without the empty line after the last line end.
    private static func split(_ text: String) -> [String] {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        return lines
    }

    /// The lines (from 1) whose code holds `word` as a whole word.
    func lines(withWord word: String) -> [Int] {
        code.indices.filter { Self.contains(word, in: code[$0]) }.map { $0 + 1 }
    }

    static func contains(_ word: String, in line: String) -> Bool {
        let line = Array(line.utf8)
        let word = Array(word.utf8)
        guard let first = word.first, let last = word.last, line.count >= word.count else {
            return false
        }
        for start in 0...(line.count - word.count) where line[start] == first {
            let end = start + word.count
            guard line[start..<end].elementsEqual(word) else { continue }
            let isOpen = start == 0 || !isName(line[start - 1]) || !isName(first)
            let isClosed = end == line.count || !isName(line[end]) || !isName(last)
            if isOpen && isClosed { return true }
        }
        return false
    }

    static func isName(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
            true
        default: byte >= 0x80
        }
    }
}
