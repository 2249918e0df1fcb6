import Foundation

/// The built `malla`, run as a user runs it.
struct Program {
    struct Result: Equatable {
        var code: Int32
        var output: String
        var complaint: String
    }

    /// Root of the checkout: MALLA_TEST_ROOT, else where this file is.
    static let root: URL = {
        if let given = ProcessInfo.processInfo.environment["MALLA_TEST_ROOT"] {
            return URL(fileURLWithPath: given)
        }
        return URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    }()

    /// Runs it for at most 20 s, with an environment of its own.
    static func run(_ arguments: [String], environment: [String: String] = [:]) throws -> Result {
        let process = Process()
        let output = Pipe()
        let complaint = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        process.arguments =
            ["20", root.appendingPathComponent(".build/release/malla").path] + arguments
        process.environment = environment
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = complaint
        try process.run()
        // What it complains of is short and stays in the pipe until the output has been read.
        let text = try output.fileHandleForReading.readToEnd() ?? Data()
        let words = try complaint.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return Result(
            code: process.terminationStatus, output: String(decoding: text, as: UTF8.self),
            complaint: String(decoding: words, as: UTF8.self))
    }
}
