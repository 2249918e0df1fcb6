// Requests of RFC 9112 and RFC 9110, accepted or refused with their own reason: every row in one
// piece and split at every byte.

import Glibc
import MeshModel
import Testing

@testable import L7Engine

private let host = "Host: a\r\n"

/// `GET / HTTP/1.1`, a host, these fields.
private func get(_ fields: String) -> String { "GET / HTTP/1.1\r\n\(host)\(fields)\r\n" }

private func post(_ fields: String) -> String { "POST / HTTP/1.1\r\n\(host)\(fields)\r\n" }

private func byte(_ value: UInt8, in before: String, _ after: String) -> [UInt8] {
    Array(before.utf8) + [value] + Array(after.utf8)
}

/// Bytes that are no `tchar` and decide nothing else where a name or method stands.
private let notTokens: [UInt8] = Array("\"(),/;<=>?@[\\]{}".utf8) + [1, 0x1f, 0x7f, 0x80, 0xff]

@Suite("RFC 9112 section 3: the request line")
struct RequestLineConformanceTests {
    static let methods: [Case] =
        ["GET", "POST", "M-SEARCH", "PROPFIND", "get", "!#$%&'*+-.^_`|~", "X"].map {
            Case("method \($0)", "\($0) / HTTP/1.1\r\n\(host)\r\n")
        }
        + ["head", "Head", "HEAd", "connect", "Connect"].map {
            Case("\($0) is a method only in capitals", "\($0) / HTTP/1.1\r\n\(host)\r\n", .method)
        }
        + notTokens.map {
            Case(
                "byte \($0) in a method", bytes: byte($0, in: "G", "T / HTTP/1.1\r\n\r\n"), .method)
        } + [
            Case(
                "a method of 32 bytes",
                String(repeating: "M", count: 32) + " / HTTP/1.1\r\n\(host)\r\n"),
            Case(
                "a method of 33 bytes", String(repeating: "M", count: 33) + " / HTTP/1.1\r\n",
                .method),
            Case("no method", " / HTTP/1.1\r\n\(host)\r\n", .method),
            Case("a tab behind the method", "GET\t/ HTTP/1.1\r\n\r\n", .method),
            Case("NUL in a method", bytes: byte(0, in: "G", "T / HTTP/1.1\r\n\r\n"), .nul),
            Case("a line feed in a method", "GE\nT / HTTP/1.1\r\n\r\n", .bareLineFeed),
            Case("TLS on a plain port", bytes: [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], .method),
            Case("HTTP/2 on a port of HTTP/1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .version),
        ]

    static let versions: [Case] =
        ["2.0", "3.0", "0.9", "1.2", "1.9", "9.9"].map {
            Case("version \($0)", "GET / HTTP/\($0)\r\n\(host)\r\n", .version)
        }
        + [
            "HTTP/1,1", "HTTP/11.1", "HTTP/1.", "HTTP/ 1.1", "http/1.1", "HTTQ/1.1", "HTTP 1.1",
            "ICY",
        ].map {
            Case("version \($0)", "GET / \($0)\r\n\(host)\r\n", .malformedLine)
        } + [
            Case("no version (HTTP/0.9)", "GET /\r\n\r\n", .malformedLine),
            Case("version 1.0 without a host", "GET / HTTP/1.0\r\n\r\n"),
            Case("a space behind the version", "GET / HTTP/1.1 \r\n\(host)\r\n", .malformedLine),
            Case("text behind the version", "GET / HTTP/1.1x\r\n\(host)\r\n", .malformedLine),
            Case("a third digit", "GET / HTTP/1.10\r\n\(host)\r\n", .malformedLine),
            Case("a fourth word", "GET / x HTTP/1.1\r\n\(host)\r\n", .malformedLine),
            Case("two spaces before the version", "GET /  HTTP/1.1\r\n\(host)\r\n", .malformedLine),
            Case("two spaces before the target", "GET  / HTTP/1.1\r\n\(host)\r\n", .target),
            Case("a tab before the version", "GET /\tHTTP/1.1\r\n\(host)\r\n", .target),
            Case("a bare line feed", "GET / HTTP/1.1\n\(host)\r\n", .bareLineFeed),
            Case("a bare carriage return", "GET / HTTP/1.1\r\(host)\r\n", .bareCarriageReturn),
            Case("two carriage returns", "GET / HTTP/1.1\r\r\n\(host)\r\n", .bareCarriageReturn),
            Case("one empty line before", "\r\nGET / HTTP/1.1\r\n\(host)\r\n"),
            Case("two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\n\(host)\r\n", .malformedLine),
            Case("a bare line feed before", "\nGET / HTTP/1.1\r\n\(host)\r\n", .bareLineFeed),
            Case(
                "a bare carriage return before", "\rGET / HTTP/1.1\r\n\(host)\r\n",
                .bareCarriageReturn),
        ]

    static let targets: [Case] =
        [
            "/", "/a", "/?", "/?a=b", "/?a?b", "/a;b=c", "/a|b", "/%20", "/%e2%82%ac", "/~a",
            "/..a", "/...",
            "/a..", "/.well-known", "http://a", "http://a/", "http://a?x", "HTTP://A/",
            "https://a/x",
        ].map {
            Case("target \($0)", "GET \($0) HTTP/1.1\r\n\(host)\r\n")
        }
        + [
            "a", "?a", "*", "**", "*/", "a/b", "http:/a", "http://", "http:///a", "ftp://a/",
            "a:80", "/?a#b",
            "/a?#", "http://a?#", "http:",
        ].map {
            Case("target \($0)", "GET \($0) HTTP/1.1\r\n\(host)\r\n", .target)
        }
        + [
            "/..", "/../", "/a/../..", "/%2e%2e/a", "/.%2E/", "/%", "/%4", "/%zz", "/%00", "/a%2Fb",
            "/a%2fb", "/a%5Cb", "/a\\b", "/a#b", "/..;/a", "/a/..;x=1/b", "/.;/", "/%2e%2e;/a",
        ].map {
            Case("path \($0)", "GET \($0) HTTP/1.1\r\n\(host)\r\n", .path)
        }
        + [0x80, 0xff, 0x7f, 1, 0x1f].map {
            Case(
                "byte \($0) in a target", bytes: byte($0, in: "GET /", " HTTP/1.1\r\n\r\n"), .target
            )
        } + [
            Case("NUL in a target", bytes: byte(0, in: "GET /", " HTTP/1.1\r\n\r\n"), .nul),
            Case("OPTIONS of the server", "OPTIONS * HTTP/1.1\r\n\(host)\r\n"),
            Case("OPTIONS of a path", "OPTIONS /a HTTP/1.1\r\n\(host)\r\n"),
            Case("OPTIONS in the absolute form", "OPTIONS http://a HTTP/1.1\r\n\(host)\r\n"),
            Case("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
            Case(
                "CONNECT of an IPv6 address",
                "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n"),
            Case("CONNECT of HTTP/1.0", "CONNECT a:443 HTTP/1.0\r\n\r\n"),
            Case("CONNECT without Host", "CONNECT a:443 HTTP/1.1\r\n\r\n", .hostMissing),
            Case(
                "CONNECT for another Host", "CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
                .hostConflict),
            Case(
                "CONNECT for another port", "CONNECT a:443 HTTP/1.1\r\nHost: a:80\r\n\r\n",
                .hostConflict),
            Case(
                "CONNECT with a length",
                "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 0\r\n\r\n",
                .connectMethod),
            Case(
                "CONNECT with chunks",
                "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked\r\n\r\n",
                .connectMethod),
            Case("CONNECT without a port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", .target),
            Case("CONNECT with an empty port", "CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n", .target),
            Case("CONNECT of a path", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", .target),
            Case(
                "a target of 511 bytes",
                "GET /" + String(repeating: "a", count: 510) + " HTTP/1.1\r\n\(host)\r\n"),
            Case(
                "a target of 512 bytes",
                "GET /" + String(repeating: "a", count: 511) + " HTTP/1.1\r\n\(host)\r\n",
                .targetTooLong),
        ]

    @Test(arguments: methods + versions + targets)
    func `a request line`(row: Case) { row.judge() }

    @Test(
        arguments: [
            ("http://a", "GET", "/", nil), ("http://a?x", "GET", "/", "x"),
            ("http://a/b?c", "GET", "/b", "c"),
            ("http://a", "OPTIONS", "*", nil), ("*", "OPTIONS", "*", nil), ("/?", "GET", "/", ""),
            ("http://a/../", "GET", "", nil), ("HTTPS://A/b", "GET", "/b", nil),
        ] as [(String, String, String, String?)])
    func `every form has a path and a host`(
        target: String, method: String, path: String, query: String?
    ) {
        let reading = Reading.of(Array("\(method) \(target) HTTP/1.1\r\n\(host)\r\n".utf8))

        #expect(reading.path == path)
        #expect(reading.query == query)
        #expect(path.isEmpty || reading.host.lowercased() == "a")
    }
}

@Suite("RFC 9112 section 5: field lines")
struct FieldLineConformanceTests {
    static let names: [Case] =
        notTokens.map {
            Case(
                "byte \($0) in a name",
                bytes: byte($0, in: "GET / HTTP/1.1\r\n\(host)X", "Y: 1\r\n\r\n"), .fieldName)
        }
        + "!#$%&'*+-.^_`|~09azAZ".utf8.map {
            Case(
                "byte \($0) in a name",
                bytes: byte($0, in: "GET / HTTP/1.1\r\n\(host)X", "Y: 1\r\n\r\n"))
        } + [
            Case("no name", get(": 1\r\n"), .fieldName),
            Case("no colon", get("X\r\n"), .fieldName),
            Case("NUL in a name", get("X\0: 1\r\n"), .nul),
            Case("a line feed in a name", get("X\n: 1\r\n"), .bareLineFeed),
            Case("a space before the colon", get("X : 1\r\n"), .spaceBeforeColon),
            Case("a tab before the colon", get("X\t: 1\r\n"), .spaceBeforeColon),
            Case(
                "a space before the first name", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", .foldedLine),
            Case("a folded line", get("X: 1\r\n 2\r\n"), .foldedLine),
            Case("a line folded by a tab", get("X: 1\r\n\t2\r\n"), .foldedLine),
            Case("an empty folded line", get("X: 1\r\n \r\n"), .foldedLine),
        ]

    static let values: [Case] =
        (UInt8(0x21)...0x7e).filter { $0 % 5 == 0 }.map {
            Case(
                "byte \($0) in a value",
                bytes: byte($0, in: "GET / HTTP/1.1\r\n\(host)X: a", "b\r\n\r\n"))
        }
        + (UInt8(0x80)...0xff).filter { $0 % 9 == 0 }.map {
            Case(
                "byte \($0) (obs-text) in a value",
                bytes: byte($0, in: "GET / HTTP/1.1\r\n\(host)X: a", "b\r\n\r\n"))
        }
        + ((UInt8(1)...0x1f).filter { ![9, 10, 13].contains($0) } + [0x7f]).map {
            Case(
                "byte \($0) in a value",
                bytes: byte($0, in: "GET / HTTP/1.1\r\n\(host)X: a", "b\r\n\r\n"), .fieldValue)
        } + [
            Case("NUL in a value", get("X: a\0b\r\n"), .nul),
            Case("a tab in a value", get("X: a\tb\r\n")),
            Case("a value that begins with a tab", get("X:\ta\r\n")),
            Case("an empty value", get("X:\r\n")),
            Case("a value of spaces", get("X:   \r\n")),
            Case("no space behind the colon", get("X:a\r\n")),
            Case("spaces behind the value", get("X: a  \t \r\n")),
            Case("colons in a value", get("X: a:b:c\r\n")),
            Case("a bare line feed behind a value", get("X: a\n"), .bareLineFeed),
            Case("a bare carriage return in a value", get("X: a\rb\r\n"), .bareCarriageReturn),
            Case("two carriage returns behind a value", get("X: a\r\r\n"), .bareCarriageReturn),
            Case(
                "a bare line feed instead of the empty line", "GET / HTTP/1.1\r\n\(host)\n",
                .bareLineFeed),
            Case(
                "a bare carriage return instead of the empty line", "GET / HTTP/1.1\r\n\(host)\rx",
                .bareCarriageReturn),
            Case("15 fields more", get(String(repeating: "a: b\r\n", count: 15))),
            Case("16 fields more", get(String(repeating: "a: b\r\n", count: 16)), .fieldsTooMany),
            Case(
                "a head of 2048 bytes",
                get("X: " + String(repeating: "a", count: 2048 - 16 - 9 - 5 - 2) + "\r\n")),
            Case(
                "a head of 2049 bytes",
                get("X: " + String(repeating: "a", count: 2049 - 16 - 9 - 5 - 2) + "\r\n"),
                .headTooLong),
        ]

    @Test(arguments: names + values)
    func `a field line`(row: Case) { row.judge() }

    @Test func `white space around a value is no part of it, obs-text passes`() {
        let bytes =
            Array("GET / HTTP/1.1\r\n\(host)X: \t a \t b \t \r\nY: ".utf8) + [0xe9]
            + Array("\r\n\r\n".utf8)
        #expect(Reading.of(bytes).fields == ["Host: a", "X: a \t b", "Y: \u{e9}"])
    }
}

@Suite("RFC 9112 section 6: how long a request is")
struct RequestLengthConformanceTests {
    static let lengths: [Case] =
        ["0", "1", "00", "007", "999999999999999999"].map {
            Case("length \($0)", post("Content-Length: \($0)\r\n"))
        }
        + [
            "", "-1", "+1", "1.0", "0x10", "1 2", "1,1", "1, 1", "1,", ",1", "a", "1a", "１", "1;",
            "\"1\"",
            "-0", "1e3", "NaN",
        ].map {
            Case("length \"\($0)\"", post("Content-Length: \($0)\r\n"), .contentLengthInvalid)
        }
        + ["9999999999999999999", "18446744073709551616", "99999999999999999999999999"].map {
            Case("length \($0)", post("Content-Length: \($0)\r\n"), .contentLengthTooLarge)
        } + [
            Case(
                "two equal lengths", post("Content-Length: 3\r\nContent-Length: 3\r\n"),
                .contentLengthDuplicate),
            Case(
                "two lengths", post("Content-Length: 3\r\ncontent-length: 4\r\n"),
                .contentLengthDuplicate),
            Case(
                "length and chunks", post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
                .lengthAndEncoding),
            Case(
                "chunks and length", post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
                .lengthAndEncoding),
            Case(
                "chunks and a length of zero",
                post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), .lengthAndEncoding),
        ]

    static let encodings: [Case] =
        ["chunked", "Chunked", "CHUNKED", " chunked", "  chunked"].map {
            Case("encoding \"\($0)\"", post("Transfer-Encoding:\($0)\r\n"))
        }
        + [
            "gzip", "identity", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked,",
            "chunked;q=1",
            "\"chunked\"", "xchunked", "chunkedx", "x", "", ",chunked", "chunked chunked",
        ].map {
            Case("encoding \"\($0)\"", post("Transfer-Encoding: \($0)\r\n"), .encodingUnknown)
        } + [
            Case(
                "chunked in two fields",
                post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
                .encodingDuplicate),
            Case(
                "chunked, then identity",
                post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
                .encodingDuplicate),
            Case(
                "identity, then chunked",
                post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
                .encodingUnknown),
            Case(
                "a tab before chunked", post("Transfer-Encoding:\tchunked\r\n"), .encodingUnknown),
            Case(
                "a space behind chunked", post("Transfer-Encoding: chunked \r\n"), .encodingUnknown),
            Case(
                "a tab behind a length", post("Content-Length: 3\t\r\n"), .contentLengthInvalid),
            Case(
                "a vertical tab before chunked", post("Transfer-Encoding: \u{b}chunked\r\n"),
                .fieldValue),
            Case("a space in the name", post("Transfer-Encoding : chunked\r\n"), .spaceBeforeColon),
            Case(
                "chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
                .encodingInOldVersion),
            Case("an encoding of another name", post("Transfer_Encoding: x\r\n")),
        ]

    static let others: [Case] =
        ["100-continue", "100-Continue"].map { Case("expect \($0)", post("Expect: \($0)\r\n")) }
        + ["", "200-ok", "100-continue, x", "100-continue;a"].map {
            Case("expect \"\($0)\"", post("Expect: \($0)\r\n"), .expectation)
        } + [
            Case(
                "32 options of Connection",
                get("Connection: " + (1...32).map { "x\($0)" }.joined(separator: ",") + "\r\n")),
            Case(
                "33 options of Connection",
                get("Connection: " + (1...33).map { "x\($0)" }.joined(separator: ",") + "\r\n"),
                .connectionOptions),
            Case("commas in Connection", get("Connection: ,,, close ,,\r\n")),
        ]

    @Test(arguments: lengths + encodings + others)
    func `a framing field`(row: Case) { row.judge() }
}

@Suite("RFC 9112 section 3.2: Host")
struct HostConformanceTests {
    /// So many bytes, half of them dots.
    private static func host(_ count: Int) -> String {
        String(String(repeating: "a.", count: count / 2 + 1).prefix(count - 1)) + "a"
    }
    private static func named(_ host: String) -> String {
        "GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n"
    }

    static let hosts: [Case] =
        [
            "", "a", "A.b-c_d~e", "a:80", "a:", "a:0", "a:65535", "127.0.0.1", "127.0.0.1:8080",
            "[::1]", "[::1]:80",
            "[2001:db8::1.2.3.4]", "a.", "a_b.c", "_dns.a", "-a", "a-.b", "1.2.3.4.",
            "1.2.3.4.:80", "255.255.255.255", "0.0.0.0", "1", "1.2.3", "1.2.3.4.5", "1.2.3.999a",
            "1.2.3.x", "a.999", "0x7f.1", "1a.b", "xn--bcher-kva.a", "[::]", "[1::]",
            "[1:2:3:4:5:6:7:8]", "[::2:3:4:5:6:7:8]", "[1:2:3:4:5:6:7::]",
            "[1:2:3:4:5:6:1.2.3.4]", "[::ffff:1.2.3.4]:443", "[ABCD:ef01::]",
        ].map {
            Case("host \"\($0)\"", "GET / HTTP/1.1\r\nHost: \($0)\r\n\r\n")
        }
        + [
            "a/b", "a b", "a@b", "u:p@a", "a,b", "a:b", "a:80:80", "a:65536", "a:-1", "a:+1",
            "a:000000", ":80", ":",
            "[::1", "::1", "[]", "[]:80", "[::1]x", "[::1]:x", "[g::]", "[::1%25eth0]", "a?b",
            "a#b", "a\\b", "a%41",
            "a\tb", "http://a", "*", "é", "a;b", "a'b", "a..b", ".a", ".", "..", "a..", ".:80",
            "1..2", "1.2.3.4..", "1.2.3.999", "1.2.3.256:80", "999.2.3.4.", "01.2.3.4", "1.2.3.04",
            "1.2.3.00", "[:::]", "[1:2]", "[1:2:3:4:5:6:7:8:9]", "[1:2:3:4:5:6:7:8::]",
            "[1:2:3:4::5:6:7:8]", "[1::2::3]", "[12345::]", "[:1::]", "[1:]", "[::1:]",
            "[::1.2.3]", "[::1.2.3.256]", "[::1.2.3.4.]", "[1.2.3.4]", "[1:2:3:4:5:6:7:1.2.3.4]",
            "[1.2.3.4::]", "[::]a", "[::]:65536", "[v1.a]",
        ].map {
            Case("host \"\($0)\"", "GET / HTTP/1.1\r\nHost: \($0)\r\n\r\n", .hostInvalid)
        } + [
            Case("a host of 253 bytes", named(host(253))),
            Case("and a dot at its end", named(host(253) + ".:80")),
            Case("a host of 254 bytes", named(host(254)), .hostInvalid),
            Case("a host of 500 labels", named(host(1000)), .hostInvalid),
            Case("no host in HTTP/1.1", "GET / HTTP/1.1\r\nX: a\r\n\r\n", .hostMissing),
            Case("no host, but in the target", "GET http://a/ HTTP/1.1\r\n\r\n", .hostMissing),
            Case("no host in HTTP/1.0, but in the target", "GET http://a/ HTTP/1.0\r\n\r\n"),
            Case("two equal hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", .hostDuplicate),
            Case("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", .hostDuplicate),
            Case(
                "two hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
                .hostDuplicate),
            Case("the target's host", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            Case("the target's host in another case", "GET http://A/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            Case(
                "another host", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", .hostConflict),
            Case(
                "not the target's port", "GET http://a:1/ HTTP/1.1\r\nHost: a:2\r\n\r\n",
                .hostConflict),
            Case(
                "the target's host and a port", "GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
                .hostConflict),
            Case("a tilde is no caret", "GET http://~/ HTTP/1.1\r\nHost: ^\r\n\r\n", .hostConflict),
            Case(
                "a user in the target", "GET http://u@a/ HTTP/1.1\r\nHost: u@a\r\n\r\n",
                .hostInvalid),
        ]

    @Test(arguments: hosts)
    func `a host`(row: Case) { row.judge() }

    @Test func `an address in brackets is one where inet_pton says so`() {
        let pieces = [
            ":", ":", "::", "1", "0", "ab", "ffff", "1:2", "1:2:3:", ".", "1.2.3.4", "255", "256",
            "04", "g",
        ]
        var random = FuzzMutator(seed: 4711)
        var addresses = 0
        for _ in 0..<50_000 {
            let text = (0...random.next(7)).map { _ in pieces[random.next(pieces.count)] }.joined()
            var bytes = in6_addr()
            // Safe: the call writes sixteen bytes.
            let isOne = unsafe inet_pton(AF_INET6, text, &bytes) == 1
            let reading = Reading.of(Array("GET / HTTP/1.1\r\nHost: [\(text)]\r\n\r\n".utf8))

            #expect((reading.result == .complete) == isOne, "[\(text)]")
            addresses += isOne ? 1 : 0
        }
        #expect(addresses > 1000)
    }
}
