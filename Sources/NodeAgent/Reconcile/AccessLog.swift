internal import CLinux
internal import Dispatch
internal import Foundation
internal import Glibc
internal import Logging
internal import Supervisor
internal import Synchronization

/// Where the engine's access log lines go, and the thread that brings them there. A worker never
/// waits for it: its ring drops and counts. Nor does the agent: what is not taken (a pipe whose
/// reader stands still) waits here, and the rings behind it.
///
/// - Owns: one descriptor, unless it is standard error; between `start` and `end` one thread.
/// - Limits: `roundBytes` at a time; lines that cannot be written are counted as lost.
/// - Threads: `start` and `end` the agent's, once; `lost` any.
final class AccessLog: Sendable {
    /// Some 600 lines; kept for as long as the log is.
    private static let roundBytes = 256 << 10
    /// Between two looks at the rings, which hold 200 ms of 40 000 requests/s.
    private static let rest = DispatchTimeInterval.milliseconds(20)
    private static let restMilliseconds: Int32 = 20
    /// How long the last lines may wait for a reader, and the agent for them.
    private static let lastSeconds = 2
    private static let endSeconds = 3

    /// What a look at the rings has found.
    enum Look { case nothingLeft, moreMayCome, noRoom }

    /// What has been taken and waits to be written: `bytes[from..<end]`.
    private struct Waiting {
        var bytes = [UInt8](repeating: 0, count: roundBytes)
        var from = 0
        var end = 0
        var isBroken = false
    }

    private let descriptor: Int32
    private let logger: Logger
    /// What one write(2) may be given once poll(2) says that there is room: a pipe has room for
    /// PIPE_BUF then (pipe(7)), a file for all.
    private let writeBytesMax: Int
    private let waiting = Mutex(Waiting())
    private let lostLines = Atomic<UInt64>(0)
    private let isToEnd = DispatchSemaphore(value: 0)
    private let hasEnded = DispatchSemaphore(value: 0)

    /// Lines that could not be written.
    var lost: UInt64 { lostLines.load(ordering: .relaxed) }

    /// - Parameter path: a file to append to, or `-`.
    init(_ path: String, _ logger: Logger) throws(StartError) {
        self.logger = logger
        var opened: Int32 = 2
        if path != "-" {
            let flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC
            opened = unsafe open(path, flags, 0o640 as mode_t)
            guard opened >= 0 else {
                throw .engine("cannot open the access log \(path): \(systemText(errno))")
            }
        }
        descriptor = opened
        // Neither pipes nor sockets have a place to go to (ESPIPE).
        writeBytesMax = lseek(opened, 0, SEEK_CUR) < 0 ? 4_096 : .max
    }

    deinit { if descriptor > 2 { close(descriptor) } }

    /// Brings lines to their place until `end`, whatever the agent's thread does.
    ///
    /// - Parameter take: fills the array from its beginning with whole lines; answers their bytes.
    func start(_ take: @escaping @Sendable (inout [UInt8]) -> Int) {
        Thread.detachNewThread { [self] in
            _ = malla_drop_capabilities()
            run(take)
        }
    }

    /// Ends the thread, once it has written what has come until now; waits for at most
    /// `endSeconds`.
    func end() {
        isToEnd.signal()
        _ = hasEnded.wait(timeout: .now() + .seconds(Self.endSeconds))
    }

    private func run(_ take: (inout [UInt8]) -> Int) {
        var wait = Self.rest
        while isToEnd.wait(timeout: .now() + wait) == .timedOut {
            let look = drain(take)
            wait = look == .nothingLeft ? Self.rest : .nanoseconds(0)
            if look == .noRoom { awaitRoom() }
        }
        let end = ContinuousClock.now + .seconds(Self.lastSeconds)
        var look = drain(take)
        while look != .nothingLeft, ContinuousClock.now < end {
            if look == .noRoom { awaitRoom() }
            look = drain(take)
        }
        if look != .nothingLeft {
            logger.warning("the access log's last lines could not be written in time")
        }
        hasEnded.signal()
    }

    private func awaitRoom() {
        var state = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        // The call fills in one record.
        _ = unsafe poll(&state, 1, Self.restMilliseconds)
    }

    /// Writes what has come since the last time, at most some rounds of it.
    @discardableResult
    func drain(_ take: (inout [UInt8]) -> Int) -> Look {
        waiting.withLock { waiting in
            for _ in 0..<64 {
                let look = writeRest(&waiting)
                guard look == .moreMayCome else { return look }
                waiting.from = 0
                waiting.end = take(&waiting.bytes)
                if waiting.end == 0 { return .nothingLeft }
            }
            return .moreMayCome
        }
    }

    private func writeRest(_ waiting: inout Waiting) -> Look {
        while waiting.from < waiting.end {
            var state = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            guard unsafe poll(&state, 1, 0) > 0 else { return .noRoom }
            let part = waiting.bytes[waiting.from..<waiting.end].prefix(writeBytesMax)
            // The buffer is alive during the call, which reads no more than its count.
            let wrote = unsafe part.withUnsafeBytes { bytes in
                unsafe write(descriptor, bytes.baseAddress, bytes.count)
            }
            if wrote > 0 {
                waiting.from += wrote
                waiting.isBroken = false
            } else if errno != EINTR {
                lose(&waiting, errno)
                return .nothingLeft
            }
        }
        return .moreMayCome
    }

    private func lose(_ waiting: inout Waiting, _ error: Int32) {
        let lines = waiting.bytes[waiting.from..<waiting.end].count { $0 == 0x0a }
        lostLines.add(UInt64(lines), ordering: .relaxed)
        waiting.from = waiting.end
        if !waiting.isBroken {
            logger.error("the access log cannot be written, lines are lost: \(systemText(error))")
        }
        waiting.isBroken = true
    }
}
