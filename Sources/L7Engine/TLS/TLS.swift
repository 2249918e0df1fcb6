// TLS by OpenSSL: who serves which name, whom to trust, and what became of a handshake.
//
// Receives: the certificates and policies of a snapshot (on the agent's thread), connections that
// begin (on a worker's). Hands on: sessions, which Worker+Transport reads and writes as if they
// were sockets. The only folder that knows OpenSSL. Never reads a file, never logs; nothing here
// prints a private key.
//
// TLSContext owns what OpenSSL made; TLSServer is one Gateway socket (names -> contexts),
// TLSClient one BackendTLSPolicy; TLSStore makes both and keeps what did not change; TLSTable is
// what a worker gets of it; Worker+TLS begins sessions and counts how they end.

internal import COpenSSL
internal import MeshModel

/// One context of OpenSSL's, and what it was made of.
///
/// - Owns: the context. Sessions hold references of their own and may outlive this.
/// - Threads: made on one, used by any; OpenSSL counts references atomically.
@safe final class TLSContext: @unchecked Sendable {
    let pointer: OpaquePointer

    init(adopting pointer: OpaquePointer) { unsafe self.pointer = pointer }
    deinit { unsafe tls_context_free(pointer) }
}

/// Why a context could not be made, in OpenSSL's words.
struct TLSError: Error, Equatable {
    let reason: String

    /// Takes the reason of the last call on this thread, and forgets it.
    init() {
        // Safe: the call ends what it writes with NUL.
        reason = unsafe String(
            unsafeUninitializedCapacity: 256,
            initializingUTF8With: { buffer in
                guard let base = buffer.baseAddress else { return 0 }
                return unsafe base.withMemoryRebound(to: CChar.self, capacity: 256) {
                    unsafe tls_error_text($0, 256)
                    return unsafe strnlen($0, 256)
                }
            })
    }
}

/// How a handshake ended: the label of a metric.
enum TLSFailure: UInt8, CaseIterable {
    case none, other, truncated, notTLS, plainHTTP, version, cipher, nameUnknown, protocolUnknown
    case alert, untrusted, expired, nameMismatch, noCertificate, revoked
    case noSPIFFEID
    // Ours, not OpenSSL's.
    case timeout, overload, noContext
    /// No failure: the peers knew each other.
    case resumed

    init(_ failure: tls_failure) { self = TLSFailure(rawValue: UInt8(failure.rawValue)) ?? .other }

    var label: StaticString {
        switch self {
        case .none: "ok"
        case .other: "other"
        case .truncated: "closed"
        case .notTLS: "not_tls"
        case .plainHTTP: "plain_http"
        case .version: "version"
        case .cipher: "cipher"
        case .nameUnknown: "unknown_name"
        case .protocolUnknown: "no_protocol"
        case .alert: "peer_alert"
        case .untrusted: "untrusted"
        case .expired: "expired"
        case .nameMismatch: "name_mismatch"
        case .noCertificate: "no_certificate"
        case .revoked: "revoked"
        case .noSPIFFEID: "no_spiffe_id"
        case .timeout: "timeout"
        case .overload: "overload"
        case .noContext: "no_context"
        case .resumed: "resumed"
        }
    }
}
