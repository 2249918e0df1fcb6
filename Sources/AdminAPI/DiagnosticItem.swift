// What `malla config validate` prints and the agent says of its directory.

/// One finding about an object or file. Source: `GET /v1/config/diagnostics`, kind
/// `DiagnosticList`.
public struct DiagnosticItem: Codable, Sendable, Equatable {
    /// `error` (refused), `warning` (something asked for does not happen) or `info`.
    public var severity: String
    /// `invalid`, `unsupported`, `unknown`, `reference`, `duplicate`, `unreadable`, `ignored`.
    public var category: String
    public var file: String
    /// From 1; 0 where it is not known.
    public var line: Int
    /// `HTTPRoute shop/catalog`; empty for a whole file.
    public var object: String
    /// `spec.rules[0].backendRefs[1].port`; empty for the object.
    public var field: String
    /// The status condition that says so, `Accepted: UnsupportedValue`.
    public var condition: String
    public var message: String

    public init(
        severity: String, category: String, file: String, line: Int = 0, object: String = "",
        field: String = "", condition: String = "", message: String
    ) {
        self.severity = severity
        self.category = category
        self.file = file
        self.line = line
        self.object = object
        self.field = field
        self.condition = condition
        self.message = message
    }
}
