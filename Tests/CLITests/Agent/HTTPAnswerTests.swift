import Testing

@testable import CLI

@Suite("An answer of the agent's socket is parsed")
struct HTTPAnswerTests {
    struct Row: CustomTestStringConvertible {
        var rule: String
        var text: String
        var body: String?
        var testDescription: String { rule }
    }

    @Test(arguments: [
        Row(
            rule: "Content-Length counts",
            text: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi there", body: "hi"),
        Row(
            rule: "without a length the end counts", text: "HTTP/1.1 200 OK\r\n\r\nall", body: "all"
        ),
        Row(
            rule: "chunks are joined, extensions and trailers skipped",
            text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "2;x=1\r\nhi\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            body: "hi0123456789"),
        Row(
            rule: "field names know no case",
            text: "HTTP/1.1 200 OK\r\ncontent-LENGTH:1\r\n\r\nxyz", body: "x"),
        Row(
            rule: "a body that is too short is refused",
            text: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", body: nil),
        Row(
            rule: "chunks that break off are refused",
            text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", body: nil),
        Row(
            rule: "a chunk of no size is refused",
            text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", body: nil),
        Row(rule: "another protocol is refused", text: "SSH-2.0-OpenSSH\r\n\r\n", body: nil),
        Row(rule: "half a head is refused", text: "HTTP/1.1 200 OK\r\n", body: nil),
        Row(rule: "nothing is refused", text: "", body: nil),
    ])
    func `an answer is whole or refused`(row: Row) {
        let answer = try? HTTPAnswer(parsing: Array(row.text.utf8))
        #expect(answer.map { String(decoding: $0.body, as: UTF8.self) } == row.body)
    }

    @Test func `the status is the second word`() throws {
        let text = "HTTP/1.1 503 Service Unavailable\r\n\r\n"
        #expect(try HTTPAnswer(parsing: Array(text.utf8)).status == 503)
    }
}
