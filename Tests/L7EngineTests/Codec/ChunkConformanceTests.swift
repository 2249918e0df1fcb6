// Chunked bodies: what is refused and why, at every split, and the same bytes taken apart.

import Testing

@testable import L7Engine

extension ChunkCase: CustomTestStringConvertible {
    var testDescription: String { rule }
}

@Suite("RFC 9112 section 7.1: chunks, trailers, limits")
struct ChunkConformanceTests {
    static let end = "0\r\n\r\n"
    static let accepted = [
        ChunkCase("no chunk but the last", end, ""),
        ChunkCase("one", "3\r\nabc\r\n\(end)", "abc"),
        ChunkCase("two", "3\r\nabc\r\n2\r\nde\r\n\(end)", "abcde"),
        ChunkCase("a request behind", "3\r\nabc\r\n\(end)GET / HTTP/1.1", "abc", rest: 14),
        ChunkCase("zeros before the size", "0003\r\nabc\r\n000\r\n\r\n", "abc"),
        ChunkCase(
            "letters in a size", "a\r\n0123456789\r\nB\r\n01234567890\r\n\(end)",
            "012345678901234567890"),
        ChunkCase("line ends in the data", "4\r\n\r\n\r\n\r\n\(end)", "\r\n\r\n"),
        ChunkCase("chunks in the data", "5\r\n0\r\n\r\n\r\n\(end)", "0\r\n\r\n"),
        ChunkCase("an extension", "3;a=b\r\nabc\r\n\(end)", "abc"),
        ChunkCase("an extension with a quoted text", "3;a=\"b c\"\r\nabc\r\n0;x\r\n\r\n", "abc"),
        ChunkCase("an empty extension", "3;\r\nabc\r\n\(end)", "abc"),
        ChunkCase("a trailer", "3\r\nabc\r\n0\r\nX: y\r\n\r\n", "abc"),
        ChunkCase("trailers", "0\r\nX: y\r\nGrpc-Status: 0\r\nZ:\r\n\r\n", ""),
        ChunkCase("a trailer with a tab", "0\r\nX:\ty\r\n\r\n", ""),
        ChunkCase(
            "a trailer whose name begins like a framing field", "0\r\nContent-Length-X: 1\r\n\r\n",
            ""),
    ]

    static let refused =
        [
            ChunkCase("no size", "\r\nabc", .chunk),
            ChunkCase("no digit", "g\r\n", .chunk),
            ChunkCase("a sign", "+3\r\nabc\r\n\(end)", .chunk),
            ChunkCase("a negative size", "-3\r\nabc\r\n\(end)", .chunk),
            ChunkCase("a prefix", "0x3\r\nabc\r\n\(end)", .chunk),
            ChunkCase("a space before the size", " 3\r\nabc\r\n\(end)", .chunk),
            ChunkCase("a space behind the size", "3 \r\nabc\r\n\(end)", .chunk),
            ChunkCase("a tab behind the size", "3\t;a\r\nabc\r\n\(end)", .chunk),
            ChunkCase("a bare line feed behind the size", "3\nabc\r\n\(end)", .chunk),
            ChunkCase("a bare carriage return behind the size", "3\rabc\r\n\(end)", .chunk),
            ChunkCase("two carriage returns", "3\r\r\nabc\r\n\(end)", .chunk),
            ChunkCase("NUL behind the size", "3\0\r\nabc\r\n\(end)", .chunk),
            ChunkCase("data shorter than the size", "4\r\nabc\r\n\(end)", .chunk),
            ChunkCase("data longer than the size", "2\r\nabc\r\n\(end)", .chunk),
            ChunkCase("no line end behind the data", "3\r\nabc0\r\n\r\n", .chunk),
            ChunkCase("a bare line feed behind the data", "3\r\nabc\n\(end)", .chunk),
            ChunkCase("a bare carriage return behind the data", "3\r\nabc\r\(end)", .chunk),
            ChunkCase("an underscore", "1_0\r\n", .chunk),
            ChunkCase("a size of 16 digits", "1000000000000000\r\n", .chunkSize),
            ChunkCase("a size of 16 zeros", "0000000000000000\r\n", .chunkSize),
            ChunkCase("the largest word", "ffffffffffffffff\r\n", .chunkSize),
            ChunkCase(
                "a bare line feed in an extension", "3;a\nb\r\nabc\r\n\(end)", .chunkExtension),
            ChunkCase("NUL in an extension", "3;a\0\r\nabc\r\n\(end)", .chunkExtension),
            ChunkCase("DEL in an extension", "3;a\u{7f}\r\nabc\r\n\(end)", .chunkExtension),
            ChunkCase("a carriage return in an extension", "3;a\rb\r\n", .chunk),
            ChunkCase(
                "long extensions", "3;" + String(repeating: "a", count: 4097), .chunkExtension),
            ChunkCase(
                "many extensions", String(repeating: "1;aaaaaaa\r\nx\r\n", count: 600),
                .chunkExtension),
            ChunkCase("a folded trailer", "0\r\nX: y\r\n z\r\n\r\n", .trailer),
            ChunkCase("a space before a trailer", "0\r\n X: y\r\n\r\n", .trailer),
            ChunkCase("a space behind a trailer's name", "0\r\nX : y\r\n\r\n", .trailer),
            ChunkCase("a trailer without a colon", "0\r\nX\r\n\r\n", .trailer),
            ChunkCase("a trailer without a name", "0\r\n: y\r\n\r\n", .trailer),
            ChunkCase("a bare line feed in a trailer", "0\r\nX: y\n\r\n", .trailer),
            ChunkCase("a bare carriage return in a trailer", "0\r\nX: y\rz\r\n\r\n", .trailer),
            ChunkCase("NUL in a trailer", "0\r\nX: \0\r\n\r\n", .trailer),
            ChunkCase("a bare line feed at the end", "0\r\n\n", .trailer),
            ChunkCase("a bare carriage return at the end", "0\r\n\rx", .trailer),
            ChunkCase(
                "long trailers", "0\r\nX:" + String(repeating: "a", count: 9000), .trailersTooLong),
        ]
        + [
            "Content-Length", "Transfer-Encoding", "Host", "Connection", "TE", "Trailer", "Upgrade",
            "Expect",
            "Authorization", "Cookie", "Set-Cookie", "content-encoding", "CONTENT-TYPE",
            "Content-Range", "Keep-Alive",
            "Proxy-Connection", "X-Forwarded-For", "X-Real-IP", "X-Forwarded-Proto", "Forwarded",
            "X-Forwarded-Client-Cert", "Proxy-Authorization", "X-Request-ID",
        ].map { ChunkCase("\($0) as a trailer", "0\r\n\($0): 1\r\n\r\n", .trailer) }

    @Test(arguments: accepted + refused)
    func `a chunked body, whole and split`(row: ChunkCase) {
        let wanted = row.content == nil ? -1 : row.bytes.count - row.rest
        var ways: [[Int]] = [[], Array(0..<row.bytes.count)]
        if row.bytes.count < 200 { ways += (0..<row.bytes.count).map { [$0] } }
        for splits in ways {
            for decodes in [false, true] {
                let (end, content, refusal) = row.feed(splits, decodes: decodes)
                #expect(end == wanted)
                if end == -1 { #expect(refusal == row.refusal) }
                if decodes, let wanted = row.content { #expect(content == Array(wanted.utf8)) }
            }
        }
    }
}
