internal import AdminAPI
internal import ArgumentParser
internal import MeshConfig

/// `malla config`.
struct Config: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Works with configuration directories.",
        subcommands: [Validate.self])

    /// `malla config validate DIR`.
    struct Validate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Checks a configuration directory as the agent would read it.",
            discussion: """
                Works without an agent and changes nothing. Reads every *.yaml, *.yml and *.json \
                under DIR and prints one line a finding: FILE:LINE: severity: object: field: what \
                is wrong (status condition). An error is an object (or file) that the agent \
                refuses whole; a warning is something asked for that does not happen, such as a \
                field that this version does not support. What is ignored on purpose, such as a \
                Gateway of another class, is counted; --all names it.

                Exits 65 on errors, with --strict also on fields and kinds that are unknown or not supported; 66 if DIR cannot be read.

                EXAMPLES
                  malla config validate /etc/malla
                  malla config validate --strict ./config -o json
                """)

        @Argument(help: ArgumentHelp("The directory.", valueName: "dir"))
        var directory: String

        @Flag(help: "Unknown and unsupported fields and kinds are errors.")
        var strict = false

        @Flag(help: "Print findings that are neither errors nor warnings, too.")
        var all = false

        @Option(
            name: .customLong("root-namespace"),
            help: ArgumentHelp("As the agent will be given it.", valueName: "namespace"))
        var rootNamespace = "istio-system"

        @OptionGroup var output: OutputOptions

        func run() throws {
            let report: ConfigReport
            do {
                report = try ConfigReport(
                    directory: directory, isStrict: strict, rootNamespace: rootNamespace)
            } catch {
                guard case .unreadable(let directory, let reason) = error else { throw error }
                throw fail("cannot read the directory \(directory): \(reason)", .noInput)
            }
            let findings = report.diagnostics.map(Self.item)
            let shown = findings.filter { all || $0.severity != "info" || output.output == .json }
            try Output(output).print(AdminAPI.diagnostics.listing(shown)) { colour in
                shown.map { Self.line($0, colour: colour) } + [Self.summary(report, all: all)]
            }
            if report.errorCount > 0 { throw ExitCode.badConfiguration }
        }

        /// Nothing is silent: what is not printed is counted, with the option that prints it.
        static func summary(_ report: ConfigReport, all: Bool) -> String {
            let isHidden = report.ignoredCount > 0 && !all
            return report.summary + (isHidden ? " (--all names them)" : "")
        }

        private static func item(_ diagnostic: Diagnostic) -> DiagnosticItem {
            DiagnosticItem(
                severity: diagnostic.severity.rawValue, category: diagnostic.category.rawValue,
                file: diagnostic.file, line: diagnostic.line, object: diagnostic.object,
                field: diagnostic.field,
                condition: diagnostic.condition.map { "\($0.type): \($0.reason)" } ?? "",
                message: diagnostic.message)
        }

        /// As compilers print it, so that editors jump to it.
        static func line(_ item: DiagnosticItem, colour: Bool) -> String {
            let place = item.line > 0 ? "\(item.file):\(item.line)" : item.file
            let tone: Cell.Tone =
                item.severity == "error" ? .bad : item.severity == "warning" ? .doubtful : .faint
            let subject = [item.object, item.field].filter { !$0.isEmpty }.map { "\($0): " }
            let condition = item.condition.isEmpty ? "" : " (\(item.condition))"
            return "\(place): \(Cell(item.severity, tone).painted(colour)): \(subject.joined())"
                + item.message + condition
        }
    }
}
