// More pods elsewhere than malla_peer has rows: which of them get one, and what stands for those
// that do not.

internal import CMallaABI
internal import MeshModel

/// - Owns: what it has decided last, as long as the map is too small.
struct PeerRoom {
    /// Of malla_unlisted, which holds those before and those after at once.
    static let blocksMax = 64

    struct Plan: Equatable {
        /// Pods, and of nodes those that stand within a block.
        var rows: [malla_address: UInt32]
        /// What has no row, and would need one.
        var blocks: Set<malla_prefix> = []
        var leftOut = 0
    }

    private struct Question: Equatable {
        var wanted: [malla_address: UInt32]
        var nodes: Set<malla_address>
        var room: Int
    }

    private var last: (question: Question, plan: Plan)?
    /// How often pods were ranked.
    private(set) var rankings = 0

    /// The same answer to the same question; else what is held already goes first.
    ///
    /// - Parameters:
    ///   - nodes: connections to these addresses are never the engine's for being in a block.
    ///   - room: rows of malla_peer.
    mutating func plan(
        _ wanted: [malla_address: UInt32], nodes: Set<malla_address>, room: Int,
        held: [malla_address: UInt32]
    ) -> Plan {
        guard wanted.count > room else {
            last = nil
            return Plan(rows: wanted)
        }
        let question = Question(wanted: wanted, nodes: nodes, room: room)
        if let last, last.question == question { return last.plan }
        rankings += 1
        var plan = Self.plan(wanted, room: room, held: held)
        let others = nodes.filter { wanted[$0] == nil }
        if !Self.within(plan.blocks, others).isEmpty {
            // Room for all: with fewer rows the blocks are larger, and hold more of them.
            plan = Self.plan(wanted, room: max(0, room - others.count), held: held)
            for node in Self.within(plan.blocks, others).prefix(room) { plan.rows[node] = 0 }
        }
        last = (question, plan)
        return plan
    }

    private static func plan(
        _ wanted: [malla_address: UInt32], room: Int, held: [malla_address: UInt32]
    ) -> Plan {
        let rows = fitting(wanted, room: room, held: held)
        let missing = wanted.filter { matters($1) && rows[$0] == nil }.map(\.key)
        return Plan(
            rows: rows, blocks: blocks(holding: missing), leftOut: wanted.count - rows.count)
    }

    private static func within(
        _ blocks: Set<malla_prefix>, _ addresses: Set<malla_address>
    ) -> [malla_address] {
        let blocks = blocks.map { IPPrefix($0) }
        return addresses.filter { address in
            blocks.contains { $0.contains(IPAddress(address)) }
        }
    }

    /// Something is decided by the row; without one that it should have the engine decides. All
    /// others spare a connection the way through the node's stack.
    static func matters(_ flags: UInt32) -> Bool { flags & ~UInt32(MALLA_PEER_POD) != 0 }

    /// No tunnel leads there: a block would stop those only whose connections tunnels carry.
    private static func insists(_ flags: UInt32) -> Bool {
        flags & UInt32(MALLA_PEER_STRICT | MALLA_PEER_MODES) != 0
    }

    /// Those that there is room for: first who insists on what cannot be had, then what matters,
    /// and of each kind what is held already.
    static func fitting(
        _ wanted: [malla_address: UInt32], room: Int, held: [malla_address: UInt32]
    ) -> [malla_address: UInt32] {
        guard wanted.count > room else { return wanted }
        var ranks = [[(malla_address, UInt32)]](repeating: [], count: 6)
        for (address, flags) in wanted {
            let kind = insists(flags) ? 0 : matters(flags) ? 2 : 4
            ranks[kind + (held[address] == nil ? 1 : 0)].append((address, flags))
        }
        return Dictionary(uniqueKeysWithValues: ranks.joined().prefix(room))
    }

    /// At most `blocksMax` blocks that hold all of the addresses, and little else: they are parted
    /// where neighbours have least in common.
    ///
    /// - Complexity: that of sorting them.
    static func blocks(holding addresses: [malla_address]) -> Set<malla_prefix> {
        guard !addresses.isEmpty else { return [] }
        let sorted = addresses.map(\.value).sorted()
        let gaps = sorted.indices.dropFirst().map {
            (at: $0, bits: common(sorted[$0 - 1], sorted[$0]))
        }
        let cuts = gaps.sorted { ($0.bits, $0.at) < ($1.bits, $1.at) }.prefix(blocksMax - 1)
        var start = 0
        var blocks: Set<malla_prefix> = []
        for end in cuts.map(\.at).sorted() + [sorted.endIndex] {
            let bits = common(sorted[start], sorted[end - 1])
            blocks.insert(malla_prefix(IPPrefix(sorted[start], length: UInt8(bits))))
            start = end
        }
        return blocks
    }

    /// Bits that both begin with: 0...128.
    private static func common(_ left: IPAddress, _ right: IPAddress) -> Int {
        let high = (left.high ^ right.high).leadingZeroBitCount
        return high < 64 ? high : 64 + (left.low ^ right.low).leadingZeroBitCount
    }
}
