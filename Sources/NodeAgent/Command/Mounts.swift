internal import CLinux
internal import Glibc

/// The two file systems that the datapath needs.
enum Mounts {
    /// Makes `path` a bpffs mount unless it is one. Only of an empty directory: a mount hides what
    /// is below it, and a directory that is not there is more likely a slip of the pen.
    static func requireBPF(_ path: String) throws(StartError) {
        if isBPF(path) { return }
        guard let directory = unsafe opendir(path) else { throw .bpffs(path, errno: errno) }
        defer { unsafe closedir(directory) }
        var count = 0
        while unsafe readdir(directory) != nil { count += 1 }
        // "." and "..".
        guard count <= 2 else { throw .bpffs(path, errno: ENOTEMPTY) }
        let result = unsafe malla_mount_bpf(path)
        guard result == 0 else { throw .bpffs(path, errno: -result) }
    }

    /// Also below a mount: a directory of a bpffs can be pinned into as well.
    static func isBPF(_ path: String) -> Bool { unsafe malla_bpffs_at(path) }

    /// The cgroup v2 directory to attach to: `given`, else the root of the mount.
    static func cgroup(_ given: String?) throws(StartError) -> String {
        if let given {
            guard unsafe malla_cgroup2_at(given) else {
                throw .cgroup("'\(given)' is no directory of cgroup v2")
            }
            return given
        }
        guard let found = cgroupMount(textLines("/proc/self/mounts")) else {
            throw .cgroup("cgroup v2 is mounted nowhere")
        }
        return found
    }

    /// Whether the path is where a cgroup2 is mounted: all of the machine is below it.
    static func isCgroupRoot(_ path: String) -> Bool {
        var trimmed = Substring(path)
        while trimmed.count > 1, trimmed.last == "/" { trimmed.removeLast() }
        return textLines("/proc/self/mounts").contains { cgroupMount([$0]) == String(trimmed) }
    }

    /// Where the first cgroup2 mount of `mounts` (proc_mounts(5)) is.
    static func cgroupMount(_ mounts: [Substring]) -> String? {
        for line in mounts {
            let words = line.split(separator: " ")
            if words.count > 2, words[2] == "cgroup2" { return unescaped(words[1]) }
        }
        return nil
    }

    /// proc_mounts writes white space and backslashes as three octal digits.
    private static func unescaped(_ text: Substring) -> String {
        var out: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3).map { UInt16($0) &- 48 }
            if byte == UInt8(ascii: "\\"), digits.count == 3, digits.allSatisfy({ $0 < 8 }) {
                out.append(UInt8(truncatingIfNeeded: digits.reduce(0) { $0 * 8 + $1 }))
                rest = rest.dropFirst(3)
            } else {
                out.append(byte)
            }
        }
        return String(decoding: out, as: UTF8.self)
    }
}
