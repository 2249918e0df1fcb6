// The rows of one group of endpoints: which endpoint has which slot, and the pieces of its Maglev
// table. A value: ServiceRows writes what it says.

internal import CMallaABI
internal import MeshModel

/// - Units: a slot is an index below the group's count; an endpoint keeps its own while it can.
struct GroupRows: Equatable {
    let id: UInt32
    private(set) var slots: [PlannedEnd]

    init(id: UInt32, slots: [PlannedEnd] = []) {
        self.id = id
        self.slots = slots
    }

    /// The same group with these endpoints: who stays keeps his slot, new ones take the places of
    /// those that left, and the last ones fill what is empty then.
    func with(_ ends: [PlannedEnd]) -> GroupRows {
        if slots.isEmpty { return GroupRows(id: id, slots: ends) }
        let wanted = Set(ends.map(\.address))
        let weights = Dictionary(
            ends.map { ($0.address, $0.weight) }, uniquingKeysWith: { first, _ in first })
        let had = Set(slots.map(\.address))
        var fresh = ends.filter { !had.contains($0.address) }[...]
        var next: [PlannedEnd?] = slots.map { end in
            guard wanted.contains(end.address) else { return fresh.popFirst() }
            return PlannedEnd(address: end.address, weight: weights[end.address] ?? end.weight)
        }
        next += fresh.map { $0 }
        while let hole = next.firstIndex(of: nil) {
            guard let last = next.removeLast() else { continue }
            next[hole] = last
        }
        return GroupRows(id: id, slots: next.compactMap(\.self))
    }

    /// Positions of the table: none where there is nothing to choose.
    var positions: UInt32 {
        slots.count > 1 ? UInt32(Maglev.size(endpoints: slots.count)) : 0
    }

    var group: malla_group {
        malla_group(id: id, endpoints: UInt32(slots.count), positions: positions)
    }

    var pieceCount: Int {
        let bytes = Int(positions) * (slots.count > 256 ? 2 : 1)
        return (bytes + pieceBytes - 1) / pieceBytes
    }

    private var pieceBytes: Int { Int(MALLA_MAGLEV_BYTES) }

    /// The table as the kernel holds it: a byte a position, or two with more than 256 slots.
    func pieces() -> [malla_maglev] {
        guard positions > 0 else { return [] }
        let table = Maglev(slots.map { ($0.address, $0.weight) }).positions
        let isWide = slots.count > 256
        var bytes: [UInt8] = []
        bytes.reserveCapacity(pieceCount * pieceBytes)
        for position in table {
            bytes.append(UInt8(truncatingIfNeeded: position))
            if isWide { bytes.append(UInt8(truncatingIfNeeded: position >> 8)) }
        }
        bytes += [UInt8](repeating: 0, count: pieceCount * pieceBytes - bytes.count)
        return (0..<pieceCount).map { index in
            var piece = malla_maglev()
            // A piece is as long as the part of the table that is copied into it.
            unsafe withUnsafeMutableBytes(of: &piece) { target in
                unsafe target.copyBytes(from: bytes[index * pieceBytes..<(index + 1) * pieceBytes])
            }
            return piece
        }
    }
}
