// Which files a directory holds: recursive, *.yaml *.yml *.json, names that begin with a dot left
// out, symlinks followed (a mounted ConfigMap is symlinks into `..data`).

internal import Foundation

/// One file with what tells its contents apart.
struct FileEntry: Hashable {
    /// The directory, whose text all entries share.
    var directory: String
    /// Below the directory; what diagnostics show.
    var relativePath: String
    var mark: FileMark

    var path: String { directory + "/" + relativePath }
}

/// What a walk over the directory found.
struct DirectoryScan {
    private(set) var files: [FileEntry] = []
    /// The directory itself and those below it, for the watch.
    private(set) var directories: [String] = []
    private(set) var problems: [Diagnostic] = []
    private let root: String

    /// - Throws: `ConfigError.unreadable` for the directory itself only.
    init(_ root: String) throws(ConfigError) {
        self.root = root
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: root)
        } catch {
            throw .unreadable(directory: root, reason: Self.reason(error))
        }
        var visited: Set<UInt64> = []
        if case .directory(let inode) = FileMark.look(root) { visited.insert(inode) }
        directories.append(root)
        walk(names, in: root, prefix: "", depth: 0, visited: &visited)
        files.sort { $0.relativePath < $1.relativePath }
        if files.count > Limit.filesMax {
            problems.append(
                Diagnostic(
                    .error, .unreadable, file: root,
                    message: "holds \(files.count) files, at most \(Limit.filesMax) are read: "
                        + "put more objects in a file"))
            files.removeSubrange(Limit.filesMax...)
        }
    }

    private mutating func walk(
        _ names: [String], in directory: String, prefix: String, depth: Int,
        visited: inout Set<UInt64>
    ) {
        for name in names.sorted() where !name.hasPrefix(".") {
            let path = directory + "/" + name
            let relative = prefix + name
            switch FileMark.look(path) {
            case .directory(let inode):
                // A symlink to a parent would be walked for ever.
                guard visited.insert(inode).inserted, depth < Limit.directoryDepthMax else {
                    continue
                }
                directories.append(path)
                do {
                    let inner = try FileManager.default.contentsOfDirectory(atPath: path)
                    walk(
                        inner, in: path, prefix: relative + "/", depth: depth + 1,
                        visited: &visited)
                } catch {
                    problems.append(
                        Diagnostic(
                            .error, .unreadable, file: relative,
                            message: "cannot list the directory: \(Self.reason(error))"))
                }
            case .file(let mark) where Self.isConfiguration(name):
                files.append(
                    FileEntry(directory: root, relativePath: relative, mark: mark))
            case .missing(let errno) where Self.isConfiguration(name):
                problems.append(
                    Diagnostic(
                        .error, .unreadable, file: relative,
                        message: "cannot read the file: \(Self.text(ofErrno: errno))"))
            case .file, .missing, .other:
                continue
            }
        }
    }

    static func isConfiguration(_ name: String) -> Bool {
        name.hasSuffix(".yaml") || name.hasSuffix(".yml") || name.hasSuffix(".json")
    }

    private static func text(ofErrno errno: CInt) -> String {
        NSError(domain: NSPOSIXErrorDomain, code: Int(errno)).localizedDescription
    }

    private static func reason(_ error: any Error) -> String {
        let underlying = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
        if let underlying, underlying.domain == NSPOSIXErrorDomain {
            return text(ofErrno: CInt(underlying.code))
        }
        return "\(error.localizedDescription)"
    }
}
