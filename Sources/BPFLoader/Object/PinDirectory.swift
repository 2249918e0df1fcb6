// BPFFS/malla/v<ABI>/: what survives the agent. Maps by name, links in link/, programs in
// programs/.

internal import CBPF
internal import CLinux
internal import CMallaABI
internal import Glibc

/// - Throws: `.notBPFFileSystem`, or what mkdir(2) and the like refused.
struct PinDirectory {
    let path: String
    private let bpffsPath: String
    var links: String { path + "/link" }
    var programs: String { path + "/programs" }

    init(bpffsPath: String) throws(BPFError) {
        try Self.requireBPFFileSystem(bpffsPath)
        self.bpffsPath = bpffsPath
        path = Self.path(in: bpffsPath)
        for directory in [bpffsPath + "/malla", path, links, programs] {
            guard unsafe mkdir(directory, 0o700) == 0 || errno == EEXIST else {
                throw .refused(call: .pin, object: directory, errno: errno)
            }
        }
    }

    static func path(in bpffsPath: String) -> String { "\(bpffsPath)/malla/v\(MALLA_ABI_VERSION)" }

    private static func requireBPFFileSystem(_ path: String) throws(BPFError) {
        guard unsafe malla_is_bpffs(path) == 1 else {
            throw .notBPFFileSystem(path: path)
        }
    }

    /// What an agent holds from before its first program until all is in force; the kernel takes
    /// it from one that dies. `nil`: it cannot be had.
    ///
    /// - Source: flock(2).
    func lockStart() -> Descriptor? {
        let opened = unsafe Glibc.open(programs, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard opened >= 0 else { return nil }
        let directory = Descriptor(adopting: opened)
        // Whoever looks holds it for a moment.
        for _ in 0..<20 {
            if flock(directory.number, LOCK_EX | LOCK_NB) == 0 { return directory }
            usleep(1_000)
        }
        return nil
    }

    /// Whether an agent is between the two.
    var isLocked: Bool {
        let opened = unsafe Glibc.open(programs, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard opened >= 0 else { return false }
        let directory = Descriptor(adopting: opened)
        return flock(directory.number, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK
    }

    /// Opens what is pinned at `path`; `nil`: nothing is.
    static func open(_ path: String) throws(BPFError) -> CInt? {
        let result = unsafe bpf_obj_get(path)
        if result >= 0 { return result }
        guard result == -ENOENT else { throw .refused(call: .open, object: path, errno: -result) }
        return nil
    }

    static func pin(_ descriptor: CInt, at path: String) throws(BPFError) {
        let result = unsafe bpf_obj_pin(descriptor, path)
        guard result == 0 else { throw .refused(call: .pin, object: path, errno: -result) }
    }

    /// Names in `directory`; none where it does not exist.
    static func names(in directory: String) -> [String] {
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
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// Removes one pin; that it is gone already is no error.
    static func remove(_ path: String) throws(BPFError) {
        guard unsafe unlink(path) == 0 || errno == ENOENT else {
            throw .refused(call: .unpin, object: path, errno: errno)
        }
    }

    /// Pins in place of what stands at `path`, so that there is always one or the other.
    static func replace(_ descriptor: CInt, at path: String) throws(BPFError) {
        // A dot is not allowed in bpffs. A name that is left from a crash is in the way.
        let beside = path + "__new"
        try remove(beside)
        try pin(descriptor, at: beside)
        // Both paths outlive the call.
        guard unsafe rename(beside, path) == 0 else {
            throw .refused(call: .pin, object: path, errno: errno)
        }
    }

    static func isPinned(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

    /// Detaches every link and removes every pin, of whatever ABI.
    static func removeAll(bpffsPath: String) throws(BPFError) {
        try requireBPFFileSystem(bpffsPath)
        GracePeriods.settle(bpffsPath: bpffsPath)
        try removeVersions(bpffsPath)
        try removeDirectory(bpffsPath + "/malla")
    }

    private static func removeVersions(_ bpffsPath: String) throws(BPFError) {
        let hurry = GracePeriods(hurriedBy: bpffsPath)
        for version in versions(in: bpffsPath) { try removeAll(version) }
        _ = consume hurry
    }

    /// Whether an agent of another ABI has left programs that act.
    var hasOthers: Bool { Self.versions(in: bpffsPath).contains { $0 != path } }

    /// Takes away what agents of other ABIs attached and pinned: theirs and ours would both act.
    func removeOthers() throws(BPFError) {
        for other in Self.versions(in: bpffsPath) where other != path { try Self.removeAll(other) }
    }

    /// The directories of all ABIs.
    static func versions(in bpffsPath: String) -> [String] {
        names(in: bpffsPath + "/malla").filter { $0.hasPrefix("v") }.sorted()
            .map { "\(bpffsPath)/malla/\($0)" }
    }

    /// Detaches the links and removes the pins of one ABI's directory, and the directory.
    static func removeAll(_ path: String) throws(BPFError) {
        for name in Guards.removable(names(in: path + "/link")) {
            try Link.remove(pin: "\(path)/link/\(name)")
        }
        for name in names(in: path + "/programs") { try remove("\(path)/programs/\(name)") }
        for name in names(in: path) where name != "link" && name != "programs" {
            try remove("\(path)/\(name)")
        }
        for directory in [path + "/link", path + "/programs", path] {
            try removeDirectory(directory)
        }
    }

    /// One that holds what is not ours stays.
    private static func removeDirectory(_ path: String) throws(BPFError) {
        guard unsafe rmdir(path) == 0 || errno == ENOENT || errno == ENOTEMPTY else {
            throw .refused(call: .unpin, object: path, errno: errno)
        }
    }
}
