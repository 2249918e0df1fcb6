// The state directory's `config`: one file for each file of the configuration directory that
// brings objects into force. Each is written beside its place, synced and renamed, so that it is
// the old one or the new one, never half of it; what cannot be used is reported and left alone
// until a good one takes its place.

internal import Foundation
internal import MeshModel

/// - Owns: nothing; the agent's lock on the state directory keeps others away.
/// - Threads: one at a time.
public struct LastGoodDirectory: Sendable {
    /// Of one file, which stands for at most 64 MiB of configuration and is about as long.
    static let fileBytesMax = 96 << 20
    /// Of all files together; those beyond are not kept, and said so.
    public static let bytesMax = 256 << 20
    static let suffix = ".good"

    public let path: String
    /// The configuration directory that the objects come from.
    private let source: String
    /// What stands in the directory, by the file it is of.
    private var written: [String: Written] = [:]
    /// What the last `keep` came to, if there was no problem.
    private var last: Outcome?
    /// Whether it is known what stands there.
    public private(set) var isLoaded = false

    private struct Written {
        /// Stamps of the objects, where this process wrote or compared them.
        var mark: [UInt64]?
        var checksum: UInt64
        var bytes: Int
    }

    /// What one write came to.
    public struct Outcome: Sendable, Equatable {
        public var files = 0
        public var objects = 0
        public var bytes = 0
        /// What could not be kept, one line each.
        public var problems: [String] = []

        public init() {}
    }

    /// - Parameter state: the agent's state directory; `config` below it is ours.
    public init(state: String, configuration: String) {
        path = state + "/config"
        source =
            configuration.hasPrefix("/")
            ? configuration
            : FileManager.default.currentDirectoryPath + "/" + configuration
    }

    // MARK: Reading

    /// Everything that the agent before left and that this build takes; `problems` name the rest.
    ///
    /// - Complexity: reads every file.
    public mutating func load() -> (lastGood: LastGood, problems: [String]) {
        isLoaded = true
        written = [:]
        var files: [String: GoodFile] = [:]
        var problems: [String] = []
        var total = 0
        for name in names(&problems) {
            do throws(LastGoodFailure) {
                let bytes = try contents(name)
                total += bytes.count
                guard total <= Self.bytesMax else {
                    throw LastGoodFailure(problem: "is beyond \(Self.bytesMax >> 20) MiB in all")
                }
                let found = try LastGoodReader.decode(bytes)
                guard found.directory == source else {
                    throw LastGoodFailure(
                        problem: "belongs to the configuration directory \(found.directory)")
                }
                // A rule may have come since; what it refuses was good only for another build.
                let good = found.objects.map { (object: $0, findings: ObjectCheck.findings($0)) }
                    .filter { !$0.findings.contains { $0.severity == .error } }
                files[found.file] = GoodFile(
                    objects: good.map(\.object), checks: good.map(\.findings))
                written[found.file] = Written(
                    mark: nil, checksum: LastGoodBytes.checksum(bytes[...]), bytes: bytes.count)
            } catch {
                problems.append("\(path)/\(name) \(error.problem); it is ignored")
            }
        }
        return (LastGood(files: files), problems)
    }

    private func names(_ problems: inout [String]) -> [String] {
        guard FileManager.default.fileExists(atPath: path) else { return [] }
        do {
            return try FileManager.default.contentsOfDirectory(atPath: path)
                .filter { $0.hasSuffix(Self.suffix) }.sorted()
        } catch {
            problems.append("\(path) cannot be listed; no earlier version is known")
            return []
        }
    }

    private func contents(_ name: String) throws(LastGoodFailure) -> [UInt8] {
        let file = path + "/" + name
        guard case .file(let mark) = FileMark.look(file) else {
            throw LastGoodFailure(problem: "is no file")
        }
        guard mark.bytes <= Self.fileBytesMax else {
            throw LastGoodFailure(problem: "is larger than \(Self.fileBytesMax >> 20) MiB")
        }
        guard let bytes = FileManager.default.contents(atPath: file) else {
            throw LastGoodFailure(problem: "cannot be read")
        }
        return Array(bytes)
    }

    // MARK: Writing

    /// Makes the directory hold exactly `lastGood`: changed files are replaced, others stay as they
    /// are, files of no configuration are removed.
    ///
    /// - Complexity: linear in objects, or in what is known to have changed; encodes and writes
    ///   what changed.
    public mutating func keep(_ lastGood: LastGood) -> Outcome {
        if let outcome = keepChanged(lastGood) { return outcome }
        let outcome = keepAll(lastGood)
        last = outcome.problems.isEmpty ? outcome : nil
        return outcome
    }

    /// `nil`: more may have changed, or not everything stands there.
    private mutating func keepChanged(_ lastGood: LastGood) -> Outcome? {
        guard var outcome = last, let changed = lastGood.changed else { return nil }
        last = nil
        for file in changed {
            guard let good = lastGood.files[file], let before = written[file] else { return nil }
            if before.mark == good.mark { continue }
            do throws(LastGoodFailure) {
                let used = outcome.bytes - before.bytes
                let now = try replace(Self.name(of: file), file, good, before, used: used)
                written[file] = now
                outcome.bytes = used + now.bytes
            } catch {
                return nil
            }
        }
        if !changed.isEmpty { sync(path) }
        last = outcome
        return outcome
    }

    private mutating func keepAll(_ lastGood: LastGood) -> Outcome {
        var outcome = Outcome()
        if !isLoaded { _ = load() }
        guard makeDirectory(&outcome.problems) else { return outcome }
        var names: Set<String> = []
        var hasChanged = false
        for (file, good) in lastGood.files.sorted(by: { $0.key < $1.key }) {
            let name = Self.name(of: file)
            names.insert(name)
            let before = written[file]
            if before?.mark != good.mark {
                do throws(LastGoodFailure) {
                    written[file] = try replace(name, file, good, before, used: outcome.bytes)
                    hasChanged = true
                } catch {
                    outcome.problems.append("\(file) \(error.problem)")
                }
            }
            guard let now = written[file] else { continue }
            outcome.files += 1
            outcome.objects += good.objects.count
            outcome.bytes += now.bytes
        }
        hasChanged = remove(allBut: names) || hasChanged
        written = written.filter { lastGood.files[$0.key] != nil }
        if hasChanged { sync(path) }
        return outcome
    }

    /// Writes one file unless it stands there already.
    private func replace(
        _ name: String, _ file: String, _ good: GoodFile, _ before: Written?, used: Int
    ) throws(LastGoodFailure) -> Written {
        let bytes = LastGoodBytes.encode(good.objects, file: file, of: source)
        let sum = LastGoodBytes.checksum(bytes[...])
        if let before, before.checksum == sum, before.bytes == bytes.count {
            return Written(mark: good.mark, checksum: sum, bytes: bytes.count)
        }
        guard bytes.count <= Self.fileBytesMax, used + bytes.count <= Self.bytesMax else {
            throw LastGoodFailure(
                problem: "is not kept: it takes \(bytes.count >> 20) MiB, at most "
                    + "\(Self.fileBytesMax >> 20) a file and \(Self.bytesMax >> 20) in all are")
        }
        try write(bytes, to: path + "/" + name)
        return Written(mark: good.mark, checksum: sum, bytes: bytes.count)
    }

    private func makeDirectory(_ problems: inout [String]) -> Bool {
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o700])
            return true
        } catch {
            problems.append("\(path) cannot be made; nothing is kept for the next agent")
            return false
        }
    }

    /// Removes what no configuration file stands behind. Whether there was any.
    private func remove(allBut names: Set<String>) -> Bool {
        let present = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        let foreign = present.filter { name in
            (name.hasSuffix(Self.suffix) || name.hasSuffix(".new")) && !names.contains(name)
        }
        for name in foreign { try? FileManager.default.removeItem(atPath: path + "/" + name) }
        return !foreign.isEmpty
    }

    /// A name for any path; two that share one would share a file, and the later is kept.
    static func name(of file: String) -> String {
        let sum = String(LastGoodBytes.checksum(Array(file.utf8)[...]), radix: 16)
        return String(repeating: "0", count: 16 - sum.count) + sum + suffix
    }

    // MARK: System calls

    /// Temporary file, fsync, rename: open(2), fsync(2), rename(2).
    private func write(_ bytes: [UInt8], to file: String) throws(LastGoodFailure) {
        let temporary = file + ".new"
        func failure(_ doing: String) -> LastGoodFailure {
            let why = NSError(domain: NSPOSIXErrorDomain, code: Int(errno)).localizedDescription
            return LastGoodFailure(problem: "is not kept: cannot \(doing) \(file): \(why)")
        }
        let flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW
        // Objects may be Secrets: nobody else reads them.
        let descriptor = unsafe open(temporary, flags, 0o600 as mode_t)
        guard descriptor >= 0 else { throw failure("write") }
        defer { close(descriptor) }
        var rest = bytes[...]
        while !rest.isEmpty {
            // The buffer is alive during the call, which reads no more than its count.
            let wrote = unsafe rest.withUnsafeBytes { buffer in
                unsafe Foundation.write(descriptor, buffer.baseAddress, buffer.count)
            }
            guard wrote > 0 else { throw failure("write") }
            rest = rest.dropFirst(wrote)
        }
        guard fsync(descriptor) == 0 else { throw failure("sync") }
        // Both paths outlive the call.
        guard unsafe rename(temporary, file) == 0 else { throw failure("rename") }
    }

    /// Makes the renames of a directory last.
    private func sync(_ directory: String) {
        // The path outlives the call.
        let descriptor = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        close(descriptor)
    }
}
