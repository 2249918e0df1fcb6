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
