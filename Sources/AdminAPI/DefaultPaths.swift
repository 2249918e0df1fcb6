// Where an agent keeps its state and listens when no option says so. The agent and the command line
// must agree, so both ask here.

internal import Foundation

/// The defaults of `--state` and `--socket`.
///
/// - Source: XDG Base Directory Specification 0.8, for users other than root.
public struct DefaultPaths: Sendable, Equatable {
    public var state: String
    public var socket: String

    /// Root's, which are those of the node.
    public static let node = DefaultPaths(
        state: "/var/lib/malla", socket: "/run/malla/agent.sock")

    public init(state: String, socket: String) {
        self.state = state
        self.socket = socket
    }

    /// - Parameters:
    ///   - user: effective user id.
    ///   - isUsable: whether this user may make files in a directory.
    public init(user: UInt32, environment: [String: String], isUsable: (String) -> Bool) {
        guard user != 0 else {
            self = .node
            return
        }
        func directory(_ variable: String) -> String? {
            environment[variable].flatMap { $0.hasPrefix("/") && isUsable($0) ? $0 : nil }
        }
        let own = (directory("TMPDIR") ?? "/tmp") + "/malla-\(user)"
        state =
            directory("XDG_STATE_HOME").map { $0 + "/malla" }
            ?? directory("HOME").map { $0 + "/.local/state/malla" } ?? own
        socket = (directory("XDG_RUNTIME_DIR").map { $0 + "/malla" } ?? own) + "/agent.sock"
    }

    /// Of this process.
    public static let own = DefaultPaths(
        user: geteuid(), environment: ProcessInfo.processInfo.environment,
        isUsable: FileManager.default.isWritableFile(atPath:))
}
