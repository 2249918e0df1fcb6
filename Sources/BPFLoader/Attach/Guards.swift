// Which programs guard others: they stand directly behind a program that judges packets, and drop
// what it has not let pass (bpf/lib/guard.h). Nothing passes while that program is not there, so a
// guard comes after it and goes before it.

internal import CLinux

/// Where a new link goes among those at its hook.
enum Neighbour {
    /// The guard of what is attached.
    case before(Link)
    /// What is attached is its guard.
    case behind(Link)
}

enum Guards {
    /// Parts of their pins' names.
    private static let signs = ["_guard_", "back_", "outside_"]

    static func isGuard(pin: String) -> Bool { signs.contains { pin.contains($0) } }

    /// Pins in an order in which they can be removed without a packet lost.
    static func removable(_ pins: [String]) -> [String] {
        pins.filter { isGuard(pin: $0) } + pins.filter { !isGuard(pin: $0) }
    }
}

/// The programs at one TCX hook, in the order in which packets meet them.
struct Chain {
    /// `nil`: the kernel does not say.
    private let programs: [UInt32]?

    /// - Complexity: one system call. Source: BPF_PROG_QUERY, Linux 6.6.
    init(at attachment: Attachment) {
        var ids = [UInt32](repeating: 0, count: Int(MALLA_EXAMINE_PROGRAMS_MAX))
        var count = UInt32(ids.count)
        // `ids` has `count` elements, the kernel writes no more, and both live for the call.
        let result = unsafe malla_examine_tcx(
            UInt32(truncatingIfNeeded: attachment.place), attachment.type, &ids, &count)
        programs = result == 0 ? Array(ids.prefix(Int(count))) : nil
    }

    /// Whether `second` is met next after `first`; both are ids of programs.
    func leads(from first: UInt32, to second: UInt32) -> Bool {
        guard let programs else { return true }
        return zip(programs, programs.dropFirst()).contains { $0 == first && $1 == second }
    }
}
