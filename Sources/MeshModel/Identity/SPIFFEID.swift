/// Who a workload is: `spiffe://<trust domain>/<path>`.
///
/// - Source: SPIFFE-ID standard, section 2. Nothing is percent-decoded, folded or repaired.
public struct SPIFFEID: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// Of the whole text, by the standard.
    public static let bytesMax = 2_048
    private static let scheme = "spiffe://"

    public let trustDomain: TrustDomain
    /// With its leading slash; empty for the trust domain itself.
    public let path: String

    public init(_ text: some StringProtocol) throws(SPIFFEIDError) {
        guard text.hasPrefix(Self.scheme) else { throw .noScheme }
        let bytes = text.utf8.count
        if bytes > Self.bytesMax { throw .tooLong(bytes: bytes) }
        let rest = text.dropFirst(Self.scheme.count)
        let domain = rest.prefix { $0 != "/" }
        trustDomain = try TrustDomain(String(domain))
        path = String(rest.dropFirst(domain.count))
        try Self.check(path)
    }

    /// A service account as Kubernetes and Istio name it.
    ///
    /// - Throws: for names that Kubernetes would not have allowed.
    public init(
        _ domain: TrustDomain, namespace: String, serviceAccount: String
    ) throws(SPIFFEIDError) {
        trustDomain = domain
        path = "/ns/\(namespace)/sa/\(serviceAccount)"
        if namespace.contains("/") || serviceAccount.contains("/") { throw .pathCharacter(0x2f) }
        try Self.check(path)
        if description.utf8.count > Self.bytesMax {
            throw .tooLong(bytes: description.utf8.count)
        }
    }

    init(domain: TrustDomain) {
        trustDomain = domain
        path = ""
    }

    public var description: String { Self.scheme + trustDomain.name + path }

    /// The account that `/ns/…/sa/…` names; `nil` for any other path.
    public var account: ObjectName? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: true)
        guard parts.count == 4, parts[0] == "ns", parts[2] == "sa" else { return nil }
        return ObjectName(String(parts[1]), String(parts[3]))
    }

    public static func < (left: SPIFFEID, right: SPIFFEID) -> Bool {
        (left.trustDomain, left.path) < (right.trustDomain, right.path)
    }

    private static func check(_ path: String) throws(SPIFFEIDError) {
        guard !path.isEmpty else { return }
        if path.hasSuffix("/") { throw .trailingSlash }
        for segment in path.dropFirst().split(separator: "/", omittingEmptySubsequences: false) {
            if segment.isEmpty { throw .emptySegment }
            if segment == "." || segment == ".." { throw .dotSegment }
            if let wrong = segment.utf8.first(where: { !allows($0) }) {
                throw .pathCharacter(wrong)
            }
        }
    }

    private static func allows(_ byte: UInt8) -> Bool {
        (0x61...0x7a).contains(byte | 0x20) || (0x30...0x39).contains(byte) || byte == 0x2d
            || byte == 0x2e || byte == 0x5f
    }
}
