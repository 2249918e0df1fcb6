internal import CLinux
internal import Glibc

/// What makes this the only agent: of its state directory, of its socket, and (with a datapath) of
/// the node's network namespace.
///
/// - Owns: a locked file, a listening unix socket, an abstract socket. The kernel frees all three
///   when the process ends, however it ends.
struct NodeLock: ~Copyable {
    let state: Descriptor
    private let node: Descriptor?
    /// The agent's unix socket, which the child serves.
    let socket: Descriptor
    private let socketPath: String

    init(state directory: String, socket path: String, ownsNode: Bool) throws(SupervisorError) {
        let state = Descriptor(adopting: try Self.lockState(directory))
        let node = ownsNode ? Descriptor(adopting: try Self.lockNode()) : nil
        let socket = Descriptor(adopting: try Self.listen(path))
        self.state = state
        self.node = node
        self.socket = socket
        socketPath = path
    }

    /// What another agent of the same options held, which hands it over: both hold it for a moment.
    init(state: Int32, node: Int32?, socket: Int32, socketPath: String) {
        Self.writePID(state)
        self.state = Descriptor(adopting: state)
        self.node = node.map { Descriptor(adopting: $0) }
        self.socket = Descriptor(adopting: socket)
        self.socketPath = socketPath
    }

    var nodeNumber: Int32? {
        switch node {
        case .some(let node): node.number
        case .none: nil
        }
    }

    /// Removes the socket's name; what is connected stays so.
    func removeSocket() { unsafe unlink(socketPath) }

    private static func makeDirectory(_ path: String) throws(SupervisorError) {
        var made = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            made += "/" + part
            guard unsafe mkdir(made, 0o755) == 0 || errno == EEXIST else {
                throw .path(path, doing: "make the directory", errno: errno)
            }
        }
        try requireTrust(in: path)
    }

    /// In /tmp anybody may have made a directory of that name before: nothing of ours goes there.
    /// Root's own are where the operator says.
    private static func requireTrust(in path: String) throws(SupervisorError) {
        let user = geteuid()
        var what = stat()
        guard user != 0, unsafe lstat(path, &what) == 0 else { return }
        guard what.st_uid == user || what.st_uid == 0 else {
            throw .path(path, doing: "use, for it is another user's,", errno: EPERM)
        }
    }

    private static func lockState(_ directory: String) throws(SupervisorError) -> Int32 {
        try makeDirectory(directory)
        let path = directory + "/agent.lock"
        let file = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600 as mode_t)
        guard file >= 0 else { throw .path(path, doing: "open", errno: errno) }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            let holder = readPID(file)
            close(file)
            throw .taken(what: "the state directory \(directory)", pid: holder)
        }
        writePID(file)
        return file
    }

    private static func writePID(_ file: Int32) {
        let line = Array("\(getpid())\n".utf8)
        ftruncate(file, 0)
        // The array outlives the call. The number is for people; the lock is what counts.
        _ = unsafe pwrite(file, line, line.count, 0)
    }

    private static func readPID(_ file: Int32) -> Int32 {
        var bytes = [UInt8](repeating: 0, count: 16)
        // The call writes at most `bytes.count` bytes.
        let got = unsafe pread(file, &bytes, bytes.count, 0)
        return Int32(String(decoding: bytes.prefix(max(0, got)).prefix { $0 > 32 }, as: UTF8.self))
            ?? 0
    }

    static let nodeName = Array("\0malla-agent".utf8).map { CChar(bitPattern: $0) }

    /// An abstract unix name is scoped to the network namespace: it is the node's own lock.
    private static func lockNode() throws(SupervisorError) -> Int32 {
        let name = nodeName
        // The array outlives both calls, which read `name.count` bytes.
        let lock = unsafe malla_unix_listen(name, name.count, 8)
        if lock == -EADDRINUSE {
            throw .taken(what: "this node", pid: max(0, unsafe malla_unix_holder(name, name.count)))
        }
        guard lock >= 0 else { throw .refused(doing: "lock the node", errno: -lock) }
        return lock
    }

    /// The one to stop: a socket is held by whoever listened last, which may be the child.
    private static func supervisor(of pid: Int32) -> Int32 {
        guard pid > 0, let file = unsafe fopen("/proc/\(pid)/cmdline", "re") else { return pid }
        defer { unsafe fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 4_096)
        // The buffer is as long as the call is told.
        let got = unsafe fread(&bytes, 1, bytes.count, file)
        let words = bytes.prefix(got).split(separator: 0).map {
            String(decoding: $0, as: UTF8.self)
        }
        guard let option = words.firstIndex(of: "--supervisor"), option + 1 < words.count else {
            return pid
        }
        return Int32(words[option + 1]) ?? pid
    }

    private static func listen(_ path: String) throws(SupervisorError) -> Int32 {
        if let slash = path.lastIndex(of: "/"), slash != path.startIndex {
            try makeDirectory(String(path[..<slash]))
        }
        let length = path.utf8.count
        var socket = unsafe malla_unix_listen(path, length, 128)
        if socket == -EADDRINUSE {
            let holder = unsafe malla_unix_holder(path, length)
            guard holder < 0 else {
                throw .taken(what: "the socket \(path)", pid: supervisor(of: holder))
            }
            // Nobody listens: it is left from an agent that was killed. Anything but a socket
            // is not ours to remove.
            var what = stat()
            guard unsafe lstat(path, &what) == 0, what.st_mode & S_IFMT == S_IFSOCK else {
                throw .path(path, doing: "listen at (it is not a socket)", errno: EEXIST)
            }
            unsafe unlink(path)
            socket = unsafe malla_unix_listen(path, length, 128)
        }
        guard socket >= 0 else { throw .path(path, doing: "listen at", errno: -socket) }
        return socket
    }
}
