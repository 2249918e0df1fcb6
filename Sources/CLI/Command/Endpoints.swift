internal import AdminAPI
internal import ArgumentParser

/// `malla endpoints`.
struct Endpoints: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists the pods that the agent knows of.",
        discussion: """
            MESHED pods have their connections to L7 services captured. STATE is `attached` for a \
            pod of this node whose interface carries the datapath's programs, `remote` for a pod \
            of another node, `unmanaged` for a local pod without an interface; anything else says \
            what is wrong.

            EXAMPLES
              malla endpoints
              malla endpoints --local -n shop
              malla endpoints -o json | jq -r '.items[] | select(.meshed) | .name'
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var scope: NamespaceOptions
    @OptionGroup var output: OutputOptions

    @Flag(name: .long, help: "Only pods of this node.")
    var local = false

    func run() throws {
        var listing = try AgentClient(connection).require(AdminAPI.endpoints)
        listing.items.removeAll { !scope.admits($0.namespace) || (local && !$0.local) }
        try Output(output).print(
            listing, table: Self.table(listing.items), empty: "No pods found.")
    }

    static func table(_ items: [EndpointItem]) -> Table {
        Table(
            [
                .init("NAMESPACE"), .init("NAME"), .init("NODE"), .init("ADDRESSES"),
                .init("INTERFACE"), .init("MESHED"), .init("SERVICE ACCOUNT"), .init("STATE"),
                .init("REPAIRS", .right),
            ],
            rows: items.map {
                [
                    Cell($0.namespace), Cell($0.name), Cell($0.node),
                    Cell($0.addresses.joined(separator: ",")), Cell(interface($0)),
                    .yesNo($0.meshed), Cell($0.serviceAccount), state($0.state),
                    Cell($0.repairs),
                ]
            })
    }

    private static func interface(_ item: EndpointItem) -> String {
        guard !item.interface.isEmpty else { return "" }
        return item.interfaceIndex > 0 ? "\(item.interface)#\(item.interfaceIndex)" : item.interface
    }

    private static func state(_ state: String) -> Cell {
        switch state {
        case "attached": Cell(state, .good)
        case "remote": Cell(state)
        case "unmanaged": Cell(state, .doubtful)
        default: Cell(state, .bad)
        }
    }
}
