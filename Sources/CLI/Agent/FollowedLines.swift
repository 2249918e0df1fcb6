/// An answer of HTTP/1.0 that comes bit by bit, as lines. A value; no I/O.
struct FollowedLines {
    /// Of the head, once it has come.
    private(set) var status: Int?
    private var buffer: [UInt8] = []

    /// What is no whole line yet; of a refusal, its text.
    var rest: String {
        String(decoding: buffer.prefix(200), as: UTF8.self).split(separator: "\n").first
            .map(String.init) ?? ""
    }

    /// The lines that are whole now. Those of a refusal stay in `rest`.
    mutating func take(_ bytes: [UInt8]) -> [String] {
        buffer += bytes
        if status == nil {
            let end: [UInt8] = [13, 10, 13, 10]
            guard let at = buffer.firstRange(of: end) else { return [] }
            let words = String(decoding: buffer[..<at.lowerBound], as: UTF8.self).split(
                separator: " ", maxSplits: 2)
            status = words.count > 1 ? Int(words[1]) ?? 0 : 0
            buffer.removeSubrange(..<at.upperBound)
        }
        guard status == 200, let last = buffer.lastIndex(of: 10) else { return [] }
        let whole = buffer[..<last]
        defer { buffer.removeSubrange(...last) }
        return whole.split(separator: 10).map { String(decoding: $0, as: UTF8.self) }
    }
}
