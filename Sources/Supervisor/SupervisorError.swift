internal import Glibc

/// Why the supervisor cannot run. Each has an exit code of sysexits(3) and one line for people.
public enum SupervisorError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Another agent holds `what`; `pid` is 0 where the kernel does not say.
    case taken(what: String, pid: Int32)
    /// Capabilities that the datapath needs and this process lacks.
    case lacksCapabilities([String])
    /// A file or directory cannot be used.
    case path(String, doing: String, errno: Int32)
    /// A system call of the start failed.
    case refused(doing: String, errno: Int32)
    /// There is nobody to take over from, or it does not hand over.
    case noPredecessor(String, errno: Int32)
    /// The child ended before it ever served.
    case child(code: Int32)

    public var exitCode: Int32 {
        switch self {
        case .taken, .noPredecessor: 69
        case .lacksCapabilities: 77
        case .path(_, _, let errno), .refused(_, let errno):
            errno == EACCES || errno == EPERM ? 77 : 71
        case .child(let code): code
        }
    }

    public var description: String {
        switch self {
        case .taken(let what, let pid):
            "another agent\(pid > 0 ? " (pid \(pid))" : "") already serves \(what); "
                + "stop it, or give this one its own --state and --socket on another node"
        case .noPredecessor(let why, let errno):
            "cannot take over: \(why): \(systemText(errno)); start without --takeover, or stop the "
                + "other agent first"
        case .lacksCapabilities(let names):
            "the datapath needs \(names.joined(separator: ", ")): run as root, or grant them "
                + "(deploy/daemonset.yaml lists all), or serve Gateways only with --datapath off"
        case .path(let path, let doing, let errno):
            "cannot \(doing) \(path): \(systemText(errno)); choose another with --state or --socket"
        case .refused(let doing, let errno): "cannot \(doing): \(systemText(errno))"
        case .child(let code): "the agent ended with \(code) before it served"
        }
    }
}

/// The system's text for `errno`.
public func systemText(_ errno: Int32) -> String {
    var room = [CChar](repeating: 0, count: 128)
    // strerror_r writes at most `room.count` bytes and ends them with NUL.
    _ = unsafe strerror_r(errno, &room, room.count)
    return String(decoding: room.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
