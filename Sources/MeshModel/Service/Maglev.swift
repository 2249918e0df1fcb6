// Maglev's table: which endpoint a hash falls upon, so that every node answers alike and a change
// of one endpoint moves few connections of the others. Pure; BPFLoader writes it into the kernel.

/// A table of positions, each the index of an endpoint.
///
/// - Source: Eisenbud et al., Maglev (NSDI 2016), section 3.4; weights as in Envoy: an endpoint of
///   half the greatest weight takes a position in every second turn, and all take one in the first.
public struct Maglev: Sendable {
    public let positions: [UInt16]

    /// Primes: every step then visits every position.
    public static let sizes = [251, 509, 1021, 2039, 4093, 8191, 16381]

    /// The smallest that is at least a hundred positions an endpoint, so that shares differ by
    /// about one percent; the greatest for 164 endpoints and more.
    public static func size(endpoints: Int) -> Int {
        sizes.first { $0 >= 100 * endpoints } ?? sizes[sizes.count - 1]
    }

    /// - Parameter ends: in any order; the table is the same wherever the same ends have the same
    ///   weights.
    /// - Complexity: the table's size, times the logarithm of it.
    public init(_ ends: [(address: SocketAddress, weight: UInt16)]) {
        let size = Self.size(endpoints: ends.count)
        let order = ends.indices.filter { ends[$0].weight > 0 }.sorted {
            (ends[$0].address.address, ends[$0].address.port)
                < (ends[$1].address.address, ends[$1].address.port)
        }
        guard !order.isEmpty else {
            positions = []
            return
        }
        positions = Self.fill(
            size: size, hashes: order.map { Self.hashes(ends[$0].address) },
            weights: order.map { UInt32(ends[$0].weight) }
        ).map { UInt16(order[Int($0)]) }
    }

    private static func fill(
        size: Int, hashes: [(UInt64, UInt64)], weights: [UInt32]
    ) -> [UInt16] {
        let free = UInt16.max
        var table = [UInt16](repeating: free, count: size)
        var next = hashes.map { Int($0.0 % UInt64(size)) }
        let steps = hashes.map { 1 + Int($0.1 % UInt64(size - 1)) }
        let heaviest = weights.max() ?? 1
        var credit = weights.map { heaviest - $0 }
        var left = size
        while true {
            for index in weights.indices {
                credit[index] += weights[index]
                guard credit[index] >= heaviest else { continue }
                credit[index] -= heaviest
                var position = next[index]
                while table[position] != free {
                    position += steps[index]
                    if position >= size { position -= size }
                }
                table[position] = UInt16(index)
                next[index] = position
                left -= 1
                if left == 0 { return table }
            }
        }
    }

    /// Two independent hashes of an end, the same on every machine and in every version.
    private static func hashes(_ end: SocketAddress) -> (UInt64, UInt64) {
        let words = [end.address.high, end.address.low, UInt64(end.port)]
        func hash(_ seed: UInt64) -> UInt64 { words.reduce(seed) { mixed($0 ^ mixed($1)) } }
        return (hash(0x9e37_79b9_7f4a_7c15), hash(0xd1b5_4a32_d192_ed03))
    }

    /// SplitMix64's finaliser.
    private static func mixed(_ value: UInt64) -> UInt64 {
        var mixed = value &+ 0x9e37_79b9_7f4a_7c15
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}
