internal import BPFLoader
internal import CLinux
internal import Glibc
internal import MeshModel
internal import Supervisor

/// Ends the connections of sockets whose endpoint is gone, in whatever namespace they are.
///
/// - Threads: the agent's.
struct SocketResets {
    private(set) var resetCount: UInt64 = 0
    /// Sockets that could not be reached.
    private(set) var failedCount: UInt64 = 0
    private(set) var lastProblem = ""

    mutating func reset(_ sockets: [StaleSocket], _ link: ChildLink) {
        let namespaces = Dictionary(grouping: sockets, by: \.namespaceCookie)
        for (cookie, all) in namespaces {
            guard let descriptor = open(cookie, processes: all.map(\.process), link) else {
                failedCount += UInt64(all.count)
                continue
            }
            defer { close(descriptor) }
            for (end, group) in Dictionary(grouping: all, by: { End($0) }) {
                reset(end, group.map(\.cookie), descriptor)
            }
        }
    }

    private struct End: Hashable {
        var endpoint: SocketAddress
        var transport: TransportProtocol

        init(_ socket: StaleSocket) {
            endpoint = socket.endpoint
            transport = socket.transport
        }
    }

    private mutating func reset(_ end: End, _ cookies: [UInt64], _ descriptor: Int32) {
        let address = (0..<16).map { end.endpoint.address.byte($0) }
        // Both arrays outlive the call, which reads what it is told of them.
        let closed = unsafe malla_diagnose_close(
            descriptor, end.transport.number, address, end.endpoint.port, cookies, cookies.count)
        if closed < 0 {
            failedCount += UInt64(cookies.count)
            lastProblem = "sockets connected to \(end.endpoint): \(systemText(-closed))"
        } else {
            resetCount += UInt64(closed)
        }
    }

    /// A process may have ended and its number be another's: the cookie tells.
    private mutating func open(
        _ cookie: UInt64, processes: [UInt32], _ link: ChildLink
    ) -> Int32? {
        let own = malla_diagnose_open()
        if own >= 0 {
            if malla_diagnose_namespace(own) == cookie { return own }
            close(own)
        }
        for process in Set(processes) where process != 0 {
            let (errno, descriptor) = link.diagnose(process: process)
            guard errno == 0 else { continue }
            if malla_diagnose_namespace(descriptor) == cookie { return descriptor }
            close(descriptor)
        }
        let (errno, descriptor) = link.diagnose(cookie: cookie)
        if errno == 0 { return descriptor }
        let names = processes.map(String.init).joined(separator: ", ")
        lastProblem =
            "the network namespace of process \(names) is neither its own nor pinned below "
            + "/run/netns: \(systemText(errno))"
        return nil
    }
}
