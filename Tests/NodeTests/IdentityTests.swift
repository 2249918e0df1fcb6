import Foundation
import TestSupport
import Testing

/// Agents without a datapath: identity is the control side's affair.
@Suite("Agents share an authority, and keep their certificates fresh", .serialized)
struct IdentityTests {
    @Test func `two that start together issue from one root, rotate, and notice a new one`() throws
    {
        let bed = try IdentityBed()
        defer { bed.close() }
        let agents = try [bed.start("n1"), bed.start("n2")]
        for agent in agents { try agent.waitForCertificates(1) }

        // One root, made whole, readable by its owner only.
        let roots = try agents.map { try $0.certificates("authority") }
        #expect(roots[0].map(\.serial) == roots[1].map(\.serial))
        #expect(roots[0].count == 1)
        #expect(
            try bed.shell("stat -c %a ca ca/ca.crt ca/ca.key; ls -A ca")
                == "700\n600\n600\nca.crt\nca.key\n")

        // Each for the account of its own pod, and openssl believes both.
        for agent in agents {
            let items = try agent.certificates("workload")
            #expect(items.map(\.identity) == ["spiffe://cluster.local/ns/shop/sa/\(agent.name)"])
            #expect(items.map(\.pods) == [["shop/pod-\(agent.name)"]])
            try agent.pem(to: "\(agent.name).pem")
            #expect(
                try bed.shell("openssl verify -x509_strict -CAfile ca/ca.crt \(agent.name).pem")
                    .contains("OK"))
        }

        // 12 s of life: replaced after five or six, and valid whenever it is asked.
        let first = try agents[0].certificates("workload").map(\.serial)
        try eventually("the certificate is replaced", within: 15) {
            let items = try agents[0].certificates("workload")
            #expect(items.allSatisfy { $0.remainingSeconds > 0 && $0.state != "expired" })
            return items.map(\.serial) != first && items.first?.state == "valid"
        }

        // Another root beside the first: no restart, and both are believed.
        try bed.shell(
            """
            openssl req -x509 -newkey ed25519 -nodes -keyout k -out c -subj /CN=next -days 9 \
              -addext keyUsage=critical,keyCertSign
            cat ca/ca.crt c > ca/n && mv ca/n ca/ca.crt
            """)
        for agent in agents {
            try eventually("\(agent.name) believes both roots") {
                try agent.certificates("authority").count == 2
            }
            #expect(agent.process.exitStatus == nil)
        }
        try agents[0].expectsNoKey(in: bed)
        try checkWords(agents[0])
    }

    @Test func `the age of a certificate grows, and falls when it is replaced`() throws {
        let bed = try IdentityBed()
        defer { bed.close() }
        let agent = try bed.start("n1")
        try agent.waitForCertificates(1)
        let id = "spiffe://cluster.local/ns/shop/sa/n1"
        func age() throws -> Int {
            let name = "malla_certificate_age_seconds{identity=\"\(id)\"} "
            let lines = try agent.get("/metrics").split(separator: "\n")
            return try #require(
                lines.first { $0.hasPrefix(name) }.flatMap { Int($0.dropFirst(name.count)) })
        }
        func serial() throws -> String? { try agent.certificates("workload").first?.serial }
        // Of a certificate that lives for 12 s, and was the same before and behind the look.
        var (oldest, youngest) = (0, Int.max)
        var first: String?
        try eventually("another one is young, when the first was older", within: 20) {
            let before = try serial()
            let now = try age()
            guard before != nil, try serial() == before else { return false }
            first = first ?? before
            #expect((0...12).contains(now))
            if before == first { oldest = max(oldest, now) } else { youngest = min(youngest, now) }
            return oldest > 0 && youngest < oldest
        }
    }

    @Test func `the process with the keys cannot be dumped`() throws {
        let bed = try IdentityBed()
        defer { bed.close() }
        try bed.shell("mkdir ca s && chown 65534 ca s . && chmod 755 .")
        let agent = try bed.start("n1", as: ["setpriv", "--reuid", "65534", "--clear-groups"])
        try agent.waitForCertificates(1)
        let pid = agent.process.pid
        let child = Command.text("/proc/\(pid)/task/\(pid)/children").split(separator: " ").last
        // The kernel gives the files of a process that may not be dumped to root.
        #expect(try bed.shell("stat -c %u /proc/\(pid)/maps") == "65534\n")
        #expect(try bed.shell("stat -c %u /proc/\(child ?? "none")/maps") == "0\n")
    }

    @Test func `who takes another's place waits for the Workload API, and not for ever`() throws {
        let bed = try IdentityBed()
        defer { bed.close() }
        try bed.makeWorkload("n1")
        let server = try bed.startWorkloadAPI()
        let agent = try bed.start("n1", source: ["--workload-api", "\(bed.path)/api.sock"])
        try agent.waitForCertificates(1)
        func restart() throws {
            let before = try agent.serving()
            agent.process.signal(SIGUSR2)
            try eventually("another serves; \(agent.process.text.suffix(2_000))", within: 30) {
                try ![0, before].contains(agent.serving())
            }
        }
        for _ in 1...3 {
            try restart()
            // Its first answers.
            #expect(try agent.certificates("workload").map(\.state) == ["valid"])
        }
        let vain = "has not answered within 5 s"
        #expect(!agent.process.text.contains(vain), "\(agent.process.text)")
        // Without an API the node serves.
        server.stop()
        try bed.shell("rm -f api.sock")
        try restart()
        #expect(agent.process.text.contains(vain), "\(agent.process.text)")
        #expect(try agent.certificates("workload").map(\.state) == ["missing"])
    }

    @Test func `a bundle that cannot be had keeps the node from being ready, and says why`() throws
    {
        let bed = try IdentityBed()
        defer { bed.close() }
        try bed.shell("mkdir ca && echo x > ca/ca.crt")
        let agent = try bed.start("n1")
        try eventually("status tells why") {
            let status = try agent.malla("status")
            return status.output.contains("not ready: identity: ")
                && status.output.contains("ca.crt holds no CERTIFICATE")
        }
        try bed.shell("rm ca/ca.crt")
        try agent.waitForCertificates(1)
        #expect(try agent.malla("status").output.contains("1 of 1 certificates"))
    }

    private func checkWords(_ agent: IdentityBed.Agent) throws {
        let status = try agent.malla("status").output
        #expect(status.contains("trust domain cluster.local, 1 of 1 certificates"))
        let table = try agent.malla("certs").output
        #expect(table.contains("IDENTITY") && table.contains("/sa/n1"))
        let check = try agent.malla("check", "--datapath", "off").output
        #expect(check.contains("certificates") && check.contains("1 valid"))
        let metrics = try agent.get("/metrics")
        #expect(metrics.contains("malla_certificate_expiry_timestamp_seconds{identity=\"spiffe://"))
        #expect(metrics.contains("malla_authority_expiry_timestamp_seconds{trust_domain="))
        #expect(metrics.contains("malla_certificates_missing 0\n"))
        let types = metrics.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }
        #expect(Set(types).count == types.count)
    }
}

/// A directory with a configuration of two nodes, one pod each, and the agents that read it.
private final class IdentityBed {
    struct Item: Decodable {
        var type: String
        var identity: String
        var serial: String
        var state: String
        var remainingSeconds: Int
        var pods: [String]
    }

    struct Agent {
        let name: String
        let socket: String
        let process: TestProcess
        let bed: IdentityBed

        func malla(_ arguments: String...) throws -> Outcome {
            try Command.run([Binaries.malla, "--socket", socket] + arguments)
        }

        func get(_ path: String) throws -> String {
            try Command.run(["curl", "-s", "--unix-socket", socket, "http://agent\(path)"]).output
        }

        func certificates(_ type: String) throws -> [Item] {
            struct List: Decodable { var items: [Item] }
            let outcome = try malla("certs", "-o", "json")
            guard outcome.isSuccess else { return [] }
            return try JSONDecoder().decode(List.self, from: Data(outcome.output.utf8)).items
                .filter { $0.type == type }
        }

        func waitForCertificates(_ count: Int) throws {
            try eventually("\(name) has its certificates; \(process.text.suffix(2_000))") {
                if let status = process.exitStatus {
                    throw CommandFailure(description: "agent ended: \(status) \(process.text)")
                }
                let items = try certificates("workload")
                return items.count == count && items.allSatisfy { $0.state == "valid" }
            }
        }

        /// The process that answers, 0: none does.
        func serving() throws -> Int {
            let status = try get("/v1/status")
            guard let place = status.firstRange(of: "\"pid\":") else { return 0 }
            return Int(status[place.upperBound...].prefix { $0.isNumber }) ?? 0
        }

        func pem(to file: String) throws {
            let text = try malla("certs", "--pem").output
            try text.write(toFile: "\(bed.path)/\(file)", atomically: true, encoding: .utf8)
        }

        /// Neither its log, nor what it answers, nor what it keeps.
        func expectsNoKey(in bed: IdentityBed) throws {
            var texts = [process.text]
            for path in ["/v1/certificates", "/v1/status", "/metrics", "/v1/config/diagnostics"] {
                texts.append(try get(path))
            }
            texts.append(try bed.shell("find \(name)-state -type f -exec cat {} +"))
            for text in texts { #expect(!text.contains("PRIVATE KEY")) }
        }
    }

    let path: String
    private var agents: [Agent] = []
    private var servers: [TestProcess] = []

    init() throws {
        path = NSTemporaryDirectory() + "malla-identity-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try shell(
            """
            mkdir config
            for n in 1 2; do cat > config/n$n.yaml <<END
            apiVersion: v1
            kind: Pod
            metadata: {name: pod-n$n, namespace: shop}
            spec: {nodeName: n$n, serviceAccountName: n$n}
            status: {podIP: 10.9.$n.1}
            END
            done
            """)
    }

    @discardableResult func shell(_ script: String) throws -> String {
        try Command.shell("cd \(path)\n" + script)
    }

    /// A certificate for the account, and the message that gives it.
    func makeWorkload(_ account: String) throws {
        try shell(
            """
            openssl req -x509 -newkey ed25519 -nodes -keyout ca.key -out ca.crt -subj /CN=ca \
              -days 3 -addext keyUsage=critical,keyCertSign,cRLSign
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout own.key \
              -out own.csr -subj /CN=x
            printf 'subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/%s\\n%s\\n' \(account) \
              'keyUsage=digitalSignature' > own.ext
            openssl x509 -req -in own.csr -CA ca.crt -CAkey ca.key -days 1 -extfile own.ext \
              -out own.crt
            cat > said.json <<END
            {"svids": [{"id": "spiffe://cluster.local/ns/shop/sa/\(account)", "chain": "own.crt",
             "key": "own.key", "bundle": "ca.crt"}]}
            END
            """)
    }

    func startWorkloadAPI() throws -> TestProcess {
        let script = Binaries.repository + "/Tests/NodeAgentTests/Fixtures/workload_api.py"
        let server = try Command.background(
            ["sh", "-c", "cd \(path) && exec /usr/bin/python3 \(script) api.sock said.json"],
            log: path + "/server.log")
        let socket = path + "/api.sock"
        try eventually("the API listens") { FileManager.default.fileExists(atPath: socket) }
        servers.append(server)
        return server
    }

    /// - Parameter source: of identities; `nil`: an authority that all share.
    func start(_ name: String, as user: [String] = [], source: [String]? = nil) throws -> Agent {
        let socket = "\(path)/\(name).sock"
        let process = try Command.background(
            user + [
                Binaries.agent, "run", "--datapath", "off", "--workers", "1", "--node", name,
                "--config", "\(path)/config", "--state", "\(path)/\(name)-state",
                "--socket", socket, "--admin", "127.0.0.1:0", "--cert-ttl", "12s",
            ] + (source ?? ["--ca", "\(path)/ca"]), log: "\(path)/\(name).log")
        let agent = Agent(name: name, socket: socket, process: process, bed: self)
        agents.append(agent)
        return agent
    }

    func close() {
        for agent in agents { agent.process.stop() }
        for server in servers { server.stop() }
        agents = []
        try? FileManager.default.removeItem(atPath: path)
    }
}
