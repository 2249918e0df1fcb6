import Testing

@testable import CLI

@Suite("An answer that does not end is taken line by line")
struct FollowedLinesTests {
    private static let text = "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\none\ntwo\nthr"

    @Test func `however the bytes come, whole lines come out once`() {
        for size in 1...Self.text.utf8.count {
            var lines = FollowedLines()
            var found: [String] = []
            var rest = Array(Self.text.utf8)[...]
            while !rest.isEmpty {
                found += lines.take(Array(rest.prefix(size)))
                rest = rest.dropFirst(size)
            }
            #expect(lines.status == 200 && found == ["one", "two"], "pieces of \(size)")
            #expect(lines.take(Array("ee\n".utf8)) == ["three"])
        }
    }

    @Test func `a refusal has no lines, but a text`() {
        var lines = FollowedLines()
        #expect(lines.take(Array("HTTP/1.0 503 No\r\n\r\ntoo many follow already\n".utf8)) == [])
        #expect(lines.status == 503 && lines.rest == "too many follow already")
    }
}
