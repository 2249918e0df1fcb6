// The directory over time: reads what changed, keeps the last good version of what broke, resolves
// all of it into one Mesh.

internal import CLinux
internal import Foundation
internal import MeshModel

/// A configuration directory and what is in force of it.
///
/// - Threads: one at a time; results are plain values and may go anywhere.
public struct ConfigStore {
    public let directory: String
    private var files: [String: StoredFile] = [:]
    /// The last valid version of every object that is still in the directory.
    private var lastGood: [ObjectKey: ConfigObject] = [:]
    private var mesh: Mesh?

    private struct StoredFile {
        var mark: FileMark
        /// Read so soon after it was written that the mark alone proves nothing.
        var isFresh: Bool
        var document: Document
        var checks: [[ShapeCheck.Finding]]
        /// Set while the file's present text cannot be used.
        var failure: Diagnostic?
    }

    public init(directory: String) {
        self.directory = directory
    }

    /// Reads what changed since the last time and resolves everything.
    ///
    /// - Throws: `ConfigError` when the directory itself cannot be listed; nothing changes then.
    /// - Complexity: files that did not change are not read again; resolving is linear in objects.
    public mutating func reload() throws(ConfigError) -> ConfigResult {
        let scan = try DirectoryScan(directory)
        var diagnostics = scan.problems
        var present: Set<String> = Set(scan.problems.map(\.file))
        for entry in scan.files {
            present.insert(entry.relativePath)
            read(entry)
        }
        files = files.filter { present.contains($0.key) }

        let loaded = files.sorted { $0.key < $1.key }.map(\.value)
        for file in loaded {
            if let failure = file.failure { diagnostics.append(failure) }
            diagnostics += file.document.diagnostics
        }
        let inForce = judge(loaded, &diagnostics)
        var resolution = Resolution(ObjectSet(inForce))
        resolution.resolve()
        diagnostics += resolution.diagnostics
        diagnostics.sort { ($0.file, $0.line, $0.field) < ($1.file, $1.line, $1.field) }

        let unreadable = Set(diagnostics.filter { $0.category == .unreadable }.map(\.file))
        let isChanged = mesh != resolution.mesh
        mesh = resolution.mesh
        return ConfigResult(
            mesh: resolution.mesh, diagnostics: diagnostics,
            gatewayStatuses: resolution.gatewayStatuses,
            routeStatuses: resolution.routeStatuses,
            objectCount: loaded.reduce(0) { $0 + $1.document.objects.count },
            fileCount: scan.files.count, unreadableFiles: unreadable.sorted(),
            isChanged: isChanged)
    }

    // MARK: Files

    private mutating func read(_ entry: FileEntry) {
        let now = malla_realtime_ns()
        let known = files[entry.relativePath]
        if let known, known.mark == entry.mark, !known.isFresh { return }
        do throws(ParseFailure) {
            let text = try Self.text(of: entry)
            let document = try Document(text: text, file: entry.relativePath)
            files[entry.relativePath] = StoredFile(
                mark: entry.mark, isFresh: !entry.mark.isSettled(at: now), document: document,
                checks: document.objects.map { ObjectCheck.findings($0) }, failure: nil)
        } catch {
            let kept = known?.document.objects.count ?? 0
            let consequence =
                kept > 0
                ? "its last \(kept) good object(s) stay in force" : "nothing of it takes effect"
            files[entry.relativePath] = StoredFile(
                mark: entry.mark, isFresh: !entry.mark.isSettled(at: now),
                document: known?.document ?? Document(), checks: known?.checks ?? [],
                failure: Diagnostic(
                    .error, .unreadable, file: entry.relativePath, line: error.line,
                    message: "\(error.problem); \(consequence): correct the file"))
        }
    }

    private static func text(of entry: FileEntry) throws(ParseFailure) -> String {
        guard entry.mark.bytes <= Limit.fileBytesMax else {
            throw ParseFailure(line: 0, problem: "larger than \(Limit.fileBytesMax >> 20) MiB")
        }
        guard let bytes = FileManager.default.contents(atPath: entry.path) else {
            throw ParseFailure(line: 0, problem: "the file cannot be read")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw ParseFailure(line: 0, problem: "the file is no UTF-8 text")
        }
        return text
    }

    // MARK: Objects

    /// Which version of which object counts, and why others do not.
    private mutating func judge(
        _ loaded: [StoredFile], _ diagnostics: inout [Diagnostic]
    ) -> [ConfigObject] {
        var places: [ObjectKey: [ConfigObject]] = [:]
        for file in loaded {
            for object in file.document.objects { places[object.key, default: []].append(object) }
        }
        var inForce: [ConfigObject] = []
        var stillGood: [ObjectKey: ConfigObject] = [:]
        for file in loaded {
            for (object, findings) in zip(file.document.objects, file.checks) {
                let key = object.key
                let copies = places[key] ?? []
                let isRefused = findings.contains { $0.severity == .error } || copies.count > 1
                for finding in findings {
                    diagnostics.append(object.diagnostic(finding, stays: stays(key)))
                }
                if copies.count > 1 {
                    diagnostics.append(duplicate(object, copies))
                }
                let good = isRefused ? lastGood[key] : object
                if let good, stillGood.updateValue(good, forKey: key) == nil {
                    inForce.append(good)
                }
            }
        }
        lastGood = stillGood
        return inForce
    }

    /// How the message about a refused object ends.
    private func stays(_ key: ObjectKey) -> String {
        lastGood[key] != nil
            ? "; the object is refused, its last good version stays in force"
            : "; the object is refused"
    }

    private func duplicate(_ object: ConfigObject, _ copies: [ConfigObject]) -> Diagnostic {
        let places = copies.map { "\($0.file):\($0.line)" }.joined(separator: " and ")
        return Diagnostic(
            .error, .duplicate, file: object.file, line: object.line, object: object.title,
            message: "stands more than once, at \(places)" + stays(object.key)
                + ": remove all but one")
    }
}

extension ConfigObject {
    func diagnostic(_ finding: ShapeCheck.Finding, stays: String = "") -> Diagnostic {
        var condition = finding.condition
        if condition == nil, finding.severity == .error, group == Kind.gatewayGroup {
            switch kind {
            case "HTTPRoute": condition = .init(type: "Accepted", reason: "UnsupportedValue")
            case "Gateway": condition = .init(type: "Accepted", reason: "Invalid")
            default: break
            }
        }
        return Diagnostic(
            finding.severity, finding.category, file: file, line: finding.line, object: title,
            field: finding.field, condition: condition,
            message: finding.message + (finding.severity == .error ? stays : ""))
    }
}
