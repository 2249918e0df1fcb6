internal import AdminAPI
internal import BPFLoader
internal import MeshModel

extension Agent {
    /// No more flows than these are looked at.
    private static let flowsSeenMax = 1_000_000

    func mutualTLSItems() -> [MutualTLSItem] {
        guard let loaded = datapath.datapath, let snapshot else { return [] }
        var pairs = MutualTLSPairs(
            snapshot, trustDomain: identity.identities?.trustDomain)
        for flow in loaded.flowEntries(countMax: Self.flowsSeenMax) { pairs.note(flow) }
        return pairs.items
    }
}

/// The flow table of this node -> pairs of workloads. What the kernel carries is what is said, not
/// what was meant: a connection to a pod elsewhere is encrypted if it is a tunnel's.
struct MutualTLSPairs {
    private struct Pair: Hashable {
        var source: String
        var target: String
        var security: String
        var transport: String
    }

    private let snapshot: Snapshot
    /// `nil`: nobody proves anything.
    private let trustDomain: TrustDomain?
    private let nodes: [IPAddress: String]
    private var found: [Pair: MutualTLSItem] = [:]

    init(_ snapshot: Snapshot, trustDomain: TrustDomain?) {
        self.snapshot = snapshot
        self.trustDomain = trustDomain
        nodes = Dictionary(
            snapshot.mesh.nodes.flatMap { node in node.addresses.map { ($0, node.name) } },
            uniquingKeysWith: { first, _ in first })
    }

    var items: [MutualTLSItem] {
        found.values.sorted {
            ($0.source, $0.target, $0.protocol, $0.security)
                < ($1.source, $1.target, $1.protocol, $1.security)
        }
    }

    mutating func note(_ flow: FlowEntry) {
        let source = workload(flow.source.address)
        let target = workload(flow.target.address)
        guard flow.state != "closed", !flow.isCut, flow.remaining >= .zero,
            let security = security(of: flow, source, target)
        else { return }
        let transport =
            security == "mutual_tls" ? "HBONE" : Agent.protocolName(flow.protocolNumber)
        let pair = Pair(
            source: name(source, flow.source.address), target: name(target, flow.target.address),
            security: security, transport: transport)
        var item =
            found[pair]
            ?? MutualTLSItem(
                source: pair.source, target: pair.target, security: security, protocol: transport,
                sourcePrincipal: principal(source), targetPrincipal: principal(target),
                mode: mode(target))
        item.flows += 1
        item.bytesSent += flow.bytes.0
        item.bytesReceived += flow.bytes.1
        found[pair] = item
    }

    /// `nil`: another flow speaks for this one.
    private func security(of flow: FlowEntry, _ source: Workload?, _ target: Workload?) -> String? {
        if flow.isTunnel { return "mutual_tls" }
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
