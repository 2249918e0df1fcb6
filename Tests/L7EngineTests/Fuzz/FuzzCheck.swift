// What must hold for any bytes at all. The same checks run over the saved corpus in every test run,
// and under libFuzzer (Tests/Fuzz, `make fuzz`). A broken promise is a trap.

import MeshModel

@testable import L7Engine

/// What the bytes are given to.
enum FuzzCheck: String, CaseIterable {
    case request, response, chunks, relay

    func run(_ bytes: [UInt8]) {
        switch self {
        case .request: Self.head(bytes, isResponse: false)
        case .response: Self.head(bytes, isResponse: true)
        case .chunks: Self.chunks(bytes)
        case .relay: FuzzRelay.shared.run(bytes)
        }
    }

    /// One piece and growing pieces come to the same decision, and an accepted head means the same
    /// to whoever reads it again.
    private static func head(_ bytes: [UInt8], isResponse: Bool) {
        let whole = Reading.of(bytes, isResponse: isResponse)
        // Beyond the limits there is nothing new to see.
        let step = max(1, bytes.count / 512)
        for count in stride(from: 0, to: bytes.count, by: step) {
            let part = Reading.of(Array(bytes[..<count]), isResponse: isResponse)
            if part.result == .incomplete { continue }
            precondition(part == whole, "a split changes the decision")
            break
        }
        guard whole.result == .complete else { return }
        precondition(whole.end <= bytes.count, "a head ends inside of what came")
        if isResponse {
            precondition((100...999).contains(whole.status), "a status has three digits")
        } else {
            normalForm(whole)
        }
    }

    private static func normalForm(_ reading: Reading) {
        // Its target is an authority: there is no path.
        if reading.method == "CONNECT" { return }
        let path = reading.path
        precondition(path == "*" || path.hasPrefix("/"), "a path begins with a slash")
        precondition(!path.contains("//"), "no empty segment")
        for segment in path.split(separator: "/", omittingEmptySubsequences: false) {
            precondition(segment != "." && segment != "..", "no dot segment")
        }
        precondition(reading.authority.hasPrefix(reading.host), "the host is the authority's")
        precondition(!reading.host.contains(".."), "no empty label in a host")
        // The head as it would be written anew: the same request, and nothing hidden in it.
        var text = reading.method + " " + path
        if let query = reading.query { text += "?" + query }
        text += " HTTP/1.1\r\n"
        if !reading.fields.contains(where: { $0.lowercased().hasPrefix("host:") }) {
            text += "Host: \(reading.authority)\r\n"
        }
        for field in reading.fields { text += field + "\r\n" }
        let again = Reading.of(text.unicodeScalars.map { UInt8($0.value) } + [13, 10])
        if again.result == .refused(.fieldsTooMany) || again.result == .refused(.headTooLong) {
            return
        }
        // An authority in the target wins; ours is then not the one that `Host` spells.
        precondition(again.result == .complete, "what was accepted is accepted again")
        precondition(again.path == path && again.query == reading.query, "the same target")
        precondition(
            again.length == reading.length && again.isChunked == reading.isChunked,
            "the same length")
    }

    private static func chunks(_ bytes: [UInt8]) {
        let row = ChunkCase("fuzz", bytes: bytes)
        let whole = row.feed([], decodes: false)
        let step = max(1, bytes.count / 256)
        for splits in [Array(0..<bytes.count)]
            + stride(from: 0, to: bytes.count, by: step).map({ [$0] })
        {
            let part = row.feed(splits, decodes: false)
            precondition(part.end == whole.end, "a split changes where a body ends")
            let decoded = row.feed(splits, decodes: true)
            precondition(decoded.end == whole.end, "taking apart changes where a body ends")
            precondition(decoded.content.count <= bytes.count, "no more than came")
        }
    }
}

/// The same disorder from the same seed.
struct FuzzMutator {
    private var state: UInt64

    init(seed: UInt64) { state = seed | 1 }

    mutating func next(_ bound: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state % UInt64(max(1, bound)))
    }

    private static let words: [[UInt8]] = [
        "\r\n", "\n", "\r", "\0", " ", "\t", ":", ",", ";", "chunked", "Content-Length: ",
        "0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n", "Host: b\r\n", "Connection: ", "HTTP/1.1", "../", "%2e",
        "100",
        "Expect: 100-continue\r\n", "HEAD", "204", "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ].map { Array($0.utf8) }

    mutating func mutate(_ bytes: [UInt8], with others: [[UInt8]]) -> [UInt8] {
        var out = bytes
        for _ in 0...next(3) {
            let at = next(out.count + 1)
            switch next(6) {
            case 0 where !out.isEmpty: out[next(out.count)] = UInt8(next(256))
            case 1: out.insert(contentsOf: Self.words[next(Self.words.count)], at: at)
            case 2 where !out.isEmpty: out.removeSubrange(at..<min(out.count, at + 1 + next(8)))
            case 3: out = Array(out[..<at]) + others[next(others.count)].suffix(64)
            case 4: out.insert(UInt8(next(256)), at: at)
            default: out.append(contentsOf: out.prefix(at).suffix(32))
            }
        }
        return Array(out.prefix(4096))
    }
}
