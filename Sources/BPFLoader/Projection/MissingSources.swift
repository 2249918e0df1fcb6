// Pods of other nodes are dialled from this node's own address for those outside (SNAT). Whom a
// node without an address of the family would have to dial is told here, plan by plan.

internal import MeshModel

/// What a snapshot says of the addresses from which this node may dial.
struct MissingSources {
    private let snapshot: Snapshot
    private let own: Set<IPAddress>

    init(_ snapshot: Snapshot) {
        self.snapshot = snapshot
        own = snapshot.ownAddresses
    }

    private func isMissing(isIPv4: Bool) -> Bool {
        !snapshot.nodeAddresses.contains { $0.isIPv4 == isIPv4 }
    }

    /// Whether those outside ask by this front for somebody whom the node cannot dial.
    func concern(_ name: FrontName, _ plan: ServicePlan) -> Bool {
        guard !name.isHostPort, isMissing(isIPv4: name.isIPv4) else { return false }
        return plan.rows.contains { row in
            plan.ends(row.outside).contains {
                !own.contains($0.address.address) && !snapshot.isLocalPod($0.address.address)
            }
        }
    }

    /// One a family, however many services it is about; applying again mends none.
    func problems(_ fronts: Set<FrontName>) -> [ApplyProblem] {
        [true, false].compactMap { isIPv4 in
            let owners = fronts.filter { $0.isIPv4 == isIPv4 }.map(\.owner)
            guard let first = owners.min() else { return nil }
            let family = isIPv4 ? "IPv4" : "IPv6"
            return ApplyProblem(
                subject: "service \(first)",
                message: "node \(snapshot.node) has no InternalIP of \(family) from which to dial "
                    + "pods of other nodes for those outside: they are refused (no_source)",
                isWaiting: true)
        }
    }
}
