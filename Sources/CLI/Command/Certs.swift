internal import AdminAPI
internal import ArgumentParser

/// `malla certs`.
struct Certs: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Lists the certificates of this node's workloads and Gateways, and whom it believes.",
        discussion: """
            STATE is `valid`, `due` (time to replace it; it still serves), `not-yet-valid` (the \
            clock was set back), `expired`, or `missing`; what failed follows the table. A \
            certificate is replaced at RENEWAL. What listeners of Gateways show their clients \
            follows in a table of its own, by Secret: whoever makes the Secret replaces it. \
            Private keys are never shown: they do not leave the agent.

            EXAMPLES
              malla certs
              malla certs --authorities
              malla certs --gateways
              malla certs --pem spiffe://cluster.local/ns/shop/sa/cart | openssl x509 -text
              malla certs -o json | jq -r '.items[] | select(.state != "valid") | .identity'
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    @Flag(
        name: .long,
        help: "The roots of the trust domains, and what this node signs with, not the workloads.")
    var authorities = false

    @Flag(name: .long, help: "What Gateways show their clients, not the workloads.")
    var gateways = false

    @Flag(name: .long, help: "Print the certificates themselves, in PEM.")
    var pem = false

    @Argument(
        help: ArgumentHelp("Only this identity, or Secret of a Gateway.", valueName: "identity"))
    var identity: String?

    func validate() throws {
        guard !(authorities && gateways) else {
            throw ValidationError("Give one of --authorities and --gateways.")
        }
    }

    func run() throws {
        var listing = try AgentClient(connection).require(AdminAPI.certificates)
        let stale = listing.items.filter { $0.type == "authority" && !$0.message.isEmpty }
        let byDefault = gateways ? ["gateway"] : ["workload", "gateway"]
        let types = authorities ? ["authority", "signer"] : byDefault
        if output.output == .table { listing.items.removeAll { !types.contains($0.type) } }
        if let identity { listing.items.removeAll { $0.identity != identity } }
        let items = listing.items
        try Output(output).print(listing) { colour in
            if pem { return items.map { String($0.pem.dropLast()) } }
            return Self.lines(items, beside: authorities || gateways ? [] : stale, colour: colour)
        }
    }

    /// - Parameter others: what is said of them follows, too.
    static func lines(
        _ items: [CertificateItem], beside others: [CertificateItem] = [], colour: Bool
    ) -> [String] {
        let said = (items + others).filter { !$0.message.isEmpty }
            .map { "\($0.identity): \($0.message)" }
        guard !items.isEmpty else { return ["No certificates found."] + said }
        let parts = [
            table(items.filter { $0.type != "gateway" }),
            gatewayTable(items.filter { $0.type == "gateway" }),
        ]
        let tables = parts.filter { !$0.rows.isEmpty }.map { $0.lines(colour: colour) }
        return Array(tables.joined(separator: [""])) + (said.isEmpty ? [] : [""] + said)
    }

    private static func table(_ items: [CertificateItem]) -> Table {
        Table(
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
    }

    private static func gatewayTable(_ items: [CertificateItem]) -> Table {
        Table(
            [
                .init("SECRET"), .init("NAMES"), .init("SERIAL"), .init("VALID UNTIL"),
                .init("REMAINING", .right), .init("ISSUER"), .init("LISTENERS"), .init("STATE"),
            ],
            rows: items.map { item in
                [
                    Cell(item.identity), Cell(item.names.joined(separator: ",")),
                    Cell(String(item.serial.prefix(16))), Cell(item.notAfter), remaining(item),
                    Cell(item.issuer), Cell(item.listeners.joined(separator: ", ")),
                    state(item.state),
                ]
            })
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
