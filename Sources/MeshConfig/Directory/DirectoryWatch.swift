// Tells one waiting thread that a directory changed: inotify for the moment, a look now and then
// for file systems that say nothing.

internal import CLinux

/// Files that were written whole, and were there before.
public struct WrittenFiles: Sendable {
    var entries: [FileEntry]
}

/// - Owns: one inotify descriptor.
/// - Threads: one.
public struct DirectoryWatch: ~Copyable {
    /// Changes closer together than this are one.
    static let quietMilliseconds: CInt = 50
    /// A directory that never falls quiet is read all the same.
    static let quietMillisecondsMax: Int64 = 500
    /// Between two looks; longer where a look takes more than a hundredth of it.
    static let lookMilliseconds: Int64 = 2_000
    static let lookShare: Int64 = 100
    /// Files that one `takeWritten` answers; more are a change of everything.
    static let writtenMax = 256
    static let readsMax = 64

    private let directory: String
    private let descriptor: CInt
    private var seen: [FileEntry] = []
    /// Paths of what is watched, by inotify's number.
    private var watched: [CInt: String] = [:]
    /// Something happened that `takeWritten` did not answer.
    private var isPending = false
    private var nextLook: Int64 = 0

    /// Works without inotify too, then some seconds late.
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

    /// What was written since the last call, without waiting: if it was whole files that were known
    /// before, and nothing else. Otherwise `nil`, and `wait` knows of it.
    public mutating func takeWritten() -> WrittenFiles? {
        guard descriptor >= 0, !isPending else { return nil }
        var found: [Int: FileEntry] = [:]
        var events = [malla_change](repeating: malla_change(), count: Int(MALLA_CHANGES_MAX))
        // At most so many: a writer that never stops cannot hold us here.
        for _ in 0..<Self.readsMax {
            // The array has room for as many as one call writes.
            let count = unsafe malla_watch_read(descriptor, &events)
            if count == 0 { break }
            if count < 0 { isPending = true }
            for event in events.prefix(Int(max(0, count))) where !isPending {
                switch change(event) {
                case .nothing: continue
                case .file(let index, let entry): found[index] = entry
                case .anything: isPending = true
                }
            }
        }
        if isPending || found.isEmpty || found.count > Self.writtenMax {
            isPending = isPending || !found.isEmpty
            return nil
        }
        for (index, entry) in found { seen[index] = entry }
        return WrittenFiles(entries: found.values.sorted { $0.relativePath < $1.relativePath })
    }

    /// What `takeWritten` answered is more than its caller can do with: `wait` answers at once.
    public mutating func postpone() { isPending = true }

    private enum Change {
        case nothing
        case file(Int, FileEntry)
        case anything
    }

    private func change(_ event: malla_change) -> Change {
        guard let folder = watched[event.watch], !event.is_other else { return .anything }
        // Both outlive the closure; the name ends with a zero.
        let name = unsafe withUnsafeBytes(of: event.name) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        // Names with two dots are how mounted ConfigMaps change; others are files to be renamed.
        if name.hasPrefix(".") { return name.hasPrefix("..") ? .anything : .nothing }
        guard event.is_written, DirectoryScan.isConfiguration(name) else { return .anything }
        let path = folder + "/" + name
        let relative = String(path.dropFirst(directory.count + 1))
        guard let index = place(of: relative), seen[index].path == path,
            case .file(let mark) = FileMark.look(path)
        else { return .anything }
        return .file(index, FileEntry(directory: directory, relativePath: relative, mark: mark))
    }

    /// Where a path stands in `seen`, which is sorted.
    private func place(of relative: String) -> Int? {
        var (low, high) = (0, seen.count)
        while low < high {
            let middle = (low + high) / 2
            if seen[middle].relativePath < relative { low = middle + 1 } else { high = middle }
        }
        return low < seen.count && seen[low].relativePath == relative ? low : nil
    }

    /// Whether something changed that `takeWritten` cannot answer; what it can is left to it, were
    /// it to come at this moment: pods come and go closer together than a change takes.
    public mutating func isStale() -> Bool {
        if !isPending {
            guard milliseconds() >= nextLook, look() != seen else { return false }
            // Events that are not taken yet may be all that has changed: a later look tells.
            if descriptor >= 0, malla_watch_is_full(descriptor) { return false }
        }
        isPending = false
        settle()
        seen = look()
        return true
    }

    /// Waits until something changed (`true`) or the time is over (`false`).
    public mutating func wait(timeoutMilliseconds: Int) -> Bool {
        let start = milliseconds()
        let end = start + Int64(max(0, timeoutMilliseconds))
        repeat {
            let slice = min(max(0, end - milliseconds()), Self.lookMilliseconds)
            if isPending || pause(CInt(slice)) {
                isPending = false
                settle()
                seen = look()
                return true
            }
            guard milliseconds() >= nextLook else { continue }
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
    private mutating func look() -> [FileEntry] {
        let start = milliseconds()
        defer {
            let took = milliseconds() - start
            nextLook = start + max(Self.lookMilliseconds, took * Self.lookShare)
        }
        guard let scan = try? DirectoryScan(directory) else { return [] }
        for path in scan.directories where descriptor >= 0 {
            let number = FileMark.watch(path, on: descriptor)
            if number >= 0 { watched[number] = path }
        }
        return scan.files
    }

    private func milliseconds() -> Int64 { malla_monotonic_ns() / 1_000_000 }
}
