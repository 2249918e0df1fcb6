// What the agent answers, parsed: as much of HTTP/1.1 as its socket speaks to a client that asks
// once and says `Connection: close`. A value; no I/O.

/// A whole response.
struct HTTPAnswer: Equatable {
    var status: Int
    var body: [UInt8]

    enum Failure: Error, Equatable { case malformed(String) }

    /// Takes everything that came until the end of the connection.
    init(parsing bytes: [UInt8]) throws(Failure) {
        guard let end = Self.end(ofHeadIn: bytes) else { throw .malformed("no end of its head") }
        let head = String(decoding: bytes[..<end], as: UTF8.self)
        var lines = head.split(separator: "\r\n", omittingEmptySubsequences: true)
        guard !lines.isEmpty else { throw .malformed("an empty head") }
        let words = lines.removeFirst().split(separator: " ")
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            throw .malformed("no HTTP/1 status line")
        }
        self.status = status

        let fields = lines.compactMap(Self.field)
        let rest = Array(bytes[(end + 4)...])
        if fields.contains(where: { $0 == "transfer-encoding" && $1.lowercased() == "chunked" }) {
            body = try Self.dechunk(rest)
        } else if let text = fields.first(where: { $0.name == "content-length" })?.value {
            guard let length = Int(text), length >= 0 else { throw .malformed("its length") }
            guard rest.count >= length else { throw .malformed("it ended too early") }
            body = Array(rest[..<length])
        } else {
            body = rest
        }
    }

    private static func end(ofHeadIn bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        return (0...(bytes.count - 4)).first {
            bytes[$0] == 13 && bytes[$0 + 1] == 10 && bytes[$0 + 2] == 13 && bytes[$0 + 3] == 10
        }
    }

    private static func field(_ line: Substring) -> (name: String, value: String)? {
        guard let colon = line.firstIndex(of: ":") else { return nil }
        let value = line[line.index(after: colon)...].drop { $0 == " " }
        return (line[..<colon].lowercased(), String(value))
    }

    /// Source: RFC 9112, section 7.1; extensions and trailers are skipped.
    private static func dechunk(_ bytes: [UInt8]) throws(Failure) -> [UInt8] {
        var body: [UInt8] = []
        var index = 0
        while let newline = bytes[index...].firstIndex(of: 10) {
            let line = String(decoding: bytes[index..<newline], as: UTF8.self)
            let digits = line.prefix { $0.isHexDigit }
            guard let size = Int(digits, radix: 16) else { throw .malformed("a chunk's size") }
            if size == 0 { return body }
            let start = newline + 1
            guard size <= bytes.count - start - 2 else { throw .malformed("it ended too early") }
            body += bytes[start..<(start + size)]
            index = start + size + 2
        }
        throw .malformed("it ended too early")
    }
}
