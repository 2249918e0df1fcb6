import MeshModel
import Testing

@testable import L7Engine

/// What came of a request's bytes: the pieces as text, or why not.
struct Parsed: Equatable {
    var result: ParseResult
    var method = ""
    var path = ""
    var query = ""
    var host = ""
    var end = 0
}

/// Parses `text`; a head is `incomplete` until all of it is there.
func parse(_ text: String) -> Parsed { parse(bytes: Array(text.utf8)) }

func parse(bytes: [UInt8]) -> Parsed {
    let fields = UnsafeMutablePointer<FieldRange>.allocate(capacity: 8)
    defer { unsafe fields.deallocate() }
    var head = unsafe MessageHead(fields: fields, fieldsMax: 8)
    var copy = bytes + [0]
    // Safe: the pointer stays inside the closure; the byte behind keeps an empty input addressable.
    return unsafe copy.withUnsafeMutableBufferPointer { buffer in
        let base = buffer.baseAddress!
        let result = unsafe HTTP1Parser.request(base, 0, bytes.count, &head)
        var parsed = Parsed(result: result)
        guard result == .complete else { return parsed }
        func text(_ range: ByteRange) -> String {
            String(decoding: (range.lower..<range.upper).map { unsafe base[$0] }, as: UTF8.self)
        }
        parsed.method = text(head.method)
        parsed.path = text(head.path)
        parsed.query = text(head.query)
        parsed.host = text(head.host)
        parsed.end = head.end
        return parsed
    }
}

struct RefusalRow: CustomTestStringConvertible {
    let rule: String
    let text: String
    let refusal: Refusal
    var testDescription: String { rule }
}

@Suite("RFC 9112: what is ambiguous is refused with a reason")
struct HTTP1RefusalTests {
    static let h = "Host: a\r\n"
    static let rows = [
        RefusalRow(
            rule: "length and encoding",
            text: "POST / HTTP/1.1\r\n\(h)Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            refusal: .lengthAndEncoding),
        RefusalRow(
            rule: "differing lengths",
            text: "POST / HTTP/1.1\r\n\(h)Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
            refusal: .contentLengthDuplicate),
        RefusalRow(
            rule: "a list of lengths", text: "POST / HTTP/1.1\r\n\(h)Content-Length: 3, 3\r\n\r\n",
            refusal: .contentLengthInvalid),
        RefusalRow(
            rule: "a signed length", text: "POST / HTTP/1.1\r\n\(h)Content-Length: +3\r\n\r\n",
            refusal: .contentLengthInvalid),
        RefusalRow(
            rule: "an empty length", text: "POST / HTTP/1.1\r\n\(h)Content-Length:\r\n\r\n",
            refusal: .contentLengthInvalid),
        RefusalRow(
            rule: "another encoding",
            text: "POST / HTTP/1.1\r\n\(h)Transfer-Encoding: gzip, chunked\r\n\r\n",
            refusal: .encodingUnknown),
        RefusalRow(
            rule: "chunked twice",
            text:
                "POST / HTTP/1.1\r\n\(h)Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            refusal: .encodingDuplicate),
        RefusalRow(
            rule: "a disguised encoding",
            text: "POST / HTTP/1.1\r\n\(h)Transfer-Encoding: \u{b}chunked\r\n\r\n",
            refusal: .fieldValue),
        RefusalRow(
            rule: "chunks in HTTP/1.0",
            text: "POST / HTTP/1.0\r\n\(h)Transfer-Encoding: chunked\r\n\r\n",
            refusal: .encodingInOldVersion),
        RefusalRow(
            rule: "bare line feed after a field", text: "GET / HTTP/1.1\r\nHost: a\n\r\n",
            refusal: .bareLineFeed),
        RefusalRow(
            rule: "bare line feed after the line", text: "GET / HTTP/1.1\nHost: a\r\n\r\n",
            refusal: .bareLineFeed),
        RefusalRow(
            rule: "bare carriage return", text: "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            refusal: .bareCarriageReturn),
        RefusalRow(
            rule: "folded line", text: "GET / HTTP/1.1\r\n\(h)X: a\r\n b\r\n\r\n",
            refusal: .foldedLine),
        RefusalRow(
            rule: "NUL in a value", text: "GET / HTTP/1.1\r\n\(h)X: a\0b\r\n\r\n", refusal: .nul),
        RefusalRow(
            rule: "space before the colon", text: "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            refusal: .spaceBeforeColon),
        RefusalRow(rule: "no name", text: "GET / HTTP/1.1\r\n\(h): a\r\n\r\n", refusal: .fieldName),
        RefusalRow(rule: "no host", text: "GET / HTTP/1.1\r\nX: a\r\n\r\n", refusal: .hostMissing),
        RefusalRow(
            rule: "two hosts", text: "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            refusal: .hostDuplicate),
        RefusalRow(
            rule: "a host with a slash", text: "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            refusal: .hostInvalid),
        RefusalRow(
            rule: "a host against the target", text: "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            refusal: .hostConflict),
        RefusalRow(
            rule: "an encoded slash", text: "GET /a%2fb HTTP/1.1\r\n\(h)\r\n", refusal: .path),
        RefusalRow(rule: "an encoded NUL", text: "GET /a%00 HTTP/1.1\r\n\(h)\r\n", refusal: .path),
        RefusalRow(
            rule: "a path above the root", text: "GET /../a HTTP/1.1\r\n\(h)\r\n", refusal: .path),
        RefusalRow(rule: "a backslash", text: "GET /a\\b HTTP/1.1\r\n\(h)\r\n", refusal: .path),
        RefusalRow(rule: "half an escape", text: "GET /a%2 HTTP/1.1\r\n\(h)\r\n", refusal: .path),
        RefusalRow(rule: "two spaces", text: "GET  / HTTP/1.1\r\n\(h)\r\n", refusal: .target),
        RefusalRow(rule: "another version", text: "GET / HTTP/2.0\r\n\(h)\r\n", refusal: .version),
        RefusalRow(rule: "not HTTP at all", text: "\u{16}\u{3}\u{1}", refusal: .method),
        RefusalRow(
            rule: "too many fields",
            text: "GET / HTTP/1.1\r\n\(h)" + String(repeating: "a: b\r\n", count: 8) + "\r\n",
            refusal: .fieldsTooMany),
        RefusalRow(
            rule: "CONNECT for another host", text: "CONNECT a:1 HTTP/1.1\r\n\(h)\r\n",
            refusal: .hostConflict),
    ]

    @Test(arguments: rows)
    func `it is refused with its own reason`(row: RefusalRow) {
        #expect(parse(row.text).result == .refused(row.refusal))
    }
}

@Suite("RFC 9112 section 3: request heads")
struct HTTP1RequestTests {
    @Test(arguments: [
        ("/", "/", ""), ("/a/b?x=1&y", "/a/b", "x=1&y"), ("/a/./b/../c", "/a/c", ""),
        ("//a///b", "/a/b", ""), ("/%41%2d%7e", "/A-~", ""), ("/a%20b", "/a%20b", ""),
        ("/a/..", "/", ""), ("/a/.", "/a/", ""), ("/%2e%2e/", "", ""), ("/.hidden", "/.hidden", ""),
        ("/a//", "/a/", ""), ("http://a/p?q", "/p", "q"),
    ])
    func `a path is matched in its one normal form`(target: String, path: String, query: String) {
        let parsed = parse("GET \(target) HTTP/1.1\r\nHost: a\r\n\r\n")

        if path.isEmpty {
            #expect(parsed.result == .refused(.path))
        } else {
            #expect(parsed.path == path)
            #expect(parsed.query == query)
        }
    }

    @Test(arguments: [
        "GET /a/../b?c HTTP/1.1\r\nHost: shop:80\r\nX-Long: \(String(repeating: "v", count: 90))\r\n\r\n",
        "\r\nPOST /x HTTP/1.0\r\nContent-Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
    ])
    func `one piece and every split agree`(text: String) {
        let bytes = Array(text.utf8)
        let whole = parse(bytes: bytes)

        for count in 0..<bytes.count {
            let part = parse(bytes: Array(bytes[..<count])).result
            #expect(part == .incomplete || part == whole.result, "after \(count) bytes")
        }
        #expect(whole.result != .incomplete)
    }

    @Test func `the host is named without its port`() {
        #expect(parse("GET / HTTP/1.1\r\nHost: Shop.example:8080\r\n\r\n").host == "Shop.example")
        #expect(parse("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").host == "[::1]")
        // With the root's dot it is the same name, and evades no route.
        for host in ["shop.example.", "shop.example.:80"] {
            #expect(parse("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n").host == "shop.example")
        }
        #expect(parse("GET http://shop.example./ HTTP/1.0\r\n\r\n").host == "shop.example")
    }
}
