// Finds the network namespace of a socket that is to be reset: by a process in it, or, where the
// numbers of processes mean nothing (the agent's container has its own) or that process is gone,
// among those that the container runtime has pinned.

internal import CLinux
internal import Glibc

enum NamespaceSearch {
    /// Where containerd and CRI-O, and Docker, pin the namespaces of pods.
    static let directories = ["/run/netns", "/run/docker/netns"]

    /// A sock_diag socket in the namespace of `process`.
    ///
    /// - Returns: a descriptor that the caller closes, or a negative errno.
    static func diagnose(process: UInt32) -> Int32 {
        diagnose("/proc/\(process)/ns/net")
    }

    /// A sock_diag socket in the pinned namespace that has this cookie.
    ///
    /// - Returns: a descriptor that the caller closes, or a negative errno.
    /// - Complexity: six system calls for each that is pinned.
    static func diagnose(cookie: UInt64) -> Int32 {
        for directory in directories {
            for name in names(directory) {
                let found = diagnose("\(directory)/\(name)")
                guard found >= 0 else { continue }
                if malla_diagnose_namespace(found) == cookie { return found }
                close(found)
            }
        }
        return -ENOENT
    }

    private static func diagnose(_ path: String) -> Int32 {
        // The path outlives the call.
        unsafe malla_diagnose_open_at(path)
    }

    private static func names(_ directory: String) -> [String] {
        guard let stream = unsafe opendir(directory) else { return [] }
        defer { _ = unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            // d_name is terminated and lives until the next readdir.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) {
                    unsafe String(cString: $0)
                }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }
}
