import Testing

@testable import L7Engine

@Suite("From which part of the ports a tunnel is dialled (docs/hbone.md)")
struct TunnelPartTests {
    @Test func `of four that are dialled one behind the other each has a part of its own`() {
        for worker in 0..<6 {
            var used = SIMD4<Int32>()
            for turn in 0..<8 {
                let part = Worker.freestPart(used, from: worker)
                #expect(part == (worker + turn) % 4)
                used[part] += 1
            }
        }
    }

    /// How many are dialled from each part, the worker, and the part of the next.
    @Test(arguments: [
        (SIMD4<Int32>(0, 1, 0, 0), 0, 0), (SIMD4(0, 1, 1, 1), 1, 0), (SIMD4(1, 0, 1, 1), 2, 1),
        (SIMD4(2, 2, 1, 1), 0, 2), (SIMD4(2, 2, 1, 1), 3, 3),
    ])
    func `the next takes the part of one that has ended`(
        used: SIMD4<Int32>, worker: Int, part: Int
    ) {
        #expect(Worker.freestPart(used, from: worker) == part)
    }
}
