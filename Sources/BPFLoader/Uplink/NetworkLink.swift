// The interfaces of the node's namespace, which is the one the calling thread is in.

internal import CLinux
internal import Glibc
internal import MeshModel

struct NetworkLink {
    let name: String
    let index: UInt32
    let isLoopback: Bool
    /// An Ethernet header comes first; else the IP header does (ARPHRD_ETHER is 1).
    let hasLinkHeader: Bool
    let mac: (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8)

    /// Every interface; at most 4096 of them.
    static func all() -> [NetworkLink] {
        let max = 4096
        let none = malla_link()
        var links = [malla_link](repeating: none, count: max)
        // The callee writes at most `max` records.
        let count = unsafe malla_links(&links, CInt(max))
        return links.prefix(Swift.max(0, Swift.min(Int(count), max))).map { link in
            var name = link.name
            // Sixteen bytes, of which the last is always zero.
            let text = unsafe withUnsafeBytes(of: &name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            return NetworkLink(
                name: text, index: link.index, isLoopback: link.is_loopback != 0,
                hasLinkHeader: link.type == 1, mac: link.mac)
        }
    }

    /// By index of an interface whose other end is in another network namespace: the id by which
    /// this one knows that, and one; at most 8192 of them.
    static func namespaces() -> [UInt32: UInt32] {
        let max = 8192
        var rows = [malla_netns_id](repeating: malla_netns_id(), count: max)
        // The callee writes at most `max` records.
        let count = unsafe malla_netns_ids(&rows, CInt(max))
        return Dictionary(
            rows.prefix(Swift.max(0, Swift.min(Int(count), max))).map { ($0.interface, $0.id + 1) },
            uniquingKeysWith: { first, _ in first })
    }

    /// Bytes; negative if there is no such interface.
    static func mtu(of name: String) -> Int32 {
        // The name outlives the call.
        unsafe malla_link_mtu(name)
    }

    /// Addresses of all interfaces, with the interfaces' indices.
    static func addresses() -> [(index: UInt32, address: IPAddress)] {
        let max = 8192
        let none = malla_link_address()
        var rows = [malla_link_address](repeating: none, count: max)
        // The callee writes at most `max` records.
        let count = unsafe malla_link_addresses(&rows, CInt(max))
        return rows.prefix(Swift.max(0, Swift.min(Int(count), max))).map { row in
            (row.index, IPAddress(bytes: row.address))
        }
    }
}

extension IPAddress {
    /// In the order of the network; IPv4 as ::ffff:a.b.c.d.
    init(
        bytes: (
            UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8,
            UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8
        )
    ) {
        let high = [bytes.0, bytes.1, bytes.2, bytes.3, bytes.4, bytes.5, bytes.6, bytes.7]
        let low = [bytes.8, bytes.9, bytes.10, bytes.11, bytes.12, bytes.13, bytes.14, bytes.15]
        self.init(
            high: high.reduce(0) { $0 << 8 | UInt64($1) },
            low: low.reduce(0) { $0 << 8 | UInt64($1) })
    }
}
