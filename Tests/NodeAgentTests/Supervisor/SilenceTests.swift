// When a thread is taken for one that hangs.

import Glibc
import Testing

@testable import Supervisor

@Suite("Silence (what a thread of the child has not done, and who kept it from that)")
struct SilenceTests {
    /// Looks once a second at a thread without a sign of life.
    private static func looks(
        _ count: Int, _ state: Silence.State, ranMilliseconds: UInt64 = 0, mayCompute: Bool = false,
        after elapsed: Int64 = 1_000
    ) -> Int64 {
        var silence = Silence(mayCompute: mayCompute)
        var ran: UInt64 = 0
        var silent = silence.look(7, after: 0) { nil }
        for _ in 0..<count {
            ran += ranMilliseconds * 1_000_000
            silent = silence.look(7, after: elapsed) {
                Silence.Sight(state: state, ranNanoseconds: ran)
            }
        }
        return silent
    }

    @Test func `who waits or is stopped is silent for as long`() {
        #expect(Self.looks(10, .waits) == 10_000)
        #expect(Self.looks(10, .isStopped) == 10_000)
    }

    @Test func `a sign of life ends it`() {
        var silence = Silence()
        let sight = Silence.Sight(state: .waits, ranNanoseconds: 0)
        _ = silence.look(1, after: 0) { sight }
        #expect(silence.look(1, after: 900) { sight } == 900)
        #expect(silence.look(2, after: 900) { sight } == 0)
        #expect(silence.look(2, after: 900) { sight } == 900)
    }

    @Test func `who gets no processor is not silent, who computes without end is`() {
        #expect(Self.looks(60, .runs) == 0)
        #expect(Self.looks(61, .runs, ranMilliseconds: 10) == 600)
        #expect(Self.looks(11, .runs, ranMilliseconds: 1_000) == 10_000, "the first is the measure")
        #expect(Self.looks(60, .isHeld) == 0, "by a disk, or a debugger")
    }

    @Test func `the agent's own thread may compute, and is silent where it only waits`() {
        #expect(Self.looks(60, .runs, ranMilliseconds: 900, mayCompute: true) == 0)
        #expect(Self.looks(60, .waits, ranMilliseconds: 1, mayCompute: true) == 0)
        #expect(Self.looks(10, .waits, mayCompute: true) == 10_000)
    }

    @Test func `looks that come late count for little: nobody had a processor`() {
        #expect(Self.looks(2, .waits, after: 60_000) == 3_000)
    }

    @Test func `a kernel that does not tell finds nobody silent`() {
        var silence = Silence()
        for _ in 0..<60 {
            let silent = silence.look(7, after: 1_000) { nil }
            #expect(silent == 0)
        }
    }

    @Test func `the kernel's letters`() {
        let states = "RSTtDZI".map { Silence.State($0) }
        #expect(states == [.runs, .waits, .isStopped, .isHeld, .isHeld, .isHeld, .isHeld])
    }
    @Test func `a log that nobody reads keeps who writes it, and is no silence`() throws {
        var ends: [Int32] = [0, 0]
        try #require(unsafe pipe(&ends) == 0)
        try #require(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0)
        defer { for end in ends { close(end) } }
        #expect(ChildProcess.isHeard(ends[1]))
        let page = [UInt8](repeating: 10, count: 4_096)
        while unsafe write(ends[1], page, page.count) > 0 {}
        #expect(!ChildProcess.isHeard(ends[1]))
        var room = page
        #expect(unsafe read(ends[0], &room, room.count) == room.count)
        #expect(ChildProcess.isHeard(ends[1]))
    }
}
