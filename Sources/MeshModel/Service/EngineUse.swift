/// What a pod wants of the engine. Source: annotations, docs/configuration.md.
public struct EngineUse: Hashable, Sendable {
    /// What others dial of it goes through the engine.
    public var isInbound: Bool
    /// While no engine serves, its new captured connections are refused; else an endpoint gets them
    /// by the kernel alone.
    public var failsClosed: Bool

    public init(isInbound: Bool = false, failsClosed: Bool = false) {
        self.isInbound = isInbound
        self.failsClosed = failsClosed
    }
}
