internal import AdminAPI
internal import ArgumentParser
internal import Foundation

/// `malla version`.
struct Version: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints the versions of this program and of the node's agent.",
        discussion: """
            The agent is left out when it cannot be reached; that is no error.

            EXAMPLES
              malla version
              malla version -o json | jq -r '.items[0].version'
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        var items = [VersionItem(component: "malla", version: mallaVersion)]
        if let status = try? AgentClient(connection).list(AdminAPI.status).items.first {
            items.append(VersionItem(component: "malla-agent", version: status.version))
        }
        let table = Table(
            [.init("COMPONENT"), .init("VERSION")],
            rows: items.map { [Cell($0.component), Cell($0.version)] })
        try Output(output).print(
            Listing(kind: "VersionList", items: items), table: table, empty: "")
    }
}
