internal import Foundation

/// Says in the state directory that the configuration directory is being read, so that the next
/// agent knows when this one did not survive it.
///
/// - Owns: the state directory's file `reading`.
/// - Threads: one at a time.
public struct ReadingMark: Sendable {
    /// So many agents may end while they read, before the directory is left alone.
    public static let deathsMax = 2

    private let path: String
    /// Agents that began and never ended.
    public private(set) var deaths: Int

    /// - Parameter state: the agent's state directory.
    public init(state: String) {
        path = state + "/reading"
        deaths = Self.read(path)
    }

    public var isDeadly: Bool { deaths >= Self.deathsMax }

    /// Before anything of the directory is read.
    public mutating func begin() {
        deaths += 1
        Self.write(path, "\(deaths)\n")
    }

    /// When what was read is in force.
    public mutating func end() {
        deaths = 0
        try? FileManager.default.removeItem(atPath: path)
    }

    private static func read(_ path: String) -> Int {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return 0 }
        return max(0, min(Int(text.prefix { $0.isNumber }) ?? 0, 1_000_000))
    }

    /// What cannot be written is no reason not to read: then a death is not counted.
    private static func write(_ path: String, _ text: String) {
        try? text.write(toFile: path, atomically: false, encoding: .utf8)
    }
}
