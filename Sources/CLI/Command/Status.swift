internal import AdminAPI
internal import ArgumentParser

/// `malla status`.
struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows the node's agent: datapath, engine, configuration, listeners.",
        discussion: """
            READY is `no` while the configuration directory has an unreadable file or a part of \
            the agent is not up; the reasons follow. REFUSED objects keep their last good version \
            in force; each is named below with its first error. What is ignored on purpose is \
            named by `malla config validate --all` on the agent's directory. A listener that is \
            not programmed says why.

            EXAMPLES
              malla status
              malla status -o json | jq -e '.items[0].ready'
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let listing = try AgentClient(connection).require(AdminAPI.status)
        try Output(output).print(listing) { colour in
            listing.items.flatMap { Self.lines($0, colour: colour) }
        }
    }

    static func lines(_ item: StatusItem, colour: Bool) -> [String] {
        var lines = facts(item).lines(colour: colour)
        lines += item.reasons.map { "  not ready: \($0)" }
        lines += item.config.refusals.map { "  refused: \($0)" }
        lines += item.config.unreadableFiles.map { "  unreadable: \($0)" }
        lines += item.config.lastGood.problems.map { "  state: \($0)" }
        lines += item.quarantined.map { "  quarantined: \($0) (two crashes named it)" }
        if !item.listeners.isEmpty {
            lines += [""] + listeners(item.listeners).lines(colour: colour)
        }
        if !item.repairs.isEmpty { lines += [""] + repairs(item.repairs).lines(colour: colour) }
        return lines
    }

    private static func facts(_ item: StatusItem) -> Table {
        let config = item.config
        var table = Table([.init("NODE"), .init(item.node)])
        func add(_ name: String, _ value: Cell) { table.rows.append([Cell(name), value]) }
        add("ready", item.ready ? Cell("yes", .good) : Cell("no", .bad))
        add("agent", Cell(agent(item)))
        add("datapath", datapath(item.datapath))
        add(
            "engine",
            Cell(
                "\(item.engine.workers) workers, \(item.engine.connectionsActive) of "
                    + "\(item.engine.connections) connections open, "
                    + "\(item.engine.requests) requests"))
        add("identity", Cell(item.identity))
        add("config", Cell("\(config.directory), generation \(config.generation)"))
        add("objects", objects(config))
        add("reloaded", Cell(config.lastReload))
        add("kept", kept(config.lastGood))
        return table
    }

    private static func agent(_ item: StatusItem) -> String {
        "\(item.version), pid \(item.pid) under \(item.supervisorPID), up "
            + "\(duration(seconds: item.uptimeSeconds)), \(item.restarts) restarts, "
            + "started in \(item.startMilliseconds) ms"
    }

    private static func datapath(_ datapath: StatusItem.Datapath) -> Cell {
        var text = datapath.mode
        if datapath.mode == "on" {
            text += ", ABI \(datapath.abi), \(datapath.programs) programs, \(datapath.maps) maps"
        }
        if !datapath.message.isEmpty { text += ": \(datapath.message)" }
        return Cell(text, datapath.mode == "failed" ? .bad : .plain)
    }

    private static func objects(_ config: StatusItem.Config) -> Cell {
        let ignored = config.ignored > 0 ? ", \(config.ignored) ignored" : ""
        let text =
            "\(config.objects), \(config.refused) refused, \(config.warnings) warnings" + ignored
        return Cell(text, config.refused > 0 ? .bad : .plain)
    }

    private static func kept(_ kept: StatusItem.LastGood) -> Cell {
        Cell(
            "\(kept.objects) objects, \((kept.bytes + 1_023) / 1_024) KiB",
            kept.problems.isEmpty ? .plain : .bad)
    }

    private static func listeners(_ listeners: [StatusItem.Listener]) -> Table {
        Table(
            [
                .init("GATEWAY"), .init("LISTENER"), .init("ADDRESS"), .init("PORT", .right),
                .init("PROGRAMMED"), .init("MESSAGE"),
            ],
            rows: listeners.map {
                [
                    Cell($0.gateway), Cell($0.listener), Cell($0.address), Cell($0.port),
                    Cell($0.programmed ? "yes" : "no", $0.programmed ? .good : .bad),
                    Cell($0.message),
                ]
            })
    }

    private static func repairs(_ repairs: [StatusItem.Repair]) -> Table {
        Table(
            [
                .init("REPAIRED"), .init("TIMES", .right), .init("LAST"), .init("OF"),
                .init("MESSAGE"),
            ],
            rows: repairs.map {
                [
                    Cell($0.what, .doubtful), Cell($0.count), Cell($0.time), Cell($0.subject),
                    Cell($0.message),
                ]
            })
    }

    /// The two largest units: `3d4h`, `2h5m`, `1m9s`, `12s`.
    static func duration(seconds: Int) -> String {
        let units = [(86400, "d"), (3600, "h"), (60, "m"), (1, "s")]
        let first = units.firstIndex { seconds >= $0.0 } ?? 3
        var text = "\(seconds / units[first].0)\(units[first].1)"
        let rest = seconds % units[first].0
        if first < 3, rest / units[first + 1].0 > 0 {
            text += "\(rest / units[first + 1].0)\(units[first + 1].1)"
        }
        return text
    }
}
