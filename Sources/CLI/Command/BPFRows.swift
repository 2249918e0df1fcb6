// `malla bpf ct`, `ipcache`, `policy`, `identities`, `verdicts`, `maps`, `programs`: rows of the
// kernel's maps, each as one table.

internal import AdminAPI
internal import ArgumentParser

extension BPF {
    /// `malla bpf ct`.
    struct ConnectionTable: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "ct",
            abstract: "Lists the flows that the kernel follows, or has them judged anew.",
            subcommands: [List.self, Flush.self], defaultSubcommand: List.self)

        /// `malla bpf ct list`.
        struct List: ParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Lists the flows that the kernel follows.",
                discussion: """
                    Each flow once, seen from the end that opened it. KIND is `own` between its \
                    ends, `captured` towards the engine, `dialled` by the engine, `translated` \
                    towards a service's address, whose endpoint NOTE names. LEFT is what remains if nothing more comes. CUT \
                    flows are no longer allowed by the policies; AUDITED ones would be denied.

                    EXAMPLES
                      malla bpf ct list
                      malla bpf ct list --pod shop/cart-1
                      malla bpf ct list -o json | jq '.items[] | select(.cut)'
                    """)

            @OptionGroup var connection: ConnectionOptions
            @OptionGroup var output: OutputOptions

            @Option(name: .long, help: "Only flows of this pod, as NAMESPACE/NAME or an address.")
            var pod: String?

            func run() throws {
                let client = AgentClient(connection)
                var listing = try client.require(AdminAPI.flows)
                if let pod { listing.items.removeAll { !$0.concerns(pod) } }
                if let pod, listing.items.isEmpty { try client.requirePod(pod) }
                try Output(output).print(
                    listing, table: Self.table(listing.items), empty: "No flows found.")
            }

            static func table(_ items: [FlowItem]) -> Table {
                Table(
                    [
                        .init("PROTOCOL"), .init("FROM"), .init("TO"), .init("KIND"),
                        .init("STATE"), .init("SENT", .right), .init("RECEIVED", .right),
                        .init("IDLE", .right), .init("LEFT", .right), .init("NOTE"),
                    ],
                    rows: items.map { item in
                        [
                            Cell(item.protocol), Cell(end(item.source, item.sourcePod)),
                            Cell(end(item.target, item.targetPod)),
                            Cell(item.kind), Cell(item.state), Cell(item.bytesSent),
                            Cell(item.bytesReceived), Cell("\(item.idleSeconds) s"),
                            Cell("\(item.remainingSeconds) s"), note(item),
                        ]
                    })
            }

            private static func end(_ address: String, _ pod: String) -> String {
                pod == "reserved:unmanaged" ? address + " (unmanaged)" : address
            }

            private static func note(_ item: FlowItem) -> Cell {
                if item.cut { return Cell("cut", .bad) }
                if item.audited { return Cell("audited", .doubtful) }
                return Cell(item.other.isEmpty ? "" : "for \(item.other)")
            }
        }

        /// `malla bpf ct flush`.
        struct Flush: ParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Has the kernel judge flows anew.",
                discussion: """
                    Each is judged at its next packet, by the policies of now and in the direction \
                    in which it was opened, and goes on if they allow it. Connections that the \
                    engine holds are left alone.

                    EXAMPLES
                      malla bpf ct flush --address 10.1.0.2
                      malla bpf ct flush --all
                    """)

            @OptionGroup var connection: ConnectionOptions
            @OptionGroup var output: OutputOptions

            @Option(name: .long, help: "Flows of which this address is an end.")
            var address: String?

            @Flag(name: .long, help: "All flows of the node.")
            var all = false

            func validate() throws {
                guard (address != nil) != all else {
                    throw ValidationError("say either --address ADDRESS or --all")
                }
            }

            func run() throws {
                let resource = AdminAPI.flowFlush(address ?? "all")
                let listing = try AgentClient(connection).require(resource, changes: true)
                try Output(output).print(listing) { _ in
                    listing.items.map { "\($0.flows) flows are judged anew." }
                }
            }
        }
    }

    /// `malla bpf ipcache`.
    struct IPCache: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "ipcache", abstract: "Lists who is at which addresses.",
            discussion: """
                The longest prefix decides. An address without a row is the world's; policies \
                know `reserved:unmanaged` by its address as well: the Nodes' podCIDRs, as far as \
                no Pod is known there.

                EXAMPLES
                  malla bpf ipcache
                """)

        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let listing = try AgentClient(connection).require(AdminAPI.ipcache)
            try Output(output).print(
                listing, table: Self.table(listing.items), empty: "No identities.")
        }

        static func table(_ items: [IPCacheItem]) -> Table {
            Table(
                [.init("PREFIX"), .init("IDENTITY", .right), .init("NAME")],
                rows: items.map { [Cell($0.prefix), Cell($0.identity), Cell($0.name)] })
        }
    }

    /// `malla bpf policy`.
    struct PolicyRows: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "policy", abstract: "Lists the rows by which flows are judged.",
            discussion: """
                One set for all pods that the same policies select. The most specific row of the \
                peer's own identity decides; where there is none, that of identity 0, any other \
                peer; where there is none, the set's default. SET `none`: the rows of these pods' \
                policies did not fit into the map, so nothing passes.

                EXAMPLES
                  malla bpf policy
                  malla bpf policy --pod shop/cart-1
                """)

        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var output: OutputOptions

        @Option(name: .long, help: "Only the set of this pod, as NAMESPACE/NAME.")
        var pod: String?

        func run() throws {
            let client = AgentClient(connection)
            var listing = try client.require(AdminAPI.policyRows)
            if let pod { listing.items.removeAll { !$0.pods.contains(pod) } }
            if let pod, listing.items.isEmpty { try client.requirePod(pod) }
            try Output(output).print(
                listing, table: Self.table(listing.items),
                empty: "No policy selects \(pod ?? "a pod") here.")
        }

        static func table(_ items: [PolicyRowItem]) -> Table {
            Table(
                [
                    .init("SET", .right), .init("PODS"), .init("DIRECTION"),
                    .init("IDENTITY", .right), .init("PROTOCOL"), .init("PORTS"),
                    .init("VERDICT"), .init("RULE", .right),
                ],
                rows: items.map { item in
                    [
                        item.set == .max ? Cell("none", .bad) : Cell(item.set),
                        Cell(item.pods.joined(separator: ",")),
                        Cell(item.direction), item.byDefault ? "default" : Cell(item.identity),
                        Cell(item.protocol), Cell(item.ports),
                        Cell(item.audited ? item.verdict + " (audit)" : item.verdict),
                        Cell(item.rule),
                    ]
                })
        }
    }

    /// `malla bpf identities`.
    struct Identities: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "identities",
            abstract: "Lists identities and how many prefixes bear them.",
            discussion: """
                NAME is the pod's that has it, or how many pods share it because no policy tells \
                them apart; STANDS FOR is what policies tell it from the others by.

                EXAMPLES
                  malla bpf identities
                """)

        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let listing = try AgentClient(connection).require(AdminAPI.ipcache)
            try Output(output).print(
                listing, table: Self.table(listing.items), empty: "No identities.")
        }

        static func table(_ items: [IPCacheItem]) -> Table {
            // What is unmanaged shares its number with the world around it.
            let groups = Dictionary(grouping: items) {
                [UInt64($0.identity), $0.name == "reserved:unmanaged" ? 1 : 0]
            }.sorted { $0.key.lexicographicallyPrecedes($1.key) }
            return Table(
                [
                    .init("IDENTITY", .right), .init("PREFIXES", .right), .init("NAME"),
                    .init("FIRST"), .init("STANDS FOR"),
                ],
                rows: groups.map { _, rows in
                    [
                        Cell(rows[0].identity), Cell(rows.count), Cell(name(rows)),
                        Cell(rows[0].prefix), Cell(rows[0].labels.joined(separator: ",")),
                    ]
                })
        }

        /// Of the one pod that has it, else how many there are.
        private static func name(_ rows: [IPCacheItem]) -> String {
            let names = Set(rows.map(\.name))
            return names.count == 1 ? rows[0].name : "\(names.subtracting([""]).count) pods"
        }
    }

    /// `malla bpf verdicts`.
    struct Verdicts: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "verdicts", abstract: "Shows what the hooks decided, and how often.",
            discussion: "docs/verdicts.md says what each means.\n\nEXAMPLES\n  malla bpf verdicts")

        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            try Stats.show(connection, output) { Stats.verdicts($0.verdicts) }
        }
    }

    /// `malla bpf maps`.
    struct Maps: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "maps", abstract: "Shows how full the maps are.",
            discussion: "EXAMPLES\n  malla bpf maps")

        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            try Stats.show(connection, output) { Stats.maps($0.maps) }
        }
    }

    /// `malla bpf programs`.
    struct Programs: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "programs", abstract: "Shows the programs and where they are attached.",
            discussion: "EXAMPLES\n  malla bpf programs")

        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            try Stats.show(connection, output) { Stats.programs($0.programs) }
        }
    }
}

extension FlowItem {
    /// Whether `pod`, a name or an address, is an end of it.
    func concerns(_ pod: String) -> Bool {
        sourcePod == pod || targetPod == pod || source.hasPrefix(pod + ":")
            || target.hasPrefix(pod + ":") || source.hasPrefix("[\(pod)]:")
            || target.hasPrefix("[\(pod)]:")
            || (kind == "translated"
                && (other.hasPrefix(pod + ":") || other.hasPrefix("[\(pod)]:")))
    }
}
