// How the programs know the agent's own sockets, which are never load-balanced: by its process id,
// or, where the agent has a process id namespace of its own and its number means nothing to the
// kernel's programs, by its cgroup (a container has one of its own).

internal import Glibc

struct OwnSockets {
    /// 0: not by process.
    let process: UInt32
    /// 0: not by cgroup.
    let cgroup: UInt64

    /// - Parameter cgroupPath: the subtree of pods and agent; never exempt as a whole.
    init(cgroupPath: String) {
        let initialNamespace: UInt64 = 0xefff_fffc  // PROC_PID_INIT_INO
        if Self.inode(of: "/proc/self/ns/pid") == initialNamespace {
            process = UInt32(getpid())
            cgroup = 0
        } else {
            process = 0
            let own = Self.cgroupInode()
            cgroup = own == Self.inode(of: cgroupPath) ? 0 : own
        }
    }

    /// A cgroup's id is the inode of its directory. 0: there is no such file.
    static func inode(of path: String) -> UInt64 {
        var status = stat()
        // The kernel fills one struct stat.
        return unsafe stat(path, &status) == 0 ? UInt64(status.st_ino) : 0
    }

    /// Of the directory that the mount of cgroup2 shows as this process's own; 0: none is found.
    private static func cgroupInode() -> UInt64 {
        let mount = TextFile.lines("/proc/self/mountinfo")
            .first { $0.contains(" - cgroup2 ") }?
            .split(separator: " ").dropFirst(4).first
        let own = TextFile.lines("/proc/self/cgroup").first { $0.hasPrefix("0::") }?.dropFirst(3)
        guard let mount, let own else { return 0 }
        return inode(of: "\(mount)\(own)")
    }
}

/// A small text file of procfs.
enum TextFile {
    /// Its lines; none where it cannot be read.
    static func lines(_ path: String) -> [Substring] {
        guard let file = unsafe fopen(path, "re") else { return [] }
        defer { _ = unsafe fclose(file) }
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            // The buffer is as long as the kernel is told.
            let count = unsafe fread(&chunk, 1, chunk.count, file)
            if count == 0 { break }
            text += chunk[0..<count]
        }
        return String(decoding: text, as: UTF8.self).split(separator: "\n")
    }
}
