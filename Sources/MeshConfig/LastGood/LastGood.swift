// The last good version of every object, by the file that brought it into force: what an agent
// leaves in its state directory for the one after it, so that what breaks while nobody looks is no
// worse than what breaks while an agent runs.
//
// Receives: from ConfigStore, the objects in force. Hands on: the same objects to the next
// ConfigStore. LastGoodBytes says how one file looks, LastGoodDirectory reads and writes them.

internal import MeshModel

/// What is in force of a directory, file by file.
public struct LastGood: Sendable {
    /// By path below the configuration directory.
    private(set) var files: [String: GoodFile] = [:]
    /// Those that differ from what the keeper was given before; `nil`: any may.
    private(set) var changed: Set<String>?

    public init() {}

    init(files: [String: GoodFile]) { self.files = files }

    mutating func replace(_ file: String, with good: GoodFile) {
        files[file] = good
        changed?.insert(file)
    }

    /// Whether anything may differ from what the keeper was given before.
    public var isWhole: Bool { changed == nil }

    /// From here on `changed` names what is replaced.
    mutating func settle() { changed = [] }

    /// Takes over what has changed since `earlier`, which nobody was given.
    public mutating func absorb(_ earlier: LastGood) {
        changed = earlier.changed.flatMap { changed?.union($0) }
    }

    public var objectCount: Int { files.values.reduce(0) { $0 + $1.objects.count } }

    /// Those of a file, and of all files below it where it is a directory that cannot be listed.
    func files(at path: String) -> [String: GoodFile] {
        if let file = files[path] { return [path: file] }
        return files.filter { $0.key.hasPrefix(path + "/") }
    }
}

/// Objects in force through one file.
struct GoodFile: Sendable {
    var objects: [ConfigObject] = []
    /// What checking found of each, where that is known.
    var checks: [[ShapeCheck.Finding]]?

    /// Equal marks mean equal objects, within one process.
    var mark: [UInt64] { objects.map(\.stamp) }
}

extension ConfigObject {
    /// Whether something is made of it; others are not worth keeping.
    var isHonoured: Bool {
        guard case .honoured(_, _, let versions)? = Kind.of(group: group, kind: kind) else {
            return false
        }
        return versions.contains(version)
    }
}
