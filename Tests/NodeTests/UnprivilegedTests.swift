import Glibc
import TestSupport
import Testing

@Suite("Without root: what works, and what says that it does not", .serialized)
struct UnprivilegedTests {
    /// uid and gid of nobody, and none of root's environment.
    private static let nobody = [
        "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
        "env", "-i", "PATH=/usr/bin:/bin",
    ]

    @Test func `the README's command serves Gateways for nobody, and malla finds the agent`() throws
    {
        let bed = try Testbed("n1: far")
        defer { bed.close() }
        _ = try bed["far"].serve()
        try bed.describe([TestService("engine-far", 4, "http", to: ["far"])])
        try bed.configure(
            "gateway.yaml", RouteTests.gateway.replacing("port: 80}", with: "port: 8000}"))
        try bed.route(
            "front", parent: "{name: front}", rules: "- backendRefs: [{name: engine-far, port: 80}]"
        )
        let node = bed[node: "n1"]
        defer { _ = try? Command.shell("rm -rf /tmp/malla-65534") }

        let agent = try node.start(
            "agent",
            Self.nobody + [
                Binaries.agent, "run", "--config", bed.configuration, "--datapath", "off",
            ])

        try node.waitUntilReady(agent)
        let answer = try bed.outside(["curl", "-sSi", "-m", "2", "http://\(node.v4):8000/"])
        #expect(Curl.response(answer).headers["x-pod"] == "far", "\(answer)")
        let status = try node.run(Self.nobody + [Binaries.malla, "status"])
        #expect(status.output.contains("datapath  off"), "\(status)")
        #expect(agent.stop() == 0)
    }

    @Test func `a directory that another user has made in /tmp is not used`() throws {
        let bed = try Testbed("n1: far")
        defer { bed.close() }
        let node = bed[node: "n1"]
        try Command.shell("mkdir -m 777 \(node.state)/theirs && chown 1234 \(node.state)/theirs")
        try Command.shell("chmod 777 \(node.state)/.. \(node.state)")

        let outcome = try node.run(
            Self.nobody + [
                Binaries.agent, "run", "--config", bed.configuration, "--datapath", "off",
                "--state", node.state + "/theirs",
            ])

        #expect(outcome.status == 77, "\(outcome)")
        #expect(outcome.errors.contains("another user's"), "\(outcome)")
    }

    @Test(arguments: [["down", "some"], ["clean"], ["up", "some", "n1: a"]])
    func `the testbed says that it needs root`(_ arguments: [String]) throws {
        let outcome = try Command.run(Self.nobody + [Binaries.testbed] + arguments)
        #expect(outcome.status == 77)
        #expect(outcome.errors.contains("\(arguments[0]) needs root"), "\(outcome)")
    }

    @Test(arguments: ["bad name", "../up", "a;b"])
    func `a bed's name that is none is refused and leaves nothing`(_ name: String) throws {
        let outcome = try Command.run([Binaries.testbed, "up", name, "n1: a"])
        #expect(!outcome.isSuccess)
        #expect(outcome.errors.contains("is no name of a bed"), "\(outcome)")
        #expect(try !Command.shell("ls /run/netns").contains("malla-\(name.prefix(3))"))
    }
}
