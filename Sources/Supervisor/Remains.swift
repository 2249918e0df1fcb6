// What an agent leaves in the node's network namespace when it was killed in the midst of its work.

internal import CLinux
internal import Glibc

public enum Remains {
    /// The process that serves this node; 0: one does, and the kernel does not say which; `nil`:
    /// nobody does.
    public static var agent: Int32? {
        // The array outlives the call, which reads as many bytes as it is told.
        let holder = unsafe malla_unix_holder(NodeLock.nodeName, NodeLock.nodeName.count)
        return holder >= 0 ? holder : nil
    }

    /// Takes the engine's veth away, if one is left; with its other end goes what the kernel still
    /// keeps of the engine's namespace.
    ///
    /// - Returns: 0, or a positive errno.
    public static func removeVeth() -> Int32 {
        guard unsafe if_nametoindex(EngineNamespace.nodeInterface) != 0 else { return 0 }
        let result = unsafe malla_link_remove(EngineNamespace.nodeInterface)
        return result == -ENODEV ? 0 : -result
    }
}
