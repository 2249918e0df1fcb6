import TestSupport
import Testing

@Suite("Workers share the connections that are captured (ARCHITECTURE.md)", .serialized)
struct WorkerShareTests {
    /// How many sockets each epoll set of the process watches, the largest first.
    private func watched(_ node: TestNode, _ agent: TestProcess) throws -> [Int] {
        guard let child = node.child(of: agent) else { return [] }
        let outcome = try Command.run(
            ["sh", "-c", "cd /proc/\(child)/fdinfo && grep -c ^tfd: * | cut -d: -f2"])
        return outcome.output.split(separator: "\n").compactMap { Int($0) }.filter { $0 > 0 }
            .sorted(by: >)
    }

    @Test func `the kernel's choice of a listener spreads them evenly`() throws {
        let quiet = try SmallMesh.bed()
        defer { quiet.bed.close() }
        let node = quiet.bed[node: "n1"]
        let agent = try node.startAgent(workers: 2)
        let load = try quiet.bed["client"].start(
            "wrk", ["wrk", "-t1", "-c400", "-d60", SmallMesh.engineNear.urls[0] + "/"])
        defer { load.stop() }
        try eventually("all connections are open", within: 20) {
            try node.metric("malla_connections_active") >= 400
        }

        let sets = try watched(node, agent)

        // Of 400 connections thrown by hash 200 are expected, and 140 are six deviations away; the
        // sockets to endpoints follow those of clients.
        try #require(sets.count >= 2, "\(sets)")
        #expect(sets[1] > 140, "\(sets)")
        #expect(Double(sets[1]) > 0.5 * Double(sets[0]), "\(sets)")
    }

    private static let holder = """
        import socket, sys, time
        if len(sys.argv) == 1:
            listener = socket.create_server(("", 9009), backlog=256)
            print("ready", flush=True)
            held = []
            while True: held.append(listener.accept()[0])
        held = [socket.create_connection((sys.argv[1], 9009), 10) for _ in range(120)]
        for connection in held: connection.sendall(b"x")
        print("held", flush=True)
        time.sleep(120)
        """

    @Test func `tunnels beside each other are dialled from parts that are each another worker's`()
        throws
    {
        let mesh = try MutualTLSTests.running()
        defer { mesh.close() }
        let far = mesh.bed["far"]
        let command = ["/usr/bin/python3", "-uc", Self.holder]
        let server = try far.start("holds", command)
        try eventually("it listens: \(server.text)") { server.text.contains("ready") }
        let client = try mesh.client.start("dials", command + [far.v4])
        try eventually("all are open: \(client.text)\n\(mesh.logs)") {
            client.text.contains("held")
        }
        try eventually("several tunnels carry them\n\(mesh.logs)") {
            try mesh.node.metric("malla_tunnels{side=\"upstream\"}") >= 4
        }

        let found = try mesh.node.inEngine(
            mesh.agents[0], "ss -tnH state established dport = :15008 | awk '{print $3}'")
        let ports = found.output.split(separator: "\n").compactMap {
            $0.split(separator: ":").last.flatMap { Int($0) }
        }
        // bpf/hooks/to_listener.h
        #expect(Set(ports.map { ($0 - 61000) / 567 }) == [0, 1, 2, 3], "\(found)")
    }
}
