// What `malla config validate DIR` prints: the same judgement as the agent's, without an agent.

internal import MeshModel

/// One look at a directory.
public struct ConfigReport: Sendable {
    public let directory: String
    /// In the order of files and lines; under `strict`, warnings about unknown and unsupported
    /// fields and kinds have become errors.
    public let diagnostics: [Diagnostic]
    public let result: ConfigResult

    /// - Throws: `ConfigError` when the directory cannot be listed (exit code 66).
    public init(
        directory: String, isStrict: Bool = false, rootNamespace: String = "istio-system"
    ) throws(ConfigError) {
        var store = ConfigStore(directory: directory, rootNamespace: rootNamespace)
        result = try store.reload()
        self.directory = directory
        diagnostics = result.diagnostics.map { found in
            var diagnostic = found
            let isNamed = found.category == .unknown || found.category == .unsupported
            if isStrict, isNamed, found.severity == .warning { diagnostic.severity = .error }
            return diagnostic
        }
    }

    public var errorCount: Int { diagnostics.count { $0.severity == .error } }
    public var warningCount: Int { diagnostics.count { $0.severity == .warning } }
    /// Objects, and references of objects, that are deliberately left alone.
    public var ignoredCount: Int { diagnostics.count { $0.category == .ignored } }

    /// 0, or 65 (EX_DATAERR) when there are errors. For a directory that cannot be read: 66.
    public var exitCode: Int32 { errorCount > 0 ? 65 : 0 }

    /// `3 files, 12 objects: 1 error, 2 warnings`, and `, 4 ignored` where something is.
    public var summary: String {
        func count(_ number: Int, _ noun: String) -> String {
            "\(number) \(noun)\(number == 1 ? "" : "s")"
        }
        return "\(count(result.fileCount, "file")), \(count(result.objectCount, "object")): "
            + "\(count(errorCount, "error")), \(count(warningCount, "warning"))"
            + (ignoredCount > 0 ? ", \(ignoredCount) ignored" : "")
    }
}
