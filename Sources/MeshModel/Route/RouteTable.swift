// What a request is matched against: the routes of one captured service port or of one socket of a
// Gateway, compiled once and found by hashing. Receives the head as ranges, answers the rule;
// never allocates (regular expressions apart), never does I/O.
//
// The order of precedence is Gateway API's: listener's hostname, route's hostname, exact path,
// (regular expression, by length of its text), longest prefix, method, number of headers, number
// of query parameters, oldest route, namespace/name, first rule, first match.

/// What a request is matched against: the routes of one captured service port or of one socket of a
/// Gateway, compiled.
///
/// - Threads: any; immutable.
/// - Complexity of `find`: labels of the host and distinct prefix lengths under it, not routes.
public struct RouteTable: Sendable {
    /// One route with the hostnames under which it counts here.
    public struct Source: Sendable {
        /// Into `Mesh.routes`.
        public var route: Int
        /// Lower case; `*` for all, `*.suffix` for a wildcard; never empty.
        public var hostnames: [String]

        public init(route: Int, hostnames: [String]) {
            self.route = route
            self.hostnames = hostnames
        }
    }

    /// One listener of the socket (or the service): the most specific hostname wins, and only its
    /// own routes count then (listener isolation, Gateway API).
    public struct Scope: Sendable {
        /// `nil`: every host.
        public var hostname: String?
        public var sources: [Source]

        public init(hostname: String?, sources: [Source]) {
            self.hostname = hostname
            self.sources = sources
        }
    }

    /// A class, so that the hot path counts one reference and not one an array.
    public let compiled: CompiledRoutes

    /// Compiles the routes of `scopes`.
    public init(_ scopes: [Scope], routes: [HTTPRoute], portIndex: (Int, Int) -> PortIndex) {
        var compiler = RouteCompiler(routes: routes)
        compiled = compiler.compile(scopes, portIndex: portIndex)
    }

    /// A service without routes: everything goes to its own port.
    public init(toPort port: PortIndex) {
        let rule = HTTPRouteRule(backends: [RouteBackend(target: .service(0, port: 0))])
        let route = HTTPRoute(name: ObjectName("", ""), attachments: [], rules: [rule])
        let scope = Scope(hostname: nil, sources: [Source(route: 0, hostnames: ["*"])])
        self.init([scope], routes: [route], portIndex: { _, _ in port })
    }

    /// Why no match may hold this regular expression; `nil`: it may.
    public static func problem(regularExpression text: String) -> RegularExpressionError? {
        do throws(RegularExpressionError) {
            _ = try RegularExpression(text)
            return nil
        } catch {
            return error
        }
    }

    /// The rule for a request; `nil`: no rule matches (404).
    public func find(_ head: RequestHead) -> RouteMatch? { compiled.find(head) }
}

/// What `find` answers.
public struct RouteMatch: Sendable, Equatable, BitwiseCopyable {
    /// Into `CompiledRoutes.rules`.
    public var rule: Int32
    /// Bytes of the path that the rule's prefix match took (without a trailing slash); 0 for
    /// others.
    public var prefixLength: Int32
    /// The match asks for the request's method by name.
    public var namesMethod: Bool
}

/// One backendRef, compiled.
public struct CompiledBackend: Sendable, BitwiseCopyable {
    /// The sum of the weights up to and with this one.
    public var weightEnd: UInt64
    /// Into `Snapshot.ports`; -1: unresolved (500).
    public var port: Int32
    public var isUnsupported: Bool
    public var requestEdits: HeaderEdits
    public var responseEdits: HeaderEdits
}

/// Fields to drop and ready lines to add.
public struct HeaderEdits: Sendable, BitwiseCopyable {
    /// Into `CompiledRoutes.names`.
    public var dropsStart: Int32 = 0
    public var dropsEnd: Int32 = 0
    /// `Name: value` CR LF, any number of times, in `CompiledRoutes.text`.
    public var lines: ByteRange = .empty
    public var isEmpty: Bool { dropsStart == dropsEnd && lines.isEmpty }
    public init() {}
}

public struct CompiledPath: Sendable, BitwiseCopyable {
    public enum Kind: UInt8, Sendable, BitwiseCopyable { case keep, full, prefix }
    public var kind = Kind.keep
    public var text = ByteRange.empty
    public init() {}
}

public struct CompiledRedirect: Sendable, BitwiseCopyable {
    public var scheme: ByteRange?
    public var hostname: ByteRange?
    public var path: CompiledPath
    public var port: UInt16?
    public var status: UInt16
}

/// One rule, compiled: numbers and ranges only.
public struct CompiledRule: Sendable, BitwiseCopyable {
    /// Into `Mesh.routes`; the rule's number in it.
    public var route: Int32
    public var number: Int32
    /// `namespace/name/number` in `CompiledRoutes.text`, for the access log.
    public var label: ByteRange
    public var requestTimeoutMilliseconds: UInt32
    public var backendTimeoutMilliseconds: UInt32
    public var backendsStart: Int32
    public var backendsEnd: Int32
    public var weightTotal: UInt64
    /// Into `CompiledRoutes.redirects`; -1: none.
    public var redirect: Int32
    public var rewriteHost: ByteRange?
    public var rewritePath: CompiledPath
    public var requestEdits: HeaderEdits
    public var responseEdits: HeaderEdits
    public var isUnsupported: Bool
}
