internal import Foundation
internal import MeshConfig

/// A directory of its own for one test, removed afterwards.
final class TestDirectory {
    let path: String

    init() {
        path = NSTemporaryDirectory() + "malla-config-" + UUID().uuidString
        try? FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ name: String, _ text: String) {
        let file = path + "/" + name
        let parent = (file as NSString).deletingLastPathComponent
        try? FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
        try? Data(text.utf8).write(to: URL(fileURLWithPath: file))
    }

    func remove(_ name: String) {
        try? FileManager.default.removeItem(atPath: path + "/" + name)
    }

    /// What one file with this text amounts to.
    static func load(_ text: String) throws -> ConfigResult {
        let directory = TestDirectory()
        directory.write("mesh.yaml", text)
        var store = ConfigStore(directory: directory.path)
        return try store.reload()
    }
}
