// A chunked body, fed in pieces.

@testable import L7Engine

struct ChunkCase: Sendable {
    let rule: String
    let bytes: [UInt8]
    /// What the chunks hold; `nil`: refused.
    let content: String?
    var refusal = Refusal.chunk
    /// Bytes behind the body.
    var rest = 0

    init(_ rule: String, _ text: String, _ content: String, rest: Int = 0) {
        self.rule = rule
        bytes = Array(text.utf8)
        self.content = content
        self.rest = rest
    }

    init(_ rule: String, _ text: String, _ refusal: Refusal) {
        self.rule = rule
        bytes = Array(text.utf8)
        content = nil
        self.refusal = refusal
    }

    init(_ rule: String, bytes: [UInt8]) {
        self.rule = rule
        self.bytes = bytes
        content = nil
    }

    /// Feeds pieces that end at `splits`; where the body ended and what it held.
    func feed(_ splits: [Int], decodes: Bool) -> (end: Int, content: [UInt8], refusal: Refusal) {
        var framing = BodyFraming.chunked()
        var content: [UInt8] = []
        var at = 0
        for split in splits + [bytes.count] where !framing.isDone {
            var piece = Array(bytes[at..<split])
            let count = piece.count
            if count == 0 { continue }
            // Safe: the pointer stays inside the closure.
            let stop = unsafe piece.withUnsafeMutableBufferPointer { buffer -> Int in
                let base = buffer.baseAddress!
                guard decodes else { return unsafe framing.advance(base, 0, count) }
                var kept = 0
                let stop = unsafe framing.decode(base, 0, count, kept: &kept)
                content += (0..<kept).map { unsafe base[$0] }
                return stop
            }
            if stop < 0 { return (-1, content, framing.refusal) }
            at += stop
        }
        return (framing.isDone ? at : -2, content, framing.refusal)
    }
}
