// Certificates and keys in Secrets and ConfigMaps: taken out of their base64, judged by OpenSSL.
// Their bytes go into the mesh and nowhere else: no diagnostic quotes them.

internal import COpenSSL
internal import Foundation
internal import MeshModel

/// PEM bytes as an object holds them.
enum PEMText {
    static let chainKey = "tls.crt"
    static let privateKey = "tls.key"
    static let authoritiesKey = "ca.crt"

    /// What a Secret holds under a key: `stringData` overrides `data`, as in Kubernetes.
    /// `nil`: nothing, or no base64.
    static func secret(_ root: Value, _ key: String) -> [UInt8]? {
        if let text = root["stringData"]?[key]?.text { return Array(text.utf8) }
        guard let text = root["data"]?[key]?.text else { return nil }
        return Data(base64Encoded: text.filter { !$0.isWhitespace }).map { [UInt8]($0) }
    }

    /// The same of a ConfigMap.
    static func configMap(_ root: Value, _ key: String) -> [UInt8]? {
        root["data"]?[key]?.text.map { Array($0.utf8) }
    }

    /// What is wrong with a chain and its key now; `nil`: nothing.
    static func problem(chain: [UInt8], key: [UInt8]) -> String? {
        var found = malla_credential()
        // Safe: the call reads the arrays and writes the record.
        let result = unsafe malla_credential_check(
            chain, chain.count, key, key.count, Int64(Date().timeIntervalSince1970), &found)
        return result == 0 ? nil : text(found)
    }

    /// What is wrong with a bundle of authorities now; `nil`: nothing.
    static func problem(authorities: [UInt8]) -> String? {
        var found = malla_credential()
        // Safe: the call reads the array and writes the record.
        let result = unsafe malla_authorities_check(
            authorities, authorities.count, Int64(Date().timeIntervalSince1970), &found)
        return result == 0 ? nil : text(found)
    }

    private static func text(_ found: malla_credential) -> String {
        // Safe: the calls end the text with NUL.
        unsafe withUnsafeBytes(of: found.problem) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}
