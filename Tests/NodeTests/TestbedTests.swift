import TestSupport
import Testing

@Suite("The testbed itself (docs/testbed.md), without an agent", .serialized)
struct TestbedTests {
    @Test func `pods of one node and of two reach each other in both families`() throws {
        let bed = try Testbed("n1: client, near; n2: far")
        defer { bed.close() }

        _ = try bed["near"].serve()
        _ = try bed["far"].serve()

        for server in [bed["near"], bed["far"]] {
            let v4 = try bed["client"].curl("http://\(server.v4):8080/")
            #expect(v4.body == server.name + "\n", "\(v4.problem)")
            #expect(v4.headers["x-client"] == bed["client"].v4)
            let v6 = try bed["client"].curl("http://[\(server.v6)]:8080/")
            #expect(v6.body == server.name + "\n", "\(v6.problem)")
            #expect(v6.headers["x-client"] == bed["client"].v6)
        }
    }

    @Test func `a server counts what it has answered and nothing else`() throws {
        let bed = try Testbed("n1: client, near")
        defer { bed.close() }
        let server = try bed["near"].serve()
        let before = try server.requests()

        for _ in 1...3 { _ = try bed["client"].curl("http://\(bed["near"].v4):8080/") }

        #expect(try server.requests() == before + 3)
    }

    @Test func `a pod finds services by the names in its own hosts file`() throws {
        let bed = try Testbed("n1: client; n2: far")
        defer { bed.close() }
        _ = try bed["far"].serve()

        try bed.name([(bed["far"].v4, "shop.example")])

        #expect(try bed["client"].curl("http://shop.example:8080/").status == 200)
    }

    @Test func `closing leaves no namespace, cgroup, mount or file`() throws {
        let bed = try Testbed("n1: client; n2: far")
        let process = try bed["far"].serve().process

        bed.close()

        #expect(process.wait(seconds: 5) == 128 + 9)
        let traces = try Command.shell(
            """
            ls /run/netns; ls -d \(bed.directory) \(bed.cgroup) 2>/dev/null || true
            grep \(bed.directory) /proc/mounts || true
            """)
        #expect(!traces.contains(bed.name), "\(traces)")
    }
}
