internal import AdminAPI
internal import BPFLoader
internal import MeshModel

extension Agent {
    func serviceRowItems() -> [ServiceRowItem] {
        guard let loaded = datapath.datapath else { return [] }
        return loaded.serviceEntries().map { row in
            ServiceRowItem(
                address: row.isAtNodes ? "*" : "\(row.end.address)",
                family: row.end.address.isIPv4 ? "IPv4" : "IPv6", port: Int(row.end.port),
                protocol: row.transport.rawValue,
                owner: row.owner.map { (row.isHostPort ? "Pod " : "Service ") + "\($0)" } ?? "",
                inside: Self.group(row.inside), outside: Self.group(row.outside), flags: row.flags,
                affinitySeconds: row.affinitySeconds)
        }
    }

    private static func group(_ group: ServiceEntry.Group) -> ServiceRowItem.Group {
        ServiceRowItem.Group(
            id: group.id, positions: group.positions, endpoints: group.endpoints.map(\.description),
            weights: group.weights.isEmpty ? nil : group.weights.map(Int.init))
    }
}
