// Which interfaces lead to other nodes or to the world. An interface is an uplink if it carries one
// of the node's InternalIPs, or a default route, or the route to another node's InternalIP, or a
// route to pods of other nodes (a tunnel), whichever table the route is in, and whichever of its
// next hops it is. Never loopback, the engine's veth, or a pod's.

internal import CLinux
internal import MeshModel

enum Uplinks {
    /// - Parameters:
    ///   - others: InternalIPs of the other nodes.
    ///   - pods: addresses of pods of other nodes.
    /// - Complexity: for each interface that is no uplink by other means, its routes by `pods`.
    static func choose(
        links: [NetworkLink], routes: [Route] = Route.all(), own: [IPAddress],
        others: [IPAddress], pods: @autoclosure () -> [IPAddress], excluded: Set<UInt32>
    ) -> [NetworkLink] {
        var found = Set(routes, leadingTo: others)
        for row in NetworkLink.addresses() where own.contains(row.address) {
            found.insert(row.index)
        }
        let never = excluded.union(links.filter(\.isLoopback).map(\.index))
        let more = routes.filter {
            !$0.isDefault && !never.contains($0.interface) && !found.contains($0.interface)
        }
        if !more.isEmpty {
            let all = pods()
            for route in more where !found.contains(route.interface) {
                if all.contains(where: route.leads) { found.insert(route.interface) }
            }
        }
        return links.filter { found.contains($0.index) && !never.contains($0.index) }
    }
}

/// One next hop of one of the node's routes.
struct Route {
    /// Its index.
    let interface: UInt32
    let table: UInt32
    let destination: IPAddress
    /// 0...128, of the IPv6 or IPv4-mapped form.
    let prefixBits: Int

    var isDefault: Bool { prefixBits == (destination.isIPv4 ? 96 : 0) }

    func leads(to address: IPAddress) -> Bool {
        guard address.isIPv4 == destination.isIPv4 else { return false }
        let highBits = min(prefixBits, 64)
        let lowBits = max(prefixBits - 64, 0)
        let highMask = highBits == 0 ? 0 : UInt64.max << UInt64(64 - highBits)
        let lowMask = lowBits == 0 ? 0 : UInt64.max << UInt64(64 - lowBits)
        return address.high & highMask == destination.high & highMask
            && address.low & lowMask == destination.low & lowMask
    }

    /// Of every table, as rtnetlink tells them.
    static func all() -> [Route] {
        var rows = [malla_route](repeating: malla_route(), count: 1024)
        // The callee writes at most as many records as there are.
        var count = unsafe Int(malla_routes(&rows, CInt(rows.count)))
        if count > rows.count {
            rows = [malla_route](repeating: malla_route(), count: count + 256)
            count = unsafe Int(malla_routes(&rows, CInt(rows.count)))
        }
        return rows.prefix(max(0, count)).map { row in
            Route(
                interface: row.interface, table: row.table,
                destination: IPAddress(bytes: row.destination), prefixBits: Int(row.prefix_bits))
        }
    }
}

extension Set<UInt32> {
    /// Interfaces of default routes, and of each address's most specific routes in each table.
    fileprivate init(_ routes: [Route], leadingTo addresses: [IPAddress]) {
        self = Set(routes.filter(\.isDefault).map(\.interface))
        for address in addresses {
            var best: [UInt32: (bits: Int, interfaces: Set<UInt32>)] = [:]
            for route in routes where route.leads(to: address) {
                let held = best[route.table] ?? (-1, [])
                if route.prefixBits > held.bits {
                    best[route.table] = (route.prefixBits, [route.interface])
                } else if route.prefixBits == held.bits {
                    best[route.table]?.interfaces.insert(route.interface)
                }
            }
            for each in best.values { formUnion(each.interfaces) }
        }
    }
}
