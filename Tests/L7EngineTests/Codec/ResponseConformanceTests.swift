// Responses of RFC 9112, in one piece and split at every byte, and which fields pass on.

import MeshModel
import Testing

@testable import L7Engine

private func response(_ rule: String, _ text: String, _ refusal: Refusal? = nil) -> Case {
    Case(rule, text, refusal, isResponse: true)
}

@Suite("RFC 9112 section 4: responses")
struct ResponseConformanceTests {
    static let lines: [Case] =
        ["100", "101", "199", "200", "204", "299", "304", "404", "599", "600", "999"].map {
            response("status \($0)", "HTTP/1.1 \($0) X\r\n\r\n")
        }
        + ["000", "099", "20", "2000", "2x0", "x00", "-20", "+20", " 200", "20 "].map {
            response("status \"\($0)\"", "HTTP/1.1 \($0)\r\n\r\n", .malformedLine)
        } + [
            response("no reason", "HTTP/1.1 200 \r\n\r\n"),
            response("no reason and no space", "HTTP/1.1 200\r\n\r\n"),
            response("a reason of words", "HTTP/1.1 200 So be it\r\n\r\n"),
            response("a reason with a tab", "HTTP/1.1 200 a\tb\r\n\r\n"),
            Case(
                "a reason with obs-text",
                bytes: Array("HTTP/1.1 200 ".utf8) + [0xe9] + Array("\r\n\r\n".utf8),
                isResponse: true),
            response("a reason with a control", "HTTP/1.1 200 a\u{1}\r\n\r\n", .malformedLine),
            response("a reason with DEL", "HTTP/1.1 200 a\u{7f}\r\n\r\n", .malformedLine),
            response("a reason with NUL", "HTTP/1.1 200 a\0\r\n\r\n", .nul),
            response("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n"),
            response("HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", .version),
            response("lower case", "http/1.1 200 OK\r\n\r\n", .malformedLine),
            response("an empty line before", "\r\nHTTP/1.1 200 OK\r\n\r\n", .malformedLine),
            response("SSH", "SSH-2.0-OpenSSH_9.2\r\n", .malformedLine),
            response("HTTP/0.9", "<html>", .malformedLine),
            response("a bare line feed", "HTTP/1.1 200 OK\n\n", .bareLineFeed),
            response("a folded line", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", .foldedLine),
            response(
                "a space before the colon", "HTTP/1.1 200 OK\r\nX : a\r\n\r\n", .spaceBeforeColon),
            response(
                "length and chunks",
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                .lengthAndEncoding),
            response(
                "two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                .contentLengthDuplicate),
            response(
                "a bad length", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
                .contentLengthInvalid),
            response(
                "another encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                .encodingUnknown),
            response(
                "chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                .encodingInOldVersion),
            response(
                "two hosts mean nothing in a response",
                "HTTP/1.1 200 OK\r\nHost: a\r\nHost: b\r\n\r\n"),
            response("nor does Expect", "HTTP/1.1 200 OK\r\nExpect: x\r\n\r\n"),
        ]

    @Test(arguments: lines)
    func `a response head`(row: Case) { row.judge() }
}

@Suite("RFC 9110 section 7.6.1: what belongs to one hop")
struct HopConformanceTests {
    /// Names of the fields that are not passed on.
    private func dropped(_ fields: String) -> [String] {
        let text = "GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n"
        let reading = Reading.of(Array(text.utf8), named: true)
        #expect(reading.result == .complete)
        return zip(reading.fields, reading.kinds).filter { $0.1 & FieldKind.hop != 0 }
            .map { String($0.0.prefix { $0 != ":" }) }
    }

    @Test(arguments: [
        ("Connection: close\r\n", ["Connection"]),
        (
            "Keep-Alive: 5\r\nProxy-Connection: x\r\nTE: y\r\nUpgrade: x\r\nHTTP2-Settings: y\r\n",
            ["Keep-Alive", "Proxy-Connection", "TE", "Upgrade", "HTTP2-Settings"]
        ),
        ("Connection: x-a, X-B\r\nX-A: 1\r\nx-b: 2\r\nX-C: 3\r\n", ["Connection", "X-A", "x-b"]),
        ("X-A: 1\r\nConnection: X-A\r\nX-A: 2\r\n", ["X-A", "Connection", "X-A"]),
        (
            "Connection: host, content-length, transfer-encoding\r\nContent-Length: 1\r\n",
            ["Connection"]
        ),
        (
            "Connection: x-forwarded-for, forwarded, via, x-request-id, x-real-ip\r\nVia: 1\r\n"
                + "Forwarded: a\r\nX-Forwarded-For: b\r\nX-Request-ID: c\r\nX-Real-IP: d\r\n",
            ["Connection"]
        ),
        ("Trailer: x\r\nProxy-Authorization: y\r\nX: z\r\n", []),
        ("Connection: trailer\r\nTrailer: x\r\n", ["Connection", "Trailer"]),
    ])
    func `it is dropped, and nothing that frames or addresses is`(fields: String, names: [String]) {
        #expect(dropped(fields) == names)
    }

    @Test(arguments: [
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", true),
        ("Connection: keep-alive, UPGRADE\r\nUpgrade: websocket\r\n", true),
        ("Upgrade: websocket\r\n", false), ("Connection: upgrade\r\n", false),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n", false),
        ("Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n", false),
        ("Connection: Upgrade\r\nUpgrade: h2c/1\r\n", false),
        ("Connection: Upgrade\r\nUpgrade: h2cx\r\n", true),
    ])
    func `an upgrade passes, but never to HTTP/2 behind our back`(fields: String, passes: Bool) {
        let reading = Reading.of(Array("GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n".utf8))
        #expect(reading.head[3] == passes)
    }

    @Test(arguments: [
        ("TE: trailers\r\n", [true, false]), ("TE: gzip;q=1, trailers\r\n", [true, false]),
        ("TE: deflate\r\n", [false, false]), ("Accept: application/json\r\n", [false, true]),
        ("Accept: text/html, Application/JSON;q=0.5\r\n", [false, true]),
        ("Accept: */*\r\n", [false, false]), ("Accept: text/plain\r\n", [false, false]),
    ])
    func `what the client takes is known`(fields: String, wanted: [Bool]) {
        let reading = Reading.of(Array("GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n".utf8))
        #expect(Array(reading.head[6...7]) == wanted)
    }
}
