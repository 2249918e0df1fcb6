// What `malla certs` shows: what this node shows of itself, and whom it believes.

/// A certificate of a workload, of an authority, or of Gateways' listeners. Source:
/// `GET /v1/certificates`, kind `CertificateList`. Never a key.
public struct CertificateItem: Codable, Sendable, Equatable {
    /// `workload`; `authority` for a root of a bundle; `signer` for what leads from the key that
    /// this node signs with to a root; `gateway` for what listeners of Gateways show their clients.
    public var type: String
    /// A SPIFFE ID; of an authority its trust domain's; of a Gateway's the Secret's
    /// `namespace/name`.
    public var identity: String
    /// Lower case hexadecimal; empty while there is no certificate.
    public var serial: String
    public var issuer: String
    /// RFC 3339, UTC; empty while there is no certificate.
    public var notBefore: String
    /// The same; of a workload or Gateway, where an intermediate above it ends first, that one's
    /// end.
    public var notAfter: String
    /// Until `notAfter`, negative afterwards.
    public var remainingSeconds: Int
    /// When it is replaced; empty for authorities and Gateways, and for what other programs
    /// replace.
    public var renewAt: String
    /// Of a workload: `valid`, `due`, `not-yet-valid`, `expired`, or `missing`. Of a Gateway's the
    /// same, but for `missing`: `due` with less than 14 days and less than a third of its life
    /// left. Of an authority: `valid`, `not-yet-valid` or `expired`.
    public var state: String
    /// Why the last try to replace it failed; empty if it did not. Of the first authority: what of
    /// all that says whom to believe, or of who signs, cannot be used; the last good state goes on.
    public var message: String
    /// Pods of this node that bear it, `namespace/name`.
    public var pods: [String]
    /// Gateways of this node that show it to pods of other nodes, the same.
    public var gateways: [String]
    /// For whom a Gateway's certificate is: DNS names, IP addresses, URIs; without any of these its
    /// subject.
    public var names: [String]
    /// Listeners of this node that show it, `namespace/gateway listener`.
    public var listeners: [String]
    /// Lists of revoked certificates that the bundle of the authority holds.
    public var revocationLists: Int
    /// The chain, leaf first.
    public var pem: String

    public init(
        type: String, identity: String, serial: String = "", issuer: String = "",
        notBefore: String = "", notAfter: String = "", remainingSeconds: Int = 0,
        renewAt: String = "", state: String, message: String = "", pods: [String] = [],
        gateways: [String] = [], names: [String] = [], listeners: [String] = [],
        revocationLists: Int = 0, pem: String = ""
    ) {
        self.type = type
        self.identity = identity
        self.serial = serial
        self.issuer = issuer
        self.notBefore = notBefore
        self.notAfter = notAfter
        self.remainingSeconds = remainingSeconds
        self.renewAt = renewAt
        self.state = state
        self.message = message
        self.pods = pods
        self.gateways = gateways
        self.names = names
        self.listeners = listeners
        self.revocationLists = revocationLists
        self.pem = pem
    }

    /// What came later an older agent does not say.
    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        func read<Value: Decodable>(_ key: CodingKeys) throws -> Value {
            try fields.decode(Value.self, forKey: key)
        }
        type = try read(.type)
        identity = try read(.identity)
        serial = try read(.serial)
        issuer = try read(.issuer)
        notBefore = try read(.notBefore)
        notAfter = try read(.notAfter)
        remainingSeconds = try read(.remainingSeconds)
        renewAt = try read(.renewAt)
        state = try read(.state)
        message = try read(.message)
        pods = try read(.pods)
        gateways = try read(.gateways)
        revocationLists = try read(.revocationLists)
        pem = try read(.pem)
        names = try fields.decodeIfPresent([String].self, forKey: .names) ?? []
        listeners = try fields.decodeIfPresent([String].self, forKey: .listeners) ?? []
    }
}
