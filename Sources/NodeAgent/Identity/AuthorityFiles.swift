// `ca.crt` and `ca.key` in a directory that nodes may share: made when there is nothing.

internal import Foundation
internal import Glibc
internal import L7Engine
internal import MeshModel

/// The files of the built-in authority.
///
/// - Source: of nodes that start together each takes the same three steps: make a key unless there
///   is one, sign for whatever key is there unless there is a certificate, read both. Whoever comes
///   second in a step takes what is there, so it needs no lock and heals when somebody dies midway.
struct AuthorityFiles {
    let directory: String
    let trustDomain: TrustDomain

    var certificatePath: String { directory + "/ca.crt" }
    var keyPath: String { directory + "/ca.key" }
    /// Without it a key was put there by an operator, who has its certificate.
    static let heading = "The key of a certificate authority that Malla made.\n"

    /// Makes an authority unless there is one.
    ///
    /// - Returns: whether this call made a file.
    func make(at now: Int64) throws(SVIDFailure) -> Bool {
        if IdentityFile.exists(certificatePath) { return false }
        do {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o700])
        } catch {
            throw SVIDFailure(
                .unreadable, "\(directory) cannot be made: \(error.localizedDescription)")
        }
        var isMade = false
        if !IdentityFile.exists(keyPath) {
            isMade = try IdentityFile.publish(keyPath) { descriptor in
                try SigningKey.generate().write(heading: Self.heading, to: descriptor)
            }
        } else if !hasOwnHeading, !IdentityFile.exists(certificatePath) {
            throw SVIDFailure(
                .unreadable, "\(certificatePath) is missing beside ca.key: put it there")
        }
        let key = try readKey()
        let domain = trustDomain
        return try IdentityFile.publish(certificatePath) { descriptor in
            let text = try Authority.makeRoot(key: key, trustDomain: domain, at: now)
            try IdentityFile.write(text, to: descriptor)
        } || isMade
    }

    func read() throws(SVIDFailure) -> Authority {
        let certificates = try IdentityFile.pem(certificatePath, "CERTIFICATE")
        let key = try readKey()
        do throws(SVIDFailure) {
            return try Authority(certificates: certificates, key: key, trustDomain: trustDomain)
        } catch {
            throw SVIDFailure(error.reason, "\(certificatePath): \(error.message)")
        }
    }

    private func readKey() throws(SVIDFailure) -> SigningKey {
        try IdentityFile.withDescriptor(keyPath) { try SigningKey.read(from: $0) }
    }

    private var hasOwnHeading: Bool {
        guard let file = FileHandle(forReadingAtPath: keyPath) else { return false }
        let first = try? file.read(upToCount: Self.heading.utf8.count)
        return first.map { Array($0) == Array(Self.heading.utf8) } ?? false
    }

    /// Whether others than the owner may read the key.
    var isKeyExposed: Bool {
        let attributes = try? FileManager.default.attributesOfItem(atPath: keyPath)
        return ((attributes?[.posixPermissions] as? Int) ?? 0) & 0o077 != 0
    }
}
