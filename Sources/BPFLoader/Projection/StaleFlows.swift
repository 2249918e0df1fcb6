// What is left of endpoints that are gone: sockets that are connected to them, flows that are
// translated to them. The agent has the sockets reset, so that clients ask again where to go.

internal import CMallaABI
public import MeshModel

/// A socket that dialled a service and is connected to an endpoint that is gone.
public struct StaleSocket: Sendable, Hashable {
    /// SO_COOKIE.
    public var cookie: UInt64
    /// SO_NETNS_COOKIE.
    public var namespaceCookie: UInt64
    /// The process that dialled; it may have ended.
    public var process: UInt32
    public var endpoint: SocketAddress
    public var transport: TransportProtocol
}

/// Which endpoints' connections shall end.
///
/// UDP has no connections of its own: a socket goes elsewhere as soon as its endpoint is out of
/// use (kube-proxy forgets its flows likewise). TCP lives on as long as the pod does, so that it
/// may drain; once the pod is no more, nobody would ever answer.
struct StaleEndpoints {
    /// Out of use, and of pods that still are.
    private var lingering: Set<malla_end> = []
    private var podsBefore: Set<malla_address> = []

    /// The endpoints whose sockets and flows are to be ended now.
    mutating func take(
        gone: [malla_end], isUsed: (malla_end) -> Bool, pods: Set<malla_address>
    ) -> Set<malla_end> {
        defer { podsBefore = pods }
        var ended: Set<malla_end> = []
        for end in gone {
            if end.protocol == TransportProtocol.udp.number {
                ended.insert(end)
            } else if pods.contains(end.address) || podsBefore.contains(end.address) {
                lingering.insert(end)
            }
        }
        guard !lingering.isEmpty else { return ended }
        for end in lingering {
            if isUsed(end) {
                lingering.remove(end)
            } else if !pods.contains(end.address) {
                lingering.remove(end)
                ended.insert(end)
            }
        }
        return ended
    }
}

extension ServiceMaps {
    /// Every endpoint that a socket dialled.
    var dialledEnds: Set<malla_end> {
        var ends: Set<malla_end> = []
        dialled.walk { key, _ in ends.insert(key.endpoint) }
        return ends
    }

    /// The sockets that are connected to one of `ends`; forgets that they dialled.
    func takeSockets(to ends: Set<malla_end>) -> [StaleSocket] {
        guard !ends.isEmpty else { return [] }
        var keys: [malla_dialled_key] = []
        var found: [StaleSocket] = []
        dialled.walk { key, value in
            guard ends.contains(key.endpoint) else { return }
            keys.append(key)
            found.append(
                StaleSocket(
                    cookie: key.socket_cookie, namespaceCookie: value.namespace_cookie,
                    process: value.process, endpoint: key.endpoint.socket,
                    transport: key.endpoint.protocol == TransportProtocol.udp.number ? .udp : .tcp))
        }
        for key in keys { try? dialled.remove(key) }
        return found
    }

    /// Forgets the flows that are translated to one of `ends`, both directions.
    func dropFlows(to ends: Set<malla_end>) {
        guard !ends.isEmpty else { return }
        var keys: [malla_flow_key] = []
        translations.walk { key, entry in
            let isForward =
                entry.kind == MALLA_NAT_FROM_FABRIC.rawValue
                || entry.kind == MALLA_NAT_FROM_POD.rawValue
            let end =
                isForward
                ? malla_end(
                    address: entry.becomes.target, port_be: entry.becomes.target_port_be,
                    protocol: key.protocol, pad: 0)
                : malla_end(
                    address: key.source, port_be: key.source_port_be, protocol: key.protocol,
                    pad: 0)
            if ends.contains(end) { keys.append(key) }
        }
        for key in keys { try? translations.remove(key) }
    }
}
