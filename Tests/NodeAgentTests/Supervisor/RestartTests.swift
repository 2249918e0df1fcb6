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

@Suite("Descriptors of the first process (docs/operations.md)", .serialized)
struct SupervisorDescriptorTests {
    @Test func `a Gateway of sixty ports is opened with a soft limit of forty-eight`() throws {
        let agent = try RunningAgent(
            admin: 28_340, gateway: 28_341, listeners: 60, descriptors: "48:4096")
        defer { agent.stop() }
        _ = try #require(agent.waitForChild(after: 0))

        let status = agent.get("/v1/status", port: 28_340)

        #expect(status.contains("\"programmed\":true"))
        #expect(!status.contains("\"programmed\":false"), "\(status)")
    }

    @Test func `without any, a knock at its door does not make it spin`() throws {
        let agent = try RunningAgent(admin: 28_332, gateway: 28_333)
        defer { agent.stop() }
        _ = try #require(agent.waitForChild(after: 0))
        let used = try Set(
            FileManager.default.contentsOfDirectory(atPath: "/proc/\(agent.pid)/fd"))
        let lowest = try #require((0...64).first { !used.contains(String($0)) })
        try agent.limit("\(lowest):4096")
        let before = agent.ticks()

        let (code, text) = try agent.runAnother(more: ["--takeover"])

        // It has knocked for five seconds, which would be five hundred.
        #expect(agent.ticks() - before < 100)
        #expect(code == 69, "\(text)")
    }
}

@Suite("An agent that is ending", .serialized)
struct EndingTests {
    @Test func `hands nothing over, and says so`() throws {
        let agent = try RunningAgent(admin: 28_334, gateway: 28_335)
        defer { agent.stop() }
        _ = try #require(agent.waitForChild(after: 0))
        // Half a head holds the drain up.
        let client = Process()
        client.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
        client.arguments = [
            "-c",
            """
            import socket
            s = socket.create_connection(("127.0.0.1", 28335))
            s.sendall(b"GET / HTTP/1.1\\r\\nHost:")
            print(s.recv(99))
            """,
        ]
        try client.run()
        defer { client.waitUntilExit() }
        try #require(
            (0..<200).contains { _ in
                agent.get("/metrics", port: 28_334).contains("\nmalla_connections_active 1\n")
            })
        kill(agent.pid, SIGTERM)
        // The supervisor has taken the signal.
        for _ in 0..<10_000 where agent.hasPendingSignal() { poll(nil, 0, 1) }
        try #require(!agent.hasPendingSignal())

        let (code, text) = try agent.runAnother(more: ["--takeover"])

        #expect(code == 69, "\(text)")
        #expect(text.contains("the other agent is ending"), "\(text)")
    }
}

@Suite("Connections to the admin port that nobody uses", .serialized)
struct AdminPortTests {
    @Test func `keep nobody out, and are ended, the longest unused first`() throws {
        let agent = try RunningAgent(admin: 28_336, gateway: 28_337)
        defer { agent.stop() }
        _ = try #require(agent.waitForChild(after: 0))
        let script = """
            import socket, urllib.request
            held = [socket.create_connection(("127.0.0.1", 28336), 20) for _ in range(100)]
            print("first:", held[0].recv(1))
            text = urllib.request.urlopen("http://127.0.0.1:28336/metrics", timeout=20).read()
            print(*[l for l in text.decode().splitlines() if "admin_connections_ended" in l])
            """

        let text = try RunningAgent.run(["-c", script], "/usr/bin/python3").text

        #expect(text.contains("first: b''"), "\(text)")
        #expect(text.contains("malla_admin_connections_ended_total{reason=\"limit\"} "), "\(text)")
        #expect(!text.contains("reason=\"limit\"} 0"), "\(text)")
    }

    /// Clients take all descriptors that they can have, then those who hold the admin port and the
    /// Unix socket come; prints how many clients were turned away, and who is answered then.
    private static let crowd = """
        import resource, socket, sys, urllib.request
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        def connect(family, address):
            s = socket.socket(family)
            s.settimeout(5)
            s.connect(address)
            held.append(s)
            return s
        held, away = [], 0
        for _ in range(900):
            s = connect(socket.AF_INET, ("127.0.0.1", 28339))
            s.settimeout(0.02)
            try:
                s.sendall(b"GET / HTTP/1.1\\r\\nX-Half:")
                away += s.recv(12) == b"HTTP/1.1 503"
            except OSError:
                pass
            if away == 8:
                break
        print("turned away:", away)
        for _ in range(40):
            connect(socket.AF_INET, ("127.0.0.1", 28338))
            connect(socket.AF_UNIX, sys.argv[1])
        for path in "livez", "metrics":
            answer = urllib.request.urlopen("http://127.0.0.1:28338/" + path, timeout=10)
            print(path, answer.status)
        """

    @Test func `a full admin port answers, though clients have taken all descriptors`() throws {
        let agent = try RunningAgent(admin: 28_338, gateway: 28_339)
        defer { agent.stop() }
        let child = try #require(agent.waitForChild(after: 0))
        try agent.limit("600:600", of: child)

        let words = ["-c", Self.crowd, agent.directory + "/agent.sock"]
        let text = try RunningAgent.run(words, "/usr/bin/python3").text

        #expect(text.contains("turned away: 8"), "\(text)")
        #expect(text.contains("livez 200") && text.contains("metrics 200"), "\(text)")
    }
}

/// An agent of this build with one Gateway, in a directory of its own.
private final class RunningAgent {
    let directory: String
    private let process: Process
    private let admin: Int

    /// - Parameter descriptors: its limits, soft and hard, as prlimit(1) takes them.
    init(admin: Int, gateway: Int, listeners: Int = 1, descriptors: String? = nil) throws {
        self.admin = admin
        directory = NSTemporaryDirectory() + "malla-agent-test-\(getpid())-\(admin)"
        let config = directory + "/config"
        try FileManager.default.createDirectory(
            atPath: config, withIntermediateDirectories: true)
        let list = (0..<listeners).map {
            "  - {name: http\($0), port: \(gateway + $0), protocol: HTTP}"
        }
        try """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: web, namespace: default}
        spec:
          gatewayClassName: malla
          listeners:
        \(list.joined(separator: "\n"))
        """.write(toFile: config + "/gateway.yaml", atomically: true, encoding: .utf8)
        process = Process()
        let arguments = Self.arguments(directory, admin)
        process.executableURL = Self.executable
        process.arguments = arguments
        if let descriptors {
            process.executableURL = URL(fileURLWithPath: "/usr/bin/prlimit")
            process.arguments = ["--nofile=\(descriptors)", Self.executable.path] + arguments
        }
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

    /// Runs to the end, for a minute at most; what it wrote.
    static func run(
        _ arguments: [String], _ program: String = executable.path
    ) throws -> (code: Int32, text: String) {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        process.arguments = ["60", program] + arguments
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let text = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: text, as: UTF8.self))
    }

    func runAnother(
        state: String? = nil, more: [String] = []
    ) throws -> (code: Int32, text: String) {
        try Self.run(Self.arguments(directory, admin, state: state) + more)
    }

    /// - Parameter other: whom, if not the first process.
    func limit(_ descriptors: String, of other: Int32? = nil) throws {
        let limits = ["--pid", "\(other ?? pid)", "--nofile=\(descriptors)"]
        _ = try Self.run(limits, "/usr/bin/prlimit")
    }

    /// Processor time of the supervisor, in hundredths of a second.
    func ticks() -> Int {
        let text = (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)) ?? ""
        let fields = text.split(separator: " ")
        return fields.count > 14 ? (Int(fields[13]) ?? 0) + (Int(fields[14]) ?? 0) : 0
    }

    func hasPendingSignal() -> Bool {
        let text = (try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)) ?? ""
        return text.split(separator: "\n").contains {
            $0.hasPrefix("ShdPnd:") && !$0.hasSuffix("0000000000000000")
        }
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
