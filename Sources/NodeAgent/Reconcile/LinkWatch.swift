// Interfaces that come and go, as the kernel tells of them: a pod that starts is silent until its
// interface is looked at, and does not wait for the next tick.

internal import CLinux
internal import Glibc

/// - Owns: one netlink socket of the network namespace in which it was made.
/// - Threads: the agent's.
struct LinkWatch: ~Copyable {
    /// Between two looks: where hundreds of pods start at once, a look is for many of them.
    private static let pause = Duration.milliseconds(50)

    /// For poll(2); -1: the kernel refused it, and ticks have to do.
    let descriptor: Int32
    private var isStale = false
    private var lastLook = ContinuousClock.now - pause

    init() { descriptor = max(-1, malla_link_watch()) }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// How long poll(2) may wait, of `milliseconds`.
    func wait(_ milliseconds: Int32) -> Int32 {
        isStale ? min(milliseconds, Int32(Self.pause / .milliseconds(1))) : milliseconds
    }

    /// Whether something has changed, and it is time to look at it.
    mutating func isDue() -> Bool {
        if descriptor >= 0, malla_link_watch_take(descriptor) > 0 { isStale = true }
        let now = ContinuousClock.now
        guard isStale, now - lastLook >= Self.pause else { return false }
        isStale = false
        lastLook = now
        return true
    }
}
