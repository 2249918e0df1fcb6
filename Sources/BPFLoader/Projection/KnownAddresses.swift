// malla_known: addresses of local pods that name no interface. They are in the configuration, and
// nothing is ever attached for them, so they are not held. malla_held: where pods are that must be
// in it (bpf/hooks/hold.h).

internal import CMallaABI
internal import MeshModel

/// Which pods are silent until a snapshot knows them.
public enum HeldPods: Sendable, Equatable {
    case none
    /// Those with addresses of the node's own blocks (`Node.podBlocks`); none if it has none.
    case inBlocks
    /// Every one below the cgroup.
    case all
}

/// - Owns: both maps.
struct KnownAddresses: ~Copyable {
    private(set) var addresses: CopiedMap<malla_address, UInt32>
    private(set) var blocks: CopiedMap<malla_prefix, UInt32>

    init(_ object: borrowing BPFObject) throws(BPFError) {
        let addresses = try CopiedMap<malla_address, UInt32>(
            object, "malla_known", key: malla_address(), value: 0)
        let blocks = try CopiedMap<malla_prefix, UInt32>(
            object, "malla_held", key: malla_prefix(), value: 0)
        self.addresses = addresses
        self.blocks = blocks
    }

    /// An address is known where no pod that has it names an interface: one that does waits for it.
    ///
    /// - Parameter endless: names of interfaces behind which no namespace can be known.
    mutating func apply(_ snapshot: Snapshot, endless: Set<String>) throws(BPFError) {
        var wanted: [malla_address: UInt32] = [:]
        var waiting: Set<malla_address> = []
        for workload in snapshot.mesh.workloads where snapshot.isLocal(workload) {
            let keys = workload.addresses.map { malla_address($0) }
            if let interface = workload.interface, !endless.contains(interface) {
                waiting.formUnion(keys)
            } else {
                for key in keys { wanted[key] = 1 }
            }
        }
        for key in waiting { wanted[key] = nil }
        try addresses.become(wanted)
    }

    /// Whether a socket with this address is held while its namespace is not known.
    func holds(_ address: IPAddress) -> Bool {
        addresses.rows[malla_address(address)] == nil
            // The block of all is of both families.
            && blocks.rows.keys.contains { $0.prefix_bits == 0 || IPPrefix($0).contains(address) }
    }

    /// What is held once the addresses are known.
    ///
    /// - Returns: whether anything is.
    mutating func hold(_ pods: HeldPods, of snapshot: Snapshot) throws(BPFError) -> Bool {
        var wanted: [malla_prefix: UInt32] = [:]
        for block in Self.blocks(pods, of: snapshot) {
            wanted[malla_prefix(prefix_bits: UInt32(block.length), address: .init(block.address))] =
                1
        }
        try blocks.become(wanted)
        return !wanted.isEmpty
    }

    private static func blocks(_ pods: HeldPods, of snapshot: Snapshot) -> [IPPrefix] {
        switch pods {
        case .none: []
        case .inBlocks: snapshot.mesh.nodes.first { $0.name == snapshot.node }?.podBlocks ?? []
        // As the kernel holds them, this is IPv4 too.
        case .all: [.allIPv6]
        }
    }
}
