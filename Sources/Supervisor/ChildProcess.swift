internal import CLinux
internal import Glibc

/// One child from its start to its end.
///
/// - Owns: our end of its control socket, and its black box.
/// - Threads: the supervisor's one.
final class ChildProcess {
    let pid: pid_t
    let control: ControlSocket
    let box: BlackBoxPage?
    /// Microseconds of the monotonic clock.
    let startedAt: Int64
    /// The other end of the control socket is there.
    var isConnected = true
    var hasServed = false
    /// When it is killed, for it was told to end.
    var killAt: Int64?
    var heartbeat: Heartbeat
    /// Why it was killed before its time: it hangs.
    var hang: Heartbeat.Finding?
    /// Processes of the node that the kernel had killed for want of memory when it began.
    let memoryKills: UInt64

    init(
        pid: pid_t, control: consuming ControlSocket, box: consuming BlackBoxPage?,
        workers: Int, startedAt: Int64
    ) {
        heartbeat = Heartbeat(workers: workers)
        self.pid = pid
        self.control = control
        self.box = box
        self.startedAt = startedAt
        memoryKills = Self.memoryKills()
    }

    /// Starts `path` with these arguments behind the program's name.
    static func start(
        _ path: String, _ arguments: [String], workers: Int, suspects: [Suspect], at time: Int64
    ) throws(SupervisorError) -> ChildProcess {
        let (ours, theirs) = try ControlSocket.pair()
        let end = Descriptor(adopting: theirs)
        let control = ControlSocket(adopting: ours)
        let list = ["malla-agent"] + arguments
        let block = list.flatMap { Array($0.utf8) + [0] }.map { CChar(bitPattern: $0) }
        // The block holds `list.count` strings, a NUL after each, and outlives the call.
        let started = unsafe malla_spawn(path, block, list.count, end.number)
        guard started > 0 else { throw .refused(doing: "start the agent", errno: -started) }
        return ChildProcess(
            pid: started, control: control, box: BlackBoxPage(suspects: suspects),
            workers: workers, startedAt: time)
    }

    var boxNumber: Int32? {
        switch box {
        case .some(let box): box.descriptor.number
        case .none: nil
        }
    }

    /// `isReplaced`: another serves already, so it answers no new questions while it drains.
    func tellToEnd(killAt time: Int64, isReplaced: Bool) {
        guard killAt == nil else { return }
        kill(pid, isReplaced ? SIGUSR2 : SIGTERM)
        killAt = time
    }

    /// Whether it hangs, by what it shows of itself; to be asked every second.
    func findHang(max: Int64, at time: Int64) -> Heartbeat.Finding? {
        guard killAt == nil, hang == nil else { return nil }
        return switch box {
        case .some(let box):
            heartbeat.look(
                box, of: pid, max: max, at: time, hasServed: hasServed,
                isHeard: Self.isHeard(STDERR_FILENO))
        case .none: nil
        }
    }

    /// Whether a write to the descriptor, which the child has, too, would not wait; poll(2).
    static func isHeard(_ descriptor: Int32) -> Bool {
        var place = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        // One place.
        return unsafe poll(&place, 1, 0) != 0
    }

    /// It was told to end, and has less time now.
    func hasten(killAt time: Int64) {
        guard let due = killAt, due > time else { return }
        kill(pid, SIGTERM)
        killAt = time
    }

    /// Whom it served when `signal` ended it: by a trap, for want of memory, or because it hung.
    /// Another signal comes from people and says nothing of whom it served.
    func served(whenEndedBy signal: Int32) -> [String] {
        if let hang {
            guard let worker = hang.worker, !hang.isStopped else { return [] }
            return box?.served(by: [worker]) ?? []
        }
        return switch signal {
        case SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGABRT: box?.served() ?? []
        case SIGKILL where Self.memoryKills() > memoryKills:
            box?.served(isForMemory: true) ?? []
        default: []
        }
    }

    /// Source: `oom_kill` of /proc/vmstat, Linux 4.13.
    private static func memoryKills() -> UInt64 {
        for line in textFile("/proc/vmstat").split(separator: "\n")
        where line.hasPrefix("oom_kill ") {
            return UInt64(line.dropFirst(9)) ?? 0
        }
        return 0
    }
}
