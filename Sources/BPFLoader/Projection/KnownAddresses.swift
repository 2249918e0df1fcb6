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

/// - Owns: the maps, and a copy of what they hold.
struct KnownAddresses: ~Copyable {
    private let map: BPFMap<malla_address, UInt32>
    private let blockMap: BPFMap<malla_prefix, UInt32>
    private var held: [malla_address: UInt32] = [:]
    private var blocks: [malla_prefix: UInt32] = [:]

    init(_ object: borrowing BPFObject) throws(BPFError) {
        let map = try BPFMap<malla_address, UInt32>(
            adopting: object.map("malla_known"), name: "malla_known")
        var held: [malla_address: UInt32] = [:]
        map.forEach(key: malla_address(), value: 0) { held[$0] = $1 }
        let blockMap = try BPFMap<malla_prefix, UInt32>(
            adopting: object.map("malla_held"), name: "malla_held")
        var blocks: [malla_prefix: UInt32] = [:]
        blockMap.forEach(key: malla_prefix(), value: 0) { blocks[$0] = $1 }
        self.map = map
        self.blockMap = blockMap
        self.held = held
        self.blocks = blocks
    }

    var count: UInt64 { UInt64(held.count) }
    var entriesMax: UInt32 { map.entriesMax }
    var blockCount: UInt64 { UInt64(blocks.count) }
    var blocksMax: UInt32 { blockMap.entriesMax }

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
        try MapChange(from: held, to: wanted).write(to: map, &held)
    }

    /// Whether a socket with this address is held while its namespace is not known.
    func holds(_ address: IPAddress) -> Bool {
        held[malla_address(address)] == nil
            // The block of all is of both families.
            && blocks.keys.contains { $0.prefix_bits == 0 || IPPrefix($0).contains(address) }
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
        try MapChange(from: blocks, to: wanted).write(to: blockMap, &blocks)
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
