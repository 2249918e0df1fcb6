import Foundation
import Glibc
import L7Engine
import MeshModel
import TestSupport
import Testing

@testable import NodeAgent

@Suite("Certificates are X509-SVIDs, and openssl believes them")
struct SVIDCertificateTests {
    @Test func `a workload's certificate follows the profile`() throws {
        let directory = try AuthorityDirectory()
        let id = try AuthorityDirectory.id()
        let svid = try directory.issue(id)
        try directory.write(svid, "svid")

        #expect(svid.chain.count == 1)
        let verified = try directory.shell(
            "openssl verify -x509_strict -purpose sslserver -CAfile ca.crt svid.leaf")
        #expect(verified.contains("svid.leaf: OK"))
        #expect(
            try directory.shell("openssl verify -purpose sslclient -CAfile ca.crt svid.leaf")
                .contains("OK"))

        let text = try directory.shell("openssl x509 -in svid.leaf -noout -text")
        #expect(text.contains("Version: 3"))
        #expect(text.contains("ASN1 OID: prime256v1"))
        #expect(text.contains("URI:spiffe://cluster.local/ns/shop/sa/cart\n"))
        #expect(!text.contains("DNS:"))
        #expect(text.contains("X509v3 Subject Alternative Name: critical"))
        #expect(text.contains("CA:FALSE"))
        #expect(text.contains("X509v3 Key Usage: critical\n                Digital Signature\n"))
        #expect(text.contains("TLS Web Server Authentication, TLS Web Client Authentication"))
        #expect(text.contains("X509v3 Authority Key Identifier"))
        #expect(text.contains("Subject: \n") || text.contains("Subject:\n"))
    }

    @Test func `the authority that is made is one, and of the trust domain`() throws {
        let directory = try AuthorityDirectory()
        _ = try directory.files.make(at: AuthorityDirectory.now)
        let text = try directory.shell("openssl x509 -in ca.crt -noout -text")
        #expect(text.contains("CA:TRUE"))
        #expect(text.contains("Certificate Sign, CRL Sign"))
        #expect(text.contains("URI:spiffe://cluster.local\n"))
        #expect(
            try directory.shell("openssl verify -x509_strict -CAfile ca.crt ca.crt").contains("OK"))
        #expect(try directory.shell("stat -c %a ca.crt ca.key") == "600\n600\n")
        #expect(try directory.shell("openssl pkey -in ca.key -noout -text").contains("P-256"))
    }

    static let keys = [
        ("ec -pkeyopt ec_paramgen_curve:P-256", "ec -pkeyopt ec_paramgen_curve:P-256"),
        ("rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-384"),
        ("ec -pkeyopt ec_paramgen_curve:P-521", "rsa:2048"), ("ed25519", "ed25519"),
    ]

    @Test(arguments: keys) func `an authority below an operator's root signs, whatever its key`(
        _ root: String, _ key: String
    ) throws {
        let directory = try AuthorityDirectory()
        try directory.makeIntermediate("ca", root: root, key: key)
        let svid = try directory.issue(try AuthorityDirectory.id())
        try directory.write(svid, "svid")

        #expect(svid.chain.count == 2)
        let verified = try directory.shell(
            "openssl verify -x509_strict -CAfile root-ca.crt -untrusted svid.rest svid.leaf")
        #expect(verified.contains("svid.leaf: OK"))
    }

    @Test func `without a root in ca.crt its last certificate is the bundle`() throws {
        let directory = try AuthorityDirectory()
        try directory.makeIntermediate("ca", root: "ed25519", key: "ed25519")
        try directory.shell("mv ca.only ca.crt")
        let svid = try directory.issue(try AuthorityDirectory.id())
        try directory.write(svid, "svid")

        let bundle = try #require(try bundles(directory).first)
        #expect(bundle.roots.count == 1)
        #expect(bundle.verify(svid.chain, at: AuthorityDirectory.now) == .good)
        #expect(
            try directory.shell("openssl verify -partial_chain -CAfile ca.crt svid.leaf")
                .contains("OK"))
    }

    @Test func `what leads from the signing key to a root is known, without the root`() throws {
        let directory = try AuthorityDirectory()
        var source = directory.source()
        _ = try source.bundles(at: AuthorityDirectory.now)
        #expect(source.signers.isEmpty)
        try directory.makeIntermediate("ca", root: "ed25519", key: "ed25519")
        _ = try source.bundles(at: AuthorityDirectory.now)
        #expect(source.signers.count == 1)
        #expect(!(try #require(try bundles(directory).first).roots.contains(source.signers[0])))
    }

    @Test func `it ends no later than its authority, and begins no earlier`() throws {
        let directory = try AuthorityDirectory()
        try directory.makeIntermediate("ca", root: "ed25519", key: "ed25519")
        let end = try directory.shell(
            "date -d \"$(openssl x509 -in ca.crt -noout -enddate | cut -d= -f2)\" +%s")
        let svid = try directory.issue(try AuthorityDirectory.id(), life: 365 * 86_400)
        #expect(String(svid.notAfter) == end.trimmingCharacters(in: .whitespacesAndNewlines))
        #expect(svid.notBefore >= svid.notAfter - 20 * 86_400)
    }

    @Test func `verdicts of a bundle are those that TLS needs to tell apart`() throws {
        let directory = try AuthorityDirectory()
        let other = try AuthorityDirectory()
        let now = AuthorityDirectory.now
        let svid = try directory.issue(try AuthorityDirectory.id(), life: 100, at: now)
        let bundle = try #require(try bundles(directory).first)
        let foreign = try #require(try bundles(other).first)

        #expect(bundle.verify(svid.chain, at: now) == .good)
        #expect(bundle.verify(svid.chain, at: now + 101) == .expired)
        #expect(bundle.verify(svid.chain, at: now - 61) == .notYetValid)
        #expect(foreign.verify(svid.chain, at: now) == .untrusted)
        #expect(bundle.verify([[1, 2, 3]], at: now) == .unreadable)
        #expect(bundle.verify([], at: now) == .unreadable)
    }

    private static let good = "subjectAltName=URI:spiffe://a/b\nkeyUsage=digitalSignature"

    /// rule, extensions of a certificate of openssl's, whether it is an X509-SVID
    static let profiles: [(String, String, Bool)] = [
        ("as it should be", good, true),
        (
            "a DNS name beside it",
            "subjectAltName=URI:spiffe://a/b,DNS:b\nkeyUsage=digitalSignature", true
        ),
        ("no name", "keyUsage=digitalSignature", false),
        (
            "two URIs",
            "subjectAltName=URI:spiffe://a/b,URI:spiffe://a/c\nkeyUsage=digitalSignature", false
        ),
        ("no path", "subjectAltName=URI:spiffe://a\nkeyUsage=digitalSignature", false),
        ("another scheme", "subjectAltName=URI:https://a/b\nkeyUsage=digitalSignature", false),
        (
            "an authority",
            good + "\nbasicConstraints=CA:TRUE",
            false
        ),
        ("no key usage", "subjectAltName=URI:spiffe://a/b", false),
        (
            "keyCertSign", good + ",keyCertSign",
            false
        ),
        ("cRLSign", good + ",cRLSign", false),
        (
            "servers only",
            good + "\nextendedKeyUsage=serverAuth",
            false
        ),
        (
            "both purposes",
            good + "\nextendedKeyUsage=serverAuth,clientAuth",
            true
        ),
    ]

    @Test(arguments: profiles) func `what others made is held against the profile`(
        _ rule: String, _ extensions: String, _ isGood: Bool
    ) throws {
        let directory = try AuthorityDirectory()
        try directory.shell(
            """
            openssl req -newkey ed25519 -nodes -keyout tls.key -out x.csr -subj /CN=x
            openssl req -x509 -newkey ed25519 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 2
            printf '%s\\n' '\(extensions.replacingOccurrences(of: "\n", with: "' '"))' > x.ext
            openssl x509 -req -in x.csr -CA ca.crt -CAkey ca.key -days 1 -extfile x.ext -out tls.crt
            """)
        var files = SVIDFiles(directory: directory.path, trustDomain: try TrustDomain("a"))
        _ = try files.bundles(at: AuthorityDirectory.now)
        let found = try? files.certificate(
            for: try SPIFFEID("spiffe://a/b"), after: nil, at: AuthorityDirectory.now)
        #expect((found != nil) == isGood, "\(files.warnings)")
        #expect(files.warnings.isEmpty == isGood)
    }

    private func bundles(_ directory: AuthorityDirectory) throws -> [TrustBundle] {
        var source = directory.source()
        return try source.bundles(at: AuthorityDirectory.now)
    }
}

@Suite("Keys stay where they are")
struct SigningKeyTests {
    @Test func `a key is made in the secure heap and leaves it when it goes`() throws {
        #expect(SecureHeap.open() != .missing)
        let before = SecureHeap.used
        var keys: [SigningKey] = []
        for _ in 0..<64 { keys.append(try SigningKey.generate()) }
        // A P-256 key is 32 bytes.
        #expect(SecureHeap.used >= before + 64 * 32)
        keys = []
        #expect(SecureHeap.used < before + 64 * 32)
    }

    /// How a key is made, and the number of `openssl pkey -text` that is the secret.
    static let formats = [
        ("genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-256", "priv"),
        ("ecparam -name prime256v1 -genkey -noout", "priv"),
        ("genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-384", "priv"),
        ("genpkey -algorithm ed25519", "priv"), ("genrsa -traditional 2048", "privateExponent"),
    ]

    /// Another process looks for the secret and for the public half in all memory of this one but
    /// the secure heap, which is marked as not to be dumped.
    private static let search = #"""
        import re, subprocess, sys
        text = subprocess.run(["openssl", "pkey", "-in", sys.argv[1], "-text", "-noout"],
                              capture_output=True, text=True).stdout
        def number(name):
            lines = r":\n((?: +[0-9a-f:]+\n)+)"
            digits = re.search(f"^ *(?:{name})" + lines, text, re.M).group(1)
            return bytes.fromhex(re.sub(r"[^0-9a-f]", "", digits)).lstrip(b"\0")
        places, ranges = f"/proc/{sys.argv[2]}", []
        for line in open(places + "/smaps"):
            if re.match(r"[0-9a-f]+-", line):
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                wanted = line.split()[1].startswith("rw")
            elif line.startswith("VmFlags") and wanted and " dd" not in line:
                ranges.append((start, end))
        found = {"secret": 0, "public": 0}
        wanted = {"secret": number(sys.argv[3]), "public": number("pub|modulus|Modulus")}
        memory = open(places + "/mem", "rb", 0)
        for start, end in ranges:
            try:
                memory.seek(start)
                block = memory.read(end - start)
            except OSError:
                continue
            for name, value in wanted.items():
                found[name] += block.count(value) + block.count(value[::-1])
        print(found["secret"], found["public"] > 0)
        """#

    @Test(arguments: formats) func `a key that is read is in the secure heap and nowhere else`(
        _ make: String, _ name: String
    ) throws {
        #expect(SecureHeap.open() != .missing)
        let directory = try AuthorityDirectory()
        try directory.shell("openssl \(make) 2>/dev/null > key")
        try directory.shell("openssl pkcs8 -topk8 -nocrypt -in key -outform DER -out der")
        try Self.search.write(
            toFile: directory.path + "/search.py", atomically: true, encoding: .utf8)
        // As `--ca` and `--svids` read it, again and again, and as `--workload-api` does.
        let all = try (0..<8).map { _ in
            try IdentityFile.withDescriptor(directory.path + "/key") {
                try SigningKey.read(from: $0)
            }
        }
        let first = all[0]
        var der = [UInt8](repeating: 0, count: 4_096)
        let count = try IdentityFile.withDescriptor(directory.path + "/der") {
            unsafe read($0, &der, der.count)
        }
        der.removeLast(der.count - max(0, count))
        let second = try SigningKey.take(&der)
        let publics = [try first.publicKey(), try second.publicKey()]
        let said = try directory.shell("python3 search.py key \(getpid()) \(name)")
        #expect(said == "0 True\n")
        #expect(publics[0] == publics[1])
        withExtendedLifetime((all, second)) {}
    }

    @Test func `nothing prints a key`() throws {
        let key = try SigningKey.generate()
        let svid = X509SVID(
            id: try AuthorityDirectory.id(), chain: [], key: key, notBefore: 0, notAfter: 1)
        var text = ""
        dump(key, to: &text)
        dump(svid, to: &text)
        text += "\(key) \(String(reflecting: key)) \(svid)"
        #expect(text.contains("(a private key)"))
        #expect(!text.contains("pointer") && !text.contains("0x"))
    }

    @Test func `what is signed is verified by openssl`() throws {
        let directory = try AuthorityDirectory()
        let key = try SigningKey.generate()
        let message = Array("signed".utf8)
        try Data(message).write(to: URL(fileURLWithPath: directory.path + "/message"))
        try Data(try key.sign(message, digestBits: 256))
            .write(to: URL(fileURLWithPath: directory.path + "/signature"))
        try Data(try key.publicKey()).write(to: URL(fileURLWithPath: directory.path + "/public"))
        let verified = try directory.shell(
            "openssl dgst -sha256 -keyform DER -verify public -signature signature message")
        #expect(verified.contains("Verified OK"))
    }

    @Test func `an encrypted key, a certificate and nothing are refused`() throws {
        let directory = try AuthorityDirectory()
        try directory.shell(
            """
            openssl genpkey -algorithm ed25519 -aes256 -pass pass:x -out encrypted
            openssl req -x509 -newkey ed25519 -nodes -keyout k -out certificate -subj /CN=x
            : > empty
            """)
        for name in ["encrypted", "certificate", "empty", "none"] {
            #expect(throws: SVIDFailure.self) {
                try IdentityFile.withDescriptor("\(directory.path)/\(name)") {
                    try SigningKey.read(from: $0)
                }
            }
        }
    }
}
