internal import Foundation

/// Public schemas and manifests that lie outside the repository: `MALLA_SHARED`, else `../shared`.
/// Tests that read them are skipped where they do not exist.
enum PublicSamples {
    static let root: String? = {
        let environment = ProcessInfo.processInfo.environment["MALLA_SHARED"]
        // Tests/MeshConfigTests/PublicSamples.swift is three levels below the repository's root.
        var repository = URL(fileURLWithPath: #filePath)
        for _ in 0..<3 { repository.deleteLastPathComponent() }
        let beside = repository.deletingLastPathComponent().appendingPathComponent("shared").path
        for candidate in [environment, beside].compactMap(\.self) {
            if FileManager.default.fileExists(atPath: candidate + "/data/README.md") {
                return candidate + "/data"
            }
        }
        print("skipped: no public samples (set MALLA_SHARED to the folder that holds data/)")
        return nil
    }()

    static var exist: Bool { root != nil }

    /// Paths below `data` of all YAML files in a folder of it.
    static func files(in folder: String) -> [String] {
        guard let root else { return [] }
        let names = FileManager.default.enumerator(atPath: root + "/" + folder)
        return (names?.allObjects as? [String] ?? [])
            .filter { $0.hasSuffix(".yaml") }.map { folder + "/" + $0 }.sorted()
    }

    static func text(_ path: String) throws -> String {
        try String(contentsOfFile: (root ?? "") + "/" + path, encoding: .utf8)
    }
}
