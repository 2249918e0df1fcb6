// The repository as the tidy tests see it: its own files, without what was built or fetched.

import Foundation
import Testing

enum Repository {
    static let root: URL = {
        if let path = ProcessInfo.processInfo.environment["MALLA_TEST_ROOT"], !path.isEmpty {
            return URL(fileURLWithPath: path, isDirectory: true)
        }
        return URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    }()

    /// Paths relative to the root, sorted.
    static let paths: [String] = {
        let prefix = root.path + "/"
        guard
            let walk = FileManager.default.enumerator(
                at: root, includingPropertiesForKeys: [.isDirectoryKey, .isRegularFileKey])
        else { return [] }
        var found: [String] = []
        for case let url as URL in walk {
            let name = url.lastPathComponent
            let values = try? url.resourceValues(forKeys: [.isDirectoryKey, .isRegularFileKey])
            if values?.isDirectory == true, isBuilt(directory: name) { walk.skipDescendants() }
            guard values?.isRegularFile == true, !isBuilt(file: name) else { continue }
            found.append(String(url.path.dropFirst(prefix.count)))
        }
        return found.sorted()
    }()

    private static func isBuilt(directory name: String) -> Bool {
        name == ".git" || name == "build" || name == ".swiftpm" || name == "__pycache__"
            || name.hasPrefix(".build")
    }

    private static func isBuilt(file name: String) -> Bool {
        name == ".git" || name == "Package.resolved" || name.hasSuffix(".inc")
            || name.hasSuffix(".o")
    }

    static func text(_ path: String) throws -> String {
        try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
    }

    static let swift: [SourceText] = read { $0.hasSuffix(".swift") }
    static let c: [SourceText] = read { $0.hasSuffix(".c") || $0.hasSuffix(".h") }
    static var sources: [SourceText] { swift.filter { $0.path.hasPrefix("Sources/") } }

    private static func read(where matches: (String) -> Bool) -> [SourceText] {
        paths.filter(matches).compactMap { path in
            (try? text(path)).map { SourceText(path: path, text: $0) }
        }
    }
}

/// One place that breaks a rule, and what to do about it.
struct Violation: CustomStringConvertible {
    let path: String
    let line: Int
    let remedy: String

    var description: String { "\(path):\(line): \(remedy)" }
}

/// Fails the test with all violations of one rule, one a line.
func expectNone(
    _ violations: [Violation], sourceLocation: SourceLocation = #_sourceLocation
) {
    guard !violations.isEmpty else { return }
    let lines = violations.map(\.description).joined(separator: "\n")
    Issue.record("\(violations.count) violations:\n\(lines)", sourceLocation: sourceLocation)
}
