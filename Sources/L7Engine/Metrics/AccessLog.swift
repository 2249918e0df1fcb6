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
    /// It came with an `X-Forwarded-Client-Cert`, which was taken out.
    var claimsIdentity = false
    /// What the client dialled.
    var target: SocketAddress
}

/// A ring of fixed records between one worker, which never waits, and who takes the log.
///
/// - Threads: one writer, one reader at a time (`Engine` sees to it).
/// - Limits: `Limits.accessLogRecordsMax`, none where nobody logs; when full, records are dropped
///   and counted. Memory is the kernel's until a record is written to it.
@safe final class AccessLog: @unchecked Sendable {
    static let routeBytesMax = 96
    static let recordBytes =
        MemoryLayout<LogRecord>.stride + Connection.logTextBytes + routeBytesMax
        + RequestID.bytesMax

    private let records: UnsafeMutableRawPointer
    private let capacity: UInt64
    private let written: UnsafeMutablePointer<UInt64>
    private let read: UnsafeMutablePointer<UInt64>

    init(capacity: Int) {
        self.capacity = UInt64(capacity)
        unsafe records = .allocate(byteCount: max(1, capacity * Self.recordBytes), alignment: 64)
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

    /// - Parameters:
    ///   - record: `routeLength` counts where there is no label: of what stands behind `text`.
    ///   - text: as `Connection.logText`.
    /// - Returns: `false`: the ring is full.
    func append(
        _ record: LogRecord, text: UnsafePointer<UInt8>?, route: [UInt8], _ label: ByteRange
    ) -> Bool {
        let at = unsafe written.pointee
        guard unsafe at - engine_load_acquire(read) < capacity else { return false }
        var record = record
        if !label.isEmpty { record.routeLength = UInt8(min(label.count, Self.routeBytesMax)) }
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
        if label.isEmpty, record.routeLength > 0, let text = unsafe text {
            unsafe memcpy(
                bytes + Connection.logTextBytes,
                text + (Connection.textBytes - Self.routeBytesMax), Int(record.routeLength))
        }
        if !label.isEmpty {
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

    /// Writes lines, oldest first, until there are no more or the next may not fit.
    func take(_ out: inout ByteWriter) {
        var at = unsafe read.pointee
        let end = unsafe engine_load_acquire(written)
        while at < end, out.capacity - out.count >= Self.lineBytesMax {
            unsafe Self.write(records + Int(at % capacity) * Self.recordBytes, &out)
            at += 1
        }
        unsafe engine_store_release(read, at)
    }
}
