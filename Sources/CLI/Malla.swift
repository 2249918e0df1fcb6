// The command line `malla`: one file a command, one way to print a table or JSON. It asks the agent
// over its socket and changes nothing on the node but by `bpf ct flush`.

internal import AdminAPI
internal import ArgumentParser
internal import Foundation

/// What the executable runs.
public enum CommandLineProgram {
    public static func main() { Malla.main() }
}

/// `malla`, and what its commands have in common.
///
/// Exit codes, as sysexits has them: 0 well, 1 a check failed or a trace says denied, 64 usage,
/// 65 bad configuration, 66 no such directory, 69 agent not reachable, 76 the
/// agent's answer was not understood.
struct Malla: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "malla",
        abstract: "Looks at the service mesh of this node.",
        discussion: """
            Every command but `check`, `config validate` and `version` asks the node's malla-agent \
            over its Unix socket. Tables are for people; `-o json` prints \
            {apiVersion, kind, items} for programs, whose fields are only ever added.

            EXIT CODES
              0   all is well
              1   a check failed; `policy trace`: denied
              64  usage
              65  the configuration has errors
              66  the configuration directory cannot be read
              69  the agent cannot be reached
              76  the agent's answer was not understood

            EXAMPLES
              malla check
              malla services -n shop
              malla --socket /run/malla/node1.sock routes -o json | jq '.items[].name'
              malla config validate ./config --strict
            """,
        version: "malla \(mallaVersion)",
        subcommands: [
            Check.self, Status.self, Endpoints.self, Services.self, Routes.self, Top.self,
            Policy.self, Observe.self, Certs.self, MutualTLS.self, BPF.self, Config.self,
            Version.self,
        ])

    @OptionGroup var connection: ConnectionOptions
}

/// Where the agent is.
struct ConnectionOptions: ParsableArguments {
    @Option(
        name: .customLong("socket"),
        help: ArgumentHelp(
            """
            The agent's socket; before or after the command. (default: $MALLA_SOCKET, else \
            \(DefaultPaths.own.socket))
            """,
            valueName: "path"))
    var given: String?

    /// The option, else the environment, else the user's own agent, else the node's.
    func socket(
        environment: [String: String], own: String = DefaultPaths.own.socket,
        exists: (String) -> Bool = FileManager.default.fileExists(atPath:)
    ) -> String {
        if let given { return given }
        if let named = environment["MALLA_SOCKET"], !named.isEmpty { return named }
        let node = DefaultPaths.node.socket
        return !exists(own) && exists(node) ? node : own
    }
}

/// How to print.
struct OutputOptions: ParsableArguments {
    enum Format: String, ExpressibleByArgument, CaseIterable {
        case table, json
    }

    @Option(
        name: [.customShort("o"), .long],
        help: ArgumentHelp("`table` for people, `json` for programs.", valueName: "format"))
    var output = Format.table
}

/// What to leave out of a list.
struct NamespaceOptions: ParsableArguments {
    @Option(
        name: [.customShort("n"), .long],
        help: ArgumentHelp("Only objects of this namespace.", valueName: "namespace"))
    var namespace: String?

    func admits(_ namespace: String) -> Bool { self.namespace.map { $0 == namespace } ?? true }
}
