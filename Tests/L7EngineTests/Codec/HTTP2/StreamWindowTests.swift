import CNghttp2
import Glibc
import Testing

@Suite("Each stream of a tunnel has a window of its own (docs/hbone.md)")
struct StreamWindowTests {
    private static var wide: hbone_limits {
        var limits = TunnelPair.limits
        limits.stream_window_max = 524_280
        return limits
    }

    @Test func `a reader that stalls does not hold up its neighbour in the same tunnel`() throws {
        let pair = TunnelPair()
        let stalled = try (0..<3).map { _ in try pair.joined() }
        let (near, far) = try pair.joined()
        // Together more than the connection's window of 131 072.
        for (near, _) in stalled { #expect(pair.fill(near) == 65_535) }

        #expect(pair.pass(1_000_000, near, far) == 1_000_000)

        for (near, far) in stalled + [(near, far)] {
            near.free()
            far.free()
        }
    }

    @Test
    func `the window of a stream grows while it is read as fast as it comes, and only its own`()
        throws
    {
        let pair = TunnelPair(server: Self.wide)
        let (near, far) = try pair.joined()
        let (idle, other) = try pair.joined()
        var most = 0
        // A machine that is busy elsewhere may take its time once.
        for _ in 0..<20 where most < 262_140 {
            #expect(pair.pass(2_000_000, near, far) == 2_000_000)
            most = pair.fill(near)
            while !far.receive().bytes.isEmpty {}
            pair.settle()
        }
        // Of the largest window, as much as is given at once.
        #expect(most >= 262_140 && most <= 524_280)
        #expect(pair.fill(idle) == 65_535)

        for stream in [near, far, idle, other] { stream.free() }
    }

    @Test
    func `where memory is scarce windows shrink, and who is behind gets room when all is read`()
        throws
    {
        let pair = TunnelPair(server: Self.wide)
        let held = UnsafeMutablePointer<UInt64>.allocate(capacity: 2)
        unsafe held.initialize(repeating: 0, count: 2)
        defer { unsafe held.deallocate() }
        unsafe pair.server?.charge(held)
        let (near, far) = try pair.joined()
        for _ in 0..<20 { _ = pair.pass(500_000, near, far) }

        // More than half of what the account may hold is somebody else's.
        unsafe held[0] += 600_000
        #expect(pair.pass(2_000_000, near, far) == 2_000_000)
        #expect(pair.fill(near) <= 65_535)

        // All of it: what is read in part makes no room.
        unsafe held[0] += 600_000
        #expect(far.receive(40_000).bytes.count == 40_000)
        pair.settle()
        #expect(pair.fill(near) == 0)
        while !far.receive().bytes.isEmpty {}
        pair.settle()
        #expect(pair.fill(near) > 30_000)

        near.free()
        far.free()
        pair.settle()
        #expect(unsafe held[0] == 1_200_000)
    }
}
