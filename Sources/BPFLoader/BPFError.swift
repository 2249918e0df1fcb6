// What can go wrong between the agent and the kernel's eBPF, and what to do about it.

internal import Glibc

/// The step that the kernel refused.
public enum BPFCall: String, Sendable {
    case open, load, pin, unpin, attach, replace, detach
    case look = "look up"
    case update, remove, inspect
    case list
}

/// The half of a map's record.
public enum RecordPart: String, Sendable {
    case key, value
}

public enum BPFError: Error, Equatable {
    /// The kernel refused `call` on `object`; `errno` is positive.
    case refused(call: BPFCall, object: String, errno: CInt)
    /// The pinned map was made by a build with another record layout.
    case layoutMismatch(map: String, part: RecordPart, kernelBytes: UInt32, ourBytes: Int)
    /// The same, and another kind of map (enum bpf_map_type).
    case typeMismatch(map: String, kernelType: UInt32, ourType: UInt32)
    /// The verifier refused a program; `log` is the end of what it said.
    case rejected(errno: CInt, log: String)
    /// The kernel refused to make the maps, the largest of which is `largest`.
    case mapsRefused(errno: CInt, largest: String, rows: UInt32)
    /// The path is no bpffs mount.
    case notBPFFileSystem(path: String)
    /// The path is no cgroup v2 directory.
    case notCgroup(path: String, errno: CInt)
    /// The embedded object holds no such map or program: the build is broken.
    case missing(object: String)

    /// A hash says E2BIG (or ENOMEM, without preallocation), a trie ENOSPC.
    var isMapFull: Bool {
        guard case .refused(.update, _, let errno) = self else { return false }
        return [E2BIG, ENOMEM, ENOSPC].contains(errno)
    }
}

extension BPFError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .refused(let call, let object, let errno):
            "cannot \(call.rawValue) \(object): \(Self.text(errno))"
                + (isMapFull && errno != ENOMEM ? "; the map is full" : Self.remedy(errno))
        case .layoutMismatch(let map, let part, let kernelBytes, let ourBytes):
            "map '\(map)': \(part.rawValue) is \(kernelBytes) bytes in the kernel, "
                + "\(ourBytes) here; "
                + "remove the pin or roll back the agent"
        case .typeMismatch(let map, let kernelType, let ourType):
            "map '\(map)': is of type \(kernelType) in the kernel, \(ourType) here; "
                + "remove the pin or roll back the agent"
        case .rejected(let errno, let log):
            "the kernel refused an eBPF program: \(Self.text(errno))\(Self.remedy(errno))"
                + (log.isEmpty ? "" : "; the verifier said: \(log)")
        case .mapsRefused(let errno, let largest, let rows):
            "the kernel refused to make the maps: \(Self.text(errno)); the largest is \(largest) "
                + "with \(rows) rows: choose fewer by --map-entries, or free memory"
        case .notBPFFileSystem(let path):
            "\(path) is no bpffs; mount it (mount -t bpf bpf \(path)) or name another by --bpffs"
        case .notCgroup(let path, let errno):
            "\(path) is no cgroup v2 directory (\(Self.text(errno))); mount cgroup2 or name "
                + "the subtree of the pods by --cgroup"
        case .missing(let object):
            "the agent's eBPF object has no \(object); build it again (make bpf programs)"
        }
    }

    private static func text(_ errno: CInt) -> String {
        // strerror answers a terminated string that this thread may read until its next call.
        unsafe String(cString: strerror(errno))
    }

    private static func remedy(_ errno: CInt) -> String {
        switch errno {
        case EPERM, EACCES: "; the agent needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
        case ENOMEM: "; the node lacks memory, or RLIMIT_MEMLOCK is too small"
        case EOPNOTSUPP: "; the kernel is too old (Linux 6.6 or newer is needed)"
        default: ""
        }
    }
}
