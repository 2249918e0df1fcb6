import Foundation
import TestSupport
import Testing

@Suite("The next agent takes over what the kernel runs (ARCHITECTURE.md)", .serialized)
struct AdoptionTests {
    /// Connects, asks once, waits for the file `sys.argv[2]`, says what getpeername answers, asks
    /// again on the same connection.
    private static let client = """
        import os, socket, sys, time
        s = socket.create_connection((sys.argv[1], 80), 10)
        file = s.makefile("rb")
        def ask():
            s.sendall(b"GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
            print(file.readline().decode().strip(), flush=True)
            size = 0
            while line := file.readline().strip():
                if line.lower().startswith(b"content-length:"): size = int(line.split(b":")[1])
            file.read(size)
        ask()
        end = time.monotonic() + 60
        while not os.path.exists(sys.argv[2]) and time.monotonic() < end: time.sleep(0.02)
        print(s.getpeername()[0], flush=True)
        ask()
        """

    /// Asks once on a captured connection, then waits for its end.
    private static let captured = """
        import socket, sys
        s = socket.create_connection((sys.argv[1], 80), 30)
        s.sendall(b"GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
        print(s.recv(4096).split(b"\\r\\n")[0].decode(), flush=True)
        try:
            while s.recv(4096): pass
        except ConnectionResetError:
            pass
        print("ended")
        """

    @Test(arguments: ["SIGKILL of both", "SIGTERM"])
    func `same links and maps, kept rows and counts, connections that live on`(_ end: String) throws
    {
        let mesh = try SmallMesh.running()
        defer { mesh.close() }
        let node = mesh.node
        let go = mesh.bed.directory + "/go"
        let open = try [SmallMesh.kernelFar.v4, SmallMesh.kernelNear.v6].map { address in
            try mesh.client.start(
                "open-\(address)", ["/usr/bin/python3", "-c", Self.client, address, go])
        }
        let held = try mesh.client.start(
            "held", ["/usr/bin/python3", "-c", Self.captured, SmallMesh.engineFar.v4])
        for each in open + [held] {
            try eventually("it has asked") { each.text.contains("200 OK") }
        }
        for _ in 1...5 { _ = try mesh.client.curl(SmallMesh.engineFar.urls[0]) }
        let before = try Pinned(node)
        let balanced = "malla_datapath_verdicts_total{hook=\"connect4\",reason=\"balanced\"}"
        let captured = "malla_datapath_verdicts_total{hook=\"from_pod\",reason=\"captured\"}"
        let counts = try [balanced, captured].map { try node.metric($0) }
        #expect(counts.allSatisfy { $0 > 0 }, "\(counts)")
        #expect(before.maps.count >= 8 && before.links.count >= 12, "\(before)")

        try self.end(mesh, by: end)
        let alone = try Pinned(node)
        let gone = try mesh.client.curl(SmallMesh.engineFar.urls[0], seconds: 2)
        #expect(held.wait(seconds: 5) == 0 && held.text.hasSuffix("ended\n"), "\(held.text)")
        #expect(gone.headers["x-pod"] == "far", "past the engine, as its pod chose: \(gone)")
        let next = try node.startAgent()
        let after = try Pinned(node)

        #expect(alone.maps == before.maps)
        #expect(after.maps == before.maps, "maps are adopted, not made anew")
        // Only what belongs to the engine's namespace and its veth, which end with the supervisor.
        let replaced = before.links.keys.filter { after.links[$0] != before.links[$0] }
        #expect(
            replaced.allSatisfy { $0 == "to_listener" || $0.hasPrefix("from_engine") },
            "\(replaced)")
        let adopted = before.links.keys.filter { after.links[$0] == before.links[$0] }
        let kept = adopted.filter { after.programs[$0] == before.programs[$0] }
        #expect(kept.isEmpty, "every adopted link runs the next agent's program: \(kept)")
        #expect(!after.links.isEmpty && after.links.keys.contains("cgroup_connect4"))
        for (series, count) in zip([balanced, captured], counts) {
            #expect(try node.metric(series) >= count, "\(series) goes on counting")
        }

        try Command.shell("touch \(go)")
        for (process, address) in zip(open, [SmallMesh.kernelFar.v4, SmallMesh.kernelNear.v6]) {
            #expect(process.wait(seconds: 20) == 0, "\(process.text)")
            #expect(
                process.text == "HTTP/1.1 200 OK\n\(address)\nHTTP/1.1 200 OK\n",
                "\(process.text)\n\(next.text)")
        }
        for service in [SmallMesh.kernelFar, SmallMesh.engineFar, SmallMesh.engineNear] {
            #expect(try mesh.client.curl(service.urls[0]).status == 200, "\(next.text)")
        }
    }

    /// The agent of the first node ends, and its child.
    private func end(_ mesh: SmallMesh.Running, by way: String) throws {
        if way == "SIGTERM" {
            #expect(mesh.agents[0].stop() == 0, "\(mesh.logs)")
        } else {
            let child = try #require(mesh.node.child(of: mesh.agents[0]))
            try Command.shell("kill -9 \(mesh.agents[0].pid) \(child)")
        }
        try eventually("no process of the agent is left") {
            try Command.shell("cat \(mesh.node.cgroup)/agent/cgroup.procs").isEmpty
        }
    }

    /// Ids of what a node has pinned, by name; a link's, and its program's, by the link's pin.
    private struct Pinned {
        var maps: [String: Int] = [:]
        var links: [String: Int] = [:]
        var programs: [String: Int] = [:]

        init(_ node: TestNode) throws {
            let script = """
                cd \(node.bpffs)/malla/v*
                for pin in malla_*; do [ -d $pin ] || echo map $pin $(bpftool -j map show pinned $pin); done
                for pin in link/*; do echo link ${pin#link/} $(bpftool -j link show pinned $pin); done
                """
            for line in try Command.shell(script).split(separator: "\n") {
                let words = line.split(separator: " ", maxSplits: 2).map(String.init)
                guard words.count == 3,
                    let object = try? JSONSerialization.jsonObject(with: Data(words[2].utf8)),
                    let id = (object as? [String: Any])?["id"] as? Int
                else { throw CommandFailure(description: "bpftool said: \(line)") }
                if words[0] == "map" {
                    maps[words[1]] = id
                } else {
                    links[words[1]] = id
                    programs[words[1]] = (object as? [String: Any])?["prog_id"] as? Int
                }
            }
        }
    }
}
