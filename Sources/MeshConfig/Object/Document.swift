// Text of a file -> objects with their kinds, names and lines. `List` kinds are expanded; a
// document that is empty is skipped; one that is no object is refused alone.

internal import Foundation
internal import MeshModel
internal import Yams

/// Why the text of a file is no YAML.
struct ParseFailure: Error, Equatable {
    let line: Int
    let problem: String
}

/// Caps of reading; reaching one refuses the file, never the directory.
enum Limit {
    /// A ConfigMap holds 1 MiB, a generated mesh some tens.
    static let fileBytesMax = 64 << 20
    /// About 60 nodes a pod: room for some 16 000 pods in one file, and an end to alias bombs.
    static let nodesMax = 1_000_000
    static let filesMax = 20_000
    static let directoryDepthMax = 16
}

/// What makes two objects the same one.
struct ObjectKey: Hashable, Sendable {
    var group: String
    var kind: String
    var name: ObjectName
}

/// One object as it was found. A class, because it is known by its file, by its key and by whoever
/// refers to it, thousands of times over.
final class ConfigObject: Sendable {
    /// `gateway.networking.k8s.io`; empty for core.
    let group: String
    let version: String
    let kind: String
    /// Namespace `default` where a namespaced object names none; empty for cluster-wide kinds.
    let name: ObjectName
    let file: String
    let line: Int
    let root: Value
    /// Which reading of which file it is from: equal stamps mean the same version. 0: an earlier
    /// agent's.
    let stamp: UInt64

    init(
        group: String, version: String, kind: String, name: ObjectName, file: String, line: Int,
        root: Value, stamp: UInt64 = 0
    ) {
        self.group = group
        self.version = version
        self.kind = kind
        self.name = name
        self.file = file
        self.line = line
        self.root = root
        self.stamp = stamp
    }

    var key: ObjectKey { ObjectKey(group: group, kind: kind, name: name) }

    /// `HTTPRoute shop/catalog`; `Namespace shop`.
    var title: String {
        name.namespace.isEmpty ? "\(kind) \(name.name)" : "\(kind) \(name)"
    }
}

/// One file, read.
struct Document {
    var objects: [ConfigObject] = []
    var diagnostics: [Diagnostic] = []

    /// A file of which nothing good is known.
    init() {}

    /// - Throws: `ParseFailure` when the text is no YAML; nothing of it is taken then.
    init(text: String, file: String, stamp: UInt64 = 0) throws(ParseFailure) {
        var budget = Limit.nodesMax
        for root in try Self.roots(text) {
            let value = try Value(root, line: 1, budget: &budget)
            add(value, file: file, stamp: stamp)
        }
    }

    /// What an earlier agent kept of a file.
    init(kept: GoodFile) { objects = kept.objects }

    private static func roots(_ text: String) throws(ParseFailure) -> [Yams.Node] {
        do {
            // Without resolver: Value reads scalars itself. Yams' own shares NSRegularExpressions,
            // which crash when two threads use them (Foundation on Linux), and are slow.
            let parser = try Parser(yaml: text, resolver: .basic)
            var roots: [Yams.Node] = []
            while let root = try parser.nextRoot() { roots.append(root) }
            return roots
        } catch let error as YamlError {
            throw ParseFailure(error)
        } catch {
            throw ParseFailure(line: 0, problem: "\(error)")
        }
    }

    private mutating func add(_ value: Value, file: String, stamp: UInt64) {
        if value.isNull { return }
        func refuse(_ message: String) {
            diagnostics.append(
                Diagnostic(.error, .invalid, file: file, line: value.line, message: message))
        }
        guard case .fields = value.content else {
            return refuse("the document is \(value.nounOfContent), not an object; refused")
        }
        if value.fields.isEmpty { return }
        guard let kind = value["kind"]?.text, !kind.isEmpty else {
            return refuse("the document has no 'kind'; refused: say what it is")
        }
        guard let apiVersion = value["apiVersion"]?.text, !apiVersion.isEmpty else {
            return refuse("\(kind) has no 'apiVersion'; refused: add one, such as v1")
        }
        if kind.hasSuffix("List"), value["items"] != nil || kind == "List" {
            for item in value["items"]?.list ?? [] { add(item, file: file, stamp: stamp) }
            return
        }
        guard let name = value["metadata"]?["name"]?.text, !name.isEmpty else {
            return refuse("\(kind) has no 'metadata.name'; refused: name it")
        }
        let parts = apiVersion.split(separator: "/", maxSplits: 1).map(String.init)
        let group = parts.count == 2 ? parts[0] : ""
        let namespace = value["metadata"]?["namespace"]?.text ?? ""
        let isClusterWide = Kind.isClusterWide(group: group, kind: kind)
        objects.append(
            ConfigObject(
                group: group, version: parts.last ?? "", kind: kind,
                name: ObjectName(
                    isClusterWide ? "" : namespace.isEmpty ? "default" : namespace, name),
                file: file, line: value.line, root: value, stamp: stamp))
    }
}

extension ParseFailure {
    fileprivate init(_ error: YamlError) {
        switch error {
        case .scanner(let context, let problem, let mark, _),
            .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            let prefix = context.map { $0.text + ": " } ?? ""
            self.init(line: mark.line, problem: prefix + problem)
        case .duplicatedKeysInMapping(let duplicates, let context):
            let keys = duplicates.map { "'\($0)'" }.joined(separator: ", ")
            self.init(line: context.mark.line, problem: "the key \(keys) stands twice in one map")
        case .reader(let problem, _, _, _):
            self.init(line: 0, problem: problem)
        default:
            self.init(line: 0, problem: "\(error)")
        }
    }
}
