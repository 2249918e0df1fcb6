/// What a pod wants of the engine. Source: annotations, docs/configuration.md.
public struct EngineUse: Hashable, Sendable {
    /// While no engine serves, its new captured connections are refused; else an endpoint gets them
    /// by the kernel alone.
    public var failsClosed: Bool

    public init(failsClosed: Bool = false) { self.failsClosed = failsClosed }
}
