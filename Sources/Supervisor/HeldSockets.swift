internal import CLinux
internal import Glibc

/// The listening sockets of this node's Gateways and admin server. They live here and not in the
/// child, so that a child's death closes none: connections wait in the queues for the next child.
///
/// - Owns: every descriptor in it, for as long as the supervisor lives or until `close`.
struct HeldSockets {
    private var held: [ControlMessage.Key: (request: ControlMessage, sockets: [Int32])] = [:]

    /// Waiting connections a socket; the kernel cuts it to net.core.somaxconn.
    static let backlogMax: Int32 = 8192
    /// Descriptors of this process that no socket takes: for the next child, and the next
    /// supervisor.
    static let descriptorsReserved = 64

    /// The first descriptor that is kept for those; `nil`: as the limit of this process says.
    private let descriptorsMax: Int32?

    init(descriptorsMax: Int32? = nil) { self.descriptorsMax = descriptorsMax }

    /// Answers the sockets of `request`, opening what is missing.
    ///
    /// - Returns: a positive errno, or 0 and `request.number` descriptors, which stay ours.
    mutating func open(_ request: ControlMessage) -> (errno: Int32, sockets: [Int32]) {
        var sockets = held[request.key]?.sockets ?? []
        let wanted = request.purpose == .admin ? 1 : Int(request.number)
        var flags = request.isDual ? MALLA_LISTEN_DUAL : 0
        if request.purpose == .gateway { flags |= MALLA_LISTEN_REUSEPORT }
        if sockets.isEmpty {
            let busy = holder(of: request, flags)
            guard busy == 0 else { return (busy, []) }
        }
        while sockets.count < wanted {
            // The array of sixteen bytes outlives the call.
            let one = unsafe malla_listen(request.address, request.port, flags, Self.backlogMax)
            guard one >= 0, one < firstReserved else {
                if one >= 0 { Glibc.close(one) }
                for each in sockets.dropFirst(held[request.key]?.sockets.count ?? 0) {
                    Glibc.close(each)
                }
                return (one >= 0 ? EMFILE : -one, [])
            }
            sockets.append(one)
        }
        held[request.key] = (request, sockets)
        return (0, Array(sockets.prefix(wanted)))
    }

    /// The kernel gives the lowest descriptor that is free.
    private var firstReserved: Int32 {
        if let descriptorsMax { return descriptorsMax }
        let most = Int(min(engine_descriptors(), 1 << 22))
        return Int32(most - min(Self.descriptorsReserved, most / 8))
    }

    /// Why the port is not to be had, a positive errno. SO_REUSEPORT would share it with any
    /// process of this user, so another's sockets are looked for first, ours left out: of a
    /// Gateway's own address and of all addresses the kernel prefers the former (ip(7)).
    private func holder(of request: ControlMessage, _ flags: Int32) -> Int32 {
        let ours = held.values.filter {
            $0.request.purpose == .gateway && $0.request.port == request.port
        }.flatMap(\.sockets)
        // The arrays outlive the calls, which keep neither.
        guard request.purpose == .gateway, !ours.isEmpty else {
            return -(unsafe malla_port_probe(request.address, request.port, flags))
        }
        let isHeld = unsafe malla_port_has_other(
            request.address, request.port, request.isDual, ours, ours.count)
        return isHeld == 0 ? 0 : EADDRINUSE
    }

    mutating func close(_ request: ControlMessage) {
        for socket in held.removeValue(forKey: request.key)?.sockets ?? [] { Glibc.close(socket) }
    }

    /// They are another supervisor's too, which keeps them.
    mutating func letGo() {
        for one in held.values { for socket in one.sockets { Glibc.close(socket) } }
        held = [:]
    }

    /// What another supervisor held.
    mutating func adopt(_ request: ControlMessage, _ sockets: [Int32]) {
        held[request.key] = (request, sockets)
    }

    func sockets(of request: ControlMessage) -> [Int32] { held[request.key]?.sockets ?? [] }

    /// The requests that opened what is held.
    var requests: [ControlMessage] { held.values.map(\.request) }
}
