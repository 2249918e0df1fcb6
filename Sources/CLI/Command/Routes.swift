internal import AdminAPI
internal import ArgumentParser

/// `malla routes`.
struct Routes: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists routes, where they are attached and what their rules do.",
        discussion: """
            The table has one line for each parent of a route; `--rules` adds what each rule \
            matches, changes and sends where. A backend that cannot be followed answers 500, as \
            Gateway API says, and its problem is named. Of a route whose file was changed to \
            something invalid the version before stays in force; MESSAGE says what is wrong.

            EXAMPLES
              malla routes -n shop --rules
              malla routes -o json | jq '.items[] | select(.parents[].accepted | not)'
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var scope: NamespaceOptions
    @OptionGroup var output: OutputOptions

    @Flag(name: .long, help: "Every rule with its matches, filters and backends.")
    var rules = false

    func run() throws {
        var listing = try AgentClient(connection).require(AdminAPI.routes)
        listing.items.removeAll { !scope.admits($0.namespace) }
        try Output(output).print(listing) { colour in
            if listing.items.isEmpty { return ["No routes found."] }
            var lines = Self.table(listing.items).lines(colour: colour)
            if rules { lines += [""] + Self.ruleTable(listing.items).lines(colour: colour) }
            return lines
        }
    }

    static func table(_ items: [RouteItem]) -> Table {
        var table = Table([
            .init("KIND"), .init("NAMESPACE"), .init("NAME"), .init("HOSTNAMES"), .init("PARENT"),
            .init("ACCEPTED"), .init("RESOLVED"), .init("MESSAGE"),
        ])
        for item in items {
            let hostnames = item.hostnames.isEmpty ? "*" : item.hostnames.joined(separator: ",")
            let start = [
                Cell(item.kind), Cell(item.namespace), Cell(item.name), Cell(hostnames),
            ]
            for parent in item.parents {
                table.rows.append(
                    start + [
                        Cell(parent.parent), verdict(parent.accepted, parent.reason),
                        verdict(parent.resolvedRefs, parent.resolvedRefsReason),
                        message(item, parent.message),
                    ])
            }
            if item.parents.isEmpty {
                table.rows.append(start + ["-", "-", "-", message(item, "-")])
            }
        }
        return table
    }

    static func ruleTable(_ items: [RouteItem]) -> Table {
        var table = Table([
            .init("ROUTE"), .init("RULE", .right), .init("MATCHES"), .init("FILTERS"),
            .init("BACKEND"), .init("WEIGHT", .right), .init("PROBLEM"),
        ])
        for item in items {
            for (index, rule) in item.rules.enumerated() {
                let start = [
                    Cell("\(item.namespace)/\(item.name)"), Cell(index),
                    Cell(rule.matches.joined(separator: " or ")),
                    Cell(rule.filters.joined(separator: "; ")),
                ]
                for backend in rule.backends {
                    // A reference that leads nowhere has no name; its problem says what it asked.
                    let name = backend.name.isEmpty ? "" : "\(backend.name):\(backend.port)"
                    table.rows.append(
                        start + [
                            Cell(name), Cell(backend.weight), Cell(backend.problem, .bad),
                        ])
                }
                if rule.backends.isEmpty { table.rows.append(start + ["-", "-", "-"]) }
            }
        }
        return table
    }

    private static func message(_ item: RouteItem, _ own: String) -> Cell {
        guard !item.refusal.isEmpty else { return Cell(own) }
        let rest = own.isEmpty || own == "-" ? "" : "; " + own
        return Cell("change refused: \(item.refusal)\(rest)", .bad)
    }

    private static func verdict(_ holds: Bool, _ reason: String) -> Cell {
        holds ? Cell("yes", .good) : Cell(reason.isEmpty ? "no" : "no: \(reason)", .bad)
    }
}
