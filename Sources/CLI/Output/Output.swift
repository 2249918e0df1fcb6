// Where results leave the program: a listing goes to stdout as a table or as JSON, a complaint goes
// to stderr as one line.

internal import AdminAPI
internal import ArgumentParser
internal import Foundation

/// Stdout, as the user asked for it.
struct Output {
    let format: OutputOptions.Format
    let colour: Bool

    /// Colour only on a terminal that has not asked for none (https://no-color.org).
    init(_ options: OutputOptions) {
        let environment = ProcessInfo.processInfo.environment
        let wantsNone = !(environment["NO_COLOR"] ?? "").isEmpty || environment["TERM"] == "dumb"
        format = options.output
        colour = isatty(STDOUT_FILENO) == 1 && !wantsNone
    }

    /// The listing as JSON, or what `lines` makes of it.
    func print<Item>(_ listing: Listing<Item>, lines: (_ colour: Bool) -> [String]) throws {
        switch format {
        case .json: write(try Self.json(listing))
        case .table: write(lines(colour).map { $0 + "\n" }.joined())
        }
    }

    /// The listing as JSON or as one table; `empty` is said instead of a heading with no rows.
    func print<Item>(_ listing: Listing<Item>, table: Table, empty: String) throws {
        try print(listing) { colour in table.rows.isEmpty ? [empty] : table.lines(colour: colour) }
    }

    /// Sorted keys, two blanks deep, a line end: the same input gives the same bytes.
    static func json<Item>(_ listing: Listing<Item>) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(listing), as: UTF8.self) + "\n"
    }

    func write(_ text: String) {
        FileHandle.standardOutput.write(Data(text.utf8))
    }
}

/// Ends the program: one line on stderr and an exit code.
func fail(_ message: String, _ code: ExitCode) -> ExitCode {
    FileHandle.standardError.write(Data("malla: \(message)\n".utf8))
    return code
}

extension ExitCode {
    /// sysexits EX_DATAERR.
    static let badConfiguration = ExitCode(65)
    /// EX_NOINPUT.
    static let noInput = ExitCode(66)
    /// EX_UNAVAILABLE.
    static let unavailable = ExitCode(69)
    /// EX_PROTOCOL.
    static let notUnderstood = ExitCode(76)
}
