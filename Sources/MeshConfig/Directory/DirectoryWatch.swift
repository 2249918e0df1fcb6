// Tells one waiting thread that a directory changed: inotify for the moment, a look every two
// seconds for file systems that say nothing.

internal import CLinux

/// - Owns: one inotify descriptor.
/// - Threads: one.
public struct DirectoryWatch: ~Copyable {
    /// Changes closer together than this are one.
    static let quietMilliseconds: CInt = 50
    /// A directory that never falls quiet is read all the same.
    static let quietMillisecondsMax: Int64 = 500
    static let lookMilliseconds: Int64 = 2_000

    private let directory: String
    private let descriptor: CInt
    private var seen: [FileEntry] = []

    /// Works without inotify too, then two seconds late.
    public init(directory: String) {
        self.directory = directory
        descriptor = malla_watch_open()
        seen = look()
    }

    deinit {
        if descriptor >= 0 { malla_descriptor_close(descriptor) }
    }

    /// The inotify descriptor, for a thread that polls several; negative if there is none.
    public var pollable: CInt { descriptor }

    /// Waits until something changed (`true`) or the time is over (`false`).
    public mutating func wait(timeoutMilliseconds: Int) -> Bool {
        let start = milliseconds()
        let end = start + Int64(max(0, timeoutMilliseconds))
        repeat {
            let slice = min(max(0, end - milliseconds()), Self.lookMilliseconds)
            if pause(CInt(slice)) {
                settle()
                seen = look()
                return true
            }
            let found = look()
            if found != seen {
                settle()
                seen = look()
                return true
            }
        } while milliseconds() < end
        return false
    }

    private func pause(_ milliseconds: CInt) -> Bool {
        guard descriptor >= 0 else {
            malla_sleep_ms(milliseconds)
            return false
        }
        return malla_watch_wait(descriptor, milliseconds) > 0
    }

    /// Waits until nothing has changed for a moment: an editor writes in several steps.
    private func settle() {
        let end = milliseconds() + Self.quietMillisecondsMax
        guard descriptor >= 0 else { return malla_sleep_ms(Self.quietMilliseconds) }
        while milliseconds() < end, malla_watch_wait(descriptor, Self.quietMilliseconds) > 0 {}
    }

    /// What is there now; every directory found is watched from here on.
    private func look() -> [FileEntry] {
        guard let scan = try? DirectoryScan(directory) else { return [] }
        for path in scan.directories where descriptor >= 0 {
            FileMark.watch(path, on: descriptor)
        }
        return scan.files
    }

    private func milliseconds() -> Int64 { malla_monotonic_ns() / 1_000_000 }
}
