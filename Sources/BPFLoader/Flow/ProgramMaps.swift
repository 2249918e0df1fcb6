// Maps that only programs read and write: opened when somebody asks how full they are.

internal import CMallaABI

extension Datapath {
    /// Of those maps that nothing here holds open.
    func programMapUsage() -> [MapUsage] {
        var usage = ["malla_share", "malla_quota"].compactMap { try? array($0, "array") }
        usage += ["malla_meter", "malla_blank"].compactMap { try? array($0, "percpu_array") }
        if let ring = try? ringUsage() { usage.append(ring) }
        if let fragments = try? fragmentUsage() { usage.append(fragments) }
        return usage
    }

    /// Every row of an array is always there.
    private func array(_ name: String, _ type: String) throws(BPFError) -> MapUsage {
        let map = try object.map(name)
        let rows = UInt64(try MapShape(of: map.number, name: name).entriesMax)
        return MapUsage(name: name, type: type, entries: rows, entriesMax: rows, refused: 0)
    }

    private func ringUsage() throws(BPFError) -> MapUsage {
        let ring = try BPFMap<malla_ring_key, malla_flow_key>(
            adopting: object.map("malla_ring"), name: "malla_ring")
        return MapUsage(
            name: ring.name, type: "hash", entries: ring.count(),
            entriesMax: UInt64(ring.entriesMax), refused: 0)
    }

    private func fragmentUsage() throws(BPFError) -> MapUsage {
        let fragments = try BPFMap<malla_fragment_key, malla_fragment>(
            adopting: object.map("malla_fragment"), name: "malla_fragment")
        return MapUsage(
            name: fragments.name, type: "lru_hash", entries: fragments.count(),
            entriesMax: UInt64(fragments.entriesMax), refused: 0)
    }
}
