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
/// use (kube-proxy forgets its flows likewise). TCP lives on as long as the endpoint is listed, so
/// that it may drain, and its pod is there: once that is no more, nobody would ever answer. Of a
/// pod and its EndpointSlice entry either may go first. At a node's address may be a pod of the
/// node's own network, which nobody sees here: it is there as long as the node is.
///
/// This is about endpoints that nobody lists any more; what has left some services is in
/// `LeftEnds`.
struct StaleEndpoints {
    /// Listed but out of use, and of pods, or nodes, that still are.
    private var lingering: Set<malla_end> = []
    /// In use, though their pods are gone: somebody may dial them yet.
    private var orphaned: Set<malla_end> = []
    private var podsBefore: Set<malla_address>

    /// - Parameter pods: those that an agent before this one knew: who went while none ran is gone
    ///   at the first call.
    init(pods: Set<malla_address> = []) { podsBefore = pods }

    /// The endpoints whose sockets and flows are to be ended now.
    ///
    /// - Parameters:
    ///   - gone: out of use, or listed nowhere any more, since the last call.
    ///   - ends: the endpoints of now.
    mutating func take(
        gone: [malla_end], ends: ListedEnds, pods: Set<malla_address>,
        isNodes: (malla_address) -> Bool
    ) -> Set<malla_end> {
        // The same set, where nothing but endpoints has changed, is known to be at once.
        let left = pods == podsBefore ? [] : podsBefore.subtracting(pods)
        defer { podsBefore = pods }
        var ended = Set(gone.filter { $0.protocol == TransportProtocol.udp.number })
        func lives(_ address: malla_address) -> Bool {
            pods.contains(address) || isNodes(address)
        }
        for end in gone where end.protocol == TransportProtocol.tcp.number {
            if !ends.isListed(end) {
                lingering.remove(end)
                ended.insert(end)
            } else if lives(end.address) || left.contains(end.address) {
                lingering.insert(end)
            }
        }
        for end in lingering where ends.isAlive(end) { lingering.remove(end) }
        for end in lingering where !lives(end.address) {
            lingering.remove(end)
            ended.insert(end)
        }
        for end in orphaned where pods.contains(end.address) { orphaned.remove(end) }
        for end in orphaned where !ends.isAlive(end) {
            orphaned.remove(end)
            ended.insert(end)
        }
        guard !left.isEmpty else { return ended }
        let orphans = ends.alive(at: left).filter {
            $0.protocol == TransportProtocol.tcp.number
        }
        orphaned.formUnion(orphans)
        return ended.union(orphans)
    }
}

/// What somebody dialled, and the endpoint that he got instead.
struct GivenEnd: Hashable {
    var endpoint: malla_end
    var dialled: malla_end
}

/// Endpoints that have left some service ports (`ServicePlan.staying`): what was balanced to them
/// there ends, though others may still lead to them.
struct LeftEnds {
    /// By endpoint: addresses and ports of the services; of a node port the address is zero.
    private var services: [malla_end: Set<malla_end>] = [:]

    var isEmpty: Bool { services.isEmpty }

    init(_ pairs: [GivenEnd] = []) {
        for pair in pairs { services[pair.endpoint, default: []].insert(pair.dialled) }
    }

    var pairs: [GivenEnd] {
        services.flatMap { end, keys in keys.map { GivenEnd(endpoint: end, dialled: $0) } }
    }

    func contains(_ transport: TransportProtocol) -> Bool {
        services.keys.contains { $0.protocol == transport.number }
    }

    /// - Parameter keys: what leads to the endpoints of `old`.
    mutating func note(_ old: ServicePlan?, _ new: ServicePlan?, keys: [malla_end]) {
        guard let old, !keys.isEmpty else { return }
        let kept = Set((new?.staying ?? []).map(\.address))
        for end in old.staying where !kept.contains(end.address) {
            services[malla_end(end.address, old.transport), default: []].formUnion(keys)
        }
    }

    /// Whether `endpoint` has left what was dialled.
    func contains(_ endpoint: malla_end, of dialled: malla_end) -> Bool {
        guard let left = services[endpoint] else { return false }
        return left.contains(dialled) || left.contains(dialled.nodePort)
    }
}

extension malla_end {
    /// The key of a node port, whosever address it was dialled at.
    var nodePort: malla_end {
        var any = self
        any.address =
            IPAddress(address).isIPv4
            ? malla_address(words_be: (0, 0, UInt32(0xffff).bigEndian, 0)) : malla_address()
        return any
    }
}

extension ServiceRows {
    /// Those whose endpoint what was dialled does not lead to any more.
    ///
    /// - Parameter isGone: those too where nothing is to be found at what was dialled.
    func left(_ pairs: some Sequence<GivenEnd>, orGone isGone: Bool) -> [GivenEnd] {
        var staying: [FrontName: Set<SocketAddress>] = [:]
        return pairs.filter { pair in
            let name = rows[pair.dialled]?.owner ?? rows[pair.dialled.nodePort]?.owner
            guard let name = name?.whole, let plan = plan(of: name) else { return isGone }
            if staying[name] == nil { staying[name] = Set(plan.staying.map(\.address)) }
            return staying[name]?.contains(pair.endpoint.socket) == false
        }
    }
}

/// What is to end: all that goes to some endpoints, or what goes there by way of some services.
struct EndedEnds {
    var whole: Set<malla_end>
    var left: LeftEnds

    var isEmpty: Bool { whole.isEmpty && left.isEmpty }

    func contains(_ endpoint: malla_end, of dialled: malla_end) -> Bool {
        whole.contains(endpoint) || left.contains(endpoint, of: dialled)
    }
}

extension FlowTable {
    /// What flows are translated to, packet by packet.
    var givenEnds: Set<GivenEnd> {
        var ends: Set<GivenEnd> = []
        forEach { key, flow in
            guard flow.kind == MALLA_FLOW_TRANSLATED.rawValue else { return }
            ends.insert(GivenEnd(endpoint: flow.other, dialled: flow.dialled(key)))
        }
        return ends
    }

    /// Ends flows to services' addresses whose endpoints have ended: datagrams go elsewhere, of a
    /// connection the next packet is answered with a reset.
    func endTranslated(_ ended: EndedEnds) {
        if ended.hasDatagrams {
            _ = flush { key, flow in
                flow.isTranslatedDatagrams(key)
                    && ended.contains(flow.other, of: flow.dialled(key))
            }
        }
        if ended.hasStreams {
            cut { key, flow in
                flow.kind == MALLA_FLOW_TRANSLATED.rawValue
                    && key.protocol == TransportProtocol.tcp.number
                    && ended.contains(flow.other, of: flow.dialled(key))
            }
        }
    }
}

extension EndedEnds {
    fileprivate var hasDatagrams: Bool {
        left.contains(.udp) || whole.contains { $0.protocol == TransportProtocol.udp.number }
    }

    fileprivate var hasStreams: Bool {
        left.contains(.tcp) || whole.contains { $0.protocol == TransportProtocol.tcp.number }
    }
}

extension ServiceMaps {
    /// What sockets dialled, and what somebody outside, or a pod to itself, has a flow to.
    var givenEnds: Set<GivenEnd> {
        var ends: Set<GivenEnd> = []
        dialled.walk { key, value in
            ends.insert(GivenEnd(endpoint: key.endpoint, dialled: value.service))
        }
        translations.walk { key, entry in
            guard TranslatedFlow.isForth(entry) else { return }
            ends.insert(
                GivenEnd(
                    endpoint: entry.becomes.end(ofTarget: true), dialled: key.end(ofTarget: true)))
        }
        return ends
    }

    /// The sockets that are connected to what has ended; forgets that they dialled.
    func takeSockets(to ended: EndedEnds) -> [StaleSocket] {
        guard !ended.isEmpty else { return [] }
        var keys: [malla_dialled_key] = []
        dialled.walk { key, value in
            if ended.contains(key.endpoint, of: value.service) { keys.append(key) }
        }
        return keys.compactMap { key in
            // Who has asked another service meanwhile keeps what that one gave him.
            guard let value = dialled.value(of: key, placeholder: malla_dialled()),
                ended.contains(key.endpoint, of: value.service)
            else { return nil }
            try? dialled.remove(key)
            return StaleSocket(
                cookie: key.socket_cookie, namespaceCookie: value.namespace_cookie,
                process: value.process, endpoint: key.endpoint.socket,
                transport: key.endpoint.protocol == TransportProtocol.udp.number ? .udp : .tcp)
        }
    }

    /// Forgets the flows that are translated to what has ended, both directions; of a connection
    /// from outside, or of a pod to itself, the next packet is answered with a reset.
    func dropFlows(to ended: EndedEnds) {
        guard !ended.isEmpty else { return }
        drop(flows(to: ended), to: ended)
    }

    /// The keys of rows that lead to what has ended, or that its answers meet.
    func flows(to ended: EndedEnds) -> [malla_flow_key] {
        var keys: [malla_flow_key] = []
        translations.walk { key, row in
            if ended.contains(row, at: key) { keys.append(key) }
        }
        return keys
    }

    /// Drops those of the rows that still are what they were when they were found: a walk through a
    /// full table takes long enough for a client to dial again from his port, and what he got then
    /// is none of this.
    ///
    /// Between the look and the write lie two system calls, and the kernel compares nothing for us:
    /// who dials again just then has the row of an endpoint of now removed or cut. The next packet
    /// of a connection is then reset, a datagram chooses anew; nothing leads to the wrong endpoint.
    func drop(_ keys: [malla_flow_key], to ended: EndedEnds) {
        for key in keys {
            guard var row = translations.value(of: key, placeholder: malla_snat()),
                ended.contains(row, at: key)
            else { continue }
            let isAnswered =
                row.kind == MALLA_NAT_FROM_FABRIC.rawValue || row.kind == MALLA_NAT_HOME.rawValue
            if isAnswered, key.protocol == TransportProtocol.tcp.number {
                row.state |= TranslationTable.cut
                translations.replace(key, with: row)
            } else {
                try? translations.remove(key)
            }
        }
    }
}

extension EndedEnds {
    /// Whether such a row leads to what has ended, or turns its answers back.
    fileprivate func contains(_ row: malla_snat, at key: malla_flow_key) -> Bool {
        let isForward =
            TranslatedFlow.isForth(row) || row.kind == MALLA_NAT_FROM_POD.rawValue
        // Answers come from the endpoint, and become the service's.
        let endpoint = isForward ? row.becomes.end(ofTarget: true) : key.end(ofTarget: false)
        let dialled = isForward ? key.end(ofTarget: true) : row.becomes.end(ofTarget: false)
        return contains(endpoint, of: dialled)
    }
}

extension malla_flow_key {
    fileprivate func end(ofTarget isTarget: Bool) -> malla_end {
        malla_end(
            address: isTarget ? target : source,
            port_be: isTarget ? target_port_be : source_port_be, protocol: self.protocol, pad: 0)
    }
}
