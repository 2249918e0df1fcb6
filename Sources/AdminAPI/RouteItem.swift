// What `malla routes` shows: each route, where it is attached, and what its rules do.

/// A route. Source: `GET /v1/routes`, kind `RouteList`.
public struct RouteItem: Codable, Sendable, Equatable {
    /// `HTTPRoute` or `TCPRoute`.
    public var kind: String
    public var namespace: String
    public var name: String
    /// Empty: every host.
    public var hostnames: [String]
    public var parents: [Parent]
    public var rules: [Rule]
    /// Why the object as it stands is refused while an earlier version of it is in force; else
    /// empty.
    public var refusal: String

    public init(
        kind: String, namespace: String, name: String, hostnames: [String] = [],
        parents: [Parent] = [], rules: [Rule] = [], refusal: String = ""
    ) {
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.hostnames = hostnames
        self.parents = parents
        self.rules = rules
        self.refusal = refusal
    }

    /// One parentRef and what became of it, as RouteParentStatus says it.
    public struct Parent: Codable, Sendable, Equatable {
        /// `Service shop/catalog:80`, `Gateway shop/web/http`.
        public var parent: String
        public var accepted: Bool
        /// Of the condition Accepted.
        public var reason: String
        public var resolvedRefs: Bool
        /// Of the condition ResolvedRefs.
        public var resolvedRefsReason: String
        public var message: String

        public init(
            parent: String, accepted: Bool, reason: String = "", resolvedRefs: Bool = true,
            resolvedRefsReason: String = "", message: String = ""
        ) {
            self.parent = parent
            self.accepted = accepted
            self.reason = reason
            self.resolvedRefs = resolvedRefs
            self.resolvedRefsReason = resolvedRefsReason
            self.message = message
        }
    }

    /// One rule, in the order of the object.
    public struct Rule: Codable, Sendable, Equatable {
        public var name: String
        /// Any of them: `GET path /cart* header x-user=beta`.
        public var matches: [String]
        public var filters: [String]
        public var backends: [Backend]

        public init(
            name: String = "", matches: [String] = [], filters: [String] = [],
            backends: [Backend] = []
        ) {
            self.name = name
            self.matches = matches
            self.filters = filters
            self.backends = backends
        }
    }

    /// One backendRef of a rule.
    public struct Backend: Codable, Sendable, Equatable {
        /// `namespace/name` of the Service.
        public var name: String
        public var port: Int
        public var weight: Int
        /// Why it cannot be followed: its requests get 500.
        public var problem: String

        public init(name: String, port: Int = 0, weight: Int = 1, problem: String = "") {
            self.name = name
            self.port = port
            self.weight = weight
            self.problem = problem
        }
    }
}
