// The answer that the engine gives by itself: short, of the kind that the client asked for, with
// the reason and the request's id, and nothing of what is behind us.

/// What an answer of our own depends on.
struct ErrorReply {
    let row: Failure.Row
    /// Asked for by `Accept`.
    let isJSON: Bool
    /// HEAD: the fields of the answer, without its body.
    let isHead: Bool
    /// Nanoseconds since 1970.
    let time: UInt64

    /// Writes the head up to its last field.
    ///
    /// - Returns: the bytes of the body that `writeBody` will write.
    func writeHead(_ writer: inout ByteWriter, _ id: RequestID) -> Int {
        writer.append("HTTP/1.1 ")
        writer.append(decimal: row.status)
        writer.append(" ")
        writer.append(reasonPhrase(row.status))
        writer.append("\r\nServer: malla\r\nDate: ")
        writer.append(date: Int(time / 1_000_000_000))
        writer.append("\r\nContent-Type: ")
        writer.append(isJSON ? "application/json" : "text/plain; charset=utf-8")
        writer.append("\r\nContent-Length: ")
        let count = bodyCount(id)
        writer.append(decimal: count)
        if row.status == 405 {
            writer.append("\r\nAllow: ")
            writer.append(Self.methods)
        }
        writer.append("\r\nX-Request-ID: ")
        id.write(&writer)
        writer.append("\r\n")
        return isHead ? 0 : count
    }

    /// What is served, as far as it is for the engine to say.
    static var methods: StaticString { "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" }

    private static let json: (StaticString, StaticString, StaticString, StaticString) = (
        "{\"status\":", ",\"reason\":\"", "\",\"message\":\"", "\",\"request_id\":\""
    )
    private static let text: (StaticString, StaticString) = ("\nreason: ", "\nrequest: ")

    private func bodyCount(_ id: RequestID) -> Int {
        var count =
            row.label.utf8CodeUnitCount + row.text.utf8CodeUnitCount + id.count
        if isJSON {
            let parts = Self.json
            for part in [parts.0, parts.1, parts.2, parts.3] { count += part.utf8CodeUnitCount }
            // The status, and `"}` with a line feed.
            return count + 3 + 3
        }
        for part in [Self.text.0, Self.text.1] { count += part.utf8CodeUnitCount }
        return count + 1
    }

    func writeBody(_ writer: inout ByteWriter, _ id: RequestID) {
        if isHead { return }
        if isJSON {
            writer.append(Self.json.0)
            writer.append(decimal: row.status)
            writer.append(Self.json.1)
            writer.append(row.label)
            writer.append(Self.json.2)
            writer.append(row.text)
            writer.append(Self.json.3)
            id.write(&writer)
            writer.append("\"}\n")
            return
        }
        writer.append(row.text)
        writer.append(Self.text.0)
        writer.append(row.label)
        writer.append(Self.text.1)
        id.write(&writer)
        writer.append("\n")
    }
}

extension ByteWriter {
    /// IMF-fixdate of RFC 9110 section 5.6.7, `Sun, 06 Nov 1994 08:49:37 GMT`.
    mutating func append(date seconds: Int) {
        let days: [StaticString] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months: [StaticString] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ]
        let date = CivilDate(daysSince1970: seconds / 86400)
        append(days[date.weekday])
        append(", ")
        append(twoDigits: date.day)
        append(" ")
        append(months[date.month - 1])
        append(" ")
        append(decimal: date.year)
        append(" ")
        append(twoDigits: seconds / 3600 % 24)
        append(":")
        append(twoDigits: seconds / 60 % 60)
        append(":")
        append(twoDigits: seconds % 60)
        append(" GMT")
    }

    private mutating func append(twoDigits value: Int) {
        append(byte: 48 + UInt8(value / 10 % 10))
        append(byte: 48 + UInt8(value % 10))
    }
}
