// Whether a regular expression can be compiled: RE2's language, so nothing that looks back or
// around (those cannot be matched in time linear in the text).

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
        do {
            _ = try Regex(text)
            return nil
        } catch {
            return "'\(text)' is no regular expression (RE2): \(error)"
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
