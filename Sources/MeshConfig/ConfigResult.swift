public import MeshModel

/// What a configuration directory amounts to.
public struct ConfigResult: Sendable {
    /// All valid objects, resolved; for SnapshotCompiler.
    public var mesh: Mesh
    /// In the order of files and lines.
    public var diagnostics: [Diagnostic]
    public var gatewayStatuses: [GatewayStatus]
    public var routeStatuses: [RouteStatus]
    public var policyStatuses: [PolicyStatus]
    /// Objects found in the files that could be read, valid or not.
    public var objectCount: Int
    public var fileCount: Int
    /// Files that cannot be read or are no YAML: `/readyz` answers 503 while there are any.
    public var unreadableFiles: [String]
    /// Whether `mesh` differs from the one before.
    public var isChanged: Bool

    public init(
        mesh: Mesh = Mesh(), diagnostics: [Diagnostic] = [],
        gatewayStatuses: [GatewayStatus] = [], routeStatuses: [RouteStatus] = [],
        policyStatuses: [PolicyStatus] = [],
        objectCount: Int = 0, fileCount: Int = 0, unreadableFiles: [String] = [],
        isChanged: Bool = true
    ) {
        self.mesh = mesh
        self.diagnostics = diagnostics
        self.gatewayStatuses = gatewayStatuses
        self.routeStatuses = routeStatuses
        self.policyStatuses = policyStatuses
        self.objectCount = objectCount
        self.fileCount = fileCount
        self.unreadableFiles = unreadableFiles
        self.isChanged = isChanged
    }

    public var errorCount: Int { diagnostics.count { $0.severity == .error } }
    public var warningCount: Int { diagnostics.count { $0.severity == .warning } }
    /// What is deliberately left alone, such as a Gateway of another class.
    public var ignored: [Diagnostic] { diagnostics.filter { $0.category == .ignored } }
}

/// Why there is no configuration at all.
public enum ConfigError: Error, Equatable, CustomStringConvertible {
    /// The directory cannot be listed: `malla-agent run` ends with 78 (EX_CONFIG), `malla config
    /// validate`, whose input it is, with 66 (EX_NOINPUT).
    case unreadable(directory: String, reason: String)
    /// Agents ended while they read it, one after another: it is left alone until it changes.
    case deadly(directory: String, deaths: Int)

    public var description: String {
        switch self {
        case .unreadable(let directory, let reason):
            "cannot read the configuration directory '\(directory)': \(reason); "
                + "create it or give another one with --config"
        case .deadly(let directory, let deaths):
            "reading the configuration directory '\(directory)' has ended the agent "
                + "\(deaths) times: "
                + "what was in force before is served; take the last change back, or change "
                + "anything in the directory to have it read again"
        }
    }
}
