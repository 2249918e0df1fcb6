/// Where the nodes' pods have their addresses from: `spec.podCIDRs` of all Nodes.
public struct PodBlocks: Sendable {
    private let blocks: Set<IPPrefix>
    /// Of each family, those that occur.
    private let lengths4: [UInt8]
    private let lengths6: [UInt8]

    init(_ nodes: [Node]) {
        let blocks = Set(nodes.flatMap(\.podBlocks))
        self.blocks = blocks
        lengths4 = Set(blocks.filter(\.isIPv4).map(\.length)).sorted()
        lengths6 = Set(blocks.filter { !$0.isIPv4 }.map(\.length)).sorted()
    }

    /// Sorted.
    public var all: [IPPrefix] { blocks.sorted() }

    /// Whether all of `block` lies in one of them.
    public func contain(_ block: IPPrefix) -> Bool {
        (block.isIPv4 ? lengths4 : lengths6).contains { length in
            length <= block.length && blocks.contains(IPPrefix(block.address, length: length))
        }
    }
}

extension Snapshot {
    /// Whether pods have their addresses of a family from the Nodes' blocks, as far as can be told:
    /// each Node has one, and no Pod is elsewhere, as where a network plugin has blocks of its own.
    ///
    /// - Complexity: linear in workloads.
    public func confinesPods(isIPv4: Bool) -> Bool {
        guard !mesh.nodes.isEmpty,
            mesh.nodes.allSatisfy({ node in node.podBlocks.contains { $0.isIPv4 == isIPv4 } })
        else { return false }
        return mesh.workloads.allSatisfy { workload in
            workload.addresses.allSatisfy { address in
                address.isIPv4 != isIPv4 || podBlocks.contain(IPPrefix(address))
            }
        }
    }

    /// Whether it is a pod's address, as the Nodes say, and no Pod is known to have it. What
    /// policies say of it is what they say of any address.
    ///
    /// - Source: Cilium's reserved identity `unmanaged`.
    public func isUnmanaged(_ address: IPAddress) -> Bool {
        workloadsByAddress[address] == nil && podBlocks.contain(IPPrefix(address))
            && policy.kind(of: address) != .host
    }
}
