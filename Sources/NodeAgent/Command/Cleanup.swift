internal import ArgumentParser
internal import BPFLoader
internal import Logging

/// `malla-agent cleanup`: takes the datapath off this node.
struct Cleanup: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Detach and remove all that agents pinned on this node.",
        discussion: """
            Programs, links and maps stay in force when an agent ends. This removes them: \
            services are no longer balanced and nothing is captured from then on. Stop the agent \
            first. Exit codes: 0, 64 (wrong usage), 71 (the system refused something).
            """)

    @Option(help: ArgumentHelp("The agent's bpffs mount.", valueName: "path"))
    var bpffs: String = "/sys/fs/bpf"

    @Option(help: ArgumentHelp("Accepted as run does; links know their cgroup.", valueName: "path"))
    var cgroup: String?

    func run() throws {
        let logger = Log.start("cleanup")
        do throws(BPFError) {
            try Datapath.remove(bpffsPath: bpffs)
        } catch {
            logger.error("\(error)")
            throw ExitCode(71)
        }
    }
}
