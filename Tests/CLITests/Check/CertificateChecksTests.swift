import AdminAPI
import Testing

@testable import CLI

@Suite("A check warns of certificates that end")
struct CertificateChecksTests {
    static let workloads: [(String, [(String, Int, String)], String, String)] = [
        ("none needed", [], "OK", "no meshed pods"),
        (
            "all well", [("valid", 80_000, ""), ("valid", 50_000, "")], "OK",
            "2 valid, the first ends in 13h53m"
        ),
        ("one late", [("valid", 80_000, ""), ("due", 30_000, "no key")], "WARN", "due: no key"),
        ("one failed already", [("valid", 80_000, "no key")], "WARN", "no key"),
        (
            "one missing", [("valid", 80_000, ""), ("missing", 0, "no key")], "FAIL",
            "1 of 2 are missing"
        ),
        ("one over", [("expired", -5, "no key")], "FAIL", "expired"),
    ]

    @Test(arguments: workloads) func `certificates of workloads`(
        _ rule: String, _ items: [(String, Int, String)], _ status: String, _ words: String
    ) {
        let found = CertificateChecks.workloads(
            items.map {
                CertificateItem(
                    type: "workload", identity: "spiffe://a/b", remainingSeconds: $0.1,
                    state: $0.0, message: $0.2)
            })
        #expect(found.status == status)
        #expect(found.message.contains(words), "\(found)")
        #expect((found.status == "OK") == found.remedy.isEmpty)
    }

    static let authorities: [(String, [(String, Int)], String, String)] = [
        ("none", [], "FAIL", "nobody is believed"),
        ("years", [("spiffe://a", 300_000_000), ("spiffe://b", 90_000_000)], "OK", "2 root(s)"),
        ("a month", [("spiffe://a", 29 * 86_400)], "WARN", "ends in 29d"),
        ("over", [("spiffe://a", -1)], "FAIL", "ended"),
        (
            "over, with another", [("spiffe://a", -1), ("spiffe://a", 300_000_000)], "WARN",
            "others"
        ),
        (
            "over, with another that ends soon",
            [("spiffe://a", 5 * 86_400), ("spiffe://a", -1)], "WARN",
            "(others are valid); a root of spiffe://a ends in 5d"
        ),
        (
            "over, and the only one of another domain, too",
            [("spiffe://a", -2), ("spiffe://a", 300_000_000), ("spiffe://b", -1)], "FAIL",
            "(others are valid); a root of spiffe://b ended"
        ),
        (
            "over, of another domain", [("spiffe://a", -1), ("spiffe://b", 300_000_000)], "FAIL",
            "spiffe://a"
        ),
    ]

    @Test(arguments: authorities) func `roots of trust domains`(
        _ rule: String, _ items: [(String, Int)], _ status: String, _ words: String
    ) {
        let found = CertificateChecks.authorities(
            items.map {
                CertificateItem(
                    type: "authority", identity: $0.0, remainingSeconds: $0.1, state: "valid")
            })
        #expect(found.status == status)
        #expect(found.message.contains(words), "\(found)")
        #expect((found.status == "OK") == found.remedy.isEmpty)
    }

    @Test func `a root that is over hides neither another's end nor what cannot be used`() {
        func root(_ seconds: Int, _ message: String = "") -> CertificateItem {
            CertificateItem(
                type: "authority", identity: "spiffe://a", remainingSeconds: seconds,
                state: "valid", message: message)
        }
        let found = CertificateChecks.authorities([
            root(-1, "ca.key cannot be read"), root(86_400),
        ])
        #expect(found.status == "WARN")
        for words in ["others are valid", "ends in 1d", "ca.key cannot be read"] {
            #expect(found.message.contains(words), "\(found)")
        }
        for words in ["take it out", "make a new root", "until it is mended"] {
            #expect(found.remedy.contains(words), "\(found)")
        }
    }

    @Test(arguments: [(8 * 86_400, "OK"), (6 * 86_400, "WARN"), (-1, "FAIL")])
    func `an intermediate that signs is looked at, too`(_ seconds: Int, _ status: String) {
        let items = ["authority", "signer"].map {
            CertificateItem(
                type: $0, identity: "spiffe://a",
                remainingSeconds: $0 == "signer" ? seconds : 300_000_000, state: "valid")
        }
        let found = CertificateChecks.all(items, identity: "authority in a")
        #expect(found.map(\.status) == ["OK", "OK", status])
        #expect(found[2].message.contains("intermediate of spiffe://a"))
    }

    @Test func `what cannot be used is said, by the table of workloads too`() {
        let stale = CertificateItem(
            type: "authority", identity: "spiffe://a", remainingSeconds: 300_000_000,
            state: "valid", message: "ca.key cannot be read")
        let found = CertificateChecks.authorities([stale])
        #expect(found.status == "WARN" && found.message.contains("ca.key cannot be read"))
        let lines = Certs.lines([], beside: [stale], colour: false)
        #expect(lines.last == "spiffe://a: ca.key cannot be read")
    }

    @Test func `without a source of identity nothing is wrong`() {
        let none = CertificateChecks.all([], identity: "none")
        #expect(none.map(\.status) == ["OK"])
        for option in ["--ca", "--svids", "--workload-api"] {
            #expect(none[0].message.contains(option))
        }
        #expect(CertificateChecks.all([], identity: "files in a").map(\.status) == ["OK", "FAIL"])
    }

    @Test func `the table says what failed beneath it`() {
        let lines = Certs.lines(Sample.certificates.items, colour: false)
        #expect(lines.count == 8)
        #expect(lines[0].hasPrefix("IDENTITY"))
        #expect(lines[1].contains("0a1b2c3d4e5f6071 ") && lines[1].hasSuffix("due"))
        #expect(
            lines[7] == "spiffe://cluster.local/ns/shop/sa/cart: ca.crt has expired: replace it")
        #expect(Certs.lines([], colour: false) == ["No certificates found."])
    }

    @Test func `what Gateways show has a table of its own, by Secret`() {
        let items = Sample.certificates.items.filter { $0.type == "gateway" }
        let lines = Certs.lines(items, colour: false)
        #expect(lines.count == 2)
        #expect(lines[0].hasPrefix("SECRET") && lines[0].contains("LISTENERS"))
        #expect(
            lines[1].split(separator: " ", omittingEmptySubsequences: true).map(String.init) == [
                "shop/edge-tls", "shop.example,*.shop.example", "05", "2026-12-30T00:00:00Z",
                "38d4h", "CN=Example", "CA", "shop/edge", "web", "valid",
            ], "\(lines[1])")
        let all = Certs.lines(Sample.certificates.items, colour: false)
        #expect(all[3].isEmpty && all[4].hasPrefix("SECRET"))
    }

    @Test func `one that cannot be read is warned of, and is not the first to end`() {
        let odd = CertificateItem(
            type: "gateway", identity: "shop/odd", state: "valid", message: "a thing",
            listeners: ["shop/edge web"])
        let found = CertificateChecks.gateways([odd] + Sample.certificates.items.suffix(1))
        #expect(found.map(\.status) == ["WARN"])
        #expect(found.map(\.message) == ["Secret shop/odd has a thing (shop/edge web)"])
    }

    static let gateways: [(String, [(String, Int)], [String], String)] = [
        ("no listener of HTTPS", [], [], ""),
        ("all well", [("valid", 5_000_000), ("valid", 90_000)], ["OK"], "2 valid, the first"),
        ("one ends soon", [("valid", 5_000_000), ("due", 86_400)], ["WARN"], "ends in 1d"),
        ("one is over", [("valid", 5_000_000), ("expired", -5)], ["FAIL"], "ended at 2026"),
        (
            "one is over, one ends soon", [("due", 86_400), ("expired", -5)], ["FAIL"],
            "; Secret shop/edge-tls for shop.example, *.shop.example ends in 1d (shop/edge web)"
        ),
    ]

    @Test(arguments: gateways) func `certificates that Gateways show`(
        _ rule: String, _ rows: [(String, Int)], _ statuses: [String], _ words: String
    ) {
        let items = rows.map { state, seconds in
            CertificateItem(
                type: "gateway", identity: "shop/edge-tls", notAfter: "2026-12-30T00:00:00Z",
                remainingSeconds: seconds, state: state,
                names: ["shop.example", "*.shop.example"], listeners: ["shop/edge web"])
        }
        // With a source of identity or without one.
        let found = CertificateChecks.all(items, identity: "none").dropFirst()
        #expect(found.map(\.status) == statuses)
        #expect(found.allSatisfy { $0.message.contains(words) }, "\(found)")
        #expect(found.allSatisfy { ($0.status == "OK") == $0.remedy.isEmpty })
        let others = CertificateChecks.all(items, identity: "files in a").dropFirst(2)
        #expect(Array(others) == Array(found))
    }
}
