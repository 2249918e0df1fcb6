// Which socket of a Gateway a connection belongs to. A port may have several, each of an address of
// its own or of all, with different Gateways behind them: what a client had to speak and to show is
// what the socket asked for that accepted it, so no other socket's routes are for it, nor those of
// a listener that asks for something else by now.

internal import MeshModel

extension Worker {
    /// Whether a listener is a Gateway's for all addresses.
    func isOfAnyAddress(_ listener: Link) -> Bool {
        guard !listener.it.isCaptured, current >= 0, let config = configs[current].config else {
            return false
        }
        return config.snapshot.gatewaySockets[Int(listener.it.table)].address == nil
    }

    /// The socket that accepted the connection, into `Snapshot.gatewaySockets`; where the
    /// configuration has it no more, the one that accepts a new connection there; -1: none does.
    func socket(of link: Link, _ config: WorkerConfig) -> Int32 {
        var found: Int32 = -1
        for (index, socket) in config.snapshot.gatewaySockets.enumerated()
        where socket.port == link.it.target.port {
            let isOfAny = socket.address == nil
            guard isOfAny || socket.address == link.it.target.address else { continue }
            if isOfAny == link.it.isOfAnyAddress { return Int32(index) }
            // At most one other is of this address, or of all.
            if isOpen(index, config) { found = Int32(index) }
        }
        return found
    }

    /// Whether a Gateway's socket asks of clients now what it asked of this one when it was
    /// accepted: HTTP or not, TLS or not, certificates or not. Nothing is served where it does not.
    func isAsAccepted(_ link: Link, _ config: WorkerConfig) -> Bool {
        guard !link.it.isCaptured, link.it.socket >= 0 else { return true }
        let socket = Int(link.it.socket)
        guard config.snapshot.gatewaySockets[socket].isTCP == link.it.isOpaque else { return false }
        if case .plain = config.tls.servers[socket] { return !link.it.hasTLS }
        return link.it.hasTLS && hasShownEnough(link, config)
    }

    private func isOpen(_ socket: Int, _ config: WorkerConfig) -> Bool {
        let descriptors = config.listeners[socket]
        return number < descriptors.count && descriptors[number] >= 0
    }
}
