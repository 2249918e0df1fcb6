// What `malla top` shows: one workload a line, and what it cost the engine since the agent began.

/// One workload's account. Source: `GET /v1/accounts`, kind `AccountList`.
public struct AccountItem: Codable, Sendable, Equatable {
    public var namespace: String
    /// The workload as Istio's metrics name it; `unknown`: clients outside of the mesh.
    public var workload: String
    /// Time that workers spent on its events.
    public var cpuMilliseconds: Double
    public var requests: UInt64
    /// Bodies from and to its clients.
    public var receivedBytes: UInt64
    public var sentBytes: UInt64
    /// Connections of its clients now.
    public var connections: UInt64
    /// Held now for what a peer has not taken.
    public var bufferBytes: UInt64
    /// Requests and connections that a limit turned away.
    public var shed: UInt64
    /// Refused unread: two crashes of the engine named it.
    public var quarantined: Bool
    /// An engine that starts after it serves the workload again. RFC 3339, UTC; empty if it is not
    /// quarantined, or nobody knows.
    public var quarantinedUntil: String

    public init(
        namespace: String, workload: String, cpuMilliseconds: Double, requests: UInt64,
        receivedBytes: UInt64, sentBytes: UInt64, connections: UInt64, bufferBytes: UInt64,
        shed: UInt64, quarantined: Bool = false, quarantinedUntil: String = ""
    ) {
        self.namespace = namespace
        self.workload = workload
        self.cpuMilliseconds = cpuMilliseconds
        self.requests = requests
        self.receivedBytes = receivedBytes
        self.sentBytes = sentBytes
        self.connections = connections
        self.bufferBytes = bufferBytes
        self.shed = shed
        self.quarantined = quarantined
        self.quarantinedUntil = quarantinedUntil
    }

    /// What came later an older agent does not say.
    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        func read<Value: Decodable>(_ key: CodingKeys) throws -> Value {
            try fields.decode(Value.self, forKey: key)
        }
        namespace = try read(.namespace)
        workload = try read(.workload)
        cpuMilliseconds = try read(.cpuMilliseconds)
        requests = try read(.requests)
        receivedBytes = try read(.receivedBytes)
        sentBytes = try read(.sentBytes)
        connections = try read(.connections)
        bufferBytes = try read(.bufferBytes)
        shed = try read(.shed)
        quarantined = try fields.decodeIfPresent(Bool.self, forKey: .quarantined) ?? false
        quarantinedUntil = try fields.decodeIfPresent(String.self, forKey: .quarantinedUntil) ?? ""
    }
}
