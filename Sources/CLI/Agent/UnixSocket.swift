internal import CLinux

/// A connected Unix socket whose reads and writes time out.
///
/// - Owns: one descriptor.
/// - Threads: one at a time; calls block for at most the time-out.
struct UnixSocket: ~Copyable {
    struct Failure: Error, Equatable {
        /// `errno`.
        var number: Int32
    }

    private let descriptor: Int32

    init(connectingTo path: String, timeoutMilliseconds: Int32) throws(Failure) {
        // The C string lives for the call, which copies it.
        let result = unsafe malla_examine_connect(path, timeoutMilliseconds)
        guard result >= 0 else { throw Failure(number: -result) }
        descriptor = result
    }

    deinit { malla_examine_close(descriptor) }

    func send(_ bytes: [UInt8]) throws(Failure) {
        // The array's storage lives for the call and is only read.
        let result = unsafe malla_examine_send(descriptor, bytes, bytes.count)
        guard result == 0 else { throw Failure(number: -result) }
    }

    /// The next bytes, empty at the end.
    func receive() throws(Failure) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 65536)
        let room = buffer.count
        // The array's storage has `room` bytes and lives for the call.
        let received = unsafe malla_examine_receive(descriptor, &buffer, room)
        guard received >= 0 else { throw Failure(number: Int32(-received)) }
        return Array(buffer[..<Int(received)])
    }
}
