internal import AdminAPI
internal import ArgumentParser

/// `malla top`.
struct Top: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists workloads by what they cost the L7 engine.",
        discussion: """
            Every connection is charged to the workload that opened it, since the agent began; \
            `unknown` are clients outside of the mesh. CPU is time on the engine's workers, \
            BUFFERS what is held now because somebody does not read, SHED what a limit turned away. \
            A workload that two crashes of the engine named is refused; the first engine that \
            starts after QUARANTINED UNTIL serves it again.

            EXAMPLES
              malla top
              malla top -n shop -o json | jq '.items[0].cpuMilliseconds'
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var scope: NamespaceOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        var listing = try AgentClient(connection).require(AdminAPI.accounts)
        listing.items.removeAll { !scope.admits($0.namespace) }
        try Output(output).print(
            listing, table: Self.table(listing.items), empty: "Nobody used the engine yet.")
    }

    static func table(_ items: [AccountItem]) -> Table {
        Table(
            [
                .init("NAMESPACE"), .init("WORKLOAD"), .init("CPU MS", .right),
                .init("REQUESTS", .right), .init("RECEIVED", .right), .init("SENT", .right),
                .init("CONNECTIONS", .right), .init("BUFFERS", .right), .init("SHED", .right),
                .init("QUARANTINED UNTIL"),
            ],
            rows: items.map { item in
                [
                    Cell(item.namespace), Cell(item.workload), Cell(Int(item.cpuMilliseconds)),
                    Cell(item.requests), Cell(item.receivedBytes), Cell(item.sentBytes),
                    Cell(item.connections), Cell(item.bufferBytes),
                    Cell(String(item.shed), item.shed == 0 ? .plain : .doubtful),
                    quarantine(item),
                ]
            })
    }

    private static func quarantine(_ item: AccountItem) -> Cell {
        guard item.quarantined else { return "" }
        return Cell(item.quarantinedUntil.isEmpty ? "unknown" : item.quarantinedUntil, .bad)
    }
}
