/// The blocks of addresses that policies name, each knowing the narrowest one around it. The two
/// worlds, `::/0` and `0.0.0.0/0`, are always among them.
struct BlockTree: Sendable {
    /// Sorted; what a block contains follows it at once.
    private(set) var blocks: [IPPrefix]
    private(set) var parents: [Int?]
    /// One past the last block inside each.
    private(set) var ends: [Int]
    /// Whether a policy names it; the worlds may be there for their own sake.
    private(set) var isNamed: [Bool]
    private let indices: [IPPrefix: Int]

    init(_ named: Set<IPPrefix>) {
        let sorted = named.union([.allIPv4, .allIPv6]).sorted()
        var parents: [Int?] = []
        var ends = [Int](repeating: sorted.count, count: sorted.count)
        var open: [Int] = []
        var indices: [IPPrefix: Int] = [:]
        for (index, block) in sorted.enumerated() {
            while let last = open.last, !sorted[last].contains(block) {
                ends[last] = index
                open.removeLast()
            }
            parents.append(open.last)
            open.append(index)
            indices[block] = index
        }
        blocks = sorted
        self.parents = parents
        self.ends = ends
        self.indices = indices
        isNamed = sorted.map(named.contains)
    }

    func index(of block: IPPrefix) -> Int? { indices[block] }

    /// The narrowest block around the address.
    func narrowest(_ address: IPAddress) -> Int {
        // The last block that does not begin behind the address, or one around it, contains it.
        let key = IPPrefix(address)
        var low = 0
        var high = blocks.count
        while low < high {
            let middle = (low + high) / 2
            if key < blocks[middle] { high = middle } else { low = middle + 1 }
        }
        var index = low - 1
        while index >= 0, !blocks[index].contains(address) {
            guard let parent = parents[index] else { break }
            index = parent
        }
        return max(index, 0)
    }
}
