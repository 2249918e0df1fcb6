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

    /// What came before one look and between it and the next, and whether that one finds a debt.
    static let looks: [(before: String, between: String, owes: Bool)] = [
        ("", "", false), ("", "5", false), ("5\r\nhello\r\n", "", false),
        ("5", "", true), ("5;a", "b", true), ("5\r\nhe", "l", true), ("5\r\nhello", "", true),
        ("5\r\nhello\r", "", true), ("0\r\n", "X: y", true), ("0\r\nX: y", "y", true),
        ("5\r\nhe", "llo\r\n", false), ("5\r\nhe", "llo\r\n5\r\nhe", false),
        ("5\r\nhello\r\n", "5\r\nhe", false),
    ]

    @Test(arguments: looks)
    func `a chunk is owed from its size line on, and nothing between two`(
        _ row: (before: String, between: String, owes: Bool)
    ) {
        var framing = BodyFraming.chunked()
        func take(_ text: String) {
            let bytes = Array(text.utf8)
            // Safe: the pointer stays inside the closure.
            unsafe bytes.withUnsafeBufferPointer {
                guard let base = $0.baseAddress else { return }
                let stop = unsafe framing.advance(base, 0, bytes.count)
                #expect(stop == bytes.count)
            }
        }

        take(row.before)
        let first = framing.isOwing()
        take(row.between)
        let second = framing.isOwing()

        #expect(!first)
        #expect(second == row.owes)
    }

    @Test func `a length is owed until its end`() {
        var framing = BodyFraming(length: 5)
        for _ in 0..<2 {
            let owes = framing.isOwing()
            #expect(owes)
        }
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
