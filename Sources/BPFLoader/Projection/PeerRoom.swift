// More pods elsewhere than malla_peer has rows: which of them get one, and what stands for those
// that do not.

internal import CMallaABI
internal import MeshModel

enum PeerRoom {
    /// Of malla_unlisted, which holds those before and those after at once.
    static let blocksMax = 64

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
