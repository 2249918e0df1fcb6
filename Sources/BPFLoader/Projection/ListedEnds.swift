// Which endpoints stand behind the service ports that lead somewhere here, and how many ports each.

internal import CMallaABI
internal import MeshModel

/// An endpoint is alive behind a port while it may be spoken with, and rests there while it is
/// listed only: neither ready nor draining.
struct ListedEnds {
    /// Behind how many ports.
    private var alive: [malla_end: UInt32] = [:]
    private var resting: [malla_end: UInt32] = [:]

    /// Whether the endpoint stands behind some port, were it only to drain.
    func isAlive(_ end: malla_end) -> Bool { alive[end] != nil }

    /// Whether some port lists it, in whatever state.
    func isListed(_ end: malla_end) -> Bool { alive[end] != nil || resting[end] != nil }

    /// Those of these addresses that are alive.
    func alive(at addresses: Set<malla_address>) -> [malla_end] {
        alive.keys.filter { addresses.contains($0.address) }
    }

    /// A port has `new` in place of `old`.
    ///
    /// - Returns: what is alive nowhere any more, or listed nowhere.
    mutating func count(_ old: ServicePlan?, _ new: ServicePlan?) -> [malla_end] {
        Self.count(&alive, old, new, \.alive) + Self.count(&resting, old, new, \.resting)
    }

    private static func count(
        _ counts: inout [malla_end: UInt32], _ old: ServicePlan?, _ new: ServicePlan?,
        _ ends: KeyPath<ServicePlan, [PlannedEnd]>
    ) -> [malla_end] {
        func all(_ plan: ServicePlan?) -> [malla_end] {
            guard let plan else { return [] }
            return plan[keyPath: ends].map { malla_end($0.address, plan.transport) }
        }
        for end in all(new) { counts[end, default: 0] += 1 }
        var gone: [malla_end] = []
        for end in all(old) {
            let count = (counts[end] ?? 1) - 1
            counts[end] = count > 0 ? count : nil
            if count == 0 { gone.append(end) }
        }
        return gone
    }
}
