// Whether a regular expression can be compiled, and if not, why: MeshModel's compiler decides; what
// people try most (looking back or around) gets a message of its own.

internal import MeshModel

enum Pattern {
    static let bytesMax = 1024

    /// What is wrong with the expression; `nil` if nothing is.
    static func problem(with text: String) -> String? {
        guard text.utf8.count <= bytesMax else {
            return "is longer than \(bytesMax) bytes: shorten the expression"
        }
        for part in ["(?=", "(?!", "(?<=", "(?<!", "(?>", "(?("] where text.contains(part) {
            return "'\(part)' is not part of RE2: expressions that look around are refused"
        }
        if let reference = backReference(text) {
            return "'\\\(reference)' is not part of RE2: back-references are refused"
        }
        return RouteTable.problem(regularExpression: text).map {
            "'\(text)' is no regular expression that this build takes (RE2's syntax): at character "
                + "\($0.offset + 1), \($0.description)"
        }
    }

    private static func backReference(_ text: String) -> Character? {
        var isEscaped = false
        for character in text {
            if isEscaped, let digit = character.wholeNumberValue, digit > 0 { return character }
            if isEscaped, character == "k" { return character }
            isEscaped = !isEscaped && character == "\\"
        }
        return nil
    }
}
