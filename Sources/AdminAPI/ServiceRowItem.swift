// What `malla bpf services` shows: one row of the kernel's service map, and where it leads.

/// An address, port and protocol at which the kernel balances. Source: `GET /v1/bpf/services`, kind
/// `ServiceRowList`.
public struct ServiceRowItem: Codable, Sendable, Equatable {
    /// `*` with a node or host port: the nodes' addresses. Of which family says `family`.
    public var address: String
    /// `IPv4` or `IPv6`.
    public var family: String
    public var port: Int
    public var `protocol`: String
    /// `Service namespace/name` or `Pod namespace/name`.
    public var owner: String
    /// For pods and the node itself, and for those outside.
    public var inside: Group
    public var outside: Group
    /// `captured`, `ranged`, `this-node`, `weighted`.
    public var flags: [String]
    /// 0: no affinity.
    public var affinitySeconds: Int

    public init(
        address: String, family: String, port: Int, protocol: String, owner: String, inside: Group,
        outside: Group, flags: [String] = [], affinitySeconds: Int = 0
    ) {
        self.address = address
        self.family = family
        self.port = port
        self.protocol = `protocol`
        self.owner = owner
        self.inside = inside
        self.outside = outside
        self.flags = flags
        self.affinitySeconds = affinitySeconds
    }

    /// Endpoints that serve together.
    public struct Group: Codable, Sendable, Equatable {
        /// 0: nobody is served.
        public var id: UInt32
        /// Positions of its Maglev table; 0: it has none.
        public var positions: Int
        /// By slot.
        public var endpoints: [String]
        /// Of each endpoint; left out where all have the same.
        public var weights: [Int]?

        public init(
            id: UInt32, positions: Int = 0, endpoints: [String] = [], weights: [Int]? = nil
        ) {
            self.id = id
            self.positions = positions
            self.endpoints = endpoints
            self.weights = weights
        }
    }
}
