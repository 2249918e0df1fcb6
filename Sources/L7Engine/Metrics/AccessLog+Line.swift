// A record of the access log as one line of JSON (docs/metrics.md, "The access log"), written as
// bytes: no String is made of what ASCII says. Runs on the thread that takes the log.

internal import Glibc
internal import MeshModel

extension AccessLog {
    /// The longest line: each byte of text may become six (`\u0001`), what is around it has less
    /// than 700.
    static let lineBytesMax = 4096

    /// Appends the record at `place`, with a line end.
    static func write(_ place: UnsafeRawPointer, _ out: inout ByteWriter) {
        let record = unsafe place.load(as: LogRecord.self)
        // Safe, as below: `append` has written so many bytes of each text to these places.
        let text = unsafe (place + MemoryLayout<LogRecord>.stride)
            .assumingMemoryBound(to: UInt8.self)
        let (method, path) = (Int(record.methodLength), Int(record.pathLength))
        out.append("{\"time\":\"")
        out.append(timestamp: record.time)
        out.append("\",\"method\":")
        unsafe out.append(quoted: text, method)
        out.append(",\"path\":")
        unsafe out.append(quoted: text + method, path)
        out.append(",\"authority\":")
        unsafe out.append(quoted: text + method + path, Int(record.authorityLength))
        out.append(",\"status\":")
        out.append(decimal: Int(record.status))
        out.append(",\"flags\":\"")
        out.append(record.flag.label)
        out.append("\",\"bytes_received\":")
        out.append(decimal: Int(clamping: record.receivedBytes))
        out.append(",\"bytes_sent\":")
        out.append(decimal: Int(clamping: record.sentBytes))
        out.append(",\"duration_ms\":")
        out.append(milliseconds: record.duration)
        out.append(",\"source\":\"")
        out.append(socket: record.peer)
        out.append("\",\"upstream\":")
        if record.upstream.port == 0 {
            out.append("null")
        } else {
            out.append("\"")
            out.append(socket: record.upstream)
            out.append("\"")
        }
        let route = unsafe text + Connection.logTextBytes
        out.append(",\"route\":")
        unsafe out.append(quoted: route, Int(record.routeLength))
        out.append(",\"reason\":")
        if let reason = Failure.label(ofCode: record.failure) {
            out.append("\"")
            out.append(reason)
            out.append("\"")
        } else {
            out.append("null")
        }
        out.append(",\"request_id\":")
        unsafe out.append(quoted: route + routeBytesMax, Int(record.requestIDLength))
        out.append(record.isOpaque ? ",\"protocol\":\"tcp\"" : ",\"protocol\":\"http\"")
        out.append(",\"destination\":\"")
        out.append(socket: record.target)
        out.append(record.claimsIdentity ? "\",\"forged_client_cert\":true}\n" : "\"}\n")
    }
}

extension ByteWriter {
    /// A JSON string (RFC 8259 section 7); bytes that are no UTF-8 become U+FFFD.
    fileprivate mutating func append(quoted bytes: UnsafePointer<UInt8>, _ count: Int) {
        let text = unsafe UnsafeBufferPointer(start: bytes, count: count)
        let isPlain = unsafe text.allSatisfy {
            $0 &- 0x20 < 0x60 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\")
        }
        append(byte: UInt8(ascii: "\""))
        if isPlain {
            unsafe append(bytes, count)
        } else {
            for byte in unsafe String(decoding: text, as: UTF8.self).utf8 { append(escaped: byte) }
        }
        append(byte: UInt8(ascii: "\""))
    }

    private mutating func append(escaped byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""): append("\\\"")
        case UInt8(ascii: "\\"): append("\\\\")
        case 0..<0x20:
            append("\\u00")
            append(byte: 48 + byte >> 4)
            append(byte: byte & 15 < 10 ? 48 + byte & 15 : 87 + byte & 15)
        default: append(byte: byte)
        }
    }

    /// `192.0.2.1:80` or `[2001:db8::1]:80`.
    fileprivate mutating func append(socket: SocketAddress) {
        if socket.address.isIPv4 {
            append(address: socket.address)
        } else {
            append(byte: UInt8(ascii: "["))
            append(text: socket.address.description)
            append(byte: UInt8(ascii: "]"))
        }
        append(byte: UInt8(ascii: ":"))
        append(decimal: Int(socket.port))
    }

    /// With three decimals.
    fileprivate mutating func append(milliseconds nanoseconds: UInt64) {
        let micro = Int(nanoseconds / 1000)
        append(decimal: micro / 1000)
        append(byte: UInt8(ascii: "."))
        append(micro % 1000, width: 3)
    }

    /// RFC 3339 with milliseconds.
    fileprivate mutating func append(timestamp nanoseconds: UInt64) {
        let seconds = Int(nanoseconds / 1_000_000_000)
        let date = CivilDate(daysSince1970: seconds / 86400)
        append(decimal: date.year)
        append(byte: UInt8(ascii: "-"))
        append(date.month, width: 2)
        append(byte: UInt8(ascii: "-"))
        append(date.day, width: 2)
        append(byte: UInt8(ascii: "T"))
        append(seconds / 3600 % 24, width: 2)
        append(byte: UInt8(ascii: ":"))
        append(seconds / 60 % 60, width: 2)
        append(byte: UInt8(ascii: ":"))
        append(seconds % 60, width: 2)
        append(byte: UInt8(ascii: "."))
        append(Int(nanoseconds / 1_000_000 % 1000), width: 3)
        append(byte: UInt8(ascii: "Z"))
    }

    /// With zeros before it.
    private mutating func append(_ value: Int, width: Int) {
        if width > 1 { append(value / 10, width: width - 1) }
        append(byte: 48 + UInt8(value % 10))
    }
}
