import Testing

@testable import L7Engine

struct ChunkRow: CustomTestStringConvertible {
    let rule: String
    let text: String
    /// Bytes of the body; -1: refused.
    let end: Int
    var testDescription: String { rule }
}

@Suite("RFC 9112 section 7.1: chunks pass through, checked")
struct BodyFramingTests {
    static let rows = [
        ChunkRow(rule: "one chunk", text: "3\r\nabc\r\n0\r\n\r\nGET", end: 13),
        ChunkRow(rule: "extension", text: "3;a=b\r\nabc\r\n0\r\n\r\n", end: 17),
        ChunkRow(rule: "trailer", text: "0\r\nX: y\r\n\r\n", end: 11),
        ChunkRow(rule: "upper and lower case sizes", text: "A\r\n0123456789\r\n0\r\n\r\n", end: 20),
        ChunkRow(rule: "no size", text: "\r\n", end: -1),
        ChunkRow(rule: "bad digit", text: "g\r\n", end: -1),
        ChunkRow(rule: "bare line feed", text: "3\nabc\r\n", end: -1),
        ChunkRow(rule: "space before the size", text: " 3\r\n", end: -1),
        ChunkRow(rule: "space behind the size", text: "3 \r\n", end: -1),
        ChunkRow(rule: "data longer than the size", text: "3\r\nabcd\r\n", end: -1),
        ChunkRow(rule: "size that overflows", text: "1000000000000000\r\n", end: -1),
        ChunkRow(rule: "folded trailer", text: "0\r\n x\r\n\r\n", end: -1),
        ChunkRow(rule: "negative size", text: "-1\r\n", end: -1),
    ]

    @Test(arguments: rows)
    func `in one piece and byte by byte`(row: ChunkRow) {
        let bytes = Array(row.text.utf8)
        var whole = BodyFraming.chunked()
        var split = BodyFraming.chunked()
        var taken = 0

        // Safe: the pointer stays inside the closure.
        let end = unsafe bytes.withUnsafeBufferPointer {
            unsafe whole.advance($0.baseAddress!, 0, bytes.count)
        }
        for index in bytes.indices where taken >= 0 && !split.isDone {
            let stop = unsafe bytes.withUnsafeBufferPointer {
                unsafe split.advance($0.baseAddress!, index, index + 1)
            }
            taken = stop < 0 ? -1 : stop
        }

        #expect(end == row.end)
        #expect(taken == row.end)
        #expect(whole.isDone == (row.end >= 0))
    }

    @Test func `a length ends where it says`() {
        var framing = BodyFraming(length: 5)
        let bytes = Array("helloGET".utf8)

        let stops = unsafe bytes.withUnsafeBufferPointer { buffer in
            let base = buffer.baseAddress!
            let first = unsafe framing.advance(base, 0, 3)
            return (first, unsafe framing.advance(base, 3, 8))
        }

        #expect(stops == (3, 5))
        #expect(framing.isDone)
    }
}
