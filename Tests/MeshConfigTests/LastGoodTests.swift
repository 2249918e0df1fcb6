internal import Foundation
internal import MeshModel
import Testing

@testable import MeshConfig

@Suite("What was good stays in force after a restart")
struct LastGoodTests {
    private static func service(_ name: String, port: Int, _ last: Int = 1) -> String {
        "apiVersion: v1\nkind: Service\nmetadata: {name: \(name)}\n"
            + "spec: {clusterIP: 10.96.0.\(last), ports: [{port: \(port)}]}\n"
    }

    private static func ports(_ result: ConfigResult) -> [UInt16] {
        result.mesh.services.flatMap(\.ports).map(\.port)
    }

    /// An agent's life: reads `directory`, keeps what is in force in `state`.
    private struct Life {
        var store: ConfigStore
        var kept: LastGoodDirectory
        var result: ConfigResult
        var outcome: LastGoodDirectory.Outcome
        /// Whether the state was looked at, and what was wrong with it.
        let problems = Problems()

        final class Problems { var lines: [String]? }

        init(_ directory: TestDirectory, _ state: TestDirectory) throws {
            kept = LastGoodDirectory(state: state.path, configuration: directory.path)
            let problems = self.problems
            let kept = self.kept
            store = ConfigStore(directory: directory.path) {
                var copy = kept
                let (lastGood, lines) = copy.load()
                problems.lines = lines
                return lastGood
            }
            result = try store.reload()
            outcome = self.kept.keep(store.inForce)
        }

        mutating func again() throws {
            result = try store.reload()
            outcome = kept.keep(store.inForce)
        }
    }

    @Test func `an object that broke while no agent ran keeps its last good version`() throws {
        let directory = TestDirectory()
        let state = TestDirectory()
        directory.write(
            "a.yaml", Self.service("a", port: 80) + "---\n" + Self.service("b", port: 81, 2))
        _ = try Life(directory, state)
        directory.write(
            "a.yaml", Self.service("a", port: 70000) + "---\n" + Self.service("b", port: 82, 2))
        var next = try Life(directory, state)
        #expect(Self.ports(next.result) == [80, 82])
        let found = try #require(next.result.diagnostics.first { $0.severity == .error })
        #expect(found.object == "Service default/a" && found.line == 4)
        #expect(found.message.contains("last good version stays"))
        // And once more, by what the second agent kept of the first one's.
        next = try Life(directory, state)
        #expect(Self.ports(next.result) == [80, 82])
        directory.write("a.yaml", Self.service("a", port: 83))
        try next.again()
        #expect(Self.ports(next.result) == [83] && next.result.diagnostics.isEmpty)
    }

    @Test func `a file that is no YAML after a restart keeps its objects until it is mended`()
        throws
    {
        let directory = TestDirectory()
        let state = TestDirectory()
        directory.write("x/a.yaml", Self.service("a", port: 80))
        directory.write("b.yaml", Self.service("b", port: 81, 2))
        _ = try Life(directory, state)
        directory.write("x/a.yaml", "a: [")
        var next = try Life(directory, state)
        #expect(Self.ports(next.result) == [80, 81])
        #expect(next.result.unreadableFiles == ["x/a.yaml"])
        let found = try #require(next.result.diagnostics.first)
        #expect(found.message.contains("its last 1 good object(s) stay in force"), "\(found)")
        try next.again()
        #expect(Self.ports(next.result) == [80, 81] && !next.result.isChanged)
        directory.write("x/a.yaml", Self.service("a", port: 82))
        try next.again()
        #expect(Self.ports(next.result) == [82, 81] && next.result.unreadableFiles == [])
    }

    @Test func `what was removed stays removed, whoever ran`() throws {
        let directory = TestDirectory()
        let state = TestDirectory()
        directory.write(
            "a.yaml", Self.service("a", port: 80) + "---\n" + Self.service("b", port: 81, 2))
        directory.write("c.yaml", Self.service("c", port: 82, 3))
        _ = try Life(directory, state)
        // While no agent runs: b goes out of its file, c with its file.
        directory.write("a.yaml", Self.service("a", port: 70000))
        directory.remove("c.yaml")
        var next = try Life(directory, state)
        #expect(Self.ports(next.result) == [80])
        #expect(next.outcome.files == 1)
        // A file that comes back broken has no good version any more.
        directory.write("c.yaml", "c: [")
        try next.again()
        #expect(Self.ports(next.result) == [80])
        #expect(Self.ports(try Life(directory, state).result) == [80])
    }

    @Test func `of an object in two files the earlier one's version stays, after a restart too`()
        throws
    {
        let directory = TestDirectory()
        let state = TestDirectory()
        directory.write("a.yaml", Self.service("a", port: 80))
        _ = try Life(directory, state)
        directory.write("b.yaml", Self.service("a", port: 81))
        #expect(Self.ports(try Life(directory, state).result) == [80])
    }

    @Test func `a directory that cannot be listed falls back on all that was in force`() throws {
        let directory = TestDirectory()
        let state = TestDirectory()
        directory.write("conf/a.yaml", Self.service("a", port: 80))
        directory.write("conf/x/b.yaml", Self.service("b", port: 81, 2))
        var kept = LastGoodDirectory(state: state.path, configuration: directory.path + "/conf")
        var store = ConfigStore(directory: directory.path + "/conf")
        _ = try store.reload()
        #expect(kept.keep(store.inForce).problems == [])
        directory.remove("conf")
        var next = ConfigStore(directory: directory.path + "/conf") { kept.load().lastGood }
        #expect(throws: ConfigError.self) { try next.reload() }
        #expect(Self.ports(next.fallBack()) == [80, 81])
        // Back again, with less in it: the directory decides.
        directory.write("conf/a.yaml", Self.service("a", port: 82))
        #expect(Self.ports(try next.reload()) == [82])
    }

    @Test func `a good start does not look at the state, and writes nothing twice`() throws {
        let directory = TestDirectory()
        let state = TestDirectory()
        directory.write("a.yaml", Self.service("a", port: 80))
        let first = try Life(directory, state)
        #expect(first.outcome.files == 1 && first.outcome.objects == 1 && first.outcome.bytes > 64)
        let file = state.path + "/config/" + LastGoodDirectory.name(of: "a.yaml")
        func inode() throws -> Int {
            let attributes = try FileManager.default.attributesOfItem(atPath: file)
            #expect(attributes[.posixPermissions] as? Int == 0o600)
            return try #require(attributes[.systemFileNumber] as? Int)
        }
        let before = try inode()
        var next = try Life(directory, state)
        #expect(next.problems.lines == nil)
        #expect(try inode() == before)
        directory.write("a.yaml", Self.service("a", port: 81))
        try next.again()
        #expect(try inode() != before)
        #expect(
            Set(try FileManager.default.contentsOfDirectory(atPath: state.path + "/config")).count
                == 1)
    }

    /// what, how a whole file is spoilt, what is said of it
    static let spoilt: [(String, @Sendable (inout [UInt8]) -> Void, String)] = [
        ("empty", { $0 = [] }, "not in this version's format"),
        ("of another version", { $0[7] = UInt8(ascii: "9") }, "not in this version's format"),
        ("cut off in its head", { $0.removeLast($0.count - 12) }, "cut off"),
        ("cut off", { $0.removeLast() }, "checksum"),
        ("with one bit turned", { $0[$0.count / 2] ^= 4 }, "checksum"),
        ("text", { $0 = Array("apiVersion: v1\n".utf8) }, "not in this version's format"),
    ]

    @Test(arguments: spoilt) func `a spoilt state file is reported, ignored and replaced`(
        _ what: String, _ spoil: @Sendable (inout [UInt8]) -> Void, _ says: String
    ) throws {
        let directory = TestDirectory()
        let state = TestDirectory()
        directory.write("a.yaml", Self.service("a", port: 80))
        directory.write("b.yaml", Self.service("b", port: 81, 2))
        _ = try Life(directory, state)
        let url = URL(
            fileURLWithPath: state.path + "/config/" + LastGoodDirectory.name(of: "a.yaml"))
        var bytes = Array(try Data(contentsOf: url))
        spoil(&bytes)
        try Data(bytes).write(to: url)
        directory.write("a.yaml", "a: [")
        directory.write("b.yaml", "b: [")
        var next = try Life(directory, state)
        #expect(Self.ports(next.result) == [81])
        let line = try #require(next.problems.lines?.first)
        #expect(line.contains(url.lastPathComponent) && line.contains(says), "\(line)")
        directory.write("a.yaml", Self.service("a", port: 82))
        try next.again()
        #expect(next.outcome.problems == [] && next.outcome.files == 2)
        #expect(try LastGoodReader.decode(Array(Data(contentsOf: url))).objects.count == 1)
    }

    @Test func `bytes that nobody wrote are refused, whatever they are`() throws {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<2_000 {
            let body = (0..<Int.random(in: 0..<200, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            let sum = LastGoodBytes.checksum(body[...])
            let bytes =
                LastGoodBytes.magic
                + (0..<8).map { UInt8(truncatingIfNeeded: sum >> UInt64(8 * $0)) } + body
            let contents = try? LastGoodReader.decode(bytes)
            #expect(contents?.objects.isEmpty ?? true)
        }
    }

    @Test func `every kind of value survives, with its lines`() throws {
        let text = """
            apiVersion: v1
            kind: Pod
            metadata:
              name: p
              annotations: {a: "x\\ny", b: ""}
            spec: [null, true, false, -5, 9223372036854775807, 1.5, "ü", [], {}, {a: {b: [1]}}]

            """
        let objects = try Document(text: text, file: "a.yaml").objects
        let bytes = LastGoodBytes.encode(objects, file: "a.yaml", of: "/etc/malla")
        let back = try LastGoodReader.decode(bytes)
        #expect(back.directory == "/etc/malla" && back.file == "a.yaml")
        #expect("\(back.objects)" == "\(objects)")
    }

    @Test func `another configuration directory's state is foreign`() throws {
        let directory = TestDirectory()
        let other = TestDirectory()
        let state = TestDirectory()
        directory.write("a.yaml", Self.service("a", port: 80))
        _ = try Life(directory, state)
        other.write("a.yaml", "a: [")
        let next = try Life(other, state)
        #expect(Self.ports(next.result) == [])
        #expect(next.problems.lines?.first?.contains("belongs to") == true)
    }

    @Test func `what an earlier build took and this one refuses is not brought back`() throws {
        let directory = TestDirectory()
        let state = TestDirectory()
        directory.write("a.yaml", "a: [")
        let bad = try Document(text: Self.service("a", port: 70000), file: "a.yaml").objects
        var kept = LastGoodDirectory(state: state.path, configuration: directory.path)
        _ = kept.keep(LastGood(files: ["a.yaml": GoodFile(objects: bad)]))
        #expect(Self.ports(try Life(directory, state).result) == [])
    }

    @Test func `a state directory that cannot be written is said, and tried again`() throws {
        let directory = TestDirectory()
        let state = TestDirectory()
        state.write("config", "a file where the directory belongs")
        directory.write("a.yaml", Self.service("a", port: 80))
        var life = try Life(directory, state)
        #expect(Self.ports(life.result) == [80])
        #expect(life.outcome.problems.first?.contains("cannot be made") == true)
        state.remove("config")
        try life.again()
        #expect(life.outcome.problems == [] && life.outcome.files == 1)
        // The place of one file is taken by a directory.
        let name = "config/" + LastGoodDirectory.name(of: "b.yaml") + "/x"
        state.write(name, "")
        directory.write("b.yaml", Self.service("b", port: 81, 2))
        try life.again()
        #expect(life.outcome.problems.first?.contains("cannot rename") == true)
        #expect(life.outcome.files == 1)
    }

    @Test func `who does not survive reading is counted, who does counts no more`() throws {
        let state = TestDirectory()
        var first = ReadingMark(state: state.path)
        #expect(first.deaths == 0 && !first.isDeadly)
        first.begin()

        var second = ReadingMark(state: state.path)
        #expect(second.deaths == 1 && !second.isDeadly)
        second.begin()
        var third = ReadingMark(state: state.path)
        #expect(third.deaths == 2 && third.isDeadly)

        third.begin()
        third.end()
        #expect(ReadingMark(state: state.path).deaths == 0)
        #expect(ReadingMark(state: "/nonexistent").deaths == 0)
    }
}
