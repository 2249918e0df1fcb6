internal import Glibc
internal import L7Engine
internal import Logging
internal import Supervisor

/// Where the engine's access log lines go. A worker never waits for it: its ring drops and counts.
/// Nor does the agent: what is not taken (a pipe whose reader stands still) waits here, and the
/// rings behind it.
///
/// - Owns: one descriptor, unless it is standard error.
/// - Limits: `linesMax` lines at a time; those that cannot be written are counted as lost.
/// - Threads: the agent's.
final class AccessLog {
    static let linesMax = 4_096
    private let descriptor: Int32
    private let logger: Logger
    /// What one write(2) may be given once poll(2) says that there is room: a pipe has room for
    /// PIPE_BUF then (pipe(7)), a file for all.
    private let writeBytesMax: Int
    private var rest: ArraySlice<UInt8> = []
    private var isBroken = false
    /// Lines that could not be written.
    private(set) var lost: UInt64 = 0

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

    /// Writes what has come since the last time, at most a few rounds of it.
    func drain(_ engine: Engine) {
        drain { engine.takeAccessLog(max: Self.linesMax) }
    }

    func drain(_ take: () -> [String]) {
        for _ in 0..<4 where writeRest() {
            let lines = take()
            guard !lines.isEmpty else { return }
            rest = Array((lines.joined(separator: "\n") + "\n").utf8)[...]
        }
        _ = writeRest()
    }

    /// `false`: nobody takes it now.
    private func writeRest() -> Bool {
        while !rest.isEmpty {
            var state = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            guard unsafe poll(&state, 1, 0) > 0 else { return false }
            let part = rest.prefix(writeBytesMax)
            // The buffer is alive during the call, which reads no more than its count.
            let wrote = unsafe part.withUnsafeBytes { bytes in
                unsafe write(descriptor, bytes.baseAddress, bytes.count)
            }
            if wrote > 0 {
                rest = rest.dropFirst(wrote)
                isBroken = false
            } else if errno != EINTR {
                lose(errno)
                return false
            }
        }
        return true
    }

    private func lose(_ error: Int32) {
        lost += UInt64(rest.count { $0 == 0x0a })
        rest = []
        if !isBroken {
            logger.error("the access log cannot be written, lines are lost: \(systemText(error))")
        }
        isBroken = true
    }
}
