// Whoever has one of these is the node: addresses of its interfaces, not only those that its Node
// object names. It dials its own pods from the one that the route to them prefers.

public import MeshModel

extension Datapath {
    /// Those of the calling thread's network namespace, sorted, each once. Left out are loopback,
    /// which no pod sees, and IPv6 addresses of links, which each pod's veth has one more of and
    /// nobody dials a pod from who has another.
    public static func hostAddresses() -> [IPAddress] {
        let linkLocal = IPPrefix("fe80::/10")
        let found = NetworkLink.addresses().map(\.address).filter {
            !$0.isLoopback && !$0.isUnspecified && !$0.isMulticast
                && linkLocal?.contains($0) != true
        }
        return Set(found).sorted()
    }
}
