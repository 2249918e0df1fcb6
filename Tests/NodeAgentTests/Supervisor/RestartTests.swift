// The agent as two real processes, datapath off: what a killed child costs.

import Foundation
import Testing

@Suite("A killed child (DESIGN: two processes of one binary)", .serialized)
struct RestartTests {
    @Test func `no listener is lost and the next child answers`() throws {
        let agent = try RunningAgent(admin: 28_320, gateway: 28_321)
        defer { agent.stop() }
        let first = try #require(agent.waitForChild(after: 0))

        kill(first, SIGKILL)

        // Connected at once, while no child lives: the supervisor holds the queue.
        let answer = agent.get("/metrics", port: 28_320)
        let second = try #require(agent.waitForChild(after: first))
        #expect(second != first)
        #expect(answer.contains("malla_agent_restarts_total 1"))
    }

    @Test func `SIGTERM ends both with 0 and removes the socket`() throws {
        let agent = try RunningAgent(admin: 28_322, gateway: 28_323)
        let child = try #require(agent.waitForChild(after: 0))

        #expect(agent.stop() == 0)
        #expect(kill(child, 0) == -1)
        #expect(!FileManager.default.fileExists(atPath: agent.directory + "/agent.sock"))
    }

    @Test func `a second agent is refused with 69, one line and the first one's pid`() throws {
        let agent = try RunningAgent(admin: 28_324, gateway: 28_325)
        defer { agent.stop() }
        _ = try #require(agent.waitForChild(after: 0))

        let (code, text) = try agent.runAnother()

        #expect(code == 69)
        #expect(text.contains("pid \(agent.pid)"))
        #expect(text.split(separator: "\n").count == 1)
    }

    @Test func `a second agent at the same socket is told the supervisor's pid`() throws {
        let agent = try RunningAgent(admin: 28_330, gateway: 28_331)
        defer { agent.stop() }
        _ = try #require(agent.waitForChild(after: 0))

        let (code, text) = try agent.runAnother(state: agent.directory + "/other")

        #expect(code == 69)
        #expect(text.contains("(pid \(agent.pid)) already serves the socket"), "\(text)")
    }

    @Test func `a directory that cannot be read is refused with 78`() throws {
        let (code, text) = try RunningAgent.run([
            "run", "--config", "/nonexistent", "--datapath", "off",
        ])

        #expect(code == 78)
        #expect(text.contains("/nonexistent"))
    }

    @Test func `a port in use is said of its listener and the rest is served`() throws {
        let holder = try RunningAgent(admin: 28_326, gateway: 28_327)
        defer { holder.stop() }
        _ = try #require(holder.waitForChild(after: 0))
        let agent = try RunningAgent(admin: 28_328, gateway: 28_327)
        defer { agent.stop() }
        _ = try #require(agent.waitForChild(after: 0))

        let status = agent.get("/v1/status", port: 28_328)

        #expect(status.contains("\"programmed\":false"))
        #expect(status.contains("Address already in use"))
    }
}

/// An agent of this build with one Gateway, in a directory of its own.
private final class RunningAgent {
    let directory: String
    private let process: Process
    private let admin: Int

    init(admin: Int, gateway: Int) throws {
        self.admin = admin
        directory = NSTemporaryDirectory() + "malla-agent-test-\(getpid())-\(admin)"
        let config = directory + "/config"
        try FileManager.default.createDirectory(
            atPath: config, withIntermediateDirectories: true)
        try """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: web, namespace: default}
        spec:
          gatewayClassName: malla
          listeners:
          - {name: http, port: \(gateway), protocol: HTTP}
        """.write(toFile: config + "/gateway.yaml", atomically: true, encoding: .utf8)
        process = Process()
        process.executableURL = Self.executable
        process.arguments = Self.arguments(directory, admin)
        process.standardError = FileHandle.nullDevice
        try process.run()
    }

    var pid: Int32 { process.processIdentifier }

    /// The product stands beside the test bundle.
    static var executable: URL {
        URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appendingPathComponent("malla-agent")
    }

    private static func arguments(
        _ directory: String, _ admin: Int, state: String? = nil
    ) -> [String] {
        [
            "run", "--config", directory + "/config", "--datapath", "off", "--workers", "1",
            "--state", state ?? directory, "--socket", directory + "/agent.sock", "--admin",
            "127.0.0.1:\(admin)",
        ]
    }

    /// Runs to the end; what it wrote to standard error.
    static func run(_ arguments: [String]) throws -> (code: Int32, text: String) {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = executable
        process.arguments = arguments
        process.standardError = pipe
        try process.run()
        let text = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: text, as: UTF8.self))
    }

    func runAnother(state: String? = nil) throws -> (code: Int32, text: String) {
        try Self.run(Self.arguments(directory, admin, state: state))
    }

    /// The child's pid once it answers; at most ten seconds.
    func waitForChild(after previous: Int32) -> Int32? {
        let deadline = Date().addingTimeInterval(10)
        while Date() < deadline {
            let status = get("/v1/status", port: admin)
            if let range = status.range(of: "\"pid\":"),
                let pid = Int32(status[range.upperBound...].prefix { $0.isNumber }),
                pid != previous
            {
                return pid
            }
        }
        return nil
    }

    /// The body of an answer, empty if there is none within three seconds.
    func get(_ path: String, port: Int) -> String {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/curl")
        process.arguments = [
            "-s", "--max-time", "3", "--retry", "3", "--retry-connrefused",
            "http://127.0.0.1:\(port)\(path)",
        ]
        process.standardOutput = pipe
        guard (try? process.run()) != nil else { return "" }
        let body = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: body, as: UTF8.self)
    }

    @discardableResult func stop() -> Int32 {
        if process.isRunning { process.terminate() }
        process.waitUntilExit()
        try? FileManager.default.removeItem(atPath: directory)
        return process.terminationStatus
    }
}
