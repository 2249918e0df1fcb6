// Where pods' host ports are found, on their own nodes and from others.

/// A host port at one address of its pod's node.
public struct FarHostPort {
    public var pod: Workload
    /// With that address.
    public var port: HostPort
    /// `hostIP` names the address; else it is one of all.
    public var isNamed: Bool
}

extension Snapshot {
    /// The pods of a node that have host ports; where several ask for one, the first of these has
    /// it: the oldest, then the first by name.
    public func hostPortPods(on node: String) -> [Workload] {
        Self.inOrder(mesh.workloads.filter { $0.node == node && !$0.hostPorts.isEmpty })
    }

    /// Host ports of all other nodes' pods, as somebody on `node` finds them: at the InternalIPs of
    /// the pod's node, or where `hostIP` says, if the Node object names it. In the order of the
    /// above.
    public func farHostPorts(from node: String) -> [FarHostPort] {
        let pods = mesh.workloads.filter { $0.node != node && !$0.hostPorts.isEmpty }
        guard !pods.isEmpty else { return [] }
        let nodes = Dictionary(
            mesh.nodes.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        // What is this node's too is for its own host ports.
        let own = addresses(of: nodes[node])
            .union(node == self.node ? mesh.hostAddresses : [])
        return Self.inOrder(pods).flatMap { pod in
            nodes[pod.node].map { Self.farHostPorts(of: pod, on: $0, but: own) } ?? []
        }
    }

    private static func farHostPorts(
        of pod: Workload, on node: Node, but own: Set<IPAddress>
    ) -> [FarHostPort] {
        var found: [FarHostPort] = []
        let named = pod.hostPorts.filter { $0.address != nil }
        for port in named + pod.hostPorts.filter({ $0.address == nil }) {
            let places = (port.address == nil ? [] : node.externalAddresses) + node.addresses
            for address in places
            where address == port.address ?? address && !own.contains(address)
                && !address.isUnspecified && !address.isLoopback
            {
                // What `hostIP` names is not also one of all.
                let isTwice = found.contains {
                    $0.port.address == address && $0.port.port == port.port
                        && $0.port.transport == port.transport
                }
                if isTwice { continue }
                var placed = port
                placed.address = address
                found.append(
                    FarHostPort(pod: pod, port: placed, isNamed: port.address != nil))
            }
        }
        return found
    }

    private func addresses(of node: Node?) -> Set<IPAddress> {
        Set((node?.addresses ?? []) + (node?.externalAddresses ?? []))
    }

    private static func inOrder(_ pods: [Workload]) -> [Workload] {
        pods.sorted { ($0.created, $0.name) < ($1.created, $1.name) }
    }
}
