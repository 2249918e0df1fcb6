// Finds the functions of a Swift file and how long each is, by matching braces in its code.

struct FunctionLength {
    let name: String
    /// From 1: where the declaration begins.
    let line: Int
    /// From the declaration to its closing brace.
    let lines: Int
}

extension SourceText {
    var functions: [FunctionLength] {
        var found: [FunctionLength] = []
        let tokens = self.tokens
        for (index, token) in tokens.enumerated() where Self.declares(token.text) {
            if index > 0, tokens[index - 1].text == "." { continue }
            guard let open = Self.body(after: index, in: tokens) else { continue }
            guard let close = Self.matching(open, in: tokens) else { continue }
            let name = token.text == "func" ? tokens[index + 1].text : token.text
            found.append(
                FunctionLength(
                    name: name, line: token.line, lines: tokens[close].line - token.line + 1))
        }
        return found
    }

    private struct Token {
        let text: String
        let line: Int
    }

    private static func declares(_ word: String) -> Bool {
        word == "func" || word == "init" || word == "deinit"
    }

    /// Words, and each other visible byte by itself.
    private var tokens: [Token] {
        var tokens: [Token] = []
        for (index, line) in code.enumerated() {
            var word: [UInt8] = []
            for byte in Array(line.utf8) + [UInt8(ascii: " ")] {
                if Self.isName(byte) {
                    word.append(byte)
                    continue
                }
                if !word.isEmpty {
                    tokens.append(
                        Token(text: String(decoding: word, as: UTF8.self), line: index + 1))
                    word = []
                }
                if byte > UInt8(ascii: " ") {
                    tokens.append(
                        Token(text: String(decoding: [byte], as: UTF8.self), line: index + 1))
                }
            }
        }
        return tokens
    }

    /// Where the body opens; `nil` for a requirement of a protocol, which has none.
    private static func body(after declaration: Int, in tokens: [Token]) -> Int? {
        var depth = 0
        for index in (declaration + 1)..<tokens.count {
            switch tokens[index].text {
            case "(", "[": depth += 1
            case ")", "]": depth -= 1
            case "{" where depth == 0: return index
            case "}" where depth == 0: return nil
            case "func", "var", "let", "case", "static", "associatedtype":
                if depth == 0 { return nil }
            default: break
            }
        }
        return nil
    }

    private static func matching(_ open: Int, in tokens: [Token]) -> Int? {
        var depth = 0
        for index in open..<tokens.count {
            if tokens[index].text == "{" { depth += 1 }
            if tokens[index].text == "}" { depth -= 1 }
            if depth == 0 { return index }
        }
        return nil
    }
}
