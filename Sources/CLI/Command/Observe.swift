internal import AdminAPI
internal import ArgumentParser
internal import Foundation

/// `malla observe`.
struct Observe: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows flows that were denied, and a sample of those that were not.",
        discussion: """
            VERDICT is `denied`, `audited` (policies on trial would deny it) or `allowed`; allowed \
            flows are events only where the agent samples them (--flow-sample). RULE is what \
            decided; for default deny WHY names the rule that came nearest and what it lacked. A \
            flow that is denied again and again is one event every ten seconds; PACKETS counts. \
            `lost` says how many events are missing.

            EXAMPLES
              malla observe
              malla observe --follow --pod shop/cart-1
              malla observe --verdict denied_ingress --port 8080 --last 100
              malla observe --from 10.0.0.0/8 --to shop/db-1 -o json | jq '.items[].why'
              malla observe --follow -o json | jq -r 'select(.policy != "") | .policy'
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var scope: NamespaceOptions
    @OptionGroup var output: OutputOptions

    @Flag(name: .shortAndLong, help: "Goes on with what comes; JSON is then one event a line.")
    var follow = false

    @Option(help: ArgumentHelp("How many of the last events.", valueName: "n"))
    var last = 20

    @Option(help: ArgumentHelp("NAMESPACE/POD, at either end.", valueName: "pod"))
    var pod: String?

    @Option(
        help: ArgumentHelp("denied, audited, allowed, or a reason (docs).", valueName: "verdict"))
    var verdict: String?

    @Option(help: ArgumentHelp("A port, at either end.", valueName: "port"))
    var port: Int?

    @Option(
        name: .customLong("protocol"),
        help: ArgumentHelp("TCP, UDP, SCTP, ICMP or ICMPv6.", valueName: "protocol"))
    var transport: String?

    @Option(
        help: ArgumentHelp("Who opened it: NAMESPACE/POD, an address or a block.", valueName: "end")
    )
    var from: String?

    @Option(help: ArgumentHelp("To whom: NAMESPACE/POD, an address or a block.", valueName: "end"))
    var to: String?

    func validate() throws {
        guard last > (follow ? -1 : 0) else {
            throw ValidationError("--last \(last) is below \(follow ? 0 : 1)")
        }
        if let port, !(1...65535).contains(port) {
            throw ValidationError("--port \(port) is not in 1...65535")
        }
        let names = ["TCP", "UDP", "SCTP", "ICMP", "ICMPV6"]
        if let transport, !names.contains(transport.uppercased()), UInt8(transport) == nil {
            throw ValidationError(
                "--protocol \(transport) is not TCP, UDP, SCTP, ICMP, ICMPv6 or a number in "
                    + "0...255")
        }
        for text in [pod, verdict, transport, from, to, scope.namespace].compactMap({ $0 }) {
            let isPlain = text.utf8.allSatisfy { byte in
                (48...58).contains(byte) || (97...122).contains(byte | 0x20)
                    || [45, 46, 47, 95].contains(byte)
            }
            if text.isEmpty || !isPlain {
                throw ValidationError("'\(text)' is no name, address or verdict")
            }
        }
        for text in [pod, from, to].compactMap({ $0 }) where !Self.isEnd(text) {
            throw ValidationError("'\(text)' is neither NAMESPACE/POD nor an address or block")
        }
    }

    /// The agent says what is wrong with the rest.
    private static func isEnd(_ text: String) -> Bool {
        text.contains("/") || text.contains(":") || text.allSatisfy { $0.isNumber || $0 == "." }
    }

    private var question: AdminResource<FlowEventItem> {
        let fields: [(name: String, value: String?)] = [
            ("last", "\(last)"), ("follow", follow ? "1" : nil), ("pod", pod),
            ("namespace", scope.namespace), ("verdict", verdict), ("port", port.map { "\($0)" }),
            ("protocol", transport), ("from", from), ("to", to),
        ]
        return AdminAPI.flowEvents.asking(
            fields.compactMap { field in field.value.map { (field.name, $0) } })
    }

    func run() throws {
        let client = AgentClient(connection)
        let output = Output(self.output)
        if follow { try requirePods(client) }
        guard follow else {
            let listing = try client.require(question)
            if listing.items.isEmpty { try requirePods(client) }
            return try output.print(
                listing, table: Self.table(listing.items), empty: "No events that match.")
        }
        var columns = FlowColumns()
        try client.follow(question) { item, line in
            switch output.format {
            case .json: output.write(line + "\n")
            case .table:
                let lines = columns.lines(Self.table([item]), colour: output.colour)
                output.write(lines.map { $0 + "\n" }.joined())
            }
        }
    }

    /// Events may be of pods that are gone; where there are none, a name may be wrong.
    private func requirePods(_ client: AgentClient) throws {
        for end in [pod, from, to].compactMap({ $0 }) where !Self.isBlock(end) {
            try client.requirePod(end)
        }
    }

    /// `10.0.0.0/8`, `fd00::/8`, or an address.
    private static func isBlock(_ text: String) -> Bool {
        text.contains(":") || text.prefix { $0 != "/" }.allSatisfy { $0.isNumber || $0 == "." }
    }

    static func table(_ items: [FlowEventItem]) -> Table {
        Table(
            [
                .init("TIME"), .init("VERDICT"), .init("REASON"), .init("PROTOCOL"),
                .init("FROM"), .init("TO"), .init("PACKETS", .right), .init("RULE"), .init("WHY"),
            ],
            rows: items.map { item in
                [
                    Cell(time(item.time)), verdict(item.verdict), Cell(item.reason),
                    Cell(item.protocol), Cell(end(item, isSource: true)),
                    Cell(end(item, isSource: false)), Cell(item.packets), Cell(item.rule),
                    Cell(why(item)),
                ]
            })
    }

    /// `2026-11-21T19:40:01.123456Z` to its time of day, milliseconds.
    private static func time(_ text: String) -> String {
        let time = text.split(separator: "T").last.map(String.init) ?? text
        return String(time.prefix(12))
    }

    /// `shop/web-1:40000`, `10.0.0.1:40000`, `10.96.0.1:80 (shop/web)`.
    private static func end(_ item: FlowEventItem, isSource: Bool) -> String {
        let address = isSource ? item.source : item.target
        // A socket that is refused has no address yet.
        guard !["", "::", "0.0.0.0"].contains(address) else { return "" }
        let pod = isSource ? item.sourcePod : item.targetPod
        let port = isSource ? item.sourcePort : item.targetPort
        let host = pod.isEmpty ? (address.contains(":") ? "[\(address)]" : address) : pod
        let service = isSource || item.targetService.isEmpty ? "" : " (\(item.targetService))"
        let labels = isSource ? item.sourceLabels : item.targetLabels
        let isUnmanaged = ["unmanaged", "reserved:unmanaged"].contains(labels.first)
        return (port == 0 ? host : "\(host):\(port)") + service
            + (isUnmanaged ? " (unmanaged)" : "")
    }

    private static func why(_ item: FlowEventItem) -> String {
        guard item.nearest.isEmpty else { return "nearest \(item.nearest): \(item.why)" }
        return item.why
    }

    private static func verdict(_ word: String) -> Cell {
        switch word {
        case "allowed": Cell(word, .good)
        case "audited", "lost": Cell(word, .doubtful)
        default: Cell(word, .bad)
        }
    }
}

/// Widths that only grow, so that rows which come one by one stay under their heading.
struct FlowColumns {
    private var widths: [Int] = []

    /// The rows, with the heading before the first ones.
    mutating func lines(_ table: Table, colour: Bool) -> [String] {
        let isFirst = widths.isEmpty
        var table = table
        if isFirst { widths = table.columns.map(\.title.count) }
        for row in table.rows {
            for (column, cell) in row.enumerated() {
                widths[column] = max(widths[column], cell.text.count)
            }
        }
        // The last column is as wide as it likes.
        table.widthsMin = Array(widths.dropLast()) + [0]
        let lines = table.lines(colour: colour)
        return isFirst ? lines : Array(lines.dropFirst())
    }
}
