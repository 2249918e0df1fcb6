internal import CMallaABI
internal import Glibc

/// The clock by which the programs say when a flow's last packet came.
enum FlowClock {
    /// Ticks of 2^30 ns of CLOCK_MONOTONIC.
    static func now() -> UInt32 {
        var time = timespec()
        // The kernel fills one timespec, and this clock always exists.
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        let nanoseconds = UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        return UInt32(truncatingIfNeeded: nanoseconds >> UInt64(MALLA_TICK_SHIFT))
    }
}
