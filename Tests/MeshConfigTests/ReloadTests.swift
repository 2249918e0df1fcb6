internal import Foundation
internal import MeshConfig
internal import MeshModel
import Testing

@Suite("A directory changes, and what was good stays in force")
struct ReloadTests {
    static func service(_ name: String, port: Int) -> String {
        "apiVersion: v1\nkind: Service\nmetadata: {name: \(name)}\n"
            + "spec: {clusterIP: 10.96.0.1, ports: [{port: \(port)}]}\n"
    }

    private func ports(_ result: ConfigResult) -> [UInt16] {
        result.mesh.services.flatMap(\.ports).map(\.port)
    }

    @Test func `an object that turns invalid keeps its last good version, alone`() throws {
        let directory = TestDirectory()
        directory.write("a.yaml", Self.service("a", port: 80))
        var store = ConfigStore(directory: directory.path)
        #expect(ports(try store.reload()) == [80])
        directory.write("a.yaml", Self.service("a", port: 70000))
        let broken = try store.reload()
        #expect(ports(broken) == [80] && !broken.isChanged)
        #expect(broken.diagnostics.first?.message.contains("last good version stays") == true)
        directory.write("a.yaml", Self.service("a", port: 81))
        let mended = try store.reload()
        #expect(ports(mended) == [81] && mended.isChanged && mended.diagnostics.isEmpty)
    }

    @Test func `a broken object without a good version is left out, and a removed one goes`() throws
    {
        let directory = TestDirectory()
        directory.write("a.yaml", Self.service("a", port: 70000))
        directory.write("b.yaml", Self.service("b", port: 80))
        var store = ConfigStore(directory: directory.path)
        #expect(ports(try store.reload()) == [80])
        directory.remove("b.yaml")
        #expect(ports(try store.reload()) == [])
        directory.write("b.yaml", Self.service("b", port: 70000))
        #expect(ports(try store.reload()) == [])
    }

    /// Ten to the ninth nodes in nine lines.
    static let aliasBomb: String = {
        var lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
        for index in 1...8 {
            let inner = Array(repeating: "*a\(index - 1)", count: 10).joined(separator: ",")
            lines.append("a\(index): &a\(index) [\(inner)]")
        }
        return lines.joined(separator: "\n")
    }()

    /// rule, text, what the diagnostic says
    static let unreadable: [(String, String, String)] = [
        ("no YAML", "a: [", "flow node"),
        ("tab", "a:\n\t- b", "token"),
        ("a key twice", "a: 1\nb: 2\na: 3", "'a' stands twice"),
        ("deep nesting", String(repeating: "[", count: 20_000), "nesting level"),
        ("alias bomb", aliasBomb, "nodes"),
    ]

    @Test(arguments: unreadable) func `a file that is no YAML keeps its last good objects`(
        _ rule: String, _ text: String, _ says: String
    ) throws {
        let directory = TestDirectory()
        directory.write("a.yaml", Self.service("a", port: 80))
        directory.write("b.yaml", Self.service("b", port: 81).replacing("0.1", with: "0.2"))
        var store = ConfigStore(directory: directory.path)
        #expect(ports(try store.reload()) == [80, 81])
        directory.write("a.yaml", text)
        let broken = try store.reload()
        #expect(ports(broken) == [80, 81])
        #expect(broken.unreadableFiles == ["a.yaml"])
        let found = try #require(broken.diagnostics.first { $0.file == "a.yaml" })
        #expect(found.category == .unreadable && found.message.contains(says), "\(found)")
        directory.write("a.yaml", Self.service("a", port: 82))
        let mended = try store.reload()
        #expect(ports(mended) == [82, 81] && mended.unreadableFiles == [])
    }

    @Test func `a file that is no UTF-8, or a link to nothing, is unreadable`() throws {
        let directory = TestDirectory()
        try Data([0x61, 0x3a, 0x20, 0xff, 0xfe]).write(
            to: URL(fileURLWithPath: directory.path + "/a.yaml"))
        try FileManager.default.createSymbolicLink(
            atPath: directory.path + "/b.yaml", withDestinationPath: "nowhere")
        var store = ConfigStore(directory: directory.path)
        #expect(try store.reload().unreadableFiles == ["a.yaml", "b.yaml"])
    }

    @Test func `the same object in two files is an error that names both`() throws {
        let directory = TestDirectory()
        directory.write("a.yaml", Self.service("a", port: 80))
        var store = ConfigStore(directory: directory.path)
        _ = try store.reload()
        directory.write("b/c.yaml", Self.service("a", port: 81))
        let result = try store.reload()
        let errors = result.diagnostics.filter { $0.category == .duplicate }
        #expect(errors.map(\.file) == ["a.yaml", "b/c.yaml"])
        #expect(errors.allSatisfy { $0.message.contains("a.yaml:1 and b/c.yaml:1") })
        #expect(ports(result) == [80])
        directory.remove("a.yaml")
        #expect(ports(try store.reload()) == [81])
    }

    @Test func `a mounted ConfigMap is read once, and its swap is one change`() throws {
        let directory = TestDirectory()
        let manager = FileManager.default
        func link(_ name: String, to target: String) throws {
            try manager.createSymbolicLink(
                atPath: directory.path + "/" + name, withDestinationPath: target)
        }
        directory.write("..2026_1/mesh.yaml", Self.service("a", port: 80))
        try link("..data", to: "..2026_1")
        try link("mesh.yaml", to: "..data/mesh.yaml")
        var store = ConfigStore(directory: directory.path)
        var watch = DirectoryWatch(directory: directory.path)
        var woke = false
        let first = try store.reload()
        #expect(ports(first) == [80] && first.diagnostics.isEmpty)

        directory.write("..2026_2/mesh.yaml", Self.service("a", port: 81))
        try link("..data_tmp", to: "..2026_2")
        // Both paths outlive the call.
        let result = unsafe rename(directory.path + "/..data_tmp", directory.path + "/..data")
        #expect(result == 0)
        try manager.removeItem(atPath: directory.path + "/..2026_1")
        woke = watch.wait(timeoutMilliseconds: 3_000)
        #expect(woke)
        #expect(ports(try store.reload()) == [81])
        woke = watch.wait(timeoutMilliseconds: 100)
        #expect(!woke)
    }

    @Test func `a watch wakes on new files in new folders, not without a change`() throws {
        let directory = TestDirectory()
        var watch = DirectoryWatch(directory: directory.path)
        var woke = false
        woke = watch.wait(timeoutMilliseconds: 60)
        #expect(!woke)
        directory.write("x/y/a.yaml", Self.service("a", port: 80))
        woke = watch.wait(timeoutMilliseconds: 3_000)
        #expect(woke)
        directory.write("x/y/a.yaml", Self.service("a", port: 81))
        woke = watch.wait(timeoutMilliseconds: 3_000)
        #expect(woke)
        directory.remove("x/y/a.yaml")
        woke = watch.wait(timeoutMilliseconds: 3_000)
        #expect(woke)
        woke = watch.wait(timeoutMilliseconds: 60)
        #expect(!woke)
    }

    @Test func `a file that is being written counts when it is closed`() throws {
        let directory = TestDirectory()
        directory.write("a.yaml", Self.service("a", port: 80))
        var watch = DirectoryWatch(directory: directory.path)
        var store = ConfigStore(directory: directory.path)
        _ = try store.reload()
        let file = try #require(FileHandle(forWritingAtPath: directory.path + "/a.yaml"))
        try file.truncate(atOffset: 0)

        var written = watch.takeWritten()
        var woke = watch.wait(timeoutMilliseconds: 2_100)
        #expect(written == nil && !woke, "also by its size and time, which are looked at")
        // What changes beside it is taken without it, new or known before.
        let new = FileManager.default.createFile(
            atPath: directory.path + "/new.yaml", contents: nil)
        let other = try #require(FileHandle(forWritingAtPath: directory.path + "/new.yaml"))
        other.write(Data("apiVersion: v1\nkind: Pod\n".utf8))
        directory.write("b.yaml", Self.service("b", port: 81).replacing("0.1", with: "0.2"))
        written = watch.takeWritten()
        woke = watch.isStale()
        #expect(new && written == nil && woke)
        let beside = try store.reload { watch.isBeingWritten($0) }
        #expect(ports(beside) == [80, 81] && beside.diagnostics.isEmpty)

        file.write(Data(Self.service("a", port: 82).utf8))
        try file.close()
        try other.close()
        woke = watch.wait(timeoutMilliseconds: 3_000)
        #expect(woke)
        let whole = try store.reload { watch.isBeingWritten($0) }
        #expect(ports(whole) == [82, 81])
    }

    @Test
    func `a file that is written while it is read is left, and one that nobody closes is not`()
        throws
    {
        let directory = TestDirectory()
        directory.write("a.yaml", Self.service("a", port: 80))
        var watch = DirectoryWatch(directory: directory.path, restMilliseconds: 300)
        var store = ConfigStore(directory: directory.path)
        _ = try store.reload()
        directory.write("a.yaml", Self.service("a", port: 81))
        let file = try #require(FileHandle(forWritingAtPath: directory.path + "/a.yaml"))
        var asked = 0
        let left = try store.reload { name in
            asked += 1
            if asked == 2 { try? file.truncate(atOffset: 0) }
            return watch.isBeingWritten(name)
        }
        #expect(asked == 2 && ports(left) == [80])

        let woke = watch.wait(timeoutMilliseconds: 5_000)
        let givenUp = watch.takeGivenUp()
        #expect(woke && givenUp == ["a.yaml"])
        #expect(ports(try store.reload { watch.isBeingWritten($0) }) == [])
    }

    @Test func `a directory that cannot be listed is an error, and mends`() throws {
        let directory = TestDirectory()
        var store = ConfigStore(directory: directory.path + "/conf")
        #expect(throws: ConfigError.self) { try store.reload() }
        directory.write("conf/a.yaml", Self.service("a", port: 80))
        #expect(ports(try store.reload()) == [80])
    }

    @Test func `the report counts errors, and under strict what is named too`() throws {
        let directory = TestDirectory()
        directory.write(
            "a.yaml",
            Self.service("a", port: 80) + "---\napiVersion: v1\nkind: Widget\nmetadata: {name: w}\n"
        )
        let report = try ConfigReport(directory: directory.path)
        #expect(report.exitCode == 0 && report.warningCount == 1)
        #expect(report.summary == "1 file, 2 objects: 0 errors, 1 warning")
        let strict = try ConfigReport(directory: directory.path, isStrict: true)
        #expect(strict.exitCode == 65 && strict.errorCount == 1)
    }

    @Test func `a thousand pods and services load in seconds`() throws {
        let directory = TestDirectory()
        var text = ""
        for index in 0..<1000 {
            text += """
                apiVersion: v1
                kind: Pod
                metadata: {name: p\(index), labels: {app: a\(index)}}
                spec: {nodeName: n1}
                status: {podIP: 10.1.\(index / 250).\(index % 250 + 1)}
                ---
                apiVersion: v1
                kind: Service
                metadata: {name: s\(index)}
                spec: {clusterIP: 10.96.\(index / 250).\(index % 250 + 1), selector: {app:
                  a\(index)}, ports: [{port: 80}]}
                ---

                """
        }
        directory.write("a.yaml", text)
        var store = ConfigStore(directory: directory.path)
        let clock = ContinuousClock()
        var result = ConfigResult()
        let elapsed = try clock.measure { result = try store.reload() }
        #expect(result.mesh.services.allSatisfy { $0.ports[0].endpoints.count == 1 })
        #expect(elapsed < .seconds(20), "debug build, shared cores: \(elapsed)")
    }
}
