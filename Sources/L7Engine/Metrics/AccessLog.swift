internal import CLinux
internal import Glibc
internal import MeshModel

/// One finished request as the worker knows it; text follows in the record.
@safe struct LogRecord: BitwiseCopyable {
    /// Nanoseconds since 1970; nanoseconds.
    var time: UInt64
    var duration: UInt64
    var receivedBytes: UInt64
    var sentBytes: UInt64
    var peer: SocketAddress
    var upstream: SocketAddress
    var status: UInt16
    var flag: ResponseFlag
    var methodLength: UInt8
    var authorityLength: UInt8
    var routeLength: UInt8
    var pathLength: UInt16
    var failure: UInt8
    var requestIDLength: UInt8
    /// A connection, not a request.
    var isOpaque: Bool
    /// What the client dialled.
    var target: SocketAddress
}

/// A ring of fixed records between one worker, which never waits, and the agent.
///
/// - Threads: one writer, one reader at a time (`Engine` sees to it).
/// - Limits: `Limits.accessLogRecordsMax`; when full, records are dropped and counted.
@safe final class AccessLog: @unchecked Sendable {
    private static let routeBytesMax = 96
    static let recordBytes =
        MemoryLayout<LogRecord>.stride + Connection.logTextBytes + routeBytesMax
        + RequestID.bytesMax

    private let records: UnsafeMutableRawPointer
    private let capacity: UInt64
    private let written: UnsafeMutablePointer<UInt64>
    private let read: UnsafeMutablePointer<UInt64>

    init(capacity: Int) {
        self.capacity = UInt64(capacity)
        unsafe records = .allocate(byteCount: capacity * Self.recordBytes, alignment: 64)
        unsafe written = .allocate(capacity: 1)
        unsafe written.initialize(to: 0)
        unsafe read = .allocate(capacity: 1)
        unsafe read.initialize(to: 0)
    }

    deinit {
        unsafe records.deallocate()
        unsafe written.deallocate()
        unsafe read.deallocate()
    }

    /// `false`: the ring is full.
    func append(
        _ record: LogRecord, text: UnsafePointer<UInt8>?, route: [UInt8], _ label: ByteRange
    ) -> Bool {
        let at = unsafe written.pointee
        guard unsafe at - engine_load_acquire(read) < capacity else { return false }
        var record = record
        record.routeLength = UInt8(min(label.count, Self.routeBytesMax))
        let place = unsafe records + Int(at % capacity) * Self.recordBytes
        let bytes = unsafe place + MemoryLayout<LogRecord>.stride
        if let text = unsafe text {
            let count =
                Int(record.methodLength) + Int(record.authorityLength) + Int(record.pathLength)
            unsafe memcpy(bytes, text, count)
            unsafe memcpy(
                bytes + Connection.logTextBytes + Self.routeBytesMax,
                text + Connection.logTextBytes, Int(record.requestIDLength))
        }
        if record.routeLength > 0 {
            // Safe: the pointer does not leave the closure; the label is a range of `route`.
            unsafe route.withUnsafeBufferPointer { buffer in
                guard let base = buffer.baseAddress else { return }
                _ = unsafe memcpy(
                    bytes + Connection.logTextBytes, base + label.lower, Int(record.routeLength))
            }
        }
        unsafe place.storeBytes(of: record, as: LogRecord.self)
        unsafe engine_store_release(written, at + 1)
        return true
    }

    /// JSON lines, oldest first.
    func take(max: Int) -> [String] {
        var lines: [String] = []
        var at = unsafe read.pointee
        let end = unsafe engine_load_acquire(written)
        while at < end, lines.count < max {
            let place = unsafe records + Int(at % capacity) * Self.recordBytes
            lines.append(unsafe Self.line(place))
            at += 1
            unsafe engine_store_release(read, at)
        }
        return lines
    }

    private static func line(_ place: UnsafeMutableRawPointer) -> String {
        let record = unsafe place.load(as: LogRecord.self)
        var at = MemoryLayout<LogRecord>.stride
        func text(_ count: Int) -> String {
            defer { at += count }
            return quoted(
                (0..<count).map { unsafe place.load(fromByteOffset: at + $0, as: UInt8.self) })
        }
        let method = text(Int(record.methodLength))
        let path = text(Int(record.pathLength))
        let authority = text(Int(record.authorityLength))
        at = MemoryLayout<LogRecord>.stride + Connection.logTextBytes
        let route = text(Int(record.routeLength))
        at = MemoryLayout<LogRecord>.stride + Connection.logTextBytes + routeBytesMax
        let requestID = text(Int(record.requestIDLength))
        let reason = Failure.label(ofCode: record.failure).map { "\"\($0)\"" } ?? "null"
        let upstream = record.upstream.port == 0 ? "null" : "\"\(record.upstream)\""
        return "{\"time\":\"\(timestamp(record.time))\",\"method\":\(method),\"path\":\(path)"
            + ",\"authority\":\(authority),\"status\":\(record.status)"
            + ",\"flags\":\"\(record.flag.label)\",\"bytes_received\":\(record.receivedBytes)"
            + ",\"bytes_sent\":\(record.sentBytes),\"duration_ms\":\(milliseconds(record.duration))"
            + ",\"source\":\"\(record.peer)\",\"upstream\":\(upstream),\"route\":\(route)"
            + ",\"reason\":\(reason),\"request_id\":\(requestID)"
            + ",\"protocol\":\"\(record.isOpaque ? "tcp" : "http")\""
            + ",\"destination\":\"\(record.target)\"}"
    }

    private static func milliseconds(_ nanoseconds: UInt64) -> String {
        let micro = nanoseconds / 1000
        let rest = String(micro % 1000)
        return "\(micro / 1000).\(String(repeating: "0", count: 3 - rest.count))\(rest)"
    }

    private static func quoted(_ bytes: [UInt8]) -> String {
        var out = "\""
        for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                out += "\\u00" + (digits.count < 2 ? "0" : "") + digits
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }

    /// RFC 3339 with milliseconds.
    static func timestamp(_ nanoseconds: UInt64) -> String {
        let seconds = Int(nanoseconds / 1_000_000_000)
        let date = CivilDate(daysSince1970: seconds / 86400)
        func padded(_ value: Int, _ width: Int) -> String {
            let digits = String(value)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let clock = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60].map { padded($0, 2) }
        let milliseconds = padded(Int(nanoseconds / 1_000_000 % 1000), 3)
        return "\(date.year)-\(padded(date.month, 2))-\(padded(date.day, 2))"
            + "T\(clock.joined(separator: ":")).\(milliseconds)Z"
    }
}
