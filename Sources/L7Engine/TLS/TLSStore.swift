// Snapshot -> contexts. Runs on the agent's thread when the configuration changes; what did not
// change keeps its context, and with it the sessions that clients may resume.

internal import COpenSSL
internal import Glibc
internal import MeshModel
internal import Synchronization

/// What a worker gets of a configuration's TLS.
struct TLSTable: Sendable {
    /// For `identityOfPort`: TLS that cannot be had, so no connection at all.
    static let unavailable = UInt32.max
    /// Of a pool whose connections are streams: with the number of `MeshContexts` beneath it.
    static let tunnelMark: UInt32 = 1 << 31

    /// By `Snapshot.gatewaySockets`' index.
    var servers: [Server] = []
    /// The same, then by scope of its route table: what is asked of clients; 0: nothing.
    var clientRules: [[UInt64]] = []
    /// By `Snapshot.ports`' index: 0 for plain, `unavailable`, or a client's number.
    var identityOfPort: [UInt32] = []
    var clients: [TLSClient] = []
    var tickets: TicketKeys?

    enum Server: Sendable {
        case plain
        case secure(TLSServer)
        /// A certificate that OpenSSL did not take: connections are closed.
        case unavailable
    }
}

/// Keys of session tickets, shared by workers and contexts.
///
/// - Owns: nothing that is freed: it lives as long as the process.
@safe final class TicketKeys: @unchecked Sendable {
    let pointer: OpaquePointer?

    init() { unsafe pointer = tls_ticket_keys_new() }

    func rotate() {
        // Safe: one thread rotates; readers take whole keys by an index that is set last.
        if let pointer = unsafe pointer { unsafe _ = tls_ticket_keys_rotate(pointer) }
    }
}

/// Makes contexts, and keeps those that the next configuration needs again.
///
/// - Threads: one at a time (`Engine.adopt` sees to it).
struct TLSStore {
    private struct ServerKey: Hashable {
        var certificates: [Certificate]
        var version: ListenerTLS.Version
        var clients: ClientValidation?
        var identity: String
    }
    private struct SocketKey: Hashable {
        struct Listener: Hashable {
            var hostname: String?
            var server: ServerKey
        }
        var listeners: [Listener]
    }

    let tickets = TicketKeys()
    /// Of each certificate of the snapshot's listeners: when it begins, and when the first of it
    /// and its intermediates ends, after which clients trust it no more; seconds since 1970.
    private(set) var lives: [Certificate: Range<Int64>] = [:]
    private var contexts: [ServerKey: TLSContext] = [:]
    /// Each with the contexts that it uses.
    private var servers: [SocketKey: (server: TLSServer, contexts: [ServerKey])] = [:]
    private var clients: [BackendTLS: TLSClient] = [:]
    private var clientsMade: UInt32 = 0

    /// - Complexity: linear in listeners and ports; contexts are made for what is new only.
    mutating func table(of snapshot: Snapshot) -> TLSTable {
        var table = TLSTable()
        table.tickets = tickets
        let old = self
        (contexts, servers, clients, lives) = ([:], [:], [:], [:])
        for certificate in snapshot.mesh.certificates {
            lives[certificate] = old.lives[certificate] ?? certificate.life
        }
        for socket in snapshot.gatewaySockets {
            table.servers.append(server(of: socket, snapshot.mesh, old))
            table.clientRules.append(Self.clientRules(of: socket, snapshot.mesh))
        }
        for port in snapshot.ports {
            let service = port.isInbound ? nil : snapshot.mesh.services[port.serviceIndex]
            guard let tls = service?.ports[port.portIndex].tls else {
                table.identityOfPort.append(0)
                continue
            }
            table.identityOfPort.append(client(tls, old)?.number ?? TLSTable.unavailable)
        }
        table.clients = clients.values.sorted { $0.number < $1.number }
        return table
    }

    // MARK: Servers

    private mutating func server(
        of socket: GatewaySocket, _ mesh: Mesh, _ old: TLSStore
    ) -> TLSTable.Server {
        var key = SocketKey(listeners: [])
        for index in socket.listeners {
            let listener = mesh.listeners[index]
            guard let tls = listener.tls else { continue }
            key.listeners.append(
                .init(
                    hostname: listener.hostname,
                    server: ServerKey(
                        certificates: tls.certificates.map { mesh.certificates[$0] },
                        version: tls.versionMin, clients: tls.clients,
                        identity: "\(listener.gateway)/\(listener.name)")))
        }
        guard !key.listeners.isEmpty else { return .plain }
        if let known = servers[key] ?? old.servers[key] {
            servers[key] = known
            for part in known.contexts { contexts[part] = contexts[part] ?? old.contexts[part] }
            return .secure(known.server)
        }
        guard let made = makeServer(key, old) else { return .unavailable }
        servers[key] = made
        return .secure(made.server)
    }

    private mutating func makeServer(
        _ key: SocketKey, _ old: TLSStore
    ) -> (server: TLSServer, contexts: [ServerKey])? {
        let isSingle = key.listeners.count == 1
        var listeners = TLSNames.Table<TLSNames.Table<TLSNames.Choice>>()
        var used: [ServerKey] = []
        var base: TLSContext?
        for listener in key.listeners {
            // The socket's own context is one of a kind: as a choice it would keep itself alive.
            if base == nil { base = makeContext(listener.server) }
            let groups = Self.groups(listener.server.certificates)
            var names = TLSNames.Table<TLSNames.Choice>()
            for group in groups {
                if isSingle, groups.count == 1 {
                    // All there is: connections change no context.
                    names.any = TLSNames.Choice(context: nil)
                    continue
                }
                var part = listener.server
                part.certificates = group.certificates
                guard let context = context(part, old) else { continue }
                used.append(part)
                let choice = TLSNames.Choice(context: context)
                for name in group.names { names.set(name, choice) }
                if group.isDefault { names.any = choice }
            }
            if let hostname = listener.hostname {
                listeners.set(hostname, names)
            } else if listeners.any == nil {
                listeners.any = names
            }
        }
        guard let base else { return nil }
        return (TLSServer(base, TLSNames(listeners)), used)
    }

    private mutating func context(_ key: ServerKey, _ old: TLSStore) -> TLSContext? {
        if let known = contexts[key] ?? old.contexts[key] {
            contexts[key] = known
            return known
        }
        let made = makeContext(key)
        contexts[key] = made
        return made
    }

    /// `nil` only for what MeshConfig should have refused.
    private func makeContext(_ key: ServerKey) -> TLSContext? {
        let minimum = key.version == .v13 ? TLS1_3_VERSION : TLS1_2_VERSION
        // A session begun under other rules for clients must not be resumed under these.
        var identity = Self.digest(key.identity.utf8)
        if let clients = key.clients {
            identity += Self.digest(of: clients)
        }
        // Safe: the calls copy what they read.
        guard
            let pointer = unsafe tls_server_context(
                minimum, tickets.pointer, &identity, UInt32(identity.count))
        else { return nil }
        let context = unsafe TLSContext(adopting: pointer)
        for certificate in key.certificates {
            let result = unsafe tls_context_use(
                pointer, certificate.chain, certificate.chain.count, certificate.key.pem,
                certificate.key.pem.count)
            guard result == 0 else {
                _ = TLSError()
                return nil
            }
        }
        if let clients = key.clients {
            let result = unsafe tls_context_ask_clients(
                pointer, clients.authorities, clients.authorities.count, clients.isOptional ? 1 : 0)
            guard result == 0 else {
                _ = TLSError()
                return nil
            }
        }
        return context
    }

    private static func clientRules(of socket: GatewaySocket, _ mesh: Mesh) -> [UInt64] {
        var seen: Set<String> = []
        let listeners = socket.listeners.map { mesh.listeners[$0] }
        // In the order in which RouteCompiler numbers scopes.
        return listeners.filter { seen.insert($0.hostname ?? "*").inserted }.map { listener in
            guard let clients = listener.tls?.clients else { return 0 }
            return digest(of: clients).reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
    }

    private static func digest(of clients: ClientValidation) -> [UInt8] {
        digest(clients.authorities + [clients.isOptional ? 1 : 0])
    }

    /// FNV-1a: tells listeners apart, no more.
    private static func digest(_ bytes: some Sequence<UInt8>) -> [UInt8] {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return (0..<8).map { UInt8(truncatingIfNeeded: hash >> (8 * UInt64($0))) }
    }

    /// Certificates that stand in one context, of which OpenSSL takes the one whose key the client
    /// can verify (ECDSA and RSA), and the names for which they do.
    struct Group {
        var names: [String]
        /// The first of a kind of key counts, which is the last one put into a context.
        var certificates: [Certificate]
        /// For clients that want a name that none of the certificates has.
        var isDefault = false
    }

    static func groups(_ certificates: [Certificate]) -> [Group] {
        var holders: [String: [Int]] = [:]
        for (index, certificate) in certificates.enumerated() {
            for name in names(of: certificate) { holders[name, default: []].append(index) }
        }
        let all = Array(certificates.indices)
        var names: [[Int]: [String]] = [all: []]
        for (name, indices) in holders { names[indices, default: []].append(name) }
        return names.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { indices, names in
            Group(
                names: names.sorted(), certificates: indices.reversed().map { certificates[$0] },
                isDefault: indices == all)
        }
    }

    static func names(of certificate: Certificate) -> [String] {
        // Safe: the call writes at most `capacity` bytes and answers how many.
        let text = unsafe String(unsafeUninitializedCapacity: 16384) { buffer in
            guard let base = buffer.baseAddress else { return 0 }
            return unsafe base.withMemoryRebound(to: CChar.self, capacity: 16384) {
                unsafe malla_credential_names(
                    certificate.chain, certificate.chain.count, $0, 16384)
            }
        }
        return Set(text.lowercased().split(separator: "\n").map(String.init)).sorted()
    }

    // MARK: Clients

    private mutating func client(_ tls: BackendTLS, _ old: TLSStore) -> TLSClient? {
        if let known = clients[tls] ?? old.clients[tls] {
            clients[tls] = known
            return known
        }
        guard let context = TLSClient.context(tls) else { return nil }
        clientsMade += 1
        let made = TLSClient(number: clientsMade, hostname: tls.hostname, context: context)
        clients[tls] = made
        return made
    }
}
