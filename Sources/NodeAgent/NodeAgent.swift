// `malla-agent`: the node's agent. Command/ reads the command line and becomes supervisor or child;
// Reconcile/ brings the directory into datapath and engine; Admin/ answers questions about both.

internal import AdminAPI
internal import ArgumentParser

/// What the executable runs.
public enum AgentProgram {
    public static func main() { MallaAgent.main() }
}

struct MallaAgent: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "malla-agent",
        abstract: "The node's agent of the Malla service mesh.",
        discussion: """
            Loads the eBPF datapath, load-balances and captures the pods' connections, and serves \
            those that need HTTP in an engine of its own. One agent runs on each node.
            """,
        version: "malla-agent \(mallaVersion)",
        subcommands: [Run.self, Cleanup.self, Child.self])
}
