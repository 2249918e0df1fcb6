/// One thing that the configuration gets told: where, which object, which field, and what to do.
public struct Diagnostic: Hashable, Sendable, Codable {
    public enum Severity: String, Hashable, Sendable, Codable, Comparable {
        /// The object (or file) is refused; the last good version, if any, stays in force.
        case error
        /// Something asked for does not happen; the rest of the object does.
        case warning
        /// Worth knowing; nothing is wrong.
        case info

        private var rank: Int { self == .error ? 0 : self == .warning ? 1 : 2 }
        public static func < (left: Severity, right: Severity) -> Bool { left.rank < right.rank }
    }

    /// What kind of trouble it is.
    public enum Category: String, Hashable, Sendable, Codable {
        /// Breaks a rule of its schema.
        case invalid
        /// A known field or kind that this build does not honour.
        case unsupported
        /// No such field or kind.
        case unknown
        /// Refers to something that is missing or not permitted.
        case reference
        /// The same object twice.
        case duplicate
        /// The file cannot be read or is no YAML.
        case unreadable
        /// Deliberately left alone, such as a Gateway of another class.
        case ignored
    }

    /// The Gateway API status condition that says the same.
    public struct Condition: Hashable, Sendable, Codable {
        public var type: String
        public var reason: String
        public init(type: String, reason: String) {
            self.type = type
            self.reason = reason
        }
    }

    public var severity: Severity
    public var category: Category
    /// Path as it was found under the configuration directory.
    public var file: String
    /// From 1; 0 where no line is to blame.
    public var line: Int
    /// `HTTPRoute shop/catalog`; empty where the file itself is to blame.
    public var object: String
    /// `spec.rules[0].matches[1].path.value`; empty where the object itself is to blame.
    public var field: String
    public var condition: Condition?
    /// What is wrong and what to do about it.
    public var message: String

    public init(
        _ severity: Severity, _ category: Category, file: String, line: Int = 0,
        object: String = "", field: String = "", condition: Condition? = nil, message: String
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

extension Diagnostic: CustomStringConvertible {
    /// `a.yaml:12: error: HTTPRoute shop/web: spec.rules[0].name: … (Accepted: UnsupportedValue)`
    public var description: String {
        var text = line > 0 ? "\(file):\(line): " : "\(file): "
        text += "\(severity.rawValue): "
        if !object.isEmpty { text += "\(object): " }
        if !field.isEmpty { text += "\(field): " }
        text += message
        if let condition { text += " (\(condition.type): \(condition.reason))" }
        return text
    }
}
