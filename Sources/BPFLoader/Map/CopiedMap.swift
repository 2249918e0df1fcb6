// A map of which a copy is kept, so that only what changes is written.

/// - Owns: the map, and a copy of what it holds.
struct CopiedMap<Key: Hashable & BitwiseCopyable, Value: Equatable & BitwiseCopyable>: ~Copyable {
    private let map: BPFMap<Key, Value>
    private(set) var rows: [Key: Value] = [:]

    /// Takes it over with the rows that an agent before this one has left.
    ///
    /// - Parameters:
    ///   - key: of any value, as is `value`: what rows are read into.
    init(
        _ object: borrowing BPFObject, _ name: String, key: Key, value: Value
    ) throws(BPFError) {
        let map = try BPFMap<Key, Value>(adopting: object.map(name), name: name)
        var rows: [Key: Value] = [:]
        map.forEach(key: key, value: value) { rows[$0] = $1 }
        self.map = map
        self.rows = rows
    }

    var count: UInt64 { UInt64(rows.count) }
    var entriesMax: UInt32 { map.entriesMax }

    /// Makes the map hold these rows and no others.
    ///
    /// - Throws: what the kernel said to the first row that it refused.
    mutating func become(_ wanted: [Key: Value]) throws(BPFError) {
        try MapChange(from: rows, to: wanted).write(to: map, &rows)
    }

    /// Inserts or replaces one row.
    mutating func put(_ key: Key, _ value: Value) throws(BPFError) {
        try map.set(key, to: value)
        rows[key] = value
    }

    /// Removes a row if it is there still.
    mutating func take(_ key: Key) {
        if map.take(key) { rows[key] = nil }
    }
}
