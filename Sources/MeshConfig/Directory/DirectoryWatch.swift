// Tells one waiting thread that a directory changed: inotify for the moment, a look now and then
// for file systems that say nothing. A file that is being written is nothing new until it is
// closed: half of it would take the other half's objects out of force.

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

    /// A file that nobody has closed is taken when nothing was written to it for so long, or after
    /// six times that.
    public static let restMilliseconds: Int64 = 10_000

    private struct Writing {
        var begun: Int64
        var last: Int64
    }

    private let directory: String
    private let descriptor: CInt
    private let rest: Int64
    private var seen: [FileEntry] = []
    /// Paths of what is watched, by inotify's number.
    private var watched: [CInt: String] = [:]
    /// Something happened that `takeWritten` did not answer.
    private var isPending = false
    private var nextLook: Int64 = 0
    /// Files written whole since `takeWritten`, and those that are being written, by their paths
    /// below the directory.
    private var written: [String: FileEntry] = [:]
    private var unfinished: [String: Writing] = [:]
    private var givenUp: [String] = []
    /// Those of the reading that comes: they are read though somebody writes on.
    private var forced: Set<String> = []

    /// Works without inotify too, then some seconds late.
    public init(directory: String, restMilliseconds: Int64 = Self.restMilliseconds) {
        self.directory = directory
        rest = restMilliseconds
        descriptor = malla_watch_open()
        seen = look()
    }

    deinit {
        if descriptor >= 0 { malla_descriptor_close(descriptor) }
    }

    /// The inotify descriptor, for a thread that polls several; negative if there is none.
    public var pollable: CInt { descriptor }

    /// Something is known already that the descriptor will not tell any more.
    public var hasNews: Bool { isPending || !written.isEmpty }

    /// What was written since the last call, without waiting: if it was whole files that were known
    /// before, and nothing else. Otherwise `nil`, and `wait` knows of it.
    public mutating func takeWritten() -> WrittenFiles? {
        forced = []
        guard descriptor >= 0, !isPending else { return nil }
        takeEvents()
        if isPending || written.isEmpty || written.count > Self.writtenMax {
            isPending = isPending || !written.isEmpty
            return nil
        }
        let entries = written.values.sorted { $0.relativePath < $1.relativePath }
        written = [:]
        for entry in entries {
            if let index = place(of: entry.relativePath) { seen[index] = entry }
        }
        return WrittenFiles(entries: entries)
    }

    /// Whether a file, by its path below the directory, is being written at this moment.
    public mutating func isBeingWritten(_ relative: String) -> Bool {
        takeEvents()
        return unfinished[relative] != nil && !forced.contains(relative)
    }

    /// Files that are taken as they are, though nobody has closed them; each is answered once.
    public mutating func takeGivenUp() -> [String] {
        defer { givenUp = [] }
        return givenUp.sorted()
    }

    /// What `takeWritten` answered is more than its caller can do with: `wait` answers at once.
    public mutating func postpone() { isPending = true }

    private mutating func takeEvents() {
        guard descriptor >= 0 else { return }
        var events = [malla_change](repeating: malla_change(), count: Int(MALLA_CHANGES_MAX))
        // At most so many: a writer that never stops cannot hold us here.
        for _ in 0..<Self.readsMax {
            // The array has room for as many as one call writes.
            let count = unsafe malla_watch_read(descriptor, &events)
            if count == 0 { return }
            if count < 0 { isPending = true }
            for event in events.prefix(Int(max(0, count))) { note(event) }
        }
    }

    private mutating func note(_ event: malla_change) {
        guard let folder = watched[event.watch], !event.is_other else { return isPending = true }
        // Both outlive the closure; the name ends with a zero.
        let name = unsafe withUnsafeBytes(of: event.name) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        // Names with two dots are how mounted ConfigMaps change; others are files to be renamed.
        let isOurs = name.hasPrefix(".") ? name.hasPrefix("..") : true
        guard isOurs, !name.hasPrefix("."), DirectoryScan.isConfiguration(name) else {
            isPending = isPending || isOurs && !event.is_begun
            return
        }
        let path = folder + "/" + name
        let relative = String(path.dropFirst(directory.count + 1))
        if event.is_begun {
            let now = milliseconds()
            unfinished[relative, default: Writing(begun: now, last: now)].last = now
            written[relative] = nil
            return
        }
        let found = FileMark.look(path)
        if case .missing = found { unfinished[relative] = nil }
        if event.is_written { unfinished[relative] = nil }
        guard event.is_written, let index = place(of: relative), seen[index].path == path,
            case .file(let mark) = found
        else { return isPending = true }
        written[relative] = FileEntry(directory: directory, relativePath: relative, mark: mark)
    }

    /// Whoever writes for that long, or has stopped and never closes, is not waited for.
    private mutating func giveUpUnfinished() {
        let now = milliseconds()
        forced = []
        for (path, writing) in unfinished
        where now - writing.last >= rest || now - writing.begun >= rest * 6 {
            unfinished[path] = nil
            forced.insert(path)
            isPending = true
            if case .file = FileMark.look(directory + "/" + path) { givenUp.append(path) }
        }
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
        giveUpUnfinished()
        if !isPending {
            guard milliseconds() >= nextLook, look() != seen else { return false }
            // Events that are not taken yet may be all that has changed: a later look tells.
            if descriptor >= 0, malla_watch_is_full(descriptor, 0) { return false }
        }
        takeAll()
        return true
    }

    private mutating func takeAll() {
        settle()
        isPending = false
        written = [:]
        seen = look()
    }

    /// Waits until something changed (`true`) or the time is over (`false`).
    public mutating func wait(timeoutMilliseconds: Int) -> Bool {
        let end = milliseconds() + Int64(max(0, timeoutMilliseconds))
        repeat {
            let slice = min(max(0, end - milliseconds()), Self.lookMilliseconds)
            if !hasNews { pause(CInt(slice)) }
            takeEvents()
            giveUpUnfinished()
            if isPending || !written.isEmpty || (milliseconds() >= nextLook && look() != seen) {
                takeAll()
                return true
            }
        } while milliseconds() < end
        return false
    }

    private func pause(_ milliseconds: CInt) {
        guard descriptor >= 0 else { return malla_sleep_ms(milliseconds) }
        _ = malla_watch_is_full(descriptor, milliseconds)
    }

    /// Waits until nothing has changed for a moment: an editor writes in several steps.
    private mutating func settle() {
        let end = milliseconds() + Self.quietMillisecondsMax
        guard descriptor >= 0 else { return malla_sleep_ms(Self.quietMilliseconds) }
        while milliseconds() < end, malla_watch_is_full(descriptor, Self.quietMilliseconds) {
            takeEvents()
        }
    }

    /// What is there now, and was of what is being written; every directory found is watched from
    /// here on.
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
        if unfinished.isEmpty { return scan.files }
        return scan.files.compactMap { file in
            let path = file.relativePath
            if unfinished[path] == nil || forced.contains(path) { return file }
            return place(of: file.relativePath).map { seen[$0] }
        }
    }

    private func milliseconds() -> Int64 { malla_monotonic_ns() / 1_000_000 }
}
