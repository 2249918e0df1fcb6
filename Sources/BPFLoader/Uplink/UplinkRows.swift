// malla_uplinks: the interfaces that carry the uplink's programs. A connection is routed past the
// node's stack only by one of them, because its answers are met there (bpf/lib/far.h).

/// - Owns: the map, and a copy of what it holds.
struct UplinkRows: ~Copyable {
    private let map: BPFMap<UInt32, UInt32>
    private var held: [UInt32: UInt32] = [:]

    init(_ object: borrowing BPFObject) throws(BPFError) {
        let map = try BPFMap<UInt32, UInt32>(
            adopting: object.map("malla_uplinks"), name: "malla_uplinks")
        var held: [UInt32: UInt32] = [:]
        map.forEach(key: 0, value: 0) { held[$0] = $1 }
        self.map = map
        self.held = held
    }

    var count: UInt64 { UInt64(held.count) }
    var entriesMax: UInt32 { map.entriesMax }

    mutating func apply(_ interfaces: Set<UInt32>) throws(BPFError) {
        let wanted = Dictionary(uniqueKeysWithValues: interfaces.map { ($0, UInt32(1)) })
        try MapChange(from: held, to: wanted).write(to: map, &held)
    }
}
