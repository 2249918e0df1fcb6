// Two system calls that take a path: stat(2) and inotify_add_watch(2).

internal import CLinux

/// Inode, size and times of a file: equal marks mean equal contents, unless it was written within
/// the last moments (`isSettled`).
struct FileMark: Hashable {
    var inode: UInt64
    var bytes: UInt64
    var modifiedNanoseconds: Int64
    var changedNanoseconds: Int64

    /// That of no file.
    static let none = FileMark(inode: 0, bytes: 0, modifiedNanoseconds: 0, changedNanoseconds: 0)

    /// What stands at a path, symlinks followed.
    enum Found {
        case file(FileMark)
        case directory(inode: UInt64)
        case missing(errno: CInt)
        case other
    }

    /// Whether a later write would surely have another time: a clock tick is at most 10 ms.
    func isSettled(at now: Int64) -> Bool {
        now - max(modifiedNanoseconds, changedNanoseconds) > 100_000_000
    }

    static func look(_ path: String) -> Found {
        var mark = CLinux.malla_file_mark()
        // The path and the mark outlive the call, which keeps neither.
        let result = unsafe malla_file_mark(path, &mark)
        if result != 0 { return .missing(errno: -result) }
        if mark.is_directory { return .directory(inode: mark.inode) }
        guard mark.is_regular else { return .other }
        return .file(
            FileMark(
                inode: mark.inode, bytes: mark.bytes, modifiedNanoseconds: mark.modified_ns,
                changedNanoseconds: mark.changed_ns))
    }

    /// Adds a directory to an inotify descriptor, and answers its number there; negative: it cannot
    /// be watched and is left to the slow look.
    static func watch(_ path: String, on descriptor: CInt) -> CInt {
        // The path outlives the call, which does not keep it.
        unsafe malla_watch_add(descriptor, path)
    }
}
