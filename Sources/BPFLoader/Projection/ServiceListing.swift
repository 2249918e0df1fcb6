// The services' rows as they are in the kernel, for listings. Read anew at each question: what the
// kernel holds is what counts, not what this agent believes.

internal import CMallaABI
public import MeshModel

/// A row of malla_service.
public struct ServiceEntry: Sendable {
    public struct Group: Sendable {
        public var id: UInt32
        public var positions: Int
        public var endpoints: [SocketAddress]
        /// Of each; empty where all have the same.
        public var weights: [UInt16]
    }

    public var end: SocketAddress
    public var transport: TransportProtocol
    /// A node or host port, at every address of the nodes.
    public var isAtNodes: Bool { end.address.isUnspecified }
    /// Who has it; `nil`: an agent before this one.
    public var owner: ObjectName?
    public var isHostPort: Bool
    public var inside: Group
    public var outside: Group
    /// As `malla bpf services` names them.
    public var flags: [String]
    public var affinitySeconds: Int
}

extension ServiceRows {
    func entries() -> [ServiceEntry] {
        var found: [ServiceEntry] = []
        let weighted = weightedGroups
        maps.services.walk { key, row in
            let owner = self.owner(of: key)
            found.append(
                ServiceEntry(
                    end: key.socket,
                    transport: key.protocol == TransportProtocol.udp.number ? .udp : .tcp,
                    owner: owner?.owner, isHostPort: owner?.isHostPort ?? false,
                    inside: entry(row.inside, weighted), outside: entry(row.outside, weighted),
                    flags: Self.names(row.flags), affinitySeconds: Int(row.affinity_seconds)))
        }
        return found.sorted {
            ($0.end.address, $0.end.port, $0.transport.rawValue)
                < ($1.end.address, $1.end.port, $1.transport.rawValue)
        }
    }

    private func entry(
        _ group: malla_group, _ weighted: [UInt32: GroupRows]
    ) -> ServiceEntry.Group {
        let ends = (0..<group.endpoints).compactMap { slot in
            maps.endpoints.value(
                of: malla_endpoint_key(group: group.id, slot: slot), placeholder: malla_end())?
                .socket
        }
        let slots = weighted[group.id]?.slots ?? []
        let weights = Dictionary(
            slots.map { ($0.address, $0.weight) }, uniquingKeysWith: { first, _ in first })
        return ServiceEntry.Group(
            id: group.id, positions: Int(group.positions), endpoints: ends,
            weights: slots.isEmpty ? [] : ends.map { weights[$0] ?? 1 })
    }

    private static func names(_ flags: UInt32) -> [String] {
        [
            (MALLA_SERVICE_CAPTURED, "captured"), (MALLA_SERVICE_RANGED, "ranged"),
            (MALLA_SERVICE_THIS_NODE, "this-node"), (MALLA_SERVICE_WEIGHTED, "weighted"),
        ].filter { flags & UInt32($0.0) != 0 }.map(\.1)
    }
}

extension Datapath {
    public func serviceEntries() -> [ServiceEntry] { services.entries() }
}
