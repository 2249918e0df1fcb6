internal import CLinux
internal import Glibc

/// What the child got from its supervisor.
public struct Inheritance: Sendable {
    /// The agent's unix socket, listening.
    public var unixSocket: Int32
    /// `nil` with the datapath off.
    public var engineNamespace: Int32?
    public var capturedListeners: [Int32]
    /// Index of the veth's end on the node; 0 with the datapath off.
    public var engineInterface: UInt32
    /// Children that died before this one.
    public var restarts: UInt32
    /// Those of them that hung and were killed.
    public var hangs: UInt32
    /// How long ago the supervisor started this child, when it said so; microseconds.
    public var ageMicroseconds: Int64
    /// The black box.
    public var blackBox: Int32?
}

/// The child's end of the control socket.
///
/// - Threads: one at a time.
public final class ChildLink {
    private let socket: ControlSocket

    /// Where the supervisor puts it.
    public static let descriptor: Int32 = 3

    public init(adopting number: Int32 = ChildLink.descriptor) {
        socket = ControlSocket(adopting: number)
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
    }

    /// Ends this process when the supervisor ends.
    public static func dieWithSupervisor(pid: Int32) throws(SupervisorError) {
        let result = malla_die_with_parent(pid)
        guard result == 0 else { throw .refused(doing: "follow the supervisor", errno: -result) }
    }

    public func inheritance() throws(SupervisorError) -> Inheritance {
        guard socket.send(ControlMessage(.hello)) == 0, let (message, handed) = socket.receive(),
            message.kind == .inheritance, let first = handed.first
        else { throw .refused(doing: "speak with the supervisor", errno: EPROTO) }
        // Behind the agent's socket comes the black box, where there is one.
        let offset = message.port == 1 && handed.count > 1 ? 2 : 1
        return Inheritance(
            unixSocket: first, engineNamespace: handed.count > offset ? handed[offset] : nil,
            capturedListeners: Array(handed.dropFirst(offset + 1)),
            engineInterface: message.number, restarts: message.count, hangs: message.hangs,
            ageMicroseconds: Int64(message.code), blackBox: offset == 2 ? handed[1] : nil)
    }

    /// Opens listening sockets in the node's namespace, or gets them again.
    ///
    /// - Returns: a positive errno, or 0 and `count` descriptors that the caller closes; the
    ///   supervisor keeps its own.
    public func open(
        _ address: [UInt8], port: UInt16, count: Int, isDual: Bool = false,
        purpose: ControlMessage.Purpose = .gateway
    ) -> (errno: Int32, sockets: [Int32]) {
        let message = ControlMessage(
            .open, number: UInt32(count), port: port, address: address, isDual: isDual,
            purpose: purpose)
        guard socket.send(message) == 0, let (answer, handed) = socket.receive(),
            answer.kind == .sockets
        else { return (EPROTO, []) }
        return (answer.code, handed)
    }

    public func close(_ request: ControlMessage) {
        var message = request
        message.kind = .close
        _ = socket.send(message)
    }

    /// What the supervisor holds open.
    public func held() -> [ControlMessage] {
        guard socket.send(ControlMessage(.list)) == 0 else { return [] }
        var out: [ControlMessage] = []
        while let (message, _) = socket.receive(), message.kind == .held { out.append(message) }
        return out
    }

    public func serving() { _ = socket.send(ControlMessage(.serving)) }

    /// Has the supervisor look after the engine's namespace.
    ///
    /// - Returns: the index of the veth's end on the node, what was put right, and a positive errno
    ///   where something could not be.
    public func verifyEngine(
        mtu: UInt32
    ) -> (interface: UInt32, repairs: EngineRepairs, errno: Int32) {
        guard socket.send(ControlMessage(.verify, number: mtu)) == 0,
            let (answer, _) = socket.receive(), answer.kind == .verified
        else { return (0, [], EPROTO) }
        return (answer.number, EngineRepairs(rawValue: answer.count), answer.code)
    }

    /// Brings the engine's veth up. Returns 0 or a positive errno.
    ///
    /// - Parameter mtu: the longest packet that may leave the engine, bytes; 0: what the veth says.
    public func linkUp(mtu: UInt32) -> Int32 {
        guard socket.send(ControlMessage(.linkUp, number: mtu)) == 0,
            let (answer, _) = socket.receive()
        else {
            return EPROTO
        }
        return answer.code
    }

    /// A sock_diag socket in the network namespace of `process`, which the caller closes.
    ///
    /// - Returns: a positive errno, or 0 and the descriptor.
    public func diagnose(process: UInt32) -> (errno: Int32, descriptor: Int32) {
        diagnose(ControlMessage(.diagnose, number: process))
    }

    /// The same in the namespace with this cookie, if a container runtime has pinned it.
    public func diagnose(cookie: UInt64) -> (errno: Int32, descriptor: Int32) {
        diagnose(ControlMessage.diagnose(cookie: cookie))
    }

    private func diagnose(_ question: ControlMessage) -> (errno: Int32, descriptor: Int32) {
        guard socket.send(question) == 0, let (answer, handed) = socket.receive(),
            answer.kind == .sockets
        else { return (EPROTO, -1) }
        guard answer.code == 0, let descriptor = handed.first else { return (answer.code, -1) }
        return (0, descriptor)
    }
}
