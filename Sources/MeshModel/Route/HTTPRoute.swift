// Gateway API's HTTPRoute as a value, already resolved: names are lower-cased where HTTP ignores
// case, references have become indices of `Mesh`, defaults are filled in. MeshConfig makes it,
// RouteTable compiles it.

/// One HTTPRoute and where it is attached; or a TCPRoute, whose one rule is for every connection.
///
/// - Source: gateway.networking.k8s.io/v1 HTTPRoute, TCPRoute.
public struct HTTPRoute: Hashable, Sendable {
    public var name: ObjectName
    /// `metadata.creationTimestamp` in seconds since 1970; `Int64.max` if absent (ties: by name).
    public var created: Int64
    public var attachments: [RouteAttachment]
    public var rules: [HTTPRouteRule]
    /// It chooses a backend for connections: of its rule only `backends` count.
    public var isTCP: Bool

    public init(
        name: ObjectName, created: Int64 = .max, attachments: [RouteAttachment],
        rules: [HTTPRouteRule], isTCP: Bool = false
    ) {
        self.name = name
        self.created = created
        self.attachments = attachments
        self.rules = rules
        self.isTCP = isTCP
    }
}

/// A parentRef that was accepted.
public enum RouteAttachment: Hashable, Sendable {
    /// Index into `Mesh.listeners`; hostnames are the intersection of route's and listener's,
    /// lower case, `*` for all, `*.suffix` for a wildcard; never empty.
    case listener(Int, hostnames: [String])
    /// Index into `Mesh.services` and of the port in it (GAMMA); the route's hostnames do not
    /// count.
    case service(Int, port: Int)
}

public struct HTTPRouteRule: Hashable, Sendable {
    public var name: String
    /// Never empty: the default is a prefix match of `/`.
    public var matches: [HTTPRouteMatch]
    public var filters: [HTTPRouteFilter]
    public var backends: [RouteBackend]
    /// `timeouts.request` and `.backendRequest` in milliseconds; 0: none.
    public var requestTimeoutMilliseconds: UInt32
    public var backendTimeoutMilliseconds: UInt32

    public init(
        name: String = "", matches: [HTTPRouteMatch] = [HTTPRouteMatch()],
        filters: [HTTPRouteFilter] = [], backends: [RouteBackend] = [],
        requestTimeoutMilliseconds: UInt32 = 0, backendTimeoutMilliseconds: UInt32 = 0
    ) {
        self.name = name
        self.matches = matches
        self.filters = filters
        self.backends = backends
        self.requestTimeoutMilliseconds = requestTimeoutMilliseconds
        self.backendTimeoutMilliseconds = backendTimeoutMilliseconds
    }
}

/// All of it must match. Source: HTTPRouteMatch.
public struct HTTPRouteMatch: Hashable, Sendable {
    public enum Path: Hashable, Sendable {
        case exact(String)
        /// By whole segments; `/` matches all. Without a trailing slash unless it is `/`.
        case prefix(String)
        /// RE2-like, anchored at both ends.
        case regularExpression(String)
    }
    public enum Value: Hashable, Sendable {
        case exact(String)
        case regularExpression(String)
    }
    public struct Named: Hashable, Sendable {
        /// Lower case for header fields; as it is for query parameters.
        public var name: String
        public var value: Value
        public init(name: String, value: Value) {
            self.name = name
            self.value = value
        }
    }

    public var path: Path
    public var method: String?
    public var headers: [Named]
    public var query: [Named]

    public init(
        path: Path = .prefix("/"), method: String? = nil, headers: [Named] = [], query: [Named] = []
    ) {
        self.path = path
        self.method = method
        self.headers = headers
        self.query = query
    }
}

/// Source: HTTPRouteFilter.
public enum HTTPRouteFilter: Hashable, Sendable {
    case requestHeaders(HeaderModifier)
    case responseHeaders(HeaderModifier)
    case redirect(Redirect)
    case rewrite(Rewrite)
    /// The rule asks for something that this build does not do: its requests get 500, as Gateway
    /// API says of filters that cannot be honoured. The text names it.
    case unsupported(String)

    /// Order of application: set, add, remove. Names keep the case they were written in.
    public struct HeaderModifier: Hashable, Sendable {
        public struct Field: Hashable, Sendable {
            public var name: String
            public var value: String
            public init(name: String, value: String) {
                self.name = name
                self.value = value
            }
        }
        public var set: [Field]
        public var add: [Field]
        public var remove: [String]
        /// Fields that say where a message ends, or whom it is for, belong to the connection and
        /// not to a rule: the first that is named. `nil`: none is.
        public var framingField: String? {
            let own: Set<String> = ["host", "content-length", "transfer-encoding", "connection"]
            return ((set + add).map(\.name) + remove).first { own.contains($0.lowercased()) }
        }
        public init(set: [Field] = [], add: [Field] = [], remove: [String] = []) {
            self.set = set
            self.add = add
            self.remove = remove
        }
    }
    public enum PathModifier: Hashable, Sendable {
        case replaceFullPath(String)
        /// Replaces what the rule's prefix match matched.
        case replacePrefixMatch(String)
    }
    public struct Redirect: Hashable, Sendable {
        public var scheme: String?
        public var hostname: String?
        public var path: PathModifier?
        public var port: UInt16?
        /// 301, 302, 303, 307 or 308.
        public var status: UInt16
        public init(
            scheme: String? = nil, hostname: String? = nil, path: PathModifier? = nil,
            port: UInt16? = nil, status: UInt16 = 302
        ) {
            self.scheme = scheme
            self.hostname = hostname
            self.path = path
            self.port = port
            self.status = status
        }
    }
    public struct Rewrite: Hashable, Sendable {
        public var hostname: String?
        public var path: PathModifier?
        public init(hostname: String? = nil, path: PathModifier? = nil) {
            self.hostname = hostname
            self.path = path
        }
    }
}

/// One backendRef of a rule.
public struct RouteBackend: Hashable, Sendable {
    public enum Target: Hashable, Sendable {
        /// Index into `Mesh.services` and of the port in it.
        case service(Int, port: Int)
        /// The reference cannot be followed (no such Service or port, no ReferenceGrant, an unknown
        /// kind): its share of the requests is answered with 500. The text says why.
        case unresolved(String)
    }
    public var target: Target
    /// 0...1 000 000; 0 gets nothing.
    public var weight: UInt32
    public var filters: [HTTPRouteFilter]

    public init(target: Target, weight: UInt32 = 1, filters: [HTTPRouteFilter] = []) {
        self.target = target
        self.weight = weight
        self.filters = filters
    }
}

/// One listener of a Gateway of Malla's class that this node can serve.
public struct Listener: Hashable, Sendable {
    public var gateway: ObjectName
    public var name: String
    /// The Gateway's `spec.addresses`; empty: all addresses of the node's namespace.
    public var addresses: [IPAddress]
    public var port: UInt16
    /// Lower case; `nil`: every host. `*.suffix` for a wildcard.
    public var hostname: String?
    /// `nil`: plain HTTP.
    public var tls: ListenerTLS?
    /// Of protocol TCP: its routes are TCPRoutes.
    public var isTCP: Bool
    /// The account as which its Gateway reaches pods of other nodes, in the Gateway's namespace.
    public var serviceAccount: String

    public init(
        gateway: ObjectName, name: String, addresses: [IPAddress], port: UInt16, hostname: String?,
        tls: ListenerTLS? = nil, isTCP: Bool = false, serviceAccount: String = ""
    ) {
        self.gateway = gateway
        self.name = name
        self.addresses = addresses
        self.port = port
        self.hostname = hostname
        self.tls = tls
        self.isTCP = isTCP
        self.serviceAccount = serviceAccount
    }

    public var account: ObjectName { ObjectName(gateway.namespace, serviceAccount) }
}
