import AdminAPI
import ArgumentParser
import Testing

@testable import CLI

@Suite("The command line means what it says")
struct CommandLineTests {
    @Test(arguments: [
        (["--socket", "/a", "status"], [:], "/a"), (["status", "--socket", "/a"], [:], "/a"),
        (["status", "--socket=/a"], ["MALLA_SOCKET": "/b"], "/a"),
        (["status"], ["MALLA_SOCKET": "/b"], "/b"),
        (["status"], ["MALLA_SOCKET": ""], "/run/malla/agent.sock"),
        (["status"], [:], "/run/malla/agent.sock"),
    ])
    func `the socket is the option's, else the environment's, else the default`(
        arguments: [String], environment: [String: String], socket: String
    ) throws {
        let command = try #require(try Malla.parseAsRoot(arguments) as? Status)
        let node = DefaultPaths.node.socket
        let found = command.connection.socket(
            environment: environment, own: node, exists: { _ in false })
        #expect(found == socket)
    }

    /// the sockets that exist; whom malla asks
    @Test(arguments: [
        (["/own", "/run/malla/agent.sock"], "/own"), (["/own"], "/own"),
        (["/run/malla/agent.sock"], "/run/malla/agent.sock"), ([], "/own"),
    ])
    func `a user's own agent comes before the node's`(sockets: [String], asked: String) throws {
        let command = try #require(try Malla.parseAsRoot(["status"]) as? Status)
        let found = command.connection.socket(
            environment: [:], own: "/own", exists: sockets.contains)
        #expect(found == asked)
    }

    static let usable = ["/run/user/7", "/home/a", "/var/tmp", "/state"]

    /// user, environment, state, socket
    @Test(arguments: [
        (UInt32(0), ["HOME": "/home/a"], "/var/lib/malla", "/run/malla/agent.sock"),
        (7, [:], "/tmp/malla-7", "/tmp/malla-7/agent.sock"),
        (7, ["HOME": "/nonexistent"], "/tmp/malla-7", "/tmp/malla-7/agent.sock"),
        (7, ["TMPDIR": "/var/tmp"], "/var/tmp/malla-7", "/var/tmp/malla-7/agent.sock"),
        (
            7, ["HOME": "/home/a", "XDG_RUNTIME_DIR": "/run/user/7"],
            "/home/a/.local/state/malla", "/run/user/7/malla/agent.sock"
        ),
        (
            7, ["HOME": "/home/a", "XDG_STATE_HOME": "/state"], "/state/malla",
            "/tmp/malla-7/agent.sock"
        ),
    ])
    func `without root the defaults are the user's own directories`(
        user: UInt32, environment: [String: String], state: String, socket: String
    ) {
        let found = DefaultPaths(
            user: user, environment: environment, isUsable: Self.usable.contains)
        #expect(found == DefaultPaths(state: state, socket: socket))
    }

    @Test(arguments: [
        ["bogus"], ["status", "extra"], ["status", "-o", "yaml"], ["services", "-n"],
        ["config", "validate"], ["check", "--datapath", "maybe"], ["bpf", "nothing"],
        ["policy", "trace", "--from", "a"], ["policy", "trace", "--from", "a", "--to", "b"],
        ["policy", "trace", "--from", "a", "--to", "b c", "--port", "80"],
        ["policy", "trace", "--from", "a", "--to", "b", "--port", "65536"],
        ["observe", "--port", "0"], ["observe", "--last", "0"], ["observe", "--protocol", "foo"],
        ["observe", "--last", "-1", "--follow"],
    ])
    func `what cannot be understood is a usage error`(arguments: [String]) {
        #expect {
            var command = try Malla.parseAsRoot(arguments)
            try command.run()
        } throws: { Malla.exitCode(for: $0).rawValue == 64 }
    }

    @Test(arguments: [
        ["check"], ["status"], ["endpoints"], ["services"], ["routes"], ["bpf", "stats"],
        ["bpf", "ct", "list"], ["bpf", "ct", "flush"], ["bpf", "ipcache"], ["bpf", "identities"],
        ["bpf", "policy"], ["bpf", "verdicts"], ["bpf", "maps"], ["bpf", "programs"],
        ["policy", "list"], ["policy", "trace"],
        ["config", "validate"], ["version"],
    ])
    func `every command's help has an abstract, examples and its options`(command: [String]) throws
    {
        let help = try Program.run(command + ["--help"])
        #expect(help.code == 0)
        for part in ["OVERVIEW:", "EXAMPLES", "USAGE: malla \(command[0])", "--output"] {
            #expect(help.output.contains(part))
        }
    }
}
