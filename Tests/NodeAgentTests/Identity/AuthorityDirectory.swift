import Foundation
import L7Engine
import MeshModel
import TestSupport

@testable import NodeAgent

/// A `--ca` directory of one test. What is not made by Malla is made by the program openssl, and
/// what Malla makes is judged by it.
final class AuthorityDirectory {
    let path: String
    let domain = TrustDomain.standard

    init() throws {
        path = NSTemporaryDirectory() + "malla-identity-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    var files: AuthorityFiles { AuthorityFiles(directory: path, trustDomain: domain) }

    func source(life: Int64 = 86_400) -> BuiltInAuthority {
        BuiltInAuthority(directory: path, trustDomain: domain, life: life)
    }

    static func id(_ account: String = "cart") throws -> SPIFFEID {
        try SPIFFEID(.standard, namespace: "shop", serviceAccount: account)
    }

    static var now: Int64 { Int64(Date().timeIntervalSince1970) }

    @discardableResult
    func shell(_ script: String) throws -> String {
        try Command.shell("cd \(path)\nexec 2>&1\n" + script)
    }

    /// Writes a chain as PEM files: `NAME.leaf` and `NAME.rest`.
    func write(_ svid: X509SVID, _ name: String) throws {
        for (suffix, part) in [("leaf", svid.chain.prefix(1)), ("rest", svid.chain.dropFirst())] {
            let text = part.map { Self.pem($0) }.joined()
            try text.write(toFile: "\(path)/\(name).\(suffix)", atomically: true, encoding: .utf8)
        }
    }

    static func pem(_ der: [UInt8]) -> String {
        let text = Data(der).base64EncodedString(options: [.lineLength64Characters])
        return "-----BEGIN CERTIFICATE-----\n\(text)\n-----END CERTIFICATE-----\n"
    }

    /// A root and an authority below it, in `name.crt` (its certificate, then the root's) and
    /// `name.key`.
    func makeIntermediate(_ name: String, root: String, key: String) throws {
        try shell(
            """
            openssl req -x509 -newkey \(root) -nodes -keyout root-\(name).key \
              -out root-\(name).crt -subj "/CN=Root of \(name)" -days 30 \
              -addext keyUsage=critical,keyCertSign,cRLSign
            openssl req -newkey \(key) -nodes -keyout \(name).key -out \(name).csr \
              -subj "/CN=Authority \(name)"
            printf '%s\\n' 'basicConstraints=critical,CA:TRUE,pathlen:0' \
              'keyUsage=critical,keyCertSign,cRLSign' 'subjectKeyIdentifier=hash' \
              'authorityKeyIdentifier=keyid' > \(name).ext
            openssl x509 -req -in \(name).csr -CA root-\(name).crt -CAkey root-\(name).key \
              -days 20 -extfile \(name).ext -out \(name).only
            cat \(name).only root-\(name).crt > \(name).crt
            """)
    }

    /// What a directory that was just read answers.
    func issue(_ id: SPIFFEID, life: Int64 = 86_400, at now: Int64 = AuthorityDirectory.now) throws
        -> X509SVID
    {
        var source = source(life: life)
        _ = try source.bundles(at: now)
        guard let svid = try source.certificate(for: id, after: nil, at: now) else {
            throw SVIDFailure(.missing, "nothing was issued")
        }
        return svid
    }
}
