internal import Glibc
internal import L7Engine
internal import Supervisor

/// Where the engine's access log lines go. A worker never waits for it: its ring drops and counts.
///
/// - Owns: one descriptor, unless it is standard error.
/// - Threads: the agent's.
final class AccessLog {
    static let linesMax = 4_096
    private let descriptor: Int32

    /// - Parameter path: a file to append to, or `-`.
    init(_ path: String) throws(StartError) {
        guard path != "-" else {
            descriptor = 2
            return
        }
        let flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC
        descriptor = unsafe open(path, flags, 0o640 as mode_t)
        guard descriptor >= 0 else {
            throw .engine("cannot open the access log \(path): \(systemText(errno))")
        }
    }

    deinit { if descriptor > 2 { close(descriptor) } }

    /// Writes what has come since the last time, at most a few rounds of it.
    func drain(_ engine: Engine) {
        for _ in 0..<4 {
            let lines = engine.takeAccessLog(max: Self.linesMax)
            guard !lines.isEmpty else { return }
            var rest = Array((lines.joined(separator: "\n") + "\n").utf8)[...]
            while !rest.isEmpty {
                // The buffer is alive during the call, which reads no more than its count.
                let wrote = unsafe rest.withUnsafeBytes { bytes in
                    unsafe write(descriptor, bytes.baseAddress, bytes.count)
                }
                guard wrote > 0 else { break }
                rest = rest.dropFirst(wrote)
            }
        }
    }
}
