// Which interfaces lead to other nodes or to the world. An interface is an uplink if it carries one
// of the node's InternalIPs, or a default route, or the route to another node's InternalIP, or a
// route to pods of other nodes (a tunnel). Never loopback, the engine's veth, or a pod's.

internal import MeshModel

enum Uplinks {
    /// - Parameters:
    ///   - others: InternalIPs of the other nodes.
    ///   - pods: addresses of pods of other nodes.
    /// - Complexity: for each interface that is no uplink by other means, its routes by `pods`.
    static func choose(
        links: [NetworkLink], own: [IPAddress], others: [IPAddress],
        pods: @autoclosure () -> [IPAddress], excluded: Set<UInt32>
    ) -> [NetworkLink] {
        let routes = Route.ipv4() + Route.ipv6()
        var names = Set(routes, leadingTo: others)
        var indices: Set<UInt32> = []
        for row in NetworkLink.addresses() where own.contains(row.address) {
            indices.insert(row.index)
        }
        let known = Set(
            links.filter { excluded.contains($0.index) || indices.contains($0.index) }.map(\.name))
        let more = routes.filter {
            !$0.isDefault && $0.interface != "lo" && !names.contains($0.interface)
                && !known.contains($0.interface)
        }
        if !more.isEmpty {
            let all = pods()
            for route in more where !names.contains(route.interface) {
                if all.contains(where: route.leads) { names.insert(route.interface) }
            }
        }
        names.remove("lo")
        return links.filter { link in
            (names.contains(link.name) || indices.contains(link.index))
                && !link.isLoopback && !excluded.contains(link.index)
        }
    }
}

/// One row of the node's main routing table.
struct Route {
    let interface: String
    let destination: IPAddress
    /// 0...128, of the IPv6 or IPv4-mapped form.
    let prefixBits: Int
    let isDefault: Bool

    func leads(to address: IPAddress) -> Bool {
        guard address.isIPv4 == destination.isIPv4 else { return false }
        let highBits = min(prefixBits, 64)
        let lowBits = max(prefixBits - 64, 0)
        let highMask = highBits == 0 ? 0 : UInt64.max << UInt64(64 - highBits)
        let lowMask = lowBits == 0 ? 0 : UInt64.max << UInt64(64 - lowBits)
        return address.high & highMask == destination.high & highMask
            && address.low & lowMask == destination.low & lowMask
    }

    /// - Source: proc(5), /proc/net/route: addresses are hexadecimal words of the host's byte
    ///   order.
    static func ipv4() -> [Route] {
        TextFile.lines("/proc/thread-self/net/route").dropFirst().compactMap { line in
            let fields = line.split(whereSeparator: { $0 == "\t" || $0 == " " })
            guard fields.count >= 8, let target = UInt32(fields[1], radix: 16),
                let mask = UInt32(fields[7], radix: 16), let flags = UInt32(fields[3], radix: 16),
                flags & 0x200 == 0  // RTF_REJECT
            else { return nil }
            return Route(
                interface: String(fields[0]), destination: IPAddress(v4: target.byteSwapped),
                prefixBits: 96 + mask.nonzeroBitCount, isDefault: mask == 0)
        }
    }

    /// - Source: proc(5), /proc/net/ipv6_route.
    static func ipv6() -> [Route] {
        TextFile.lines("/proc/thread-self/net/ipv6_route").compactMap { line in
            let fields = line.split(separator: " ")
            guard fields.count >= 10, let high = UInt64(fields[0].prefix(16), radix: 16),
                let low = UInt64(fields[0].suffix(16), radix: 16),
                let bits = Int(fields[1], radix: 16), let flags = UInt32(fields[8], radix: 16),
                flags & 0x200 == 0
            else { return nil }
            return Route(
                interface: String(fields[9]), destination: IPAddress(high: high, low: low),
                prefixBits: bits, isDefault: bits == 0)
        }
    }
}

extension Set<String> {
    /// Interfaces of default routes, and of each address's most specific route.
    fileprivate init(_ routes: [Route], leadingTo addresses: [IPAddress]) {
        self = Set(routes.filter(\.isDefault).map(\.interface))
        for address in addresses {
            let best = routes.filter { $0.leads(to: address) }.max { $0.prefixBits < $1.prefixBits }
            if let best { insert(best.interface) }
        }
    }
}
