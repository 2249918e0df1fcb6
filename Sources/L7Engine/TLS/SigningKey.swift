// Private keys as Swift may hold them: a reference to a key of OpenSSL's, which signs and shows its
// public half. Its bytes are in OpenSSL's secure heap and no call answers them.

internal import COpenSSL
internal import Glibc

/// What signs, and with what digests X.509 pairs it.
public enum SigningKeyKind: Sendable, Hashable {
    case p256, p384, p521, rsa, ed25519, other
}

/// Why OpenSSL could not do something with a key, in its own words.
public struct SigningKeyError: Error, Hashable, Sendable, CustomStringConvertible {
    public let reason: String
    public var description: String { reason }

    /// Takes the reason of the last call on this thread.
    init() {
        var text = [CChar](repeating: 0, count: 160)
        // Safe: the call ends what it writes with NUL, in an array of that size.
        unsafe malla_svid_problem(&text, text.count)
        reason = String(
            decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// A private key. Nothing prints it and nothing mirrors it.
///
/// - Owns: the key. The engine's contexts hold references of their own.
/// - Threads: any; OpenSSL counts references atomically and signing changes nothing.
@safe public final class SigningKey: @unchecked Sendable {
    let pointer: OpaquePointer
    public let kind: SigningKeyKind

    init(adopting pointer: OpaquePointer) {
        unsafe self.pointer = pointer
        switch unsafe malla_key_kind(pointer) {
        case MALLA_KEY_P256: kind = .p256
        case MALLA_KEY_P384: kind = .p384
        case MALLA_KEY_P521: kind = .p521
        case MALLA_KEY_RSA: kind = .rsa
        case MALLA_KEY_ED25519: kind = .ed25519
        default: kind = .other
        }
    }

    deinit { unsafe malla_key_free(pointer) }

    /// A new P-256 key.
    public static func generate() throws(SigningKeyError) -> SigningKey {
        // Safe: the caller owns what it gets.
        guard let pointer = unsafe malla_key_new() else { throw SigningKeyError() }
        return unsafe SigningKey(adopting: pointer)
    }

    /// Reads PEM to the end of a file; an encrypted key is refused.
    public static func read(from descriptor: Int32) throws(SigningKeyError) -> SigningKey {
        // Safe: the caller owns what it gets; the descriptor stays the caller's.
        guard let pointer = unsafe malla_key_read(descriptor) else { throw SigningKeyError() }
        return unsafe SigningKey(adopting: pointer)
    }

    /// From PKCS #8 in DER, which is wiped.
    public static func take(_ bytes: inout [UInt8]) throws(SigningKeyError) -> SigningKey {
        // Safe: the call reads the array, which is wiped in place afterwards.
        let pointer = unsafe malla_key_from_der(bytes, bytes.count)
        Secret.wipe(&bytes)
        guard let pointer = unsafe pointer else { throw SigningKeyError() }
        return unsafe SigningKey(adopting: pointer)
    }

    /// Writes PKCS #8 in PEM behind a heading, for the built-in authority's own file.
    public func write(heading: String, to descriptor: Int32) throws(SigningKeyError) {
        // Safe: the call reads the text while it runs.
        if unsafe malla_key_write(pointer, heading, descriptor) != 0 { throw SigningKeyError() }
    }

    /// SubjectPublicKeyInfo in DER.
    public func publicKey() throws(SigningKeyError) -> [UInt8] {
        // The largest is RSA's with 16 384 bits.
        var out = [UInt8](repeating: 0, count: 4_096)
        // Safe: the call writes into an array of that size.
        let count = unsafe malla_key_public(pointer, &out, out.count)
        guard count > 0 else { throw SigningKeyError() }
        return Array(out.prefix(count))
    }

    /// A signature as X.509 holds it.
    ///
    /// - Parameter digestBits: 256, 384 or 512; 0 for Ed25519.
    public func sign(_ bytes: [UInt8], digestBits: Int32) throws(SigningKeyError) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: 2_048)
        // Safe: the call reads one array and writes the other, each with its size.
        let count = unsafe malla_key_sign(
            pointer, digestBits, bytes, bytes.count, &out, out.count)
        guard count > 0 else { throw SigningKeyError() }
        return Array(out.prefix(count))
    }

    /// Whether a certificate in DER is of this key.
    public func matches(certificate: [UInt8]) -> Bool {
        // Safe: the call reads the array.
        unsafe malla_key_matches(pointer, certificate, certificate.count) == 1
    }
}

extension SigningKey: CustomStringConvertible, CustomReflectable {
    public var description: String { "(a private key)" }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// Bytes that were a key, or may have been.
public enum Secret {
    /// Overwrites an array. One that others hold too they keep as it was.
    public static func wipe(_ bytes: inout [UInt8]) {
        // Safe: the call writes the array in its size.
        unsafe explicit_bzero(&bytes, bytes.count)
    }

    /// Overwrites memory, whoever holds it: nobody may read it any more.
    public static func wipe(_ bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress else { return }
        // Safe: the caller says that it is memory that may be written.
        unsafe explicit_bzero(UnsafeMutableRawPointer(mutating: start), bytes.count)
    }
}

/// OpenSSL's secure heap: locked, kept out of dumps, wiped when freed.
public enum SecureHeap {
    public enum State: Sendable, Hashable {
        case locked
        /// RLIMIT_MEMLOCK is too small: the memory may be swapped out.
        case unlocked
        case missing
    }

    /// A key takes 64 bytes, and so does each handshake while it lasts: room for 16 000 together.
    public static let bytes = 1 << 20

    /// Once, before the first key. Later calls change nothing.
    @discardableResult public static func open() -> State {
        // Safe: numbers in, a number out.
        switch malla_secure_heap_open(bytes) {
        case 1: .locked
        case 2: .unlocked
        default: .missing
        }
    }

    /// Bytes in use.
    public static var used: Int { malla_secure_heap_used() }
}
