internal import AdminAPI
internal import ArgumentParser

/// `malla mtls`.
struct MutualTLS: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mtls",
        abstract: "Shows who talks to whom on this node, and what of it is encrypted.",
        discussion: """
            One line for each pair of workloads with open flows. SECURITY is `mutual_tls` (in a \
            tunnel between nodes; both ends have proved who they are), `local` (between two pods \
            of this node, on no wire) or `none` (plain). MODE is what PeerAuthentication says of \
            the target. PEER is whom the other end's certificate named in the handshake, as this \
            node verified it. A pair whose last tunnel has ended stays for five minutes, with 0 \
            FLOWS. UDP is never in a tunnel.

            EXAMPLES
              malla mtls
              malla mtls --plain
              malla mtls -o json | jq -r '.items[] | select(.security == "none") | .source'
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    @Flag(name: .long, help: "Only what is plain on the wire.")
    var plain = false

    func run() throws {
        var listing = try AgentClient(connection).require(AdminAPI.mutualTLS)
        if plain { listing.items.removeAll { $0.security != "none" } }
        try Output(output).print(listing) { Self.lines(listing.items, colour: $0) }
    }

    static func lines(_ items: [MutualTLSItem], colour: Bool) -> [String] {
        guard !items.isEmpty else { return ["No open flows found."] }
        let table = Table(
            [
                .init("SOURCE"), .init("TARGET"), .init("SECURITY"), .init("PROTOCOL"),
                .init("MODE"), .init("FLOWS", .right), .init("PEER"), .init("TLS"), .init("NOTE"),
            ],
            rows: items.map { item in
                [
                    Cell(item.source), Cell(item.target), security(item.security),
                    Cell(item.protocol), Cell(item.mode), Cell(item.flows), Cell(item.peer),
                    Cell(item.cipher.isEmpty ? "" : "\(item.tlsVersion) \(item.cipher)"),
                    Cell(item.message),
                ]
            })
        return table.lines(colour: colour)
    }

    private static func security(_ security: String) -> Cell {
        switch security {
        case "mutual_tls": Cell(security, .good)
        case "none": Cell(security, .doubtful)
        default: Cell(security)
        }
    }
}
