// Names of SPIFFE: who signs (TrustDomain) and who is meant (SPIFFEID). Pure values that can only
// hold what the standard allows, so that comparing two of them is comparing texts.

/// Why a text is no SPIFFE ID or no name of a trust domain.
public enum SPIFFEIDError: Error, Hashable, Sendable, CustomStringConvertible {
    case noScheme
    case emptyTrustDomain
    case trustDomainTooLong(bytes: Int)
    case trustDomainCharacter(UInt8)
    case tooLong(bytes: Int)
    case emptySegment
    case dotSegment
    case trailingSlash
    case pathCharacter(UInt8)

    public var description: String {
        switch self {
        case .noScheme: "does not begin with spiffe://"
        case .emptyTrustDomain: "names no trust domain"
        case .trustDomainTooLong(let bytes):
            "its trust domain is \(bytes) bytes long, at most \(TrustDomain.bytesMax) are allowed"
        case .trustDomainCharacter(let byte):
            "its trust domain holds \(Self.shown(byte)): only a-z, 0-9, dot, dash and underscore "
                + "are allowed (no port, no user, no query)"
        case .tooLong(let bytes):
            "is \(bytes) bytes long, at most \(SPIFFEID.bytesMax) are allowed"
        case .emptySegment: "its path holds an empty segment"
        case .dotSegment: "its path holds a segment . or .."
        case .trailingSlash: "ends with a slash"
        case .pathCharacter(let byte):
            "its path holds \(Self.shown(byte)): only letters, digits, dot, dash and underscore "
                + "are allowed"
        }
    }

    private static func shown(_ byte: UInt8) -> String {
        let isPrintable = byte > 0x20 && byte < 0x7f
        return isPrintable ? "'\(Character(Unicode.Scalar(byte)))'" : "byte \(byte)"
    }
}

/// A domain that one authority signs for.
///
/// - Source: SPIFFE-ID standard, section 2.1. Upper case is refused, not folded.
public struct TrustDomain: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// Of the standard.
    public static let bytesMax = 255
    /// What Istio calls a mesh that was given no other name.
    public static let standard = TrustDomain(unchecked: "cluster.local")

    public let name: String

    public init(_ name: String) throws(SPIFFEIDError) {
        if name.isEmpty { throw .emptyTrustDomain }
        if let wrong = name.utf8.first(where: { !Self.allows($0) }) {
            throw .trustDomainCharacter(wrong)
        }
        if name.utf8.count > Self.bytesMax { throw .trustDomainTooLong(bytes: name.utf8.count) }
        self.name = name
    }

    private init(unchecked name: String) { self.name = name }

    /// The ID of the domain itself, which its authorities bear: no path.
    public var id: SPIFFEID { SPIFFEID(domain: self) }

    public var description: String { name }

    public static func < (left: TrustDomain, right: TrustDomain) -> Bool { left.name < right.name }

    private static func allows(_ byte: UInt8) -> Bool {
        (0x61...0x7a).contains(byte) || (0x30...0x39).contains(byte) || byte == 0x2d
            || byte == 0x2e || byte == 0x5f
    }
}
