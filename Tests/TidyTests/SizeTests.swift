// STYLE.md, R1: files and functions that fit a head, lines that fit a screen.

import Testing

@Suite("Sizes (STYLE.md R1)")
struct SizeTests {
    /// Functions that may be longer than 60 lines: a single `switch` over a state machine or table.
    static let longFunctions: [String: Set<String>] = [:]

    @Test func `no source file is longer than 600 lines`() {
        let long = (Repository.swift + Repository.c).filter { $0.lines.count > 600 }.map {
            Violation(path: $0.path, line: 601, remedy: "\($0.lines.count) lines; split by aspect")
        }
        expectNone(long)
    }

    @Test func `no function is longer than 60 lines`() {
        var long: [Violation] = []
        for file in Repository.swift {
            let exempt = Self.longFunctions[file.path] ?? []
            for function in file.functions
            where function.lines > 60 && !exempt.contains(function.name) {
                long.append(
                    Violation(
                        path: file.path, line: function.line,
                        remedy: "\(function.name) has \(function.lines) lines; give a part a name"))
            }
        }
        expectNone(long)
    }

    /// In tests a row of a table stays one row: its literals do not count, and neither does a
    /// sentence that is a name.
    @Test func `no line of Swift or C is wider than 100 columns`() {
        var wide: [Violation] = []
        for file in Repository.swift + Repository.c where file.path != "Package.swift" {
            let isTest = file.path.hasPrefix("Tests/")
            for (index, line) in file.lines.enumerated() where Self.columns(line) > 100 {
                let code = file.code[index].split(separator: " ").joined(separator: " ")
                // A line of a long literal, such as a sample of output in a command's help.
                if code.isEmpty && !line.contains("//") { continue }
                if isTest && Self.columns(code) <= 100 && line.contains(/["`]/) { continue }
                wide.append(
                    Violation(
                        path: file.path, line: index + 1,
                        remedy: "\(Self.columns(line)) columns; wrap it"))
            }
        }
        expectNone(wide)
    }

    /// A tab reaches to the next multiple of eight.
    static func columns(_ line: String) -> Int {
        line.reduce(0) { $1 == "\t" ? ($0 / 8 + 1) * 8 : $0 + 1 }
    }
}
