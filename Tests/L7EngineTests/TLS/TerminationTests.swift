import Foundation
import MeshModel
import TestSupport
import Testing

@testable import L7Engine

@Suite("TLS is terminated for real clients", .serialized)
struct TerminationTests {
    @Test(arguments: [["--tlsv1.3"], ["--tls-max", "1.2"]])
    func `curl is served over TLS 1.3 and 1.2`(_ version: [String]) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo("one")
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }

        let answer = gateway.curl("a.example", authority, version)

        #expect(answer.hasPrefix("oneGET / HTTP/1.1"), "\(answer)")
        #expect(answer.hasSuffix("\n200"))
        #expect(gateway.handshakes(.downstream, .none) == 1)
    }

    @Test(arguments: ["h2,http/1.1", "http/1.1,h2", "http/1.1"], ["-tls1_3", "-tls1_2"])
    func `of the protocols that a client offers HTTP 1.1 is chosen, and spoken`(
        _ offer: String, _ version: String
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }

        let answer = gateway.client("-servername", "a.example", version, "-alpn", offer)

        #expect(answer.contains("\nALPN protocol: http/1.1\n"), "\(answer)")
        #expect(answer.contains("HTTP/1.1 200 OK"), "\(answer)")
        #expect(gateway.handshakes(.downstream, .none) == 1)
    }

    @Test func `the origin hears that its client came by TLS, whatever the client says`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }
        let claims = ["X-Forwarded-Proto: http", "Forwarded: for=6.6.6.6;proto=http"]

        for options in [[], claims.flatMap { ["-H", $0] }] {
            let answer = gateway.curl("a.example", authority, options)
            #expect(answer.contains("\r\nX-Forwarded-Proto: https\r\n"), "\(answer)")
            #expect(answer.contains("\r\nX-Forwarded-Host: a.example:\(gateway.port)\r\n"))
            #expect(answer.components(of: "X-Forwarded-Proto:").count == 2, "\(answer)")
            #expect(!answer.contains("6.6.6.6") && !answer.contains("proto="), "\(answer)")
        }
    }

    @Test func `one connection serves many requests, and bodies of a megabyte both ways`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }
        let body = authority.directory.appendingPathComponent("body")
        let bytes = Data((0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 / 7) & 0x1f | 0x40 })
        try bytes.write(to: body)
        let got = authority.directory.appendingPathComponent("got").path
        let url = "https://a.example:\(gateway.port)/"

        let answer = Program.run(
            [
                "curl", "-sS", "--max-time", "20", "--cacert", authority.file, "--resolve",
                "a.example:\(gateway.port):127.0.0.1", "-w", "%{num_connects} ", "-o", got, url,
                "-o", got, url, "-o", got, "--data-binary", "@\(body.path)", url,
            ])

        #expect(answer.output == "1 0 0 ", "\(answer.output)")
        #expect(gateway.handshakes(.downstream, .none) == 1)
        let last = try Data(contentsOf: URL(fileURLWithPath: got))
        #expect(last.suffix(1_000) == bytes.suffix(1_000))
    }

    /// hostname of the listener, names of the certificate, host asked for, status ("": refused)
    static let names: [(String?, String, String, String)] = [
        (nil, "DNS:a.example", "a.example", "200"),
        (nil, "DNS:*.a.example", "b.a.example", "200"),
        ("a.example", "DNS:a.example", "a.example", "200"),
        ("A.Example", "DNS:a.example", "a.EXAMPLE", "200"),
        ("*.a.example", "DNS:*.a.example", "b.a.example", "200"),
        ("a.example", "DNS:b.example", "b.example", ""),
        ("*.a.example", "DNS:a.example", "a.example", ""),
    ]

    @Test(arguments: names) func `a listener serves the names that are its own`(
        _ hostname: String?, _ names: String, _ host: String, _ status: String
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway(
            [
                .init(
                    hostname: hostname?.lowercased(),
                    certificates: [try authority.issue(names).certificate()])
            ], origin: origin.port)
        defer { gateway.stop() }

        let answer = gateway.curl(host, authority)

        if status.isEmpty {
            #expect(answer.contains("unrecognized name"), "\(answer)")
            #expect(gateway.handshakes(.downstream, .nameUnknown) == 1)
        } else {
            #expect(answer.hasSuffix("\n" + status), "\(answer)")
        }
    }

    @Test func `each listener and each certificate answers for its own name`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway(
            [
                .init(
                    hostname: "a.example",
                    certificates: [try authority.issue("DNS:a.example").certificate("a")]),
                .init(
                    hostname: "*.b.example",
                    certificates: [
                        try authority.issue("DNS:one.b.example").certificate("one"),
                        try authority.issue("DNS:*.b.example").certificate("star"),
                    ]),
            ], origin: origin.port)
        defer { gateway.stop() }

        for (host, name) in [
            ("a.example", "a.example"), ("one.b.example", "one.b.example"),
            ("two.b.example", "*.b.example"),
        ] {
            let answer = gateway.client("-servername", host)
            #expect(answer.contains("DNS:\(name)\n"), "\(host): \(answer)")
        }
    }

    @Test func `metrics say when a listener's certificate expires, not when a root does`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        var pair = try authority.issue("DNS:a.example")
        // The root is sent, too, and ends in two days: clients have their own.
        pair.chain += authority.bundle
        let gateway = try SecureGateway(
            [.init(hostname: nil, certificates: [pair.certificate("web-tls")])],
            origin: origin.port)
        defer { gateway.stop() }

        // 2070-01-01T00:00:00Z, as `TestAuthority.issue` says.
        let line =
            "malla_certificate_expiry_timestamp_seconds"
            + "{namespace=\"shop\",secret=\"web-tls\"} 3155760000\n"
        #expect(gateway.engine.exposition().contains(line))
        // From 2020 on, too.
        let age = gateway.engine.exposition().split(separator: "\n").first {
            $0.hasPrefix("malla_certificate_age_seconds{namespace=\"shop\",secret=\"web-tls\"} ")
        }
        let seconds = try #require(age?.split(separator: " ").last.flatMap { Int($0) })
        #expect(abs(Int(time(nil)) - seconds - 1_577_836_800) < 60)
    }

    @Test func `a client that knows RSA only gets the RSA certificate`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway(
            [
                .init(
                    hostname: nil,
                    certificates: [
                        try authority.issue("DNS:a.example").certificate("ecdsa"),
                        try authority.issue("DNS:a.example", key: .rsa).certificate("rsa"),
                    ])
            ], origin: origin.port)
        defer { gateway.stop() }

        let usual = gateway.client("-servername", "a.example")
        let old = gateway.client(
            "-servername", "a.example", "-sigalgs", "rsa_pss_rsae_sha256", "-tls1_2", "-cipher",
            "ECDHE-RSA-AES128-GCM-SHA256")

        #expect(usual.contains("id-ecPublicKey"), "\(usual)")
        #expect(old.contains("rsaEncryption"), "\(old)")
    }

    @Test func `a Host of another listener on the same port is misdirected, an unknown one is 404`()
        throws
    {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let pair = try authority.issue("DNS:a.example,DNS:b.example").certificate()
        let gateway = try SecureGateway(
            [
                .init(hostname: "a.example", certificates: [pair]),
                .init(hostname: "b.example", certificates: [pair]),
            ], origin: origin.port)
        defer { gateway.stop() }

        for (host, status) in [("a.example", "200"), ("b.example", "421"), ("c.example", "404")] {
            let answer = gateway.curl("a.example", authority, ["-H", "Host: \(host)"])
            #expect(answer.hasSuffix("\n" + status), "\(host): \(answer)")
        }
        // Either scheme may be asked for by TLS (RFC 9110 section 7.4 forbids the reverse).
        for scheme in ["https", "http"] {
            let target = "\(scheme)://a.example:\(gateway.port)/"
            let answer = gateway.curl("a.example", authority, ["--request-target", target])
            #expect(answer.hasSuffix("\n200"), "\(target): \(answer)")
        }
    }

    @Test func `a Host that the connection's certificate does not hold for is misdirected`() throws
    {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway(
            [
                .init(
                    hostname: nil,
                    certificates: [
                        try authority.issue("DNS:a.example,DNS:*.a.example").certificate(),
                        try authority.issue("DNS:b.example").certificate(),
                    ])
            ], origin: origin.port)
        defer { gateway.stop() }

        for (name, host, status) in [
            ("a.example", "a.example", "200"), ("a.example", "A.Example:443", "200"),
            ("a.example", "x.a.example", "200"), ("a.example", "b.example", "421"),
            ("b.example", "b.example", "200"), ("b.example", "a.example", "421"),
        ] {
            let answer = gateway.curl(name, authority, ["-H", "Host: \(host)"])
            #expect(answer.hasSuffix("\n" + status), "\(name), \(host): \(answer)")
        }
        // Who names none is shown the first one. curl sends no address as a name.
        for (host, status) in [
            ("x.a.example", "200"), ("b.example", "421"), ("c.example", "421"),
            ("127.0.0.1", "200"), ("127.0.0.1.:443", "200"), ("[::1]:443", "200"),
            // Names, of digits only.
            ("1", "421"), ("1.2.3:443", "421"), ("1.2.3.4.5", "421"),
        ] {
            let answer = gateway.curl("127.0.0.1", authority, ["-k", "-H", "Host: \(host)"])
            #expect(answer.hasSuffix("\n" + status), "no name, \(host): \(answer)")
        }
    }

    @Test func `a session is resumed by its ticket`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }
        let session = authority.directory.appendingPathComponent("session").path

        for version in ["-tls1_3", "-tls1_2"] {
            let first = gateway.client("-servername", "a.example", version, "-sess_out", session)
            #expect(first.contains("\nNew, "), "\(first)")
            let second = gateway.client("-servername", "a.example", version, "-sess_in", session)
            #expect(second.contains("\nReused, "), "\(second)")
        }
        #expect(gateway.handshakes(.downstream, .resumed) == 2)
    }

    /// Names of each certificate of a listener.
    static let onOneListener = [
        ["DNS:*.corp.example"], ["DNS:a.corp.example", "DNS:b.corp.example"],
    ]

    @Test(arguments: ["-tls1_3", "-tls1_2"], onOneListener)
    func `a session is resumed for the name that it was begun for, in any case, and no other`(
        _ version: String, _ certificates: [String]
    ) throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let pairs = try certificates.enumerated().map {
            try authority.issue($0.element).certificate("c\($0.offset)")
        }
        let gateway = try SecureGateway(
            [.init(hostname: nil, certificates: pairs)], origin: origin.port)
        defer { gateway.stop() }
        let session = authority.directory.appendingPathComponent("session").path
        let request = "GET / HTTP/1.1\r\nHost: a.corp.example\r\nConnection: close\r\n\r\n"
        func client(_ name: [String], _ options: String...) -> String {
            gateway.client(name + [version] + options, input: request)
        }

        let first = client(["-servername", "a.corp.example"], "-sess_out", session)
        #expect(first.contains("\nNew, "), "\(first)")
        for name in ["a.corp.example", "A.corp.example"] {
            let again = client(["-servername", name], "-sess_in", session)
            #expect(again.contains("\nReused, "), "\(name): \(again)")
            #expect(again.contains("HTTP/1.1 200 OK"), "\(name): \(again)")
        }
        for other in [["-servername", "b.corp.example"], ["-noservername"]] {
            let answer = client(other, "-sess_in", session)
            #expect(answer.contains("\nNew, "), "\(other): \(answer)")
        }
        #expect(gateway.handshakes(.downstream, .resumed) == 2)
    }

    @Test func `a changed certificate is served to new connections while old ones go on`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let first = try authority.issue("DNS:a.example,DNS:first.example").certificate()
        let second = try authority.issue("DNS:a.example,DNS:second.example").certificate()
        let gateway = try SecureGateway(
            [.init(hostname: nil, certificates: [first])], origin: origin.port)
        defer { gateway.stop() }
        let open = try SecureClient(gateway, "a.example")
        defer { open.close() }
        #expect(open.get("/one").contains("200 OK"))

        gateway.adopt([.init(hostname: nil, certificates: [second])], version: 2)

        #expect(gateway.client("-servername", "a.example").contains("DNS:second.example"))
        #expect(open.get("/two").contains("GET /two"), "the open connection goes on")
    }

    @Test func `an unchanged listener keeps its context when others change`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let site = try SecureGateway.Site.anyHost(authority)
        let gateway = try SecureGateway([site], origin: origin.port)
        defer { gateway.stop() }
        let session = authority.directory.appendingPathComponent("session").path

        _ = gateway.client("-servername", "a.example", "-sess_out", session)
        gateway.adopt([site], version: 2)
        let second = gateway.client("-servername", "a.example", "-sess_in", session)

        #expect(second.contains("\nReused, "), "\(second)")
    }

    @Test func `the connection ends with close_notify`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway([.anyHost(authority)], origin: origin.port)
        defer { gateway.stop() }

        let answer = gateway.client(
            "-servername", "a.example", "-msg",
            input: "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

        #expect(answer.contains("<<< TLS 1.3, Alert [length 0002], warning close_notify"))
        #expect(!answer.contains("unexpected eof"))
    }

    @Test func `a redirect without a scheme stays https`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let origin = Origin.echo()
        let gateway = try SecureGateway(
            [.anyHost(authority)], origin: origin.port,
            filters: [.redirect(.init(path: .replaceFullPath("/new")))])
        defer { gateway.stop() }

        let answer = gateway.curl("a.example", authority, ["-i"])

        #expect(answer.contains("Location: https://a.example:\(gateway.port)/new\r\n"), "\(answer)")
    }
}
