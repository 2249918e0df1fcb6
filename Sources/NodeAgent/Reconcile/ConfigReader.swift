internal import MeshConfig
internal import MeshModel
internal import Synchronization

/// The configuration directory over time, for two threads: the agent's asks what changed, and one
/// that it starts reads it, which takes seconds where thousands of objects are.
///
/// - Owns: the watch's descriptor.
/// - Threads: any, one at a time: the agent's does not ask while the other reads.
final class ConfigReader: Sendable {
    private let store: Mutex<ConfigStore>
    private let watch: Mutex<DirectoryWatch>
    private let isRead = Atomic<Bool>(false)
    /// `DirectoryWatch.pollable`.
    let pollable: Int32

    init(directory: String, rootNamespace: String, keeper: LastGoodKeeper) {
        store = Mutex(
            ConfigStore(directory: directory, rootNamespace: rootNamespace) { keeper.load() })
        let watch = DirectoryWatch(directory: directory)
        pollable = watch.pollable
        self.watch = Mutex(watch)
    }

    // MARK: What changed

    var hasNews: Bool { watch.withLock { $0.hasNews } }
    func takeWritten() -> WrittenFiles? { watch.withLock { $0.takeWritten() } }
    func takeGivenUp() -> [String] { watch.withLock { $0.takeGivenUp() } }
    func isStale() -> Bool { watch.withLock { $0.isStale() } }
    func postpone() { watch.withLock { $0.postpone() } }
    /// Whether anything changed since it was last asked so; what it was is let go of.
    func forget() -> Bool { watch.withLock { $0.wait(timeoutMilliseconds: 0) } }

    // MARK: Reading

    /// What reading the directory came to; no snapshot where nothing has changed.
    struct Reading: Sendable {
        var result: Result<ConfigResult, ConfigError>
        var snapshot: Snapshot?
        var compileDuration = Duration.zero
    }

    /// - Parameter isFirst: a snapshot is made whether anything has changed or not.
    func reload(_ compilation: Compilation, isFirst: Bool) -> Reading {
        var reading = Reading(result: reload())
        let begun = ContinuousClock.now
        if case .success(let result) = reading.result, result.isChanged || isFirst {
            reading.snapshot = compilation.compile(result.mesh)
            reading.compileDuration = .now - begun
        }
        return reading
    }

    private func reload() -> Result<ConfigResult, ConfigError> {
        store.withLock { store in
            do throws(ConfigError) {
                let result = try store.reload { self.isBeingWritten($0) }
                isRead.store(true, ordering: .relaxed)
                return .success(result)
            } catch {
                return .failure(error)
            }
        }
    }

    /// `nil`: more than endpoints has changed.
    func refill(_ written: WrittenFiles) -> ConfigResult? {
        store.withLock { $0.refill(written) { self.isBeingWritten($0) } }
    }

    func fallBack() -> ConfigResult { store.withLock { $0.fallBack() } }

    private func isBeingWritten(_ path: String) -> Bool {
        watch.withLock { $0.isBeingWritten(path) }
    }

    // MARK: What is in force

    /// Whether the directory was ever read: else it is what an earlier agent kept of it.
    var hasRead: Bool { isRead.load(ordering: .relaxed) }

    var objectCount: Int { store.withLock { $0.inForce.objectCount } }

    func keep(by keeper: LastGoodKeeper) {
        store.withLock {
            keeper.keep($0.inForce)
            $0.settleInForce()
        }
    }
}
