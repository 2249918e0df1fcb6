internal import ArgumentParser
internal import BPFLoader
internal import CLinux
internal import Foundation
internal import Glibc
internal import Logging
internal import Supervisor

/// `malla-agent run`: checks what can be checked at once, then supervises.
struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run the agent in the foreground until SIGTERM or SIGINT.",
        discussion: """
            Two processes: this one holds the listening sockets and the engine's network \
            namespace, and starts the other, which does the work, again when it dies. Log lines \
            go to standard error.

            EXIT CODES
              0   ended by SIGTERM, SIGINT or SIGHUP, after draining
              64  wrong usage
              69  another agent serves this node, this state directory or this socket
              71  the system refused something; the message says what
              77  a capability or permission is missing; the message names it
              78  the configuration directory cannot be read

            EXAMPLES
              malla-agent run --config /etc/malla
              malla-agent run --config ./gateways --datapath off --state ./state \\
                --socket ./agent.sock --admin 127.0.0.1:0
            """)

    @Flag(
        help: ArgumentHelp(
            "Take the listening sockets over from the agent that runs with the same --socket; it "
                + "drains and ends when this one serves."))
    var takeover: Bool = false

    @Option(
        name: .customLong("child-silence"),
        help: ArgumentHelp(
            "How long a thread that serves may give no sign of life before the process that does "
                + "the work is killed and started again, 2 to 3600; 0: for ever.",
            valueName: "seconds"))
    var childSilence: UInt32 = 10

    @OptionGroup var options: AgentOptions

    func validate() throws {
        guard childSilence == 0 || (2...3_600).contains(childSilence) else {
            throw ValidationError("--child-silence takes 2 to 3600, or 0, not \(childSilence)")
        }
    }

    func run() throws {
        let logger = Log.start("supervisor")
        do {
            try check()
            var supervisor = try Supervisor(supervisorOptions()) { logger.notice("\($0)") }
            try supervisor.run()
        } catch let error as SupervisorError {
            // The child has said why it ended.
            if case .child(let code) = error { throw ExitCode(code) }
            logger.error("\(error)")
            throw ExitCode(error.exitCode)
        } catch let error as StartError {
            logger.error("\(error)")
            throw ExitCode(error.exitCode)
        }
    }

    private func check() throws(StartError) {
        guard let directory = unsafe opendir(options.config) else {
            throw .configuration(options.config, errno: errno)
        }
        unsafe closedir(directory)
        guard options.datapath == .on, Privileges.missing().isEmpty else { return }
        try Mounts.requireBPF(options.bpffs)
        _ = try Mounts.cgroup(options.cgroup)
    }

    private func supervisorOptions() -> SupervisorOptions {
        let slot = EngineSlot(bpffsPath: options.bpffs)
        let word = PinnedWord(path: slot.path, rowBytes: slot.rowBytes, offset: slot.offset)
        return SupervisorOptions(
            statePath: options.state, socketPath: options.socket, workers: options.workerCount,
            hasDatapath: options.datapath == .on,
            childArguments: ["child", "--supervisor", "\(getpid())"] + options.arguments,
            engineSlot: options.datapath == .on ? word : nil,
            silenceMaxMilliseconds: Int64(childSilence) * 1_000, takesOver: takeover,
            programPath: Self.programPath)
    }

    /// The program's file as it was named: an upgrade puts another in its place, and SIGUSR2 starts
    /// that one.
    private static var programPath: String {
        let path = Bundle.main.executablePath ?? ""
        return path.isEmpty ? "/proc/self/exe" : path
    }
}

/// The second process, started by the first and by nobody else.
struct Child: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The agent proper; started by run.", shouldDisplay: false)

    @Option(help: .hidden) var supervisor: Int32
    @OptionGroup var options: AgentOptions

    func run() throws {
        let logger = Log.start("agent")
        // Started by way of /proc/self/exe it would be called "exe" in ps and in `malla check`.
        // The kernel copies the text.
        unsafe malla_name_process("malla-agent")
        do {
            // Keys are in this process: it leaves no core, and nobody unprivileged looks into it.
            malla_forbid_dumps()
            try ChildLink.dieWithSupervisor(pid: supervisor)
            // Before any other thread is started, so that it holds for all.
            _ = malla_gain_nothing()
            let agent = try Agent(options, supervisor: supervisor, logger: logger)
            try agent.run()
        } catch let error as StartError {
            logger.error("\(error)")
            throw ExitCode(error.exitCode)
        } catch let error as SupervisorError {
            logger.error("\(error)")
            throw ExitCode(error.exitCode)
        }
    }
}
