internal import MeshModel
internal import Testing

@Suite("Maglev's table (DESIGN: load balancing)")
struct MaglevTests {
    private static func ends(_ range: Range<Int>, weight: UInt16 = 1) -> [(SocketAddress, UInt16)] {
        range.map { (SocketAddress(IPAddress(v4: 0x0a01_0000 + UInt32($0)), 8080), weight) }
    }

    private static func table(_ ends: [(SocketAddress, UInt16)]) -> [UInt16] {
        Maglev(ends.map { (address: $0.0, weight: $0.1) }).positions
    }

    /// Endpoints, positions: the smallest size of a hundred a piece.
    @Test(arguments: [
        (1, 251), (2, 251), (3, 509), (10, 1021), (40, 4093), (163, 16381), (900, 16381),
    ])
    func `has the smallest size of a hundred positions an endpoint`(_ count: Int, _ size: Int) {
        #expect(Maglev.size(endpoints: count) == size)
    }

    @Test(arguments: [2, 3, 10, 50, 163])
    func `gives every endpoint its share within two percent of the whole`(_ count: Int) {
        let table = Self.table(Self.ends(0..<count))
        var shares = [Int](repeating: 0, count: count)
        for position in table { shares[Int(position)] += 1 }
        #expect(table.count == Maglev.size(endpoints: count))
        #expect(shares.max()! - shares.min()! <= 1, "they take turns")
    }

    @Test func `gives an endpoint of three times the weight three times the positions`() {
        let table = Self.table(Self.ends(0..<2) + Self.ends(2..<3, weight: 3))
        let heavy = Double(table.count { $0 == 2 }) / Double(table.count)
        #expect(abs(heavy - 0.6) < 0.01, "\(heavy)")
        #expect(Self.table(Self.ends(0..<1) + Self.ends(1..<2, weight: 0)).allSatisfy { $0 == 0 })
    }

    @Test func `leaves nobody out, however small its weight is against another's`() {
        let table = Self.table(Self.ends(0..<1, weight: 256) + Self.ends(1..<3))
        #expect(table.count == 509 && (1...2).allSatisfy { end in table.contains { $0 == end } })
        let heavy = Double(table.count { $0 == 0 }) / Double(table.count)
        #expect(heavy > 0.98, "\(heavy)")
    }

    @Test func `is the same wherever the same endpoints are, in any order`() {
        let ends = Self.ends(0..<7)
        let forwards = Self.table(ends).map { ends[Int($0)].0 }
        let backwards = Self.table(ends.reversed()).map { ends.reversed()[Int($0)].0 }
        #expect(forwards == backwards)
    }

    @Test func `moves few of the others when one endpoint goes`() {
        let all = Self.ends(0..<10)
        let before = Self.table(all)
        let after = Self.table(Array(all.dropLast()))
        let stayed = before.indices.filter { before[$0] != 9 }
        let moved = stayed.filter { before[$0] != after[$0] }
        let share = Double(moved.count) / Double(stayed.count)
        #expect(share < 0.1, "\(share) of the others' positions moved")
    }

    @Test func `of no endpoint is empty`() { #expect(Maglev([]).positions.isEmpty) }
}
