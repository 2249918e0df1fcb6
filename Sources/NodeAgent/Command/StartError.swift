internal import Glibc
internal import Supervisor

/// Why the agent cannot start, with its exit code of sysexits(3) and one line for people.
enum StartError: Error, Equatable, CustomStringConvertible {
    case configuration(String, errno: Int32)
    case unreadable(String)
    case bpffs(String, errno: Int32)
    case cgroup(String)
    case datapath(String)
    case engine(String)
    case admin(String, errno: Int32)

    var exitCode: Int32 {
        switch self {
        case .configuration, .unreadable: 78
        case .bpffs(_, let errno): errno == EPERM || errno == EACCES ? 77 : 71
        case .admin(_, let errno): errno == EADDRINUSE ? 69 : errno == EACCES ? 77 : 71
        case .cgroup, .datapath, .engine: 71
        }
    }

    var description: String {
        switch self {
        case .configuration(let path, let errno):
            "cannot read the configuration directory '\(path)': \(systemText(errno)); "
                + "create it or give another one with --config"
        case .unreadable(let text), .datapath(let text), .engine(let text): text
        case .bpffs(let path, let errno):
            "'\(path)' is no bpffs and cannot be made one: \(systemText(errno)); "
                + "run `mount -t bpf bpf DIR` on an empty directory and give it with --bpffs"
        case .cgroup(let text): text + "; mount cgroup2 or give a directory of it with --cgroup"
        case .admin(let address, let errno):
            "cannot listen on \(address): \(systemText(errno)); give another with --admin"
        }
    }
}
