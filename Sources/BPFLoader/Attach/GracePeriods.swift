// A program at an interface's TCX hook comes and goes by a grace period: the kernel waits, holding
// the lock of all interfaces, until every processor has left what was there. That is milliseconds a
// link, minutes of a node's life with hundreds of pods and a busy processor. While something is
// attached we ask the kernel to hurry, which makes it forty microseconds.

internal import Glibc

/// Grace periods are expedited while this value lives, unless somebody else wants that anyway.
///
/// - Owns: `/sys/kernel/rcu_expedited` while it says 1 through us; a directory on bpffs remembers
///   that, and goes with the machine as the setting does: an agent that died meanwhile is cleaned
///   up after (`settle`).
/// - Throws: nothing; where the setting cannot be written, as in a container whose /sys is
///   read-only, attaching takes its time.
/// - Source: Documentation/admin-guide/kernel-parameters.txt, rcupdate.rcu_expedited; tcx.c of
///   Linux 6.6, tcx_entry_sync.
struct GracePeriods: ~Copyable {
    static let setting = "/sys/kernel/rcu_expedited"
    private let mark: String
    private let isOurs: Bool

    /// - Parameter bpffsPath: as `DatapathOptions` has it.
    init(hurriedBy bpffsPath: String) {
        let mark = Self.mark(in: bpffsPath)
        self.mark = mark
        guard Self.read() == UInt8(ascii: "0"), unsafe mkdir(mark, 0o700) == 0 else {
            isOurs = false
            return
        }
        isOurs = Self.write("1")
        if !isOurs { _ = unsafe rmdir(mark) }
    }

    deinit {
        if isOurs { Self.restore(mark) }
    }

    /// Puts the setting back that an agent left when it died.
    static func settle(bpffsPath: String) {
        let mark = mark(in: bpffsPath)
        if unsafe access(mark, F_OK) == 0 { restore(mark) }
    }

    private static func mark(in bpffsPath: String) -> String { bpffsPath + "/malla/hurried" }

    private static func restore(_ mark: String) {
        if write("0") { _ = unsafe rmdir(mark) }
    }

    /// The setting's one figure; `nil`: it cannot be read.
    private static func read() -> UInt8? {
        let descriptor = unsafe open(setting, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var figure: UInt8 = 0
        // One byte, which is what there is room for.
        return unsafe Glibc.read(descriptor, &figure, 1) == 1 ? figure : nil
    }

    private static func write(_ figure: String) -> Bool {
        let descriptor = unsafe open(setting, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        // The text outlives the call.
        return unsafe Glibc.write(descriptor, figure, 1) == 1
    }
}
