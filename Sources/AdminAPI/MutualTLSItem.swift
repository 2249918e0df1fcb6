// What `malla mtls` shows: who talks to whom, and what of it is encrypted.

/// Open flows between two workloads, as this node carries them. Source: `GET /v1/mtls`, kind
/// `MutualTLSList`.
public struct MutualTLSItem: Codable, Sendable, Equatable {
    /// A workload as `namespace/name`, `node NAME`, or `outside`.
    public var source: String
    public var target: String
    /// `mutual_tls`: in a tunnel between nodes. `local`: between pods of this node, or the node
    /// and its pod, which is on no wire. `none`: plain on the wire.
    public var security: String
    /// `HBONE`, `TCP`, `UDP`, or another protocol's name.
    public var `protocol`: String
    /// SPIFFE IDs that the ends prove, or that this node vouches for; empty where there is none.
    public var sourcePrincipal: String
    public var targetPrincipal: String
    /// Of the target: `STRICT`, `PERMISSIVE` or `DISABLE`; `PORTS` where its ports differ; empty
    /// for what is not in the mesh.
    public var mode: String
    /// Open flows; of `mutual_tls` the tunnels, which carry many connections each.
    public var flows: Int
    /// From the source, and back; from the IP header on.
    public var bytesSent: UInt64
    public var bytesReceived: UInt64

    public init(
        source: String, target: String, security: String, protocol: String,
        sourcePrincipal: String = "", targetPrincipal: String = "", mode: String = "",
        flows: Int = 0, bytesSent: UInt64 = 0, bytesReceived: UInt64 = 0
    ) {
        self.source = source
        self.target = target
        self.security = security
        self.protocol = `protocol`
        self.sourcePrincipal = sourcePrincipal
        self.targetPrincipal = targetPrincipal
        self.mode = mode
        self.flows = flows
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
    }
}
