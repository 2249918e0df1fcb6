// What `malla mtls` shows: who talks to whom, and what of it is encrypted.

/// Open flows between two workloads, as this node carries them. Source: `GET /v1/mtls`, kind
/// `MutualTLSList`.
public struct MutualTLSItem: Codable, Sendable, Equatable {
    /// A workload as `namespace/name`, `gateway NAMESPACE/NAME`, `node NAME`, or `outside`.
    public var source: String
    public var target: String
    /// `mutual_tls`: in a tunnel between nodes. `local`: between pods of this node, or the node
    /// and its pod, which is on no wire. `none`: plain on the wire.
    public var security: String
    /// `HBONE`, `TCP`, `UDP`, or another protocol's name.
    public var `protocol`: String
    /// SPIFFE IDs: of a tunnel what each end has proved in its handshake, of a `local` pair what
    /// this node vouches for; empty where there is none.
    public var sourcePrincipal: String
    public var targetPrincipal: String
    /// Of a tunnel: which of the two is the other end's, from its certificate, as this node has
    /// verified it. Empty while a handshake is under way, and of tunnels of a child that drains.
    public var peer: String
    /// Of a tunnel: `TLSv1.3`, and the suite.
    public var tlsVersion: String
    public var cipher: String
    /// Of the target: `STRICT`, `PERMISSIVE` or `DISABLE`; `PORTS` where its ports differ; empty
    /// for what is not in the mesh.
    public var mode: String
    /// Open flows; of `mutual_tls` the tunnels, which carry many connections each. 0: the last
    /// one of the pair has ended, not longer than five minutes ago.
    public var flows: Int
    /// What is to be known of it, such as that it is older than the tunnels; empty if nothing is.
    public var message: String
    /// From the source, and back; from the IP header on.
    public var bytesSent: UInt64
    public var bytesReceived: UInt64

    public init(
        source: String, target: String, security: String, protocol: String,
        sourcePrincipal: String = "", targetPrincipal: String = "", peer: String = "",
        tlsVersion: String = "", cipher: String = "", mode: String = "",
        flows: Int = 0, message: String = "", bytesSent: UInt64 = 0, bytesReceived: UInt64 = 0
    ) {
        self.source = source
        self.target = target
        self.security = security
        self.protocol = `protocol`
        self.sourcePrincipal = sourcePrincipal
        self.targetPrincipal = targetPrincipal
        self.peer = peer
        self.tlsVersion = tlsVersion
        self.cipher = cipher
        self.mode = mode
        self.flows = flows
        self.message = message
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
    }
}
