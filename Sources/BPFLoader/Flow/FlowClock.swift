internal import CMallaABI
internal import Glibc

/// The clock by which the programs say when a flow's last packet came.
enum FlowClock {
    /// Ticks of 2^30 ns of CLOCK_MONOTONIC.
    static func now() -> UInt32 {
        UInt32(truncatingIfNeeded: nanoseconds() >> UInt64(MALLA_TICK_SHIFT))
    }

    /// CLOCK_MONOTONIC.
    static func nanoseconds() -> UInt64 { UInt64(nanoseconds(CLOCK_MONOTONIC)) }

    /// Nanoseconds from CLOCK_MONOTONIC to Unix time.
    static func unixOffset() -> Int64 { nanoseconds(CLOCK_REALTIME) - nanoseconds(CLOCK_MONOTONIC) }

    private static func nanoseconds(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        // The kernel fills one timespec, and these clocks always exist.
        _ = unsafe clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
