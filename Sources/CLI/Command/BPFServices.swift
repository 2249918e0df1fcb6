internal import AdminAPI
internal import ArgumentParser

extension BPF {
    /// `malla bpf services`.
    struct ServiceRows: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "services", abstract: "Lists the rows by which the kernel balances.",
            discussion: """
                ADDRESS is `*` for ports of the nodes. INSIDE are the endpoints for pods and the \
                node itself, OUTSIDE those for others (`-`: not served to them), each with the \
                number of its group. FLAGS: `captured` by the engine for pods in the mesh, \
                `ranged` by source, `this-node`: other nodes' addresses are left to them, \
                `weighted`: the endpoints' weights stand in brackets.

                EXAMPLES
                  malla bpf services
                  malla bpf services -o json | jq '.items[] | select(.inside.endpoints == [])'
                """)

        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let listing = try AgentClient(connection).require(AdminAPI.serviceRows)
            try Output(output).print(
                listing, table: Self.table(listing.items), empty: "No service has an address.")
        }

        static func table(_ items: [ServiceRowItem]) -> Table {
            Table(
                [
                    .init("ADDRESS"), .init("FAMILY"), .init("PORT", .right), .init("PROTOCOL"),
                    .init("OWNER"), .init("INSIDE"), .init("OUTSIDE"), .init("FLAGS"),
                ],
                rows: items.map { item in
                    [
                        Cell(item.address), Cell(item.family), Cell(item.port),
                        Cell(item.protocol), Cell(item.owner), Cell(text(item.inside)),
                        Cell(text(item.outside)), Cell(item.flags.joined(separator: ",")),
                    ]
                })
        }

        private static func text(_ group: ServiceRowItem.Group) -> String {
            guard group.id != 0 else { return "" }
            let ends = group.endpoints.enumerated().map { slot, end in
                guard let weights = group.weights, slot < weights.count else { return end }
                return "\(end) (\(weights[slot]))"
            }
            return "#\(group.id) " + (ends.isEmpty ? "none" : ends.joined(separator: ","))
        }
    }
}
