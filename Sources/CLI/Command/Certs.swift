internal import AdminAPI
internal import ArgumentParser

/// `malla certs`.
struct Certs: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Lists the certificates of this node's workloads, and the authorities it believes.",
        discussion: """
            STATE is `valid`, `due` (time to replace it; it still serves), `not-yet-valid` (the \
            clock was set back), `expired`, or `missing`; what failed follows the table. A \
            certificate is replaced at RENEWAL. Private keys are never shown: they do not leave \
            the agent.

            EXAMPLES
              malla certs
              malla certs --authorities
              malla certs --pem spiffe://cluster.local/ns/shop/sa/cart | openssl x509 -text
              malla certs -o json | jq -r '.items[] | select(.state != "valid") | .identity'
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    @Flag(
        name: .long,
        help: "The roots of the trust domains, and what this node signs with, not the workloads.")
    var authorities = false

    @Flag(name: .long, help: "Print the certificates themselves, in PEM.")
    var pem = false

    @Argument(help: ArgumentHelp("Only this identity.", valueName: "identity"))
    var identity: String?

    func run() throws {
        var listing = try AgentClient(connection).require(AdminAPI.certificates)
        let stale = listing.items.filter { $0.type == "authority" && !$0.message.isEmpty }
        let type = authorities ? "authority" : "workload"
        if output.output == .table {
            listing.items.removeAll { ($0.type == "signer" ? "authority" : $0.type) != type }
        }
        if let identity { listing.items.removeAll { $0.identity != identity } }
        let items = listing.items
        try Output(output).print(listing) { colour in
            if pem { return items.map { String($0.pem.dropLast()) } }
            return Self.lines(items, beside: authorities ? [] : stale, colour: colour)
        }
    }

    /// - Parameter others: what is said of them follows, too.
    static func lines(
        _ items: [CertificateItem], beside others: [CertificateItem] = [], colour: Bool
    ) -> [String] {
        let said = (items + others).filter { !$0.message.isEmpty }
            .map { "\($0.identity): \($0.message)" }
        guard !items.isEmpty else { return ["No certificates found."] + said }
        let table = Table(
            [
                .init("IDENTITY"), .init("SERIAL"), .init("VALID UNTIL"),
                .init("REMAINING", .right),
                .init("RENEWAL"), .init("ISSUER"), .init("STATE"),
            ],
            rows: items.map { item in
                [
                    Cell(item.identity), Cell(String(item.serial.prefix(16))), Cell(item.notAfter),
                    remaining(item), Cell(item.renewAt), Cell(item.issuer), state(item.state),
                ]
            })
        return table.lines(colour: colour) + (said.isEmpty ? [] : [""] + said)
    }

    private static func remaining(_ item: CertificateItem) -> Cell {
        if item.notAfter.isEmpty { return "" }
        return item.remainingSeconds > 0
            ? Cell(Status.duration(seconds: item.remainingSeconds)) : Cell("over", .bad)
    }

    private static func state(_ state: String) -> Cell {
        switch state {
        case "valid": Cell(state, .good)
        case "due": Cell(state, .doubtful)
        default: Cell(state, .bad)
        }
    }
}
