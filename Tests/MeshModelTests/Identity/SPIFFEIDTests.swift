import MeshModel
import Testing

@Suite("SPIFFE IDs are what the standard allows, and nothing else")
struct SPIFFEIDTests {
    static let valid: [(String, String, String, String)] = [
        (
            "a workload", "spiffe://cluster.local/ns/shop/sa/cart", "cluster.local",
            "/ns/shop/sa/cart"
        ),
        ("the trust domain itself", "spiffe://example.org", "example.org", ""),
        ("one segment", "spiffe://a/b", "a", "/b"),
        ("every character of a domain", "spiffe://a-z_0.9/x", "a-z_0.9", "/x"),
        ("every character of a path", "spiffe://a/Az09._-", "a", "/Az09._-"),
        ("three dots are a name", "spiffe://a/...", "a", "/..."),
    ]

    @Test(arguments: valid) func `a valid ID has a trust domain and a path`(
        _ rule: String, _ text: String, _ domain: String, _ path: String
    ) throws {
        let id = try SPIFFEID(text)
        #expect(id.trustDomain.name == domain)
        #expect(id.path == path)
        #expect(id.description == text)
    }

    static let invalid: [(String, String, SPIFFEIDError)] = [
        ("nothing", "", .noScheme),
        ("another scheme", "https://a/b", .noScheme),
        ("an upper case scheme", "SPIFFE://a/b", .noScheme),
        ("no authority", "spiffe:///b", .emptyTrustDomain),
        ("nothing behind the scheme", "spiffe://", .emptyTrustDomain),
        ("upper case in the domain", "spiffe://Example.org/b", .trustDomainCharacter(0x45)),
        ("a port", "spiffe://a:80/b", .trustDomainCharacter(0x3a)),
        ("a user", "spiffe://u@a/b", .trustDomainCharacter(0x40)),
        ("a query", "spiffe://a?b", .trustDomainCharacter(0x3f)),
        ("a percent sign in the domain", "spiffe://a%2e/b", .trustDomainCharacter(0x25)),
        ("a domain in another script", "spiffe://ä/b", .trustDomainCharacter(0xc3)),
        ("a slash at the end", "spiffe://a/", .trailingSlash),
        ("a slash after the path", "spiffe://a/b/", .trailingSlash),
        ("an empty segment", "spiffe://a//b", .emptySegment),
        ("a dot", "spiffe://a/./b", .dotSegment),
        ("two dots", "spiffe://a/b/..", .dotSegment),
        ("a fragment", "spiffe://a/b#c", .pathCharacter(0x23)),
        ("a query behind the path", "spiffe://a/b?c", .pathCharacter(0x3f)),
        ("percent encoding", "spiffe://a/%62", .pathCharacter(0x25)),
        ("a blank", "spiffe://a/b c", .pathCharacter(0x20)),
        ("NUL", "spiffe://a/b\0", .pathCharacter(0)),
    ]

    @Test(arguments: invalid) func `anything else is refused with its reason`(
        _ rule: String, _ text: String, _ error: SPIFFEIDError
    ) {
        #expect(throws: error) { try SPIFFEID(text) }
    }

    @Test func `255 bytes of domain and 2048 in all are the limits`() throws {
        let domain = String(repeating: "a", count: 255)
        #expect(try TrustDomain(domain).name == domain)
        #expect(throws: SPIFFEIDError.trustDomainTooLong(bytes: 256)) {
            try TrustDomain(domain + "a")
        }
        let longest = "spiffe://a/" + String(repeating: "b", count: 2_037)
        #expect(try SPIFFEID(longest).description == longest)
        #expect(throws: SPIFFEIDError.tooLong(bytes: 2_049)) { try SPIFFEID(longest + "b") }
    }

    @Test func `a service account has its ID, and the ID its account`() throws {
        let id = try SPIFFEID(.standard, namespace: "shop", serviceAccount: "cart")
        #expect(id.description == "spiffe://cluster.local/ns/shop/sa/cart")
        #expect(id.account == ObjectName("shop", "cart"))
        #expect(try SPIFFEID("spiffe://a/spire/server").account == nil)
        #expect(throws: SPIFFEIDError.self) {
            try SPIFFEID(.standard, namespace: "shop/sa/admin", serviceAccount: "x")
        }
        #expect(throws: SPIFFEIDError.emptySegment) {
            try SPIFFEID(.standard, namespace: "", serviceAccount: "x")
        }
    }
}
