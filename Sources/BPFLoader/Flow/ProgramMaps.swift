// Maps that only programs read and write: opened when somebody asks how full they are.

internal import CMallaABI

extension Datapath {
    /// Of those maps that nothing here holds open.
    func programMapUsage() -> [MapUsage] {
        var usage = ["malla_share", "malla_quota"].compactMap { try? array($0, "array") }
        usage += ["malla_meter", "malla_blank", "malla_route"].compactMap {
            try? array($0, "percpu_array")
        }
        if let ring = try? hash("malla_ring", "hash", malla_ring_key(), malla_flow_key()) {
            usage.append(ring)
        }
        if let home = try? hash("malla_home", "lru_hash", malla_ring_key(), malla_flow_key()) {
            usage.append(home)
        }
        if let asked = try? hash("malla_asked", "hash", malla_device(), UInt32(0)) {
            usage.append(asked)
        }
        if let fragments = try? hash(
            "malla_fragment", "lru_hash", malla_fragment_key(), malla_fragment())
        {
            usage.append(fragments)
        }
        return usage
    }

    /// Every row of an array is always there.
    private func array(_ name: String, _ type: String) throws(BPFError) -> MapUsage {
        let map = try object.map(name)
        let rows = UInt64(try MapShape(of: map.number, name: name).entriesMax)
        return MapUsage(name: name, type: type, entries: rows, entriesMax: rows, refused: 0)
    }

    /// - Complexity: counts the rows.
    private func hash<Key: BitwiseCopyable, Value: BitwiseCopyable>(
        _ name: String, _ type: String, _: Key, _: Value
    ) throws(BPFError) -> MapUsage {
        let map = try BPFMap<Key, Value>(adopting: object.map(name), name: name)
        return MapUsage(
            name: name, type: type, entries: map.count(), entriesMax: UInt64(map.entriesMax),
            refused: 0)
    }
}
