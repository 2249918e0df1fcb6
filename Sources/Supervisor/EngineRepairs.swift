/// What of the engine's namespace was not as it should be, and was put right.
public struct EngineRepairs: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The veth was gone: it has another index now, and no programs.
    public static let veth = EngineRepairs(rawValue: 1)
    /// An interface was down.
    public static let link = EngineRepairs(rawValue: 2)
    /// Rules or routes were missing.
    public static let routes = EngineRepairs(rawValue: 4)
    /// A setting below /proc/sys/net had another value.
    public static let settings = EngineRepairs(rawValue: 8)
}
