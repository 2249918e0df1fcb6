import Foundation
import L7Engine
import MeshModel
import Testing

@testable import NodeAgent

@Suite("Certificates are replaced at half of their life, and never used after it")
struct IdentitiesTests {
    @Test func `renewal lies between 45 and 55 percent of a life`() {
        var times: Set<Int64> = []
        for step in 0..<1_000 {
            let at = Rotation.renewal(
                issued: 1_000_000, notAfter: 1_086_400, random: Double(step) / 1_000)
            #expect((1_000_000 + 38_880...1_000_000 + 47_520).contains(at))
            times.insert(at)
        }
        #expect(times.count == 1_000)
        // The shortest life that is allowed leaves turns enough.
        #expect((4...5).contains(Rotation.renewal(issued: 0, notAfter: 10, random: 0.999)))
    }

    @Test func `only accounts that pods have get a certificate, and lose it with the last pod`()
        throws
    {
        let bed = try Bed()
        bed.follow("cart", "web")
        bed.turn()
        #expect(bed.held == ["cart", "web"])
        let version = bed.identities.credentials.version
        bed.turn()
        #expect(bed.identities.credentials.version == version)

        bed.follow("web")
        bed.turn()
        #expect(bed.held == ["web"])
        #expect(bed.identities.credentials.version == version + 1)
    }

    @Test func `an account whose name makes no ID is named, and the others go on`() throws {
        let bed = try Bed()
        bed.identities.follow([ObjectName("shop", "cart"), ObjectName("shop", "c:d")])
        bed.turn()
        #expect(bed.held == ["cart"])
        #expect(bed.identities.nameless.keys.map(\.name) == ["c:d"])
    }

    @Test func `it is replaced at its time, not before, and the engine gets a new version`() throws
    {
        let bed = try Bed(life: 1_000)
        bed.follow("cart")
        bed.turn()
        let first = try bed.serial("cart")
        let version = bed.identities.credentials.version
        bed.pass(seconds: 499)
        #expect(try bed.serial("cart") == first)
        bed.pass(seconds: 2)
        #expect(try bed.serial("cart") != first)
        #expect(bed.identities.credentials.version == version + 1)
        #expect(bed.identities.counts.issued == 2)
    }

    @Test func `what cannot be replaced serves until its end, and not a second longer`() throws {
        let bed = try Bed(life: 1_000)
        bed.follow("cart")
        bed.turn()
        try bed.directory.shell("mv ca.crt away")
        // The last good authority goes on signing while ca.crt is missing.
        bed.pass(seconds: 600)
        #expect(bed.identities.counts.issued == 2)
        #expect(bed.identities.bundleFailure?.reason == .unreadable)

        bed.source.refuses = true
        let end = try #require(bed.identities.entries[AuthorityDirectory.id()]?.svid?.notAfter)
        while bed.moment.wall < end + 10 {
            bed.pass(seconds: 1)
            let isHeld = !bed.identities.credentials.svids.isEmpty
            #expect(isHeld == (bed.moment.wall < end - Rotation.marginSeconds))
        }
        #expect(bed.identities.counts.expired == 1)
        #expect(bed.identities.entries[try AuthorityDirectory.id()]?.failure?.reason == .signing)

        bed.source.refuses = false
        bed.pass(seconds: 61)
        #expect(bed.held == ["cart"])
    }

    @Test func `more accounts than a turn asks for get theirs by turns that follow at once`() throws
    {
        let bed = try Bed()
        let accounts = (0..<Identities.asksPerTurnMax + 40).map { ObjectName("shop", "a\($0)") }
        bed.identities.follow(Set(accounts))
        bed.turn()
        #expect(bed.held.count == Identities.asksPerTurnMax)
        #expect(bed.identities.hasMore)
        bed.turn()
        #expect(bed.held.count == accounts.count)
        #expect(!bed.identities.hasMore)
        // What is refused waits for its time, and is no reason to turn.
        bed.source.refuses = true
        bed.identities.follow(Set((0..<400).map { ObjectName("shop", "b\($0)") }))
        for _ in 0..<3 { bed.turn() }
        #expect(!bed.identities.hasMore)
    }

    @Test func `of what others make, each account gets its own, however many there are`() throws {
        let bed = try Bed()
        bed.source.issues = false
        let accounts = (0..<Identities.asksPerTurnMax + 40).map { ObjectName("shop", "a\($0)") }
        bed.identities.follow(Set(accounts))
        for _ in 0..<2 { bed.pass(seconds: 2) }
        #expect(bed.held.count == accounts.count)
        #expect(!bed.identities.hasMore)
    }

    @Test func `a refusal is tried again after 1 to 60 seconds`() throws {
        let bed = try Bed(life: 1_000)
        bed.source.refuses = true
        bed.follow("cart")
        var tries: [Double] = []
        for _ in 0..<600 {
            let before = bed.source.asked
            bed.pass(seconds: 1)
            if bed.source.asked > before { tries.append(bed.moment.steady) }
        }
        let waits = zip(tries, tries.dropFirst()).map { $1 - $0 }
        #expect(waits.max() ?? 0 <= 61)
        #expect(waits.suffix(4).allSatisfy { $0 >= 30 })
        #expect(tries.count < 30)
    }

    @Test(arguments: [86_400, -86_400, 3_600, -3_600]) func `a clock that was set is survived`(
        _ jump: Int64
    ) throws {
        let bed = try Bed(life: 86_400)
        _ = try bed.directory.files.make(at: bed.moment.wall - 30 * 86_400)
        bed.follow("cart")
        bed.turn()
        bed.pass(seconds: 2)
        #expect(bed.identities.counts.clockJumps == 0)

        bed.moment.wall += jump
        let lines = bed.turn()
        #expect(bed.identities.counts.clockJumps == 1)
        #expect(lines.contains { $0.contains("the clock was set \(abs(jump)) s") })
        // Whatever it says now, what serves is valid by it.
        let svid = try #require(bed.identities.credentials.svids[AuthorityDirectory.id()])
        #expect((svid.notBefore..<svid.notAfter).contains(bed.moment.wall))
        bed.pass(seconds: 2)
        #expect(bed.identities.counts.clockJumps == 1)
    }

    @Test func `a root is replaced without a restart: old, both, new`() throws {
        let bed = try Bed()
        bed.follow("cart")
        bed.turn()
        let first = try bed.serial("cart")
        let old = try #require(bed.identities.bundles.first)
        let next = try AuthorityDirectory()
        _ = try next.files.make(at: bed.moment.wall)

        // Both are believed, the old one still signs.
        try bed.directory.shell("cat ca.crt \(next.path)/ca.crt > n && mv n ca.crt")
        bed.pass(seconds: 2)
        #expect(bed.identities.bundles.first?.roots.count == 2)
        #expect(try bed.serial("cart") == first)

        // The new one signs: a certificate of the old one is still good and is left alone.
        try bed.directory.shell(
            """
            cp \(next.path)/ca.key n.key && mv n.key ca.key
            cat \(next.path)/ca.crt > n && openssl x509 -in ca.crt >> n && mv n ca.crt
            """)
        bed.pass(seconds: 2)
        #expect(try bed.serial("cart") == first)
        bed.follow("cart", "web")
        bed.pass(seconds: 2)
        let web = try #require(bed.identities.credentials.svids[AuthorityDirectory.id("web")])
        #expect(old.verify(web.chain, at: bed.moment.wall) == .untrusted)

        // The old one is not believed any more: what it signed is replaced at once.
        try bed.directory.shell("openssl x509 -in ca.crt > n && mv n ca.crt")
        bed.pass(seconds: 2)
        #expect(bed.identities.bundles.first?.roots.count == 1)
        #expect(try bed.serial("cart") != first)
        #expect(bed.held == ["cart", "web"])
    }

    @Test func `while certificate and key do not belong together the old pair goes on`() throws {
        let bed = try Bed(life: 1_000)
        bed.follow("cart")
        bed.turn()
        let next = try AuthorityDirectory()
        _ = try next.files.make(at: bed.moment.wall)
        try bed.directory.shell("cp \(next.path)/ca.crt ca.crt")
        bed.pass(seconds: 600)
        #expect(bed.identities.bundleFailure?.reason == .mismatch)
        #expect(bed.held == ["cart"])
        #expect(bed.identities.counts.issued == 2)
        try bed.directory.shell("cp \(next.path)/ca.key ca.key")
        bed.pass(seconds: 2)
        #expect(bed.identities.bundleFailure == nil)
        #expect(bed.held == ["cart"])
    }

    @Test func `a certificate that the CRL names is replaced at once`() throws {
        let bed = try Bed()
        bed.follow("cart", "web")
        bed.turn()
        let (cart, web) = (try bed.serial("cart"), try bed.serial("web"))
        let svid = try #require(bed.identities.credentials.svids[AuthorityDirectory.id()])
        try bed.directory.write(svid, "cart")
        try bed.revoke("cart.leaf")
        bed.pass(seconds: 2)
        #expect(bed.identities.bundles.first?.revocations.count == 1)
        #expect(bed.identities.bundles.first?.verify(svid.chain, at: bed.moment.wall) == .revoked)
        #expect(try bed.serial("cart") != cart)
        #expect(try bed.serial("web") == web)
        // As the program openssl sees it.
        let said = try bed.directory.shell(
            "openssl verify -crl_check -CRLfile ca.crl -CAfile ca.crt cart.leaf || true")
        #expect(said.contains("certificate revoked"))
    }

    @Test
    func `a root of the same name takes over, and lists that nobody signed take nothing away`()
        throws
    {
        let bed = try Bed()
        try bed.directory.shell(
            """
            for name in a b; do
              openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 \
                -keyout $name.key -out $name.crt -subj '/CN=Corp mesh CA' \
                -addext keyUsage=critical,keyCertSign,cRLSign
            done
            cp a.crt ca.crt; cp a.key ca.key
            """)
        bed.follow("cart")
        bed.turn()
        let svid = try #require(bed.identities.credentials.svids[AuthorityDirectory.id()])
        try bed.directory.write(svid, "cart")
        try bed.revoke("cart.leaf")
        bed.pass(seconds: 2)
        let second = try bed.serial("cart")
        #expect(second != svid.chain[0])

        // A list under the same name by a key that is not believed: the last good one stays.
        let list = "openssl ca -config conf -gencrl -crldays 1 -out ca.crl"
        try bed.directory.shell("\(list) -cert b.crt -keyfile b.key")
        bed.pass(seconds: 2)
        #expect(bed.identities.bundleFailure?.reason == .untrusted)
        #expect(bed.identities.counts.failures[.untrusted] == 1)
        #expect(bed.identities.bundles.first?.verify(svid.chain, at: bed.moment.wall) == .revoked)
        #expect(try bed.serial("cart") == second)
        try bed.directory.shell("\(list) -cert a.crt -keyfile a.key")
        bed.pass(seconds: 2)
        #expect(bed.identities.bundleFailure == nil)

        // The three steps of docs/identity.md, with the old root's list in place.
        try bed.directory.shell("cat a.crt b.crt > ca.crt")
        bed.pass(seconds: 2)
        #expect(try bed.serial("cart") == second)
        try bed.directory.shell("cp b.key ca.key; cat b.crt a.crt > ca.crt")
        bed.pass(seconds: 2)
        #expect(try bed.serial("cart") == second)
        try bed.directory.shell("cp b.crt ca.crt")
        bed.pass(seconds: 2)
        #expect(bed.identities.bundles.first?.revocations == [])
        #expect(bed.identities.bundleFailure?.reason == .untrusted)
        #expect(try bed.serial("cart") != second)
        let third = try #require(bed.identities.credentials.svids[AuthorityDirectory.id()])
        #expect(bed.identities.bundles.first?.verify(third.chain, at: bed.moment.wall) == .good)
        try bed.directory.shell("rm ca.crl")
        bed.pass(seconds: 2)
        #expect(bed.identities.bundleFailure == nil)
    }

    @Test func `what is revoked while the authority cannot be used is revoked`() throws {
        for trouble in ["mv ca.key kept", "mv ca.crt kept", "echo x > ca.key"] {
            let bed = try Bed()
            bed.follow("cart", "web")
            bed.turn()
            let (cart, web) = (try bed.serial("cart"), try bed.serial("web"))
            let svid = try #require(bed.identities.credentials.svids[AuthorityDirectory.id()])
            try bed.directory.write(svid, "cart")
            try bed.directory.shell("cp ca.key good.key; cp ca.crt good.crt")
            try bed.revoke("cart.leaf")
            try bed.directory.shell("mv ca.crl list; \(trouble)")
            bed.pass(seconds: 2)
            let failure = try #require(bed.identities.bundleFailure, "\(trouble)")
            try bed.directory.shell("mv list ca.crl")
            bed.pass(seconds: 2)
            #expect(bed.identities.bundles.first?.revocations.count == 1, "\(trouble)")
            #expect(bed.identities.bundleFailure == failure, "\(trouble)")
            // The last good authority signs.
            #expect(try bed.serial("cart") != cart, "\(trouble)")
            #expect(try bed.serial("web") == web, "\(trouble)")
            try bed.directory.shell("mv good.key ca.key; mv good.crt ca.crt")
            bed.pass(seconds: 2)
            #expect(bed.identities.bundleFailure == nil, "\(trouble)")
            #expect(bed.identities.bundles.first?.revocations.count == 1, "\(trouble)")
        }
    }

    @Test func `what failed is tried again at once when the files change`() throws {
        let bed = try Bed(life: 1_000)
        bed.source.refuses = true
        bed.follow("cart")
        for _ in 0..<300 { bed.pass(seconds: 1) }
        bed.source.refuses = false
        let next = try AuthorityDirectory()
        _ = try next.files.make(at: bed.moment.wall)
        try bed.directory.shell("cat ca.crt \(next.path)/ca.crt > n && mv n ca.crt")
        bed.pass(seconds: 1)
        #expect(bed.held == ["cart"])
    }

    @Test func `a federated trust domain has its own bundle`() throws {
        let bed = try Bed()
        let other = try AuthorityDirectory()
        _ = try other.files.make(at: bed.moment.wall)
        try bed.directory.shell(
            "mkdir federated && cp \(other.path)/ca.crt federated/example.org.pem")
        bed.follow("cart")
        bed.turn()
        let domain = try TrustDomain("example.org")
        #expect(Set(bed.identities.credentials.bundles.keys) == [.standard, domain])
        let own = try #require(bed.identities.credentials.bundles[.standard])
        let federated = try #require(bed.identities.credentials.bundles[domain])
        let foreign = try other.issue(try AuthorityDirectory.id())
        #expect(federated.verify(foreign.chain, at: bed.moment.wall) == .good)
        #expect(own.verify(foreign.chain, at: bed.moment.wall) == .untrusted)

        try bed.directory.shell("rm federated/example.org.pem")
        bed.pass(seconds: 2)
        #expect(Array(bed.identities.credentials.bundles.keys) == [.standard])
    }

    @Test func `a broken file of another trust domain holds up nothing of the node's own`() throws {
        let bed = try Bed()
        let other = try AuthorityDirectory()
        _ = try other.files.make(at: bed.moment.wall)
        try bed.directory.shell(
            "mkdir federated && cp \(other.path)/ca.crt federated/example.org.pem; "
                + "echo x > federated/a.pem")
        bed.follow("cart")
        bed.turn()
        let domain = try TrustDomain("example.org")
        #expect(bed.held == ["cart"])
        #expect(Set(bed.identities.credentials.bundles.keys) == [.standard, domain])
        let roots = bed.identities.credentials.bundles[.standard]?.roots.count

        // The last good roots stay, and a new root of the node's own is taken.
        let next = try AuthorityDirectory()
        _ = try next.files.make(at: bed.moment.wall)
        try bed.directory.shell(
            "cat ca.crt \(next.path)/ca.crt > n && mv n ca.crt; echo x > federated/example.org.pem")
        bed.pass(seconds: 2)
        #expect(bed.identities.credentials.bundles[.standard]?.roots.count == roots.map { $0 + 1 })
        #expect(bed.identities.credentials.bundles[domain] != nil)
        #expect(bed.identities.counts.failures[.invalid] ?? 0 > 0)
    }

    static let broken: [(String, String, SVIDFailure.Reason)] = [
        ("a name that is no trust domain", "mkdir federated; cp ca.crt federated/A.pem", .invalid),
        ("its own domain", "mkdir federated; cp ca.crt federated/cluster.local.pem", .invalid),
        ("no federated certificate", "mkdir federated; echo x > federated/a.pem", .invalid),
        ("no revocation list", "echo x > ca.crl", .invalid),
        ("no key", "rm ca.key", .unreadable),
        ("no PEM", "echo x > ca.crt", .invalid),
    ]

    @Test(arguments: broken) func `what cannot be read keeps the last good bundles`(
        _ rule: String, _ script: String, _ reason: SVIDFailure.Reason
    ) throws {
        let bed = try Bed()
        bed.follow("cart")
        bed.turn()
        let bundles = bed.identities.bundles
        try bed.directory.shell(script)
        bed.pass(seconds: 2)
        #expect(bed.identities.bundleFailure?.reason == reason)
        #expect(bed.identities.bundles == bundles)
        #expect(bed.held == ["cart"])
        #expect(bed.identities.counts.failures[reason] == 1)
        bed.pass(seconds: 2)
        #expect(bed.identities.counts.failures[reason] == 1)
    }

    @Test func `an authority of another trust domain is refused`() throws {
        let directory = try AuthorityDirectory()
        _ = try directory.files.make(at: AuthorityDirectory.now)
        var source = BuiltInAuthority(
            directory: directory.path, trustDomain: try TrustDomain("example.org"), life: 100)
        #expect {
            try source.bundles(at: AuthorityDirectory.now)
        } throws: {
            ($0 as? SVIDFailure)?.message.contains("--trust-domain") == true
        }
    }

    @Test func `files: what another program renews is taken, and half a pair is not`() throws {
        let authority = try AuthorityDirectory()
        let directory = try AuthorityDirectory()
        func put(_ life: Int) throws {
            try authority.shell(
                """
                test -e ca.crt || openssl req -x509 -newkey ed25519 -nodes -keyout ca.key \
                  -out ca.crt -subj /CN=ca -days 2
                openssl req -newkey ed25519 -nodes -keyout k -out c -subj /CN=x
                printf 'subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/cart\\n%s\\n' \
                  keyUsage=digitalSignature > e
                openssl x509 -req -in c -CA ca.crt -CAkey ca.key -days \(life) -extfile e -out l
                mkdir -p \(directory.path)/cart && cp ca.crt \(directory.path)/ca.crt
                cp l \(directory.path)/cart/tls.crt
                """)
        }
        try put(1)
        try authority.shell("cp k \(directory.path)/cart/tls.key")
        // OpenSSL's certificates begin when it makes them.
        var now = AuthorityDirectory.now
        var identities = Identities(
            SVIDFiles(directory: directory.path, trustDomain: .standard))
        identities.follow([ObjectName("shop", "cart"), ObjectName("shop", "web")])
        _ = identities.turn(Moment(wall: now, steady: 0))
        let id = try AuthorityDirectory.id()
        let first = try #require(identities.credentials.svids[id])
        #expect(identities.entries[try AuthorityDirectory.id("web")]?.failure?.reason == .missing)

        try put(2)
        now = AuthorityDirectory.now
        _ = identities.turn(Moment(wall: now + 2, steady: 2))
        #expect(identities.credentials.svids[id]?.chain == first.chain)
        #expect(identities.warnings.count == 1)
        try authority.shell("cp k \(directory.path)/cart/tls.key")
        _ = identities.turn(Moment(wall: now + 4, steady: 4))
        #expect(identities.credentials.svids[id]?.notAfter ?? 0 > first.notAfter + 80_000)
        #expect(identities.warnings == [])
        #expect(identities.counts.failures[.missing] == 1)
    }
}

/// Identities with a clock of the test's own; the middle of the jitter, so 50 %.
private final class Bed {
    /// The real authority, which can be told to refuse.
    struct Source: SVIDSource {
        var inner: BuiltInAuthority
        let control: Control

        var title: String { inner.title }
        var trustDomain: TrustDomain { inner.trustDomain }
        var issues: Bool { control.issues }
        var warnings: [String] { inner.warnings }
        var refused: [SVIDFailure] { inner.refused }

        mutating func bundles(at now: Int64) throws(SVIDFailure) -> [TrustBundle] {
            try inner.bundles(at: now)
        }

        mutating func certificate(
            for id: SPIFFEID, after current: X509SVID?, at now: Int64
        ) throws(SVIDFailure) -> X509SVID? {
            control.asked += 1
            if !control.issues, current != nil { return nil }
            if control.refuses { throw SVIDFailure(.signing, "the test refuses") }
            return try inner.certificate(for: id, after: current, at: now)
        }
    }

    final class Control {
        var refuses = false
        var issues = true
        var asked = 0
    }

    let directory: AuthorityDirectory
    let source = Control()
    var identities: Identities
    var moment = Moment(wall: AuthorityDirectory.now, steady: 0)

    init(life: Int64 = 86_400) throws {
        directory = try AuthorityDirectory()
        identities = Identities(
            Source(inner: directory.source(life: life), control: source), random: { 0.5 })
    }

    func follow(_ accounts: String...) {
        identities.follow(Set(accounts.map { ObjectName("shop", $0) }))
    }

    @discardableResult func turn() -> [String] { identities.turn(moment) }

    func pass(seconds: Int64) {
        moment.wall += seconds
        moment.steady += Double(seconds)
        turn()
    }

    var held: [String] {
        identities.credentials.svids.keys.compactMap { $0.account?.name }.sorted()
    }

    func serial(_ account: String) throws -> [UInt8] {
        identities.credentials.svids[try AuthorityDirectory.id(account)]?.chain[0] ?? []
    }

    func revoke(_ file: String) throws {
        try directory.shell(
            """
            : > db; echo 01 > number
            printf '[ca]\\ndefault_ca=o\\n[o]\\ndatabase=db\\ncrlnumber=number\\n%s\\n' \
              'default_md=sha256' > conf
            openssl ca -config conf -cert ca.crt -keyfile ca.key -revoke \(file)
            openssl ca -config conf -cert ca.crt -keyfile ca.key -gencrl -crldays 1 -out ca.crl
            """)
    }
}
