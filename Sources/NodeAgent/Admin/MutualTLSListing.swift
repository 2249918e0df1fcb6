internal import AdminAPI
internal import BPFLoader
internal import L7Engine
internal import MeshModel

extension Agent {
    /// No more flows than these are looked at.
    private static let flowsSeenMax = 1_000_000

    func mutualTLSItems() -> [MutualTLSItem] {
        guard let snapshot else { return [] }
        let now = Moment.now.wall
        var pairs = MutualTLSPairs(
            snapshot, trustDomain: identity.identities?.trustDomain,
            tunnels: engine.tunnels(at: now), at: now)
        let flows = datapath.datapath?.flowEntries(countMax: Self.flowsSeenMax) ?? []
        for flow in flows { pairs.note(flow) }
        return pairs.items
    }
}

/// The flow table of this node, and the tunnels of its engine -> pairs of workloads. What is said
/// is what the kernel carries and what handshakes have verified, not what was meant.
struct MutualTLSPairs {
    private struct Pair: Hashable {
        var source: String
        var target: String
        var security: String
        var transport: String
        var message = ""
    }
    /// Two ends of a tunnel in the flow table.
    private struct Way: Hashable {
        var source: IPAddress
        var target: IPAddress
    }
    private struct Traffic {
        var flows = 0
        var sent: UInt64 = 0
        var received: UInt64 = 0

        mutating func add(_ flow: FlowEntry) {
            flows += 1
            sent += flow.bytes.0
            received += flow.bytes.1
        }
    }

    /// What has been silent since one end of it closed is over, for all that is known.
    private static let closingSecondsMax = 5

    private let snapshot: Snapshot
    /// `nil`: nobody proves anything.
    private let trustDomain: TrustDomain?
    private let nodes: [IPAddress: String]
    private let gateways: [ObjectName: ObjectName]
    private let tunnels: [TunnelRecord]
    private let now: Int64
    private var found: [Pair: MutualTLSItem] = [:]
    private var carried: [Way: Traffic] = [:]

    /// - Parameter now: seconds since 1970.
    init(
        _ snapshot: Snapshot, trustDomain: TrustDomain?, tunnels: [TunnelRecord] = [],
        at now: Int64 = 0
    ) {
        self.snapshot = snapshot
        self.trustDomain = trustDomain
        self.tunnels = tunnels
        self.now = now
        nodes = Dictionary(
            snapshot.mesh.nodes.flatMap { node in node.addresses.map { ($0, node.name) } },
            uniquingKeysWith: { first, _ in first })
        gateways = Dictionary(
            snapshot.mesh.listeners.map { ($0.account, $0.gateway) },
            uniquingKeysWith: { first, _ in first })
    }

    var items: [MutualTLSItem] {
        (Array(found.values) + tunnelItems).sorted {
            ($0.source, $0.target, $0.protocol, $0.security, $0.message, $0.peer)
                < ($1.source, $1.target, $1.protocol, $1.security, $1.message, $1.peer)
        }
    }

    mutating func note(_ flow: FlowEntry) {
        guard flow.state != "closed", !flow.isCut, flow.remaining >= .zero,
            flow.state != "closing" || flow.idle < .seconds(Self.closingSecondsMax)
        else { return }
        if flow.isTunnel {
            let way = Way(source: flow.source.address, target: flow.target.address)
            carried[way, default: Traffic()].add(flow)
            return
        }
        let source = workload(flow.source.address)
        let target = workload(flow.target.address)
        guard let security = security(of: flow, source, target) else { return }
        let pair = Pair(
            source: name(source, flow.source.address), target: name(target, flow.target.address),
            security: security, transport: Agent.protocolName(flow.protocolNumber),
            message: security == "none" ? message(flow, source, target) : "")
        var traffic = Traffic()
        traffic.add(flow)
        enter(pair, &found, traffic, (source, target))
    }

    private func enter(
        _ pair: Pair, _ items: inout [Pair: MutualTLSItem], _ traffic: Traffic,
        _ ends: (source: Workload?, target: Workload?)
    ) {
        let isVouched = pair.security == "local"
        var item =
            items[pair]
            ?? MutualTLSItem(
                source: pair.source, target: pair.target, security: pair.security,
                protocol: pair.transport,
                sourcePrincipal: isVouched ? principal(ends.source) : "",
                targetPrincipal: isVouched ? principal(ends.target) : "",
                mode: mode(ends.target), message: pair.message)
        item.flows += traffic.flows
        item.bytesSent += traffic.sent
        item.bytesReceived += traffic.received
        items[pair] = item
    }

    /// `nil`: another flow speaks for this one.
    private func security(of flow: FlowEntry, _ source: Workload?, _ target: Workload?) -> String? {
        let isSourceLocal = isLocal(source, flow.source.address)
        let isTargetLocal = isLocal(target, flow.target.address)
        switch flow.kind {
        case "dialled":
            // What the engine dials for a client from elsewhere ends what is listed as captured.
            if !isSourceLocal { return nil }
        case "captured":
            // What the engine dials for it is listed, or the tunnel that carries it.
            if !isTargetLocal || flow.isCarried { return nil }
        case "translated": return nil
        default: break
        }
        return isSourceLocal && isTargetLocal ? "local" : "none"
    }

    /// Why it is plain where tunnels lead now.
    private func message(_ flow: FlowEntry, _ source: Workload?, _ target: Workload?) -> String {
        guard flow.protocolNumber == TransportProtocol.tcp.number, trustDomain != nil,
            let source, let target, source.node != target.node,
            snapshot.tunnelPeers.speaksHBONE(source), snapshot.tunnelPeers.speaksHBONE(target),
            source.exclusions.isEmpty,
            snapshot.peerModes.mode(of: target, port: flow.target.port) != .disable
        else { return "" }
        return "older than the tunnels"
    }

    // MARK: Tunnels

    /// Those that the engine knows, and what of the flow table it does not: a handshake under way,
    /// or a tunnel of a child that drains.
    private var tunnelItems: [MutualTLSItem] {
        var items: [Pair: [String: MutualTLSItem]] = [:]
        var rest = carried
        // Of several that have ended the last is named.
        for record in tunnels.sorted(by: { $0.endedAt < $1.endedAt }) {
            let ends = record.ends
            let source = workload(ends.source)
            let target = workload(ends.target)
            let (client, server) =
                ends.isServer
                ? (ends.peer, ends.own.description)
                : (ends.own.description, ends.peer)
            let pair = Pair(
                source: clientName(source, ends.source, client),
                target: name(target, ends.target), security: "mutual_tls", transport: "HBONE")
            let key = "\(client) \(server) \(ends.version) \(ends.suite)"
            let traffic = rest.removeValue(forKey: Way(source: ends.source, target: ends.target))
            var item =
                items[pair]?[key]
                ?? MutualTLSItem(
                    source: pair.source, target: pair.target, security: pair.security,
                    protocol: pair.transport, sourcePrincipal: client, targetPrincipal: server,
                    peer: ends.peer, tlsVersion: ends.versionName, cipher: ends.suiteName,
                    mode: mode(target), message: ended(record))
            item.flows += record.open
            item.bytesSent += traffic?.sent ?? 0
            item.bytesReceived += traffic?.received ?? 0
            item.message = item.flows > 0 ? "" : ended(record)
            items[pair, default: [:]][key] = item
        }
        var others: [Pair: MutualTLSItem] = [:]
        for (way, traffic) in rest {
            let (source, target) = (workload(way.source), workload(way.target))
            let pair = Pair(
                source: name(source, way.source), target: name(target, way.target),
                security: "mutual_tls", transport: "HBONE")
            enter(pair, &others, traffic, (source, target))
        }
        return items.values.flatMap(\.values) + others.values
    }

    private func ended(_ record: TunnelRecord) -> String {
        record.open > 0 ? "" : "ended \(max(0, now - record.endedAt)) s ago"
    }

    /// A Gateway's tunnels come from its node: the certificate tells them from the node's own.
    private func clientName(_ source: Workload?, _ address: IPAddress, _ id: String) -> String {
        if source == nil, let account = (try? SPIFFEID(id))?.account,
            let gateway = gateways[account]
        {
            return "gateway \(gateway)"
        }
        return name(source, address)
    }

    // MARK: Names

    private func isLocal(_ workload: Workload?, _ address: IPAddress) -> Bool {
        workload.map { snapshot.isLocal($0) } ?? snapshot.nodeAddresses.contains(address)
    }

    private func workload(_ address: IPAddress) -> Workload? {
        snapshot.workloadsByAddress[address].map { snapshot.mesh.workloads[$0] }
    }

    private func name(_ workload: Workload?, _ address: IPAddress) -> String {
        if let workload { return "\(workload.name.namespace)/\(workload.workloadName)" }
        return nodes[address].map { "node \($0)" } ?? "outside"
    }

    private func principal(_ workload: Workload?) -> String {
        guard let workload, workload.isMeshed, let trustDomain else { return "" }
        let id = try? SPIFFEID(
            trustDomain, namespace: workload.name.namespace,
            serviceAccount: workload.serviceAccount)
        return id?.description ?? ""
    }

    private func mode(_ workload: Workload?) -> String {
        guard let workload, workload.isMeshed else { return "" }
        let modes = snapshot.peerModes.modes(of: workload)
        let differs = modes.ports.values.contains { $0 != modes.mode }
        return differs ? "PORTS" : modes.mode.rawValue
    }
}
