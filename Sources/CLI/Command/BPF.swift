internal import AdminAPI
internal import ArgumentParser

/// `malla bpf`.
struct BPF: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bpf",
        abstract: "Looks at the node's eBPF programs and maps.",
        subcommands: [Stats.self, ServiceRows.self])

    /// `malla bpf stats`.
    struct Stats: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows verdicts of the hooks, filling of the maps, and programs.",
            discussion: """
                VERDICT is what a hook decided: packets at tc hooks, calls at cgroup and lookup \
                hooks, summed over processors since the maps were made. REFUSED rows did not fit \
                into a full map: what they describe is not in force. RUNS are counted only while \
                kernel.bpf_stats_enabled is 1. ADOPTED programs were taken over from the agent \
                before this one.

                EXAMPLES
                  malla bpf stats
                  malla bpf stats -o json | jq '.items[].verdicts'
                """)

        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let listing = try AgentClient(connection).require(AdminAPI.bpfStats)
            try Output(output).print(listing) { colour in
                if listing.items.isEmpty { return ["The datapath is off on this node."] }
                return listing.items.flatMap { Self.lines($0, colour: colour) }
            }
        }

        static func lines(_ item: BPFStatsItem, colour: Bool) -> [String] {
            [verdicts(item.verdicts), maps(item.maps), programs(item.programs)]
                .map { $0.lines(colour: colour) }
                .joined(separator: [""])
                .map { $0 }
        }

        private static func verdicts(_ verdicts: [BPFStatsItem.Verdict]) -> Table {
            Table(
                [.init("HOOK"), .init("VERDICT"), .init("PACKETS", .right)],
                rows: verdicts.map { [Cell($0.hook), Cell($0.verdict), Cell($0.packets)] })
        }

        private static func maps(_ maps: [BPFStatsItem.Map]) -> Table {
            Table(
                [
                    .init("MAP"), .init("TYPE"), .init("ENTRIES", .right), .init("MAX", .right),
                    .init("REFUSED", .right),
                ],
                rows: maps.map {
                    [
                        Cell($0.name), Cell($0.type), Cell($0.entries), Cell($0.entriesMax),
                        Cell(String($0.refused), $0.refused > 0 ? .bad : .plain),
                    ]
                })
        }

        private static func programs(_ programs: [BPFStatsItem.Program]) -> Table {
            Table(
                [
                    .init("PROGRAM"), .init("ID", .right), .init("ATTACHED TO"), .init("PINNED"),
                    .init("ADOPTED"), .init("RUNS", .right), .init("NS/RUN", .right),
                ],
                rows: programs.map {
                    [
                        Cell($0.name), Cell($0.id), Cell($0.attachedTo), .yesNo($0.pinned),
                        .yesNo($0.adopted), Cell($0.runCount),
                        $0.runCount == 0 ? "-" : Cell($0.runNanoseconds / $0.runCount),
                    ]
                })
        }
    }
}
