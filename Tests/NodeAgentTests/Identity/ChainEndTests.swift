import Foundation
import L7Engine
import MeshModel
import Testing

@testable import NodeAgent

@Suite("Identity: a chain ends with the first certificate that leads from its leaf to a root")
struct ChainEndTests {
    @Test func `files: a leaf is not served past the end of its intermediate`() throws {
        let authorities = try Authorities()
        try authorities.make("root", days: 30)
        try authorities.make("middle", by: "root", days: 10)
        try authorities.makeLeaf(by: "middle", days: 20)
        let directory = try authorities.putPair(chain: ["leaf", "middle"], bundle: ["root"])
        let end = try authorities.end("middle")

        var identities = Identities(
            SVIDFiles(directory: directory.path, trustDomain: .standard), random: { 0.5 })
        identities.follow([ObjectName("shop", "cart")])
        let (id, start) = (try AuthorityDirectory.id(), AuthorityDirectory.now)
        func turn(at wall: Int64) {
            _ = identities.turn(Moment(wall: wall, steady: Double(wall - start)))
        }
        turn(at: start)
        #expect(identities.credentials.svids[id]?.notAfter == end)
        turn(at: end - Rotation.marginSeconds - 1)
        #expect(identities.credentials.svids[id] != nil)
        turn(at: end - Rotation.marginSeconds)
        #expect(identities.credentials.svids.isEmpty)
        #expect(identities.counts.expired == 1)
        #expect(identities.entries[id]?.failure?.reason == .expired)

        // The intermediate is renewed, and the leaf is what it was.
        try authorities.make("middle", by: "root", days: 15)
        try authorities.putPair(chain: ["leaf", "middle"], bundle: ["root"], into: directory)
        turn(at: end)
        #expect(identities.credentials.svids[id]?.notAfter == (try authorities.end("middle")))
    }

    @Test func `files: of two pairs for one identity the one whose chain lasts longer is taken`()
        throws
    {
        let authorities = try Authorities()
        try authorities.make("root", days: 30)
        try authorities.make("short", by: "root", days: 5)
        try authorities.make("long", by: "root", days: 10)
        try authorities.makeLeaf(by: "short", days: 20)
        let directory = try authorities.putPair(chain: ["leaf", "short"], bundle: ["root"])
        try authorities.makeLeaf(by: "long", days: 15)
        try authorities.putPair(
            chain: ["leaf", "long"], bundle: ["root"], into: directory, folder: "other")
        #expect(try notAfter(directory) == authorities.end("long"))
    }

    @Test func `what leads past a root that is believed does not count, and does once it is not`()
        throws
    {
        let authorities = try Authorities()
        try authorities.make("older", days: 30)
        try authorities.make("root", days: 30)
        // Of the same name and key, by the older root.
        try authorities.make("cross", as: "root", by: "older", days: 2)
        try authorities.make("middle", by: "root", days: 10)
        try authorities.makeLeaf(by: "middle", days: 20)
        let chain = ["leaf", "middle", "cross"]
        let directory = try authorities.putPair(chain: chain, bundle: ["root", "older"])
        var files = SVIDFiles(directory: directory.path, trustDomain: .standard)
        #expect(try notAfter(&files) == authorities.end("middle"))
        try authorities.putPair(chain: chain, bundle: ["older"], into: directory)
        #expect(try notAfter(&files) == authorities.end("cross"))
        // A root that is sent all the same ends nobody's chain.
        try authorities.putPair(
            chain: chain + ["root"], bundle: ["root", "older"], into: directory)
        #expect(try notAfter(&files) == authorities.end("middle"))
    }

    @Test func `Workload API: a leaf ends with its intermediate`() throws {
        let authorities = try Authorities()
        try authorities.make("root", days: 30)
        try authorities.make("middle", by: "root", days: 10)
        try authorities.makeLeaf(by: "middle", days: 20)
        let id = try AuthorityDirectory.id().description
        let svid =
            Self.field(1, Array(id.utf8))
            + Self.field(2, try authorities.der("x509 -in leaf.crt"))
            + Self.field(3, try authorities.der("pkey -in leaf.key"))
            + Self.field(4, try authorities.der("x509 -in root.crt"))
        let middle = try authorities.der("x509 -in middle.crt")
        let alone = try WorkloadAPIMessage(Self.field(1, svid)).svids.first
        #expect(alone?.notAfter == (try authorities.end("leaf")))
        // The last of a field counts: the chain with its intermediate.
        let whole = svid + Self.field(2, (alone?.chain[0] ?? []) + middle)
        let message = try WorkloadAPIMessage(Self.field(1, whole))
        #expect(message.svids.first?.chain.count == 2)
        #expect(message.svids.first?.notAfter == (try authorities.end("middle")))
    }

    @Test func `built-in: what it signs ends with the intermediate above its own`() throws {
        let authorities = try Authorities()
        try authorities.make("root", days: 30)
        try authorities.make("upper", by: "root", days: 5)
        try authorities.make("own", by: "upper", days: 20)
        let directory = authorities.directory
        try directory.shell("cat own.crt upper.crt root.crt > ca.crt; cp own.key ca.key")
        let (id, end) = (try AuthorityDirectory.id(), try authorities.end("upper"))

        let svid = try directory.issue(id, life: 365 * 86_400)
        #expect(svid.notAfter == end)
        var source = directory.source()
        let bundle = try #require(try source.bundles(at: AuthorityDirectory.now).first)
        #expect(bundle.verify(svid.chain, at: end - 1) == .good)
        #expect(bundle.verify(svid.chain, at: end + 1) == .expired)
        #expect {
            try source.certificate(for: id, after: nil, at: end)
        } throws: {
            ($0 as? SVIDFailure)?.reason == .expired
        }
    }

    /// A field of bytes as Protocol Buffers write it.
    private static func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] {
        var (count, size) = (bytes.count, [UInt8]())
        while count >= 0x80 {
            size.append(UInt8(count & 0x7f) | 0x80)
            count >>= 7
        }
        return [number << 3 | 2] + size + [UInt8(count)] + bytes
    }

    private func notAfter(_ directory: AuthorityDirectory) throws -> Int64 {
        var files = SVIDFiles(directory: directory.path, trustDomain: .standard)
        return try notAfter(&files)
    }

    private func notAfter(_ files: inout SVIDFiles) throws -> Int64 {
        let now = AuthorityDirectory.now
        _ = try files.bundles(at: now)
        return try #require(
            try files.certificate(for: try AuthorityDirectory.id(), after: nil, at: now)
        ).notAfter
    }
}

/// Authorities below each other, and a leaf, made by the program openssl: `NAME.crt`, `NAME.key`.
private struct Authorities {
    let directory: AuthorityDirectory

    init() throws { directory = try AuthorityDirectory() }

    /// - Parameters:
    ///   - subject: whose name and key it has, if not its own.
    ///   - signer: who signs it, if not it itself.
    func make(
        _ name: String, as subject: String? = nil, by signer: String? = nil, days: Int
    ) throws {
        try sign(
            name, as: subject ?? name, by: signer, days: days,
            "basicConstraints=critical,CA:TRUE\\nkeyUsage=critical,keyCertSign,cRLSign")
    }

    /// `leaf`, for the account `cart`.
    func makeLeaf(by signer: String, days: Int) throws {
        try sign(
            "leaf", as: "leaf", by: signer, days: days,
            "subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/cart\\n"
                + "keyUsage=digitalSignature")
    }

    private func sign(
        _ name: String, as subject: String, by signer: String?, days: Int, _ extensions: String
    ) throws {
        let how = signer.map { "-CA \($0).crt -CAkey \($0).key" } ?? "-signkey \(subject).key"
        try directory.shell(
            """
            test -e \(subject).key || openssl genpkey -algorithm ed25519 -out \(subject).key
            openssl req -new -key \(subject).key -subj /CN=\(subject) -out request
            printf '\(extensions)\\n%s\\n%s\\n' subjectKeyIdentifier=hash \
              authorityKeyIdentifier=keyid > extensions
            openssl x509 -req -in request \(how) -days \(days) -extfile extensions \
              -out \(name).crt
            """)
    }

    /// A directory for `--svids`.
    @discardableResult func putPair(
        chain: [String], bundle: [String], into given: AuthorityDirectory? = nil,
        folder: String = "cart"
    ) throws -> AuthorityDirectory {
        let into = try given ?? AuthorityDirectory()
        func files(_ names: [String]) -> String { names.map { $0 + ".crt" }.joined(separator: " ") }
        try directory.shell(
            """
            mkdir -p \(into.path)/\(folder)
            cat \(files(bundle)) > n; mv n \(into.path)/ca.crt
            cat \(files(chain)) > n; mv n \(into.path)/\(folder)/tls.crt
            cp leaf.key n; mv n \(into.path)/\(folder)/tls.key
            """)
        return into
    }

    /// Seconds since 1970.
    func end(_ name: String) throws -> Int64 {
        let text = try directory.shell(
            "date -d \"$(openssl x509 -in \(name).crt -noout -enddate | cut -d= -f2)\" +%s")
        return Int64(text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
    }

    /// What a command of openssl's writes as DER.
    func der(_ command: String) throws -> [UInt8] {
        try directory.shell("openssl \(command) -outform DER -out der")
        return [UInt8](try Data(contentsOf: URL(fileURLWithPath: directory.path + "/der")))
    }
}
