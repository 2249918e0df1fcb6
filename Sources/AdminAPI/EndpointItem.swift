// What `malla endpoints` shows: one pod a line, and what the datapath knows of it.

/// A pod. Source: `GET /v1/endpoints`, kind `EndpointList`.
public struct EndpointItem: Codable, Sendable, Equatable {
    public var namespace: String
    public var name: String
    public var node: String
    /// Whether it runs on the agent's node.
    public var local: Bool
    public var addresses: [String]
    /// The node's side of its veth; empty: no datapath for this pod.
    public var interface: String
    /// 0 where the interface does not exist.
    public var interfaceIndex: Int
    /// Whether its connections to L7 services are captured.
    public var meshed: Bool
    public var serviceAccount: String
    /// `attached`, `remote`, `unmanaged` (local, no interface) or what is wrong.
    public var state: String
    /// How often something of it was found broken and put right, since the agent's child began.
    public var repairs: Int

    public init(
        namespace: String, name: String, node: String, local: Bool, addresses: [String] = [],
        interface: String = "", interfaceIndex: Int = 0, meshed: Bool, serviceAccount: String = "",
        state: String, repairs: Int = 0
    ) {
        self.namespace = namespace
        self.name = name
        self.node = node
        self.local = local
        self.addresses = addresses
        self.interface = interface
        self.interfaceIndex = interfaceIndex
        self.meshed = meshed
        self.serviceAccount = serviceAccount
        self.state = state
        self.repairs = repairs
    }
}
