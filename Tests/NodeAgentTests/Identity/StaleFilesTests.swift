import L7Engine
import MeshModel
import Testing

@testable import NodeAgent

@Suite("Identity: files beside one that cannot be used are followed, and each refusal is told")
struct StaleFilesTests {
    @Test(arguments: ["mv ca.crt kept", "echo x > ca.crt"])
    func `files: what is revoked while the bundle cannot be read is revoked`(
        _ trouble: String
    ) throws {
        let directory = try Self.directory()
        var identities = Identities(
            SVIDFiles(directory: directory.path, trustDomain: .standard))
        identities.follow([ObjectName("shop", "cart")])
        var steady = 0.0
        func turn() {
            _ = identities.turn(
                Moment(wall: AuthorityDirectory.now, steady: steady))
            steady += 1
        }
        turn()
        #expect(identities.credentials.svids.count == 1)
        let roots = identities.bundles.first?.roots

        try directory.shell("cp ca.crt good; \(trouble)")
        turn()
        #expect(identities.bundleFailure != nil)
        try directory.shell("cp list ca.crl")
        turn()
        #expect(identities.bundles.first?.roots == roots)
        #expect(identities.bundles.first?.revocations.count == 1)
        #expect(identities.credentials.svids.isEmpty)
        #expect(identities.entries[try AuthorityDirectory.id()]?.failure?.reason == .revoked)

        // Refused as well: both are told, and what was revoked stays so.
        try directory.shell("cp foreign ca.crl")
        turn()
        let message = try #require(identities.bundleFailure?.message)
        #expect(message.contains("ca.crt") && message.contains("ca.crl"), "\(message)")
        #expect(identities.counts.failures[.untrusted] == 1)
        #expect(identities.bundles.first?.revocations.count == 1)

        try directory.shell("mv good ca.crt")
        turn()
        #expect(identities.bundleFailure?.reason == .untrusted)
        #expect(identities.counts.failures[.untrusted] == 1)
        try directory.shell("rm ca.crl")
        turn()
        #expect(identities.bundleFailure == nil)
        #expect(identities.credentials.svids.count == 1)
    }

    @Test func `built-in: a list that is refused while the authority is stale is told`() throws {
        let directory = try AuthorityDirectory()
        var identities = Identities(directory.source())
        identities.follow([ObjectName("shop", "cart")])
        func turn(_ steady: Double) -> [String] {
            identities.turn(Moment(wall: AuthorityDirectory.now, steady: steady))
        }
        _ = turn(0)
        try directory.shell("mv ca.key kept")
        _ = turn(1)
        #expect(identities.bundleFailure?.reason == .unreadable)
        try directory.shell("echo x > ca.crl; mkdir federated; echo x > federated/a.pem")
        let lines = turn(2)
        let message = try #require(identities.bundleFailure?.message)
        for name in ["ca.key", "ca.crl", "federated/a.pem"] {
            #expect(message.contains(name), "\(message)")
        }
        #expect(identities.counts.failures[.invalid] == 2)
        #expect(lines.count == 2, "\(lines)")
        try directory.shell("mv kept ca.key; rm -r ca.crl federated")
        #expect(turn(3).contains { $0.hasSuffix("is well again") })
    }

    /// For `--svids`: a pair for `cart`; `list` revokes it, and `foreign` is nobody's.
    private static func directory() throws -> AuthorityDirectory {
        let directory = try AuthorityDirectory()
        try directory.shell(
            """
            for n in ca other; do
              openssl req -x509 -newkey ed25519 -nodes -keyout $n.key -out $n.crt -subj /CN=$n \
                -days 3 -addext keyUsage=critical,keyCertSign,cRLSign
            done
            openssl req -newkey ed25519 -nodes -keyout tls.key -out request -subj /CN=x
            printf 'subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/cart\\n%s\\n' \
              keyUsage=digitalSignature > e
            openssl x509 -req -in request -CA ca.crt -CAkey ca.key -days 1 -extfile e -out tls.crt
            : > db; echo 01 > number
            printf '[ca]\\ndefault_ca=o\\n[o]\\ndatabase=db\\ncrlnumber=number\\n%s\\n' \
              'default_md=default' > conf
            openssl ca -config conf -cert ca.crt -keyfile ca.key -revoke tls.crt
            openssl ca -config conf -cert ca.crt -keyfile ca.key -gencrl -crldays 1 -out list
            openssl ca -config conf -cert other.crt -keyfile other.key -gencrl -crldays 1 \
              -out foreign
            """)
        return directory
    }
}
