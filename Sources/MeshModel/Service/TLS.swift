// What the mesh knows of TLS: certificates that listeners serve, and whom to expect behind a
// service port. Plain values; the engine makes contexts of them.

/// Bytes of a private key in PEM. Nothing prints them, and nothing mirrors them.
public struct PrivateKey: Hashable, Sendable, CustomStringConvertible, CustomReflectable {
    public let pem: [UInt8]
    public init(pem: [UInt8]) { self.pem = pem }
    public var description: String { "(a private key)" }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// A certificate chain with its key. Source: Secret of type kubernetes.io/tls.
public struct Certificate: Hashable, Sendable {
    public var name: ObjectName
    /// PEM, leaf first.
    public var chain: [UInt8]
    public var key: PrivateKey

    public init(name: ObjectName, chain: [UInt8], key: PrivateKey) {
        self.name = name
        self.chain = chain
        self.key = key
    }
}

/// How a listener terminates TLS. Source: ListenerTLSConfig with mode Terminate.
public struct ListenerTLS: Hashable, Sendable {
    public enum Version: String, Hashable, Sendable {
        case v12 = "1.2"
        case v13 = "1.3"
    }
    /// Into `Mesh.certificates`; never empty. The first is for names that none of them has.
    public var certificates: [Int]
    public var versionMin: Version
    /// `nil`: clients are not asked for a certificate.
    public var clients: ClientValidation?

    public init(
        certificates: [Int], versionMin: Version = .v12, clients: ClientValidation? = nil
    ) {
        self.certificates = certificates
        self.versionMin = versionMin
        self.clients = clients
    }
}

/// Whose certificates a listener's clients must bring. Source: FrontendTLSValidation.
public struct ClientValidation: Hashable, Sendable {
    /// PEM of those who may sign for clients; never empty.
    public var authorities: [UInt8]
    /// Clients without a certificate, or with one that is no good, are served all the same
    /// (mode AllowInsecureFallback).
    public var isOptional: Bool

    public init(authorities: [UInt8], isOptional: Bool = false) {
        self.authorities = authorities
        self.isOptional = isOptional
    }
}

/// TLS towards the endpoints of a service port. Source: BackendTLSPolicy.
public struct BackendTLS: Hashable, Sendable {
    /// Who may sign for the endpoints.
    public enum Authorities: Hashable, Sendable {
        /// What the machine trusts.
        case system
        /// PEM.
        case bundle([UInt8])
        /// The policy cannot be followed: no connection is made at all. The text says why.
        case unresolved(String)
    }
    public enum Name: Hashable, Sendable {
        case host(String)
        case uri(String)
    }

    public var policy: ObjectName
    /// Sent as SNI.
    public var hostname: String
    /// One of these must stand in the endpoint's certificate.
    public var names: [Name]
    public var authorities: Authorities

    public init(policy: ObjectName, hostname: String, names: [Name], authorities: Authorities) {
        self.policy = policy
        self.hostname = hostname
        self.names = names
        self.authorities = authorities
    }
}
