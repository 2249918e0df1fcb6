// deploy/daemonset.yaml: valid for the Kubernetes versions that we name, and true to the agent.

import Foundation
import Testing

@Suite("deploy/daemonset.yaml")
struct DaemonSetTests {
    private static let path = "deploy/daemonset.yaml"

    @Test(arguments: ["1.34", "1.35"])
    func `is valid, strictly, for Kubernetes`(_ version: String) throws {
        let program = try Self.validator()
        guard let program else { return }
        let manifest = Repository.root.appendingPathComponent(Self.path).path
        let result = try Program.run(program, ["-k", version, "--strict", manifest])

        #expect(result.status == 0, "\(result.output)")
    }

    /// `make prepare` puts it into build/venv. Without it the test fails, except where a person
    /// without the network asked for that by MALLA_TEST_OFFLINE=1 outside of CI.
    private static func validator() throws -> String? {
        let environment = ProcessInfo.processInfo.environment
        let candidates = [
            environment["MALLA_KUBERNETES_VALIDATE"],
            Repository.root.appendingPathComponent("build/venv/bin/kubernetes-validate").path,
        ].compactMap { $0 }
        if let found = candidates.first(where: FileManager.default.isExecutableFile(atPath:)) {
            return found
        }
        if environment["MALLA_TEST_OFFLINE"] == "1" && environment["CI"] == nil {
            print("skipped: no kubernetes-validate (MALLA_TEST_OFFLINE=1)")
            return nil
        }
        Issue.record("found no kubernetes-validate; run `make build/venv/bin/kubernetes-validate`")
        return nil
    }

    @Test func `every capability and every mount says why`() throws {
        let lines = try Self.lines()
        var silent: [Violation] = []
        var section = ""
        for (index, line) in lines.enumerated() {
            let words = line.trimmingCharacters(in: .whitespaces)
            if words.hasSuffix(":") { section = words }
            let needsReason =
                (section == "add:" && words.hasPrefix("- "))
                || words.hasPrefix("mountPath:")
            guard needsReason else { continue }
            let before = lines[index - (words.hasPrefix("mountPath:") ? 2 : 1)]
            guard !line.contains("#") && !before.contains("#") else { continue }
            silent.append(
                Violation(path: Self.path, line: index + 1, remedy: "say why in a comment"))
        }
        expectNone(silent)
    }

    @Test(arguments: [
        ("all other capabilities are dropped", "drop: [ALL]"),
        ("it is not privileged", "privileged: false"),
        ("its root is read-only", "readOnlyRootFilesystem: true"),
        ("one node at a time is updated", "maxUnavailable: 1"),
        ("it runs where Gateways listen: on the node's network", "hostNetwork: true"),
        (
            "it is not evicted before the pods that it serves",
            "priorityClassName: system-node-critical"
        ),
        ("it runs on every node, tainted or not", "- operator: Exists"),
    ])
    func `holds to the promise`(_ promise: String, _ line: String) throws {
        let lines = try Self.lines().map { $0.trimmingCharacters(in: .whitespaces) }
        #expect(lines.contains { $0 == line || $0.hasPrefix(line + " ") }, "\(promise): \(line)")
    }

    @Test func `passes only options that the agent has`() throws {
        let known = Set(
            Repository.sources.filter { $0.path.hasPrefix("Sources/NodeAgent/") }
                .flatMap(\.options).map(\.name))
        let used = try Self.lines().map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { $0.hasPrefix("- --") }
            .map { String($0.dropFirst("- --".count).prefix { $0 != "=" && $0 != " " }) }

        #expect(!used.isEmpty)
        #expect(Set(used).subtracting(known).sorted() == [])
    }

    @Test func `the objects of its ConfigMap are valid, strictly`() throws {
        let directory = FileManager.default.temporaryDirectory
            .appendingPathComponent("malla-tidy-\(ProcessInfo.processInfo.processIdentifier)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let files = try Self.configuration()
        for (name, text) in files {
            try text.write(
                to: directory.appendingPathComponent(name), atomically: true, encoding: .utf8)
        }
        let malla = try Program.built("malla")

        let result = try Program.run(malla, ["config", "validate", "--strict", directory.path])

        #expect(files.count == 2)
        #expect(result.status == 0, "\(result.output)")
    }

    /// Names and texts of the ConfigMap's `data`: block scalars, indented by four.
    private static func configuration() throws -> [(name: String, text: String)] {
        var files: [(name: String, text: String)] = []
        var isData = false
        for line in try lines() {
            if line == "---" || line.hasPrefix("apiVersion:") { isData = false }
            if line == "data:" { isData = true }
            guard isData else { continue }
            if line.hasPrefix("    "), !files.isEmpty {
                files[files.count - 1].text += line.dropFirst(4) + "\n"
            } else if line.hasPrefix("  "), line.hasSuffix(": |") {
                files.append((String(line.dropFirst(2).dropLast(3)), ""))
            }
        }
        return files
    }

    private static func lines() throws -> [String] {
        try Repository.text(path).split(separator: "\n", omittingEmptySubsequences: false)
            .map(String.init)
    }
}
