// What `malla version` prints.

/// A program of Malla. Made by the CLI, kind `VersionList`.
public struct VersionItem: Codable, Sendable, Equatable {
    /// `malla` or `malla-agent`.
    public var component: String
    public var version: String

    public init(component: String, version: String) {
        self.component = component
        self.version = version
    }
}
