/// What a request is matched against: the routes of one captured service port or of one socket of a
/// Gateway, compiled.
public struct RouteTable: Sendable {
    /// One route with the hostnames under which it counts here.
    public struct Source: Sendable {
        /// Into `Mesh.routes`.
        public var route: Int
        /// Lower case; `*` for all, `*.suffix` for a wildcard; never empty.
        public var hostnames: [String]
    }

    /// One listener of the socket (or the service): the most specific hostname wins, and only its
    /// own routes count then (listener isolation, Gateway API).
    public struct Scope: Sendable {
        /// `nil`: every host.
        public var hostname: String?
        public var sources: [Source]
    }

    /// Compiles the routes of `scopes`.
    public init(_ scopes: [Scope], routes: [HTTPRoute], portIndex: (Int, Int) -> PortIndex) {
    }

    /// A service without routes: everything goes to its own port.
    public init(toPort port: PortIndex) {
    }
}
