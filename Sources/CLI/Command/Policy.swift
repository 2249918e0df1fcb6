internal import AdminAPI
internal import ArgumentParser

/// `malla policy`.
struct Policy: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy",
        abstract: "Looks at network policies, and asks them about connections.",
        subcommands: [List.self, Trace.self], defaultSubcommand: List.self)

    /// `malla policy list`.
    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Lists the policies in force and the pods that they select.",
            discussion: """
                Policies are listed in the order in which they are asked: Admin by priority, then \
                NetworkPolicy (whose order means nothing), then Baseline. INGRESS and EGRESS count \
                rules; `-` means that the policy has no word on that direction, 0 rules of a \
                NetworkPolicy deny all of it. MODE `audit` counts and enforces nothing.

                EXAMPLES
                  malla policy
                  malla policy list -n shop --pods
                  malla policy list -o json | jq -r '.items[] | select(.pods == []) | .name'
                """)

        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var scope: NamespaceOptions
        @OptionGroup var output: OutputOptions

        @Flag(name: .long, help: "Name the pods that each policy selects.")
        var pods = false

        func run() throws {
            var listing = try AgentClient(connection).require(AdminAPI.policies)
            listing.items.removeAll { !scope.admits($0.namespace) }
            try Output(output).print(
                listing, table: Self.table(listing.items, pods: pods),
                empty: "No network policies found.")
        }

        static func table(_ items: [PolicyItem], pods: Bool) -> Table {
            Table(
                [
                    .init("TIER"), .init("PRIORITY", .right), .init("NAMESPACE"), .init("NAME"),
                    .init("NAMESPACES"), .init("PODS SELECTED BY"), .init("INGRESS", .right),
                    .init("EGRESS", .right), .init("MODE"), .init("PODS", pods ? .left : .right),
                ],
                rows: items.map { item in
                    [
                        Cell(item.tier),
                        item.kind == "NetworkPolicy" ? "-" : Cell(item.priority),
                        Cell(item.namespace), Cell(item.name), Cell(item.namespaces),
                        Cell(item.podSelector), count(item, "ingress", item.ingressRules),
                        count(item, "egress", item.egressRules),
                        Cell(item.mode, item.mode == "audit" ? .doubtful : .plain),
                        pods
                            ? Cell(item.pods.joined(separator: ",")) : Cell(item.pods.count),
                    ]
                })
        }

        private static func count(_ item: PolicyItem, _ direction: String, _ rules: Int) -> Cell {
            item.directions.contains(direction) ? Cell(rules) : "-"
        }
    }

    /// `malla policy trace`.
    struct Trace: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Says what policies would do with a connection, and which rule decides.",
            discussion: """
                Nothing is sent: the agent looks up the rows that the kernel holds, egress of the \
                pod that sends and ingress of the pod that receives, whatever node they are on. \
                The port is the pod's own; of the address of a service, a node port or a host port \
                every endpoint is asked about. One line a family and side. Exit code 1: denied.

                EXAMPLES
                  malla policy trace --from shop/frontend-1 --to shop/cart-1 --port 8080
                  malla policy trace -n shop --from cart-1 --to 192.0.2.7 --port 53 --protocol UDP
                  malla policy trace --from shop/cart-1 --to shop/db-1 --protocol ICMP -o json
                """)

        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var output: OutputOptions

        @Option(
            name: [.customShort("n"), .long],
            help: ArgumentHelp("Where pods without a namespace are.", valueName: "namespace"))
        var namespace = "default"

        @Option(
            help: ArgumentHelp("Who sends: POD, NAMESPACE/POD or an address.", valueName: "end"))
        var from: String

        @Option(
            help: ArgumentHelp(
                "Who would receive: POD, NAMESPACE/POD or an address.", valueName: "end"))
        var to: String

        @Option(help: ArgumentHelp("The port of the pod that would receive.", valueName: "port"))
        var port: Int?

        @Option(
            name: .customLong("protocol"),
            help: ArgumentHelp("TCP, UDP, SCTP, ICMP or ICMPv6.", valueName: "protocol"))
        var transport = "TCP"

        func validate() throws {
            let hasPorts = ["TCP", "UDP", "SCTP"].contains(transport.uppercased())
            if hasPorts, port == nil {
                throw ValidationError("\(transport) needs --port")
            }
            if let port, !(1...65535).contains(port) {
                throw ValidationError("--port \(port) is not in 1...65535")
            }
            for text in [from, to, namespace, transport] {
                let isPlain = text.utf8.allSatisfy { byte in
                    (48...58).contains(byte) || (97...122).contains(byte | 0x20)
                        || [45, 46, 47].contains(byte)
                }
                if text.isEmpty || !isPlain {
                    throw ValidationError("'\(text)' is no name, address or protocol")
                }
            }
        }

        func run() throws {
            let question = AdminAPI.policyTrace.asking([
                ("from", end(from)), ("to", end(to)), ("port", "\(port ?? 0)"),
                ("protocol", transport),
            ])
            let listing = try AgentClient(connection).require(question)
            try Output(output).print(listing) { colour in
                Self.lines(listing.items, colour: colour)
            }
            if listing.items.contains(where: { $0.verdict == "denied" }) { throw ExitCode(1) }
        }

        private func end(_ text: String) -> String {
            let isIPv4 = text.allSatisfy { $0.isNumber || $0 == "." }
            return text.contains("/") || text.contains(":") || isIPv4
                ? text : "\(namespace)/\(text)"
        }

        static func lines(_ items: [PolicyTraceItem], colour: Bool) -> [String] {
            let table = Table(
                [
                    .init("FROM"), .init("TO"), .init("PORT"), .init("SIDE"), .init("POD"),
                    .init("VERDICT"), .init("RULE"), .init("POLICIES", .right),
                ],
                rows: items.flatMap { item in
                    let port = item.port > 0 ? "\(item.port)/\(item.protocol)" : item.protocol
                    let ends = [Cell(item.source), Cell(item.target), Cell(port)]
                    return item.sides.map { side in
                        ends + [
                            Cell(side.direction), Cell(side.pod), verdict(side.verdict),
                            Cell(side.rule), Cell(side.policies.count),
                        ]
                    } + [
                        ends + ["both", "", verdict(item.verdict), Cell(item.note), ""]
                    ]
                })
            return table.lines(colour: colour) + nearest(items)
        }

        /// What would have allowed what is denied by default.
        private static func nearest(_ items: [PolicyTraceItem]) -> [String] {
            let lines = items.flatMap(\.sides).filter { !$0.nearest.isEmpty }.map {
                "Nearest to \($0.direction) of \($0.pod): \($0.nearest): \($0.why)."
            }
            return lines.isEmpty ? [] : [""] + lines
        }

        private static func verdict(_ word: String) -> Cell {
            switch word {
            case "allowed": Cell(word, .good)
            case "audited": Cell(word, .doubtful)
            default: Cell(word, .bad)
            }
        }
    }
}
