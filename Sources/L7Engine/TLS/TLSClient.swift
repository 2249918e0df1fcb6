internal import COpenSSL
internal import MeshModel

/// TLS towards endpoints, as one BackendTLSPolicy asks for it.
///
/// - Threads: any; immutable.
final class TLSClient: Sendable {
    /// Never the same for another policy, so that pools do not mix: `Pool.identity`.
    let number: UInt32
    let hostname: String
    let context: TLSContext

    init(number: UInt32, hostname: String, context: TLSContext) {
        self.number = number
        self.hostname = hostname
        self.context = context
    }

    /// `nil`: the policy's authorities cannot be had.
    static func context(_ tls: BackendTLS) -> TLSContext? {
        var (hosts, uris): ([String], [String]) = ([], [])
        for name in tls.names {
            switch name {
            case .host(let host): hosts.append(host)
            case .uri(let uri): uris.append(uri)
            }
        }
        // Safe: the calls copy what they read; the texts end with NUL.
        guard
            let pointer = unsafe tls_client_context(
                joined(hosts), hosts.count, joined(uris), uris.count)
        else { return nil }
        let context = unsafe TLSContext(adopting: pointer)
        var result: CInt = -1
        switch tls.authorities {
        case .unresolved: return nil
        case .system: result = unsafe tls_context_trust_system(pointer)
        case .bundle(let pem): result = unsafe tls_context_trust(pointer, pem, pem.count)
        }
        guard result == 0 else {
            _ = TLSError()
            return nil
        }
        return context
    }

    private static func joined(_ texts: [String]) -> [CChar] {
        texts.flatMap { Array($0.utf8CString) } + [0]
    }
}
