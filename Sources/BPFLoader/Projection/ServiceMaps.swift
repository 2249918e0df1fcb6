// The kernel's maps of services.

internal import CMallaABI

/// - Owns: their descriptors.
struct ServiceMaps: ~Copyable {
    let services: BPFMap<malla_end, malla_service>
    let endpoints: BPFMap<malla_endpoint_key, malla_end>
    let pieces: BPFMap<malla_maglev_key, malla_maglev>
    let members: BPFMap<malla_member, UInt32>
    let ranges: BPFMap<malla_range, UInt32>
    let near: BPFMap<malla_address, UInt32>
    let node: BPFMap<UInt32, malla_node>
    let affinities: BPFMap<malla_affinity_key, malla_affinity>
    let translations: BPFMap<malla_flow_key, malla_snat>
    let dialled: BPFMap<malla_dialled_key, malla_dialled>
    /// Rows that did not fit, by map.
    var refused = RefusedRows()

    init(_ object: borrowing BPFObject) throws(BPFError) {
        // As locals first, so that a failure leaves nothing half made.
        let services: BPFMap<malla_end, malla_service> = try Self.open("malla_service", object)
        let endpoints: BPFMap<malla_endpoint_key, malla_end> = try Self.open(
            "malla_endpoint", object)
        let pieces: BPFMap<malla_maglev_key, malla_maglev> = try Self.open("malla_maglev", object)
        let members: BPFMap<malla_member, UInt32> = try Self.open("malla_member", object)
        let ranges: BPFMap<malla_range, UInt32> = try Self.open("malla_range", object)
        let near: BPFMap<malla_address, UInt32> = try Self.open("malla_near", object)
        let node: BPFMap<UInt32, malla_node> = try Self.open("malla_node", object)
        let affinities: BPFMap<malla_affinity_key, malla_affinity> = try Self.open(
            "malla_affinity", object)
        let translations: BPFMap<malla_flow_key, malla_snat> = try Self.open("malla_snat", object)
        let dialled: BPFMap<malla_dialled_key, malla_dialled> = try Self.open(
            "malla_dialled", object)
        self.services = services
        self.endpoints = endpoints
        self.pieces = pieces
        self.members = members
        self.ranges = ranges
        self.near = near
        self.node = node
        self.affinities = affinities
        self.translations = translations
        self.dialled = dialled
    }

    private static func open<Key: BitwiseCopyable, Value: BitwiseCopyable>(
        _ name: String, _ object: borrowing BPFObject
    ) throws(BPFError) -> BPFMap<Key, Value> {
        try BPFMap(adopting: object.map(name), name: name)
    }

    /// Of a map that follows the configuration.
    func entriesMax(of name: String) -> UInt32 {
        switch name {
        case "malla_service": services.entriesMax
        case "malla_endpoint": endpoints.entriesMax
        case "malla_maglev": pieces.entriesMax
        case "malla_member": members.entriesMax
        case "malla_range": ranges.entriesMax
        default: near.entriesMax
        }
    }

    /// Of the maps that nothing but the kernel counts, their rows are counted.
    func usage(services rows: Int, endpoints slots: Int, ranges prefixes: Int) -> [MapUsage] {
        func line(_ name: String, _ type: String, _ count: UInt64, _ max: UInt32) -> MapUsage {
            MapUsage(
                name: name, type: type, entries: count, entriesMax: UInt64(max),
                refused: refused.counts[name] ?? 0)
        }
        return [
            line("malla_service", "hash", UInt64(rows), services.entriesMax),
            // What is planned beyond a full map's end is not in it.
            line(
                "malla_endpoint", "hash", UInt64(min(slots, Int(endpoints.entriesMax))),
                endpoints.entriesMax),
            line("malla_maglev", "hash", pieces.count(), pieces.entriesMax),
            line("malla_member", "hash", members.count(), members.entriesMax),
            line("malla_range", "lpm_trie", UInt64(prefixes), ranges.entriesMax),
            line("malla_near", "hash", near.count(), near.entriesMax),
            line("malla_affinity", "lru_hash", affinities.count(), affinities.entriesMax),
            line("malla_snat", "hash", translations.count(), translations.entriesMax),
            line("malla_dialled", "lru_hash", dialled.count(), dialled.entriesMax),
            line("malla_node", "array", 1, 1),
        ]
    }
}

/// Rows that full maps did not take, since the agent began.
struct RefusedRows {
    private(set) var counts: [String: UInt64] = [:]

    /// Answers the map's name.
    mutating func count(_ error: BPFError) -> String {
        guard case .refused(_, let object, _) = error, object.hasPrefix("map ") else { return "" }
        let name = String(object.dropFirst(4))
        counts[name, default: 0] += 1
        return name
    }
}
