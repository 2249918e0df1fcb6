// What differs between two generations of rows of one map: records to write, records to remove.
// Writes come before removals, so that no moment is without the one or the other.

struct MapChange<Key: Hashable, Value: Equatable> {
    var writes: [(key: Key, value: Value)] = []
    var removals: [Key] = []

    /// - Complexity: linear in both.
    init(from old: [Key: Value], to new: [Key: Value]) {
        for (key, value) in new where old[key] != value { writes.append((key, value)) }
        for key in old.keys where new[key] == nil { removals.append(key) }
    }

    var isEmpty: Bool { writes.isEmpty && removals.isEmpty }
}

extension MapChange where Key: BitwiseCopyable, Value: BitwiseCopyable {
    /// Makes the map hold the new generation; `held` follows row by row.
    ///
    /// - Throws: what the kernel said to the first row that it refused.
    func write(
        to map: borrowing BPFMap<Key, Value>, _ held: inout [Key: Value]
    ) throws(BPFError) {
        for row in writes {
            try map.set(row.key, to: row.value)
            held[row.key] = row.value
        }
        try takeOut(of: map, &held)
    }

    /// Writes what is new; `held` follows row by row.
    ///
    /// - Returns: for what a full map has no room.
    func add(
        to map: borrowing BPFMap<Key, Value>, _ held: inout [Key: Value], _ refused: inout FullMaps
    ) throws(BPFError) -> [Key] {
        var missing: [Key] = []
        for row in writes {
            do throws(BPFError) {
                try map.set(row.key, to: row.value)
                held[row.key] = row.value
            } catch {
                try refused.take(error, map: map.name, entriesMax: map.entriesMax)
                missing.append(row.key)
            }
        }
        return missing
    }

    /// Takes out what is gone; `held` follows row by row.
    func takeOut(
        of map: borrowing BPFMap<Key, Value>, _ held: inout [Key: Value]
    ) throws(BPFError) {
        for key in removals {
            try map.remove(key)
            held[key] = nil
        }
    }
}
