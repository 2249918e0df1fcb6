// IPv4 or IPv6: of which family a request's endpoint should be, and from which address it is
// dialled. Where the path of one family is broken, the next dial is of the other (RFC 8305 section
// 5), be it to another pod or to the other address of the same.

internal import MeshModel

/// - Note: `any` stands for no preference.
enum AddressFamily: UInt8, BitwiseCopyable {
    case any, v4, v6

    init(_ address: IPAddress) { self = address.isIPv4 ? .v4 : .v6 }

    var other: AddressFamily {
        switch self {
        case .any: .any
        case .v4: .v6
        case .v6: .v4
        }
    }

    @inline(__always)
    func includes(_ address: IPAddress) -> Bool {
        self == .any || self == AddressFamily(address)
    }
}

extension Worker {
    /// What suits the client best: a captured client is dialled for from its own address, so its
    /// family comes first, and the other one only if the pod has an address of it, too.
    func family(for link: Link) -> AddressFamily {
        // The engine dials from the client's address: here, or behind a Gateway's tunnel.
        let isBound = isInOwnNamespace && (link.it.isCaptured || config(link).hasMesh)
        let first = isBound ? AddressFamily(link.it.peer.address) : .any
        guard link.it.triedCount > 0, link.it.brokenFamily != .any else { return first }
        let other = link.it.brokenFamily.other
        let isOwn =
            !isInOwnNamespace || !link.it.isCaptured
            || sourceAddress(link, isIPv4: other == .v4) != nil
        return isOwn ? other : first
    }

    /// A dial to the address hangs, or nobody there was reached. Who refuses was: that one says
    /// nothing about its family.
    func noteBroken(_ link: Link, _ address: IPAddress) {
        link.it.brokenFamily = AddressFamily(address)
    }

    /// The client pod's own address of the family; `nil`: it has none, the node dials.
    func sourceAddress(_ link: Link, isIPv4: Bool) -> IPAddress? {
        let peer = link.it.peer.address
        if peer.isIPv4 == isIPv4 { return peer }
        let snapshot = config(link).snapshot
        guard let index = snapshot.workloadsByAddress[peer] else { return nil }
        return snapshot.mesh.workloads[index].addresses.first { $0.isIPv4 == isIPv4 }
    }
}
