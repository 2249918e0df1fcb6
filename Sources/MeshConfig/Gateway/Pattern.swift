// Whether a regular expression can be compiled, and if not, why: MeshModel's compiler decides.

internal import MeshModel

enum Pattern {
    static let bytesMax = 1024

    /// What is wrong with the expression; `nil` if nothing is.
    static func problem(with text: String) -> String? {
        guard text.utf8.count <= bytesMax else {
            return "is longer than \(bytesMax) bytes: shorten the expression"
        }
        return RouteTable.problem(regularExpression: text).map {
            "'\(text)' is no regular expression that this build takes (RE2's syntax): at character "
                + "\($0.offset + 1), \($0.description)"
        }
    }
}
