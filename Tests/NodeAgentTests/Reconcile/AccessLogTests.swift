import Dispatch
import Foundation
import Logging
import Synchronization
import TestSupport
import Testing

@testable import NodeAgent

@Suite("The access log holds nobody up (docs/operations.md)")
struct AccessLogTests {
    private let path = NSTemporaryDirectory() + "malla-access-log-\(UUID().uuidString)"

    /// Puts the lines at the array's beginning, as the engine does.
    private static func fill(_ bytes: inout [UInt8], _ text: String) -> Int {
        let count = text.utf8.count
        bytes.replaceSubrange(0..<count, with: text.utf8)
        return count
    }

    @Test func `a reader that stands still does not stop the agent, and misses nothing`() throws {
        try Command.shell("mkfifo \(path)")
        defer { try? FileManager.default.removeItem(atPath: path) }
        // Opened for both, so that it waits for nobody.
        let reader = try #require(FileHandle(forUpdatingAtPath: path))
        let log = try AccessLog(path, Logger(label: "test"))
        var asked = 0
        let line = String(repeating: "x", count: 999) + "\n"
        func drain() {
            log.drain {
                asked += 1
                return Self.fill(&$0, String(repeating: line, count: 100))
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
        var lines = "one\ntwo\n"
        log.drain {
            defer { lines = "" }
            return Self.fill(&$0, lines)
        }
        #expect(log.lost == 2)
    }

    @Test func `lines are written while the agent's thread is elsewhere, and the last at its end`()
        throws
    {
        let log = try AccessLog(path, Logger(label: "test"))
        defer { try? FileManager.default.removeItem(atPath: path) }
        let number = Mutex(0)
        let (isHalfTaken, isResumed) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        log.start { bytes in
            number.withLock { number in
                if number == 10_000 {
                    isHalfTaken.signal()
                    isResumed.wait()
                }
                guard number < 20_000 else { return 0 }
                let text = (number..<number + 500).map { "\($0)\n" }.joined()
                number += 500
                return Self.fill(&bytes, text)
            }
        }
        // This thread takes and writes nothing: it waits, as in the reading of a directory.
        #expect(isHalfTaken.wait(timeout: .now() + 10) == .success)
        #expect(try Self.lines(path) == (0..<10_000).map { "\($0)" })
        isResumed.signal()
        log.end()
        #expect(try Self.lines(path) == (0..<20_000).map { "\($0)" })
        #expect(log.lost == 0)
    }

    private static func lines(_ path: String) throws -> [String] {
        try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
    }
}
