// A pod's annotations about the engine: what needs it, and what becomes of that without one.

internal import MeshModel

extension EngineUse {
    /// - Returns: what the annotations say, and what is wrong with each, by annotation.
    static func read(
        _ annotations: [String: String]
    ) -> (use: EngineUse, problems: [(annotation: String, problem: String)]) {
        var use = EngineUse()
        var problems: [(annotation: String, problem: String)] = []
        switch annotations[Annotation.inbound] {
        case nil: break
        case "l7"?: use.isInbound = true
        case let word?: problems.append((Annotation.inbound, "'\(word)' is not l7"))
        }
        // What nobody is to reach past the engine is closed without one.
        use.failsClosed = use.isInbound
        switch annotations[Annotation.failureMode] {
        case nil: break
        case "open"?: use.failsClosed = false
        case "closed"?: use.failsClosed = true
        case let word?:
            problems.append((Annotation.failureMode, "'\(word)' is neither open nor closed"))
        }
        return (use, problems)
    }
}
