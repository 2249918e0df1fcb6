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
        #expect(command.connection.socket(environment: environment) == socket)
    }

    @Test(arguments: [
        ["bogus"], ["status", "extra"], ["status", "-o", "yaml"], ["services", "-n"],
        ["config", "validate"], ["check", "--datapath", "maybe"], ["bpf", "nothing"],
        ["policy", "trace", "--from", "a"], ["policy", "trace", "--from", "a", "--to", "b"],
        ["policy", "trace", "--from", "a", "--to", "b c", "--port", "80"],
        ["policy", "trace", "--from", "a", "--to", "b", "--port", "65536"],
    ])
    func `what cannot be understood is a usage error`(arguments: [String]) {
        #expect {
            var command = try Malla.parseAsRoot(arguments)
            try command.run()
        } throws: { Malla.exitCode(for: $0).rawValue == 64 }
    }

    @Test(arguments: [
        ["check"], ["status"], ["endpoints"], ["services"], ["routes"], ["bpf", "stats"],
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
