internal import AdminAPI
internal import ArgumentParser

/// `malla check`.
struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Examines whether this machine can run Malla, and whether it does.",
        discussion: """
            Works without an agent. Each check has a name, a status and, unless OK, a remedy:
            WARN is for what may be missing or in the way, FAIL for what keeps Malla from working. \
            Program types are tried by loading two instructions, which are never attached. Other \
            meshes are looked for in this network namespace, not in those of pods. Run it as \
            root: without capabilities the kernel's features cannot be tried.

            Exits 1 if a check failed.

            EXAMPLES
              malla check
              malla check --datapath off
              malla check -o json | jq -r '.items[] | select(.status != "OK") | .remedy'
            """)

    enum Datapath: String, ExpressibleByArgument, CaseIterable { case on, off }

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    @Option(help: "As the agent will run: `off` leaves out what only the datapath needs.")
    var datapath = Datapath.on

    func run() throws {
        let items = examine()
        try Output(output).print(Listing(kind: "CheckList", items: items)) { colour in
            Self.lines(items, colour: colour)
        }
        if items.contains(where: { $0.status == "FAIL" }) { throw ExitCode.failure }
    }

    private func examine() -> [CheckItem] {
        let machine = Machine()
        var items: [CheckItem] = []
        if datapath == .on {
            let agent = try? AgentClient(connection).list(AdminAPI.status).items.first
            items += KernelChecks.all(machine)
            items += NodeChecks.mounts(machine, agent: agent?.datapath)
            items.append(NodeChecks.privileges(machine))
            items += NodeChecks.forwarding(machine)
        }
        items += NodeChecks.ports(machine)
        if datapath == .on { items += NeighbourChecks.all(machine) }
        return items + AgentChecks.all(AgentClient(connection))
    }

    static func lines(_ items: [CheckItem], colour: Bool) -> [String] {
        let table = Table(
            [.init("CHECK"), .init("STATUS"), .init("FOUND")],
            rows: items.map { [Cell($0.name), Cell($0.status, tone($0.status)), Cell($0.message)] })
        let remedies = items.filter { !$0.remedy.isEmpty }.map { "\($0.name): \($0.remedy)" }
        let counts = ["OK", "WARN", "FAIL"].map { status in
            "\(items.count { $0.status == status }) \(status)"
        }
        var lines = table.lines(colour: colour)
        if !remedies.isEmpty { lines += ["", "What to do:"] + remedies.map { "  " + $0 } }
        return lines + ["", counts.joined(separator: ", ")]
    }

    private static func tone(_ status: String) -> Cell.Tone {
        status == "OK" ? .good : status == "WARN" ? .doubtful : .bad
    }
}
