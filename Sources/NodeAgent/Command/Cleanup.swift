internal import ArgumentParser
internal import BPFLoader
internal import Logging
internal import Supervisor

/// `malla-agent cleanup`: takes the datapath off this node.
struct Cleanup: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Detach and remove all that agents pinned on this node.",
        discussion: """
            Programs, links and maps stay in force when an agent ends. This removes them: \
            services are no longer balanced and nothing is captured from then on. Stop the agent \
            first. Exit codes: 0, 64 (wrong usage), 69 (an agent serves this node), 71 (the system \
            refused something).
            """)

    @Option(help: ArgumentHelp("The agent's bpffs mount.", valueName: "path"))
    var bpffs: String = "/sys/fs/bpf"

    @Option(
        help: ArgumentHelp(
            "The agent's cgroup: what is attached to it is taken off even where its pins are in "
                + "another bpffs.", valueName: "path"))
    var cgroup: String?

    func run() throws {
        let logger = Log.start("cleanup")
        if let agent = Remains.agent {
            let name = agent > 0 ? " (pid \(agent))" : ""
            logger.error("an agent\(name) serves this node: stop it first")
            throw ExitCode(69)
        }
        let errno = Remains.removeVeth()
        if errno != 0 {
            logger.error("cannot remove \(EngineNamespace.nodeInterface): \(systemText(errno))")
            throw ExitCode(71)
        }
        do throws(BPFError) {
            try Datapath.remove(bpffsPath: bpffs, cgroupPath: cgroup)
        } catch {
            logger.error("\(error)")
            throw ExitCode(71)
        }
    }
}
