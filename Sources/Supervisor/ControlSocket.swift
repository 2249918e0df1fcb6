internal import CLinux
internal import Glibc

/// One end of the control socket.
///
/// - Owns: one descriptor.
/// - Threads: one at a time.
struct ControlSocket: ~Copyable {
    let descriptor: Descriptor

    init(adopting number: Int32) { descriptor = Descriptor(adopting: number) }

    static func pair() throws(SupervisorError) -> (Int32, Int32) {
        var ends: [Int32] = [-1, -1]
        // The call writes two descriptors into an array of two.
        let result = unsafe malla_control_pair(&ends)
        guard result == 0 else { throw .refused(doing: "make a socket pair", errno: -result) }
        return (ends[0], ends[1])
    }

    /// The other end is gone, or has closed it.
    var isHungUp: Bool {
        var event = pollfd(fd: descriptor.number, events: 0, revents: 0)
        // The call fills in one record.
        _ = unsafe poll(&event, 1, 0)
        return event.revents & Int16(POLLHUP | POLLERR) != 0
    }

    /// - Returns: 0 or a positive errno; `EPIPE` when the other end is gone.
    func send(_ message: ControlMessage, _ descriptors: [Int32] = []) -> Int32 {
        let bytes = message.bytes
        // Both arrays outlive the call, which reads as many items as it is told.
        return
            -(unsafe malla_control_send(
                descriptor.number, bytes, bytes.count, descriptors, descriptors.count))
    }

    /// - Returns: `nil` when the other end is gone or speaks nonsense.
    func receive() -> (ControlMessage, [Int32])? {
        var bytes = [UInt8](repeating: 0, count: ControlMessage.bytesCount + 1)
        var descriptors = [Int32](repeating: -1, count: 253)
        var found = descriptors.count
        // The call writes no more than the counts it is given, and answers how much it wrote.
        let got = unsafe malla_control_receive(
            self.descriptor.number, &bytes, bytes.count, &descriptors, &found)
        let handed = Array(descriptors.prefix(found))
        guard got > 0, let message = ControlMessage(bytes: Array(bytes.prefix(got))) else {
            for one in handed { close(one) }
            return nil
        }
        return (message, handed)
    }
}
