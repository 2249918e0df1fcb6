internal import Foundation
internal import MeshConfig
internal import MeshModel
import Testing

@Suite("A change of endpoints is read by itself, and comes to the same as reading everything")
struct RefillTests {
    private static func text(
        _ service: Int, ends: [Int], port: Int = 80, name: String = "", slice: String = "x"
    ) -> String {
        let entries = ends.map { "{addresses: [10.1.\(service).\($0)]}" }.joined(separator: ", ")
        return """
            apiVersion: v1
            kind: Service
            metadata: {name: s\(service)}
            spec: {clusterIP: 10.96.0.\(service + 1), ports: [{port: \(port), targetPort: 8080}]}
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata:
              name: s\(service)-\(slice)
              labels: {kubernetes.io/service-name: \(name.isEmpty ? "s\(service)" : name)}
            addressType: IPv4
            ports: [{port: 8080}]
            endpoints: [\(entries)]

            """
    }

    /// Beside its place and renamed, as controllers write.
    private static func replace(_ directory: TestDirectory, _ name: String, _ text: String) throws {
        directory.write(".fresh", text)
        // Both paths outlive the call.
        let result = unsafe rename(directory.path + "/.fresh", directory.path + "/" + name)
        try #require(result == 0)
    }

    private static func mesh(_ directory: TestDirectory) throws -> Mesh {
        var store = ConfigStore(directory: directory.path)
        return try store.reload().mesh
    }

    @Test func `any sequence of refills equals a reading from nothing`() throws {
        let directory = TestDirectory()
        var ends = [[Int]](repeating: [1, 2, 3], count: 6)
        for service in ends.indices {
            directory.write("s\(service).yaml", Self.text(service, ends: ends[service]))
        }
        var watch = DirectoryWatch(directory: directory.path)
        var store = ConfigStore(directory: directory.path)
        _ = try store.reload()
        for round in 1..<60 {
            // Several files at once now and then; one that says what it said; one that empties.
            for turn in 0...round % 3 {
                let service = (round * 5 + turn * 2) % ends.count
                switch round % 4 {
                case 0: ends[service] = []
                case 1: ends[service].append(round)
                case 2: ends[service] = Array(ends[service].reversed())
                default: break
                }
                try Self.replace(
                    directory, "s\(service).yaml", Self.text(service, ends: ends[service]))
            }
            let taken = watch.takeWritten()
            let written = try #require(taken, "round \(round)")
            let refilled = store.refill(written)
            let result = try #require(refilled, "round \(round)")
            let fresh = try Self.mesh(directory)
            try #require(result.mesh == fresh, "round \(round)")
        }
        let again = try store.reload()
        #expect(!again.isChanged)
    }

    /// what is written, its text
    static let others: [(String, String)] = [
        ("another port of the Service", text(0, ends: [1], port: 81)),
        ("a slice of another Service", text(0, ends: [1], name: "s1")),
        ("a slice of another name", text(0, ends: [1], slice: "y")),
        ("a slice that is refused", text(0, ends: [1]).replacing("10.1.0.1", with: "10.1.0.x")),
        ("a text that is no YAML", "a: [\n"),
        ("one object less", String(text(0, ends: [1]).split(separator: "---")[0])),
        ("one object more", text(0, ends: [1]) + "---\n" + text(5, ends: [1])),
    ]

    @Test(arguments: others)
    func `whatever else changes is left to a whole reading`(what: String, text: String) throws {
        let directory = TestDirectory()
        directory.write("s0.yaml", Self.text(0, ends: [1, 2]))
        directory.write("s1.yaml", Self.text(1, ends: [1, 2]))
        var watch = DirectoryWatch(directory: directory.path)
        var store = ConfigStore(directory: directory.path)
        _ = try store.reload()
        try Self.replace(directory, "s0.yaml", text)
        let taken = watch.takeWritten()
        let written = try #require(taken, "\(what)")
        let refilled = store.refill(written)
        #expect(refilled == nil, "\(what)")
        watch.postpone()
        let woke = watch.wait(timeoutMilliseconds: 0)
        #expect(woke, "the change is not lost: \(what)")
        // And then the short way is open again.
        _ = try store.reload()
        try Self.replace(directory, "s1.yaml", Self.text(1, ends: [7]))
        let next = watch.takeWritten()
        let result = store.refill(try #require(next))
        let port = result?.mesh.services.first { $0.name.name == "s1" }?.ports[0]
        let ends = port?.endpoints.map(\.address.description) ?? []
        #expect(ends.contains("10.1.1.7:8080") && !ends.contains("10.1.1.1:8080"), "\(what)")
    }

    @Test func `new files, files that go and folders are no refill`() throws {
        let directory = TestDirectory()
        directory.write("a.yaml", Self.text(0, ends: [1]))
        directory.write("c/d.yaml", Self.text(1, ends: [1]))
        let changes: [(String, () -> Void)] = [
            ("a new file", { directory.write("b.yaml", Self.text(2, ends: [1])) }),
            ("a file that goes", { directory.remove("a.yaml") }),
            ("a new folder", { directory.write("e/f.yaml", Self.text(3, ends: [1])) }),
        ]
        var watch = DirectoryWatch(directory: directory.path)
        for (what, change) in changes {
            change()
            let written = watch.takeWritten()
            #expect(written == nil, "\(what)")
            let woke = watch.wait(timeoutMilliseconds: 0)
            #expect(woke, "\(what)")
        }
        directory.write("c/d.yaml", Self.text(1, ends: [2]))
        let inFolder = watch.takeWritten()
        #expect(inFolder != nil, "a file in a folder is one like any")
        let woke = watch.wait(timeoutMilliseconds: 0)
        #expect(!woke)
    }

    @Test func `a change that comes while another is taken in is a small one too`() throws {
        let directory = TestDirectory()
        for number in 0..<2 { directory.write("s\(number).yaml", Self.text(number, ends: [1])) }
        var watch = DirectoryWatch(directory: directory.path)
        for number in [0, 1, 0, 0, 1] {
            try Self.replace(
                directory, "s\(number).yaml", Self.text(number, ends: [2, number + 3]))
            let isStale = watch.isStale()
            #expect(!isStale, "the next call of takeWritten answers it")
            let written = watch.takeWritten()
            #expect(written != nil)
        }
        directory.write("new.yaml", Self.text(2, ends: [1]))
        let written = watch.takeWritten()
        let isStale = watch.isStale()
        #expect(written == nil && isStale, "what it cannot answer")
        let again = watch.isStale()
        #expect(!again)
    }
}
