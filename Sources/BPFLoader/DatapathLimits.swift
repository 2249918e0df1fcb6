// How many rows the maps have: what is built in, or what the operator chose instead.

/// Sizes of the maps, in rows. The kernel allocates them when a map is made.
public struct DatapathLimits: Sendable {
    /// One a service address, port and protocol: 10 000 services with two ports, both families.
    public var servicesMax: UInt32 = 65536
    /// One a ready endpoint of each service port: 100 000 with two ports each.
    public var endpointsMax: UInt32 = 262_144
    /// One an address of a local pod: 1 024 pods of both families, twice.
    public var podsMax: UInt32 = 4096
    /// One a port or block of addresses that a local pod keeps from the engine.
    public var exclusionsMax: UInt32 = 16384
    /// One a port of a local pod that differs from its pod in whether it insists on mutual TLS.
    public var modesMax: UInt32 = 4096
    /// One an address of a pod on another node.
    public var peersMax: UInt32 = 262_144
    /// One a connection or other flow of a local pod; two where a service's address is translated.
    public var flowsMax: UInt32 = 262_144
    /// Of those, one pod may hold so many, or an eighth of a smaller table; at the limit its own
    /// oldest make room.
    public var flowsPerPodMax: UInt32 = 8192
    /// One an address or prefix that policies can tell from others.
    public var identitiesMax: UInt32 = 262_144
    /// One a peer, direction and port range of each set of policies.
    public var policiesMax: UInt32 = 1_048_576
    /// One a set of policies that selects local pods.
    public var setsMax: UInt32 = 8192
    /// One a socket that dialled a service.
    public var dialledMax: UInt32 = 65536
    /// One 256 bytes of a service's Maglev table: five for ten endpoints, 64 for a hundred.
    public var maglevMax: UInt32 = 131_072
    /// One a direction of a flow that is balanced packet by packet.
    public var translationsMax: UInt32 = 262_144
    /// One a flow by which a pod reaches itself, 1024 of each pod.
    public var homeMax: UInt32 = 16384
    /// One a client of a service with affinity.
    public var affinitiesMax: UInt32 = 65536
    /// Bytes of the ring of flow events, 80 each; a power of two.
    public var eventBytesMax: UInt32 = 1 << 20
    /// One a refused tuple that an event told of lately.
    public var deniedMax: UInt32 = 16384
    /// What the operator chose instead, by map.
    private var chosen: [String: UInt32] = [:]

    public init() {}

    var byMap: [String: UInt32] {
        let standard = [
            "malla_service": servicesMax, "malla_endpoint": endpointsMax, "malla_pod": podsMax,
            "malla_exclude": exclusionsMax, "malla_mode": modesMax, "malla_peer": peersMax,
            "malla_ipcache": identitiesMax, "malla_policy": policiesMax, "malla_set": setsMax,
            "malla_ring": flowsMax,
            "malla_flow": flowsMax, "malla_dialled": dialledMax,
            "malla_maglev": maglevMax, "malla_snat": translationsMax,
            "malla_home": homeMax, "malla_affinity": affinitiesMax,
            "malla_event": eventBytesMax, "malla_denied": deniedMax,
        ]
        var sizes = standard.merging(chosen) { $1 }
        // One row for each number of a pod, and one for the node.
        sizes["malla_share"] = (sizes["malla_pod"] ?? podsMax) + 1
        sizes["malla_quota"] = sizes["malla_share"]
        sizes["malla_place"] = sizes["malla_pod"]
        return sizes
    }

    /// The maps whose size can be chosen.
    public static var mapNames: [String] { DatapathLimits().byMap.keys.sorted() }

    /// Chooses the rows of one of `mapNames`. The ring has bytes instead, of which the kernel wants
    /// a power of two of pages: the next one is taken.
    public mutating func choose(_ rows: UInt32, of map: String) {
        guard map == "malla_event" else {
            chosen[map] = rows
            return
        }
        var bytes: UInt32 = 4096
        while bytes < rows, bytes < 1 << 30 { bytes *= 2 }
        chosen[map] = bytes
    }
}
