import Foundation
import Logging
import TestSupport
import Testing

@testable import NodeAgent

@Suite("The access log holds nobody up (docs/operations.md)")
struct AccessLogTests {
    private let path = NSTemporaryDirectory() + "malla-access-log-\(UUID().uuidString)"

    @Test func `a reader that stands still does not stop the agent, and misses nothing`() throws {
        try Command.shell("mkfifo \(path)")
        defer { try? FileManager.default.removeItem(atPath: path) }
        // Opened for both, so that it waits for nobody.
        let reader = try #require(FileHandle(forUpdatingAtPath: path))
        let log = try AccessLog(path, Logger(label: "test"))
        var asked = 0
        let line = String(repeating: "x", count: 999)
        func drain() {
            log.drain {
                asked += 1
                return Array(repeating: line, count: 100)
            }
        }
        // A pipe holds 64 KiB: these return although nobody reads.
        for _ in 0..<10 { drain() }
        #expect(asked == 1, "what waits is written before more is taken")
        var read = Data()
        for _ in 0..<100 where asked == 1 {
            // While something waits, the pipe is full.
            read += reader.availableData
            drain()
        }
        #expect(asked > 1)
        #expect(log.lost == 0)
        #expect(read.count >= 100_000 - 65_536)
        #expect(read.allSatisfy { $0 == UInt8(ascii: "x") || $0 == UInt8(ascii: "\n") })
    }

    @Test func `lines that cannot be written are counted as lost`() throws {
        let log = try AccessLog("/dev/full", Logger(label: "test"))
        var lines = ["one", "two"]
        log.drain {
            defer { lines = [] }
            return lines
        }
        #expect(log.lost == 2)
    }
}
