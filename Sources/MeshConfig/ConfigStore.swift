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
    /// Where Istio's objects are mesh-wide.
    public let rootNamespace: String
    var files: [String: StoredFile] = [:]
    /// The last valid version of every object that is still in the directory.
    var lastGood: [ObjectKey: ConfigObject] = [:]
    /// What the last reading came to; `nil` before the first.
    var last: Reading?
    /// Asked once, by the first reading that finds something broken; then it is too late.
    private var earlier: (() -> LastGood)?
    var readings: UInt64 = 0
    /// What is in force by the last reading, for the next agent.
    public internal(set) var inForce = LastGood()

    /// A reading, and what a change of endpoints alone is put into.
    struct Reading {
        var result: ConfigResult
        var serviceIndex: [ObjectName: Int]
        var endpoints: EndpointResolution?
        /// Files that something was said of.
        var noted: Set<String>
    }

    struct StoredFile {
        var mark: FileMark
        /// Read so soon after it was written that the mark alone proves nothing.
        var isFresh: Bool
        var document: Document
        var checks: [[ShapeCheck.Finding]]
        /// Set while the file's present text cannot be used.
        var failure: ParseFailure?

        /// Whether everything in it is in force as it stands.
        var isGood: Bool {
            failure == nil && document.diagnostics.isEmpty
                && checks.allSatisfy { findings in
                    findings.allSatisfy { $0.severity != .error }
                }
        }
    }

    /// - Parameter earlier: what the agent before this one kept; read only if the first reading of
    ///   the directory finds something that it cannot use.
    public init(
        directory: String, rootNamespace: String = "istio-system",
        earlier: (() -> LastGood)? = nil
    ) {
        self.directory = directory
        self.rootNamespace = rootNamespace
        self.earlier = earlier
    }

    /// Reads what changed since the last time and resolves everything.
    ///
    /// - Parameter isBeingWritten: whether a file, by its path below the directory, is not whole at
    ///   this moment: what is in force of it stays. Asked before and after each is read.
    /// - Throws: `ConfigError` when the directory itself cannot be listed; nothing changes then.
    /// - Complexity: files that did not change are not read again; resolving is linear in objects.
    public mutating func reload(
        leaving isBeingWritten: (String) -> Bool = { _ in false }
    ) throws(ConfigError) -> ConfigResult {
        let scan = try DirectoryScan(directory)
        readings += 1
        var unread: [String] = []
        for entry in scan.files where !read(entry, leaving: isBeingWritten) {
            if files[entry.relativePath] == nil { unread.append(entry.relativePath) }
        }
        let broken = scan.problems.map(\.file)
        let present = Set(scan.files.map(\.relativePath) + broken)
        // What a directory holds that cannot be listed stays as it was.
        files = files.filter { name, _ in
            present.contains(name) || broken.contains { name.hasPrefix($0 + "/") }
        }
        recall(broken + unread)
        return resolved(scan.problems, fileCount: scan.files.count)
    }

    /// The keeper has what is in force: from here on `inForce` says what changes of it.
    public mutating func settleInForce() { inForce.settle() }

    /// What an earlier agent kept, for a directory that cannot be listed at all.
    public mutating func fallBack() -> ConfigResult {
        let kept = earlier?() ?? LastGood()
        earlier = nil
        adopt(kept.files)
        return resolved([], fileCount: 0)
    }

    private mutating func resolved(_ problems: [Diagnostic], fileCount: Int) -> ConfigResult {
        var diagnostics = problems
        let loaded = files.sorted { $0.key < $1.key }
        for (name, file) in loaded {
            if let failure = file.failure {
                diagnostics.append(Self.diagnostic(failure, name, file.document))
            }
            diagnostics += file.document.diagnostics
        }
        let (objects, refusals) = judge(loaded, &diagnostics)
        var resolution = Resolution(
            ObjectSet(objects), refusals: refusals, rootNamespace: rootNamespace)
        resolution.resolve()
        diagnostics += resolution.diagnostics
        diagnostics.sort { ($0.file, $0.line, $0.field) < ($1.file, $1.line, $1.field) }

        let unreadable = Set(diagnostics.filter { $0.category == .unreadable }.map(\.file))
        let result = ConfigResult(
            mesh: resolution.mesh, diagnostics: diagnostics,
            gatewayStatuses: resolution.gatewayStatuses,
            routeStatuses: resolution.routeStatuses,
            policyStatuses: resolution.policyStatuses,
            objectCount: loaded.reduce(0) { $0 + $1.value.document.objects.count },
            fileCount: fileCount, unreadableFiles: unreadable.sorted(),
            isChanged: last?.result.mesh != resolution.mesh)
        last = Reading(
            result: result, serviceIndex: resolution.serviceIndex,
            endpoints: resolution.endpoints, noted: Set(diagnostics.map(\.file)))
        return result
    }

    // MARK: Files

    /// `false`: it is being written, and nothing of it was taken.
    private mutating func read(
        _ entry: FileEntry, leaving isBeingWritten: (String) -> Bool
    ) -> Bool {
        let now = malla_realtime_ns()
        let name = entry.relativePath
        let known = files[name]
        if let known, known.mark == entry.mark, !known.isFresh { return true }
        if isBeingWritten(name) { return false }
        let file: StoredFile
        do throws(ParseFailure) {
            file = try StoredFile(entry, stamp: readings)
        } catch {
            file = StoredFile(
                mark: entry.mark, isFresh: !entry.mark.isSettled(at: now),
                document: known?.document ?? Document(), checks: known?.checks ?? [],
                failure: error)
        }
        if isBeingWritten(name) { return false }
        files[name] = file
        return true
    }

    private static func diagnostic(
        _ failure: ParseFailure, _ file: String, _ kept: Document
    ) -> Diagnostic {
        let count = kept.objects.count
        let consequence =
            count > 0
            ? "its last \(count) good object(s) stay in force" : "nothing of it takes effect"
        return Diagnostic(
            .error, .unreadable, file: file, line: failure.line,
            message: "\(failure.problem); \(consequence): correct the file")
    }

    // MARK: What an earlier agent kept

    /// Fills the gaps of the first reading with what the agent before this one had in force.
    ///
    /// - Parameter broken: paths that could not be looked at.
    private mutating func recall(_ broken: [String]) {
        guard let earlier else { return }
        self.earlier = nil
        guard !broken.isEmpty || hasDuplicates || !files.values.allSatisfy(\.isGood) else { return }
        let kept = earlier()
        for object in kept.files.values.flatMap(\.objects) { lastGood[object.key] = object }
        for path in broken { adopt(kept.files(at: path)) }
        for (name, file) in files where file.failure != nil {
            guard let good = kept.files[name] else { continue }
            adopt([name: good])
            // Its present text is still what is wrong with it.
            files[name]?.mark = file.mark
            files[name]?.isFresh = file.isFresh
            files[name]?.failure = file.failure
        }
    }

    private var hasDuplicates: Bool {
        var seen: Set<ObjectKey> = []
        return files.values.contains { file in
            file.document.objects.contains { !seen.insert($0.key).inserted }
        }
    }

    private mutating func adopt(_ kept: [String: GoodFile]) {
        for (name, good) in kept {
            for object in good.objects { lastGood[object.key] = object }
            files[name] = StoredFile(
                mark: .none, isFresh: true, document: Document(kept: good),
                checks: good.checks ?? good.objects.map { ObjectCheck.findings($0) },
                failure: nil)
        }
    }

    // MARK: Objects

    /// Which version of which object counts, and why others do not.
    private mutating func judge(
        _ loaded: [(key: String, value: StoredFile)], _ diagnostics: inout [Diagnostic]
    ) -> (objects: [ConfigObject], refusals: [Refusal]) {
        var places: [ObjectKey: [ConfigObject]] = [:]
        for (_, file) in loaded {
            for object in file.document.objects { places[object.key, default: []].append(object) }
        }
        let classes = classes(loaded, places)
        var objects: [ConfigObject] = []
        var refusals: [Refusal] = []
        var stillGood: [ObjectKey: ConfigObject] = [:]
        var byFile: [String: GoodFile] = [:]
        for (name, file) in loaded {
            for (object, checks) in zip(file.document.objects, file.checks) {
                let key = object.key
                let copies = places[key] ?? []
                // What another controller makes of its Gateway is its own affair.
                let findings = classes.isForeign(object) ? [] : checks
                var said = findings.map { object.diagnostic($0, stays: stays(key)) }
                if copies.count > 1 { said.append(duplicate(object, copies)) }
                diagnostics += said
                let firstError = said.first { $0.severity == .error }
                let good = firstError != nil ? lastGood[key] : object
                if let firstError, good == nil, object.isHonoured,
                    ["Gateway", "HTTPRoute", "TCPRoute"].contains(object.kind)
                {
                    refusals.append(Refusal(object, firstError))
                }
                if let good, stillGood.updateValue(good, forKey: key) == nil {
                    objects.append(good)
                    if good.isHonoured { byFile[name, default: GoodFile()].objects.append(good) }
                }
            }
        }
        lastGood = stillGood
        inForce = LastGood(files: byFile)
        return (objects, refusals)
    }

    /// The GatewayClasses that will be in force: whose a Gateway is comes before what is wrong in
    /// it.
    private func classes(
        _ loaded: [(key: String, value: StoredFile)], _ places: [ObjectKey: [ConfigObject]]
    ) -> GatewayClasses {
        var classes: [ConfigObject] = []
        for (_, file) in loaded {
            for (object, findings) in zip(file.document.objects, file.checks)
            where object.kind == "GatewayClass" && object.isHonoured {
                let isRefused =
                    findings.contains { $0.severity == .error }
                    || (places[object.key]?.count ?? 0) > 1
                if let good = isRefused ? lastGood[object.key] : object { classes.append(good) }
            }
        }
        return GatewayClasses(classes)
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

extension ConfigStore.StoredFile {
    /// - Throws: what makes its text unusable.
    init(_ entry: FileEntry, stamp: UInt64) throws(ParseFailure) {
        let now = malla_realtime_ns()
        let text = try Self.text(of: entry)
        let document = try Document(text: text, file: entry.relativePath, stamp: stamp)
        self.init(
            mark: entry.mark, isFresh: !entry.mark.isSettled(at: now), document: document,
            checks: document.objects.map { ObjectCheck.findings($0) }, failure: nil)
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
        // YAML 1.2 §5.2: a byte order mark may come first, and is not content.
        return text.unicodeScalars.first == "\u{FEFF}"
            ? String(text.unicodeScalars.dropFirst()) : text
    }
}

extension ConfigObject {
    func diagnostic(_ finding: ShapeCheck.Finding, stays: String = "") -> Diagnostic {
        var condition = finding.condition
        if condition == nil, finding.severity == .error, group == Kind.gatewayGroup {
            switch kind {
            case "HTTPRoute", "TCPRoute":
                condition = .init(type: "Accepted", reason: "UnsupportedValue")
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

extension [Diagnostic] {
    /// What resolving references found about an object.
    mutating func note(
        _ object: ConfigObject, _ severity: Diagnostic.Severity,
        _ category: Diagnostic.Category, _ field: String, _ line: Int, _ message: String,
        _ condition: Diagnostic.Condition? = nil
    ) {
        append(
            object.diagnostic(
                .init(
                    severity: severity, category: category, line: line, field: field,
                    condition: condition, message: message)))
    }
}
