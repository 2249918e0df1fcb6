// Programs that tidy tests ask.

import Foundation
import Testing

enum Program {
    /// Path of a built program: in MALLA_PROGRAMS, else where `make programs` leaves it.
    static func built(_ name: String) throws -> String {
        let programs = ProcessInfo.processInfo.environment["MALLA_PROGRAMS"]
        let path = (programs ?? Repository.root.path + "/.build/release") + "/" + name
        try #require(
            FileManager.default.isExecutableFile(atPath: path), "no \(path); run `make programs`")
        return path
    }

    /// Runs it to its end. What it prints and complains of is one text.
    static func run(
        _ program: String, _ arguments: [String]
    ) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: output, as: UTF8.self))
    }
}
