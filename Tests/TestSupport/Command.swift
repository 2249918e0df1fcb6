// Runs programs for tests: every one bounded in time, with its output kept.

internal import Foundation
public import Glibc

/// What a finished program left.
public struct Outcome: Sendable {
    /// Exit status; 128 + signal if one ended it; 124 if its time was up.
    public var status: Int32
    public var output: String
    public var errors: String

    public var isSuccess: Bool { status == 0 }
}

/// A program could not be run, or failed where it must not.
public struct CommandFailure: Error, CustomStringConvertible {
    public var description: String

    public init(description: String) { self.description = description }
}

/// One program with its arguments.
public enum Command {
    /// Runs `arguments` to the end.
    ///
    /// - Parameter seconds: after these it is ended (SIGTERM, two seconds later SIGKILL).
    /// - Throws: `CommandFailure` when it cannot be started; a failing program is an `Outcome`.
    public static func run(_ arguments: [String], seconds: Int = 30) throws -> Outcome {
        let stem = NSTemporaryDirectory() + "/malla-run-" + UUID().uuidString
        defer { for suffix in [".out", ".err"] { _ = unsafe unlink(stem + suffix) } }
        // Whoever is killed in the midst of it takes it along; `timeout` passes the signal on.
        let pid = try start(
            ["setpriv", "--pdeathsig", "TERM", "timeout", "-k", "2", "\(seconds)"] + arguments,
            output: stem + ".out", errors: stem + ".err")
        return Outcome(
            status: wait(pid), output: text(stem + ".out"), errors: text(stem + ".err"))
    }

    /// Runs a shell script that must succeed; answers its standard output.
    @discardableResult
    public static func shell(_ script: String, seconds: Int = 60) throws -> String {
        let outcome = try run(["sh", "-ec", script], seconds: seconds)
        guard outcome.isSuccess else {
            throw CommandFailure(
                description:
                    "status \(outcome.status): \(outcome.errors)\(outcome.output)\n\(script)")
        }
        return outcome.output
    }

    /// Starts a program in a session of its own and does not wait for it.
    ///
    /// - Parameters output, errors: files, appended to.
    public static func start(
        _ arguments: [String], output: String, errors: String
    ) throws -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        let flags = O_WRONLY | O_CREAT | O_APPEND
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(&actions, 1, output, flags, 0o644)
        unsafe posix_spawn_file_actions_addopen(&actions, 2, errors, flags, 0o644)
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        // POSIX_SPAWN_SETSID of <spawn.h>, which Swift's Glibc does not show (it hides GNU's part),
        // and POSIX_SPAWN_SETSIGMASK: what this process blocks is none of the program's business.
        var nothing = sigset_t()
        unsafe sigemptyset(&nothing)
        unsafe posix_spawnattr_setsigmask(&attributes, &nothing)
        unsafe posix_spawnattr_setflags(&attributes, 0x88)

        // The copies live until posix_spawnp has returned, which has copied them into the child.
        var vector: [UnsafeMutablePointer<CChar>?] = unsafe arguments.map { unsafe strdup($0) }
        unsafe vector.append(nil)
        // swift-format takes the space after `unsafe` away.
        // swift-format-ignore
        defer { for unsafe copy in unsafe vector { unsafe free(copy) } }
        var pid: pid_t = 0
        let error = unsafe posix_spawnp(
            &pid, arguments[0], &actions, &attributes, vector, environ)
        guard error == 0 else {
            throw CommandFailure(description: "\(arguments[0]): errno \(error)")
        }
        return pid
    }

    /// Starts a program outside of every bed; its output goes to `log`.
    public static func background(_ arguments: [String], log: String) throws -> TestProcess {
        TestProcess(pid: try start(arguments, output: log, errors: log), log: log)
    }

    /// Waits for a child; answers as `Outcome.status`.
    static func wait(_ pid: pid_t) -> Int32 {
        var status: Int32 = 0
        while true {
            let answer = unsafe waitpid(pid, &status, 0)
            if answer == pid { return exitStatus(status) }
            if answer < 0 && errno != EINTR { return -1 }
        }
    }

    /// The child's status if it has ended, else `nil`; collects it.
    static func poll(_ pid: pid_t) -> Int32? {
        var status: Int32 = 0
        let answer = unsafe waitpid(pid, &status, WNOHANG)
        if answer == 0 { return nil }
        return answer == pid ? exitStatus(status) : -1
    }

    private static func exitStatus(_ status: Int32) -> Int32 {
        status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
    }

    public static func remove(_ path: String) { _ = unsafe unlink(path) }

    /// The text of a file, empty where there is none.
    public static func text(_ path: String) -> String {
        guard let bytes = FileManager.default.contents(atPath: path) else { return "" }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// Waits for a condition instead of for a time.
///
/// - Parameter seconds: after these it throws; the error names `what`, as it is then.
public func eventually(
    _ what: @autoclosure () -> String, within seconds: Double = 10, _ condition: () throws -> Bool
) throws {
    let deadline = DispatchTime.now().uptimeNanoseconds + UInt64(seconds * 1e9)
    while true {
        if try condition() { return }
        guard DispatchTime.now().uptimeNanoseconds < deadline else {
            throw CommandFailure(description: "waited \(seconds) s in vain: \(what())")
        }
        usleep(20_000)
    }
}
