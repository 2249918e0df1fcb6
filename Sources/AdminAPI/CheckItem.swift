// What `malla check` prints: one examined thing a line.

/// One check. Made by the CLI, kind `CheckList`.
public struct CheckItem: Codable, Sendable, Equatable {
    public var name: String
    /// `OK`, `WARN` or `FAIL`.
    public var status: String
    /// What was found.
    public var message: String
    /// What to do about it; empty when OK.
    public var remedy: String

    public init(name: String, status: String, message: String, remedy: String = "") {
        self.name = name
        self.status = status
        self.message = message
        self.remedy = remedy
    }
}
