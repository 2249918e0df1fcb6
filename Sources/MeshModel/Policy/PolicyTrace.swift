// What the policies would say of a connection, before any packet is sent: the rows that the kernel
// holds, looked up in the same order as the kernel does.

/// One end of a connection that is asked about.
public enum PolicyEnd: Sendable, Hashable {
    case pod(ObjectName)
    case address(IPAddress)
}

/// The answer for one family of addresses.
public struct PolicyTrace: Sendable {
    /// What one end's policies say of the other end.
    public struct Side: Sendable {
        /// Into the mesh's workloads.
        public var workload: Int
        /// The other end, as policies know it.
        public var peer: UInt32
        public var peerAddress: IPAddress
        /// That was asked about: the target's, or that of a node which leads to it.
        public var port: UInt16
        /// Titles of the policies that select the pod in this direction, in order.
        public var policies: [String]
        public var decision: PolicyDecision
        public var rule: RuleReference
        /// Where the kernel does not hold what the policies say, why.
        public var note: String
    }

    public enum Verdict: String, Sendable {
        case allowed, denied
        /// Denied by policies that are only being tried.
        case audited
    }

    public var source: IPAddress
    public var target: IPAddress
    /// Of the target: the pod's own, where a service was asked about.
    public var port: UInt16
    /// `nil`: that end is no pod.
    public var egress: Side?
    public var ingress: Side?
    public var verdict: Verdict
    /// Where no policy is asked, why; whose endpoint the target is.
    public var note: String
}

/// What is asked of the rows of one end's pod.
public struct PolicyAsk: Sendable {
    public var pod: IPAddress
    public var direction: PolicyDirection
    public var peer: IPAddress
    public var transport: UInt8
    public var port: UInt16
}

/// What the kernel holds for it.
public enum PolicyInForce: Sendable, Equatable {
    /// No policy selects the pod.
    case open
    case decision(PolicyDecision)
    /// The rows of the pod's policies did not fit into the maps: nothing passes.
    case closed
    /// The pod's own rows are not there: nothing passes.
    case notReady
    /// Nothing is attached to the pod, and nothing holds it: nobody judges what it sends or gets.
    case unattached
}

public enum PolicyTraceError: Error, Equatable {
    case noSuchPod(ObjectName)
    /// The ends have no family of addresses in common.
    case noFamily
    /// ICMP between IPv6 addresses, or ICMPv6 between those of IPv4.
    case otherFamily
}

extension Snapshot {
    /// One answer a family that both ends have, and an endpoint where a service is dialled.
    ///
    /// - Parameters:
    ///   - transport: the protocol's number.
    ///   - port: of the pod that would receive; 0 where the protocol has none.
    ///   - isHostAllowed: whether the node reaches its pods whatever their policies say.
    ///   - hasTunnels: whether nodes carry connections of pods that have an identity.
    ///   - inForce: the kernel's rows; `nil`: those of the configuration count.
    public func trace(
        from: PolicyEnd, to: PolicyEnd, transport: UInt8, port: UInt16, isHostAllowed: Bool,
        hasTunnels: Bool = false,
        inForce: @escaping (PolicyAsk) -> PolicyInForce? = { _ in nil }
    ) throws(PolicyTraceError) -> [PolicyTrace] {
        let sources = try addresses(of: from)
        let targets = try addresses(of: to)
        let tracer = Tracer(
            snapshot: self, transport: transport, isHostAllowed: isHostAllowed, inForce: inForce)
        var traces: [PolicyTrace] = []
        var hasFamily = false
        for source in sources {
            guard let target = targets.first(where: { $0.isIPv4 == source.isIPv4 }) else {
                continue
            }
            hasFamily = true
            // No such packet passes for what it says.
            if transport == (source.isIPv4 ? 58 : 1) { continue }
            for var trace in tracer.traces(source, SocketAddress(target, port)) {
                if trace.verdict != .denied, transport == TransportProtocol.tcp.number {
                    insist(trace.port, hasTunnels, &trace)
                }
                traces.append(trace)
            }
        }
        if traces.isEmpty { throw hasFamily ? .otherFamily : .noFamily }
        return traces
    }

    private func addresses(of end: PolicyEnd) throws(PolicyTraceError) -> [IPAddress] {
        switch end {
        case .address(let address): return [address]
        case .pod(let name):
            guard let pod = mesh.workloads.first(where: { $0.name == name }) else {
                throw .noSuchPod(name)
            }
            return pod.addresses
        }
    }

    /// Mutual TLS, where the pod that would receive insists on it.
    private func insist(_ port: UInt16, _ hasTunnels: Bool, _ trace: inout PolicyTrace) {
        let source = workloadsByAddress[trace.source].map { mesh.workloads[$0] }
        guard let to = workloadsByAddress[trace.target], mesh.workloads[to].isMeshed,
            trace.source != trace.target
        else { return }
        let target = mesh.workloads[to]
        guard peerModes.mode(of: target, port: port) == .strict else { return }
        let who = "\(peerModes.origin(of: target, port: port)) insists on mutual TLS"
        let isProbe =
            source == nil && isLocal(target) && policy.kind(of: trace.source) == .host
        if isProbe || (source?.isMeshed == true && source?.node == target.node) {
            return note("\(who), and the pod's own node vouches for who sends", &trace)
        }
        if let source, hasTunnels, tunnelPeers.speaksHBONE(source),
            tunnelPeers.speaksHBONE(target)
        {
            return note("\(who): it goes by a tunnel", &trace)
        }
        guard tunnelPeers.speaksHBONE(target) else {
            return insist(source, of: who, &trace)
        }
        trace.verdict = .denied
        note("\(who): plain text is reset (plain_refused)", &trace)
    }

    /// Nobody refuses anything at the target's node.
    private func insist(_ source: Workload?, of who: String, _ trace: inout PolicyTrace) {
        guard let source, isLocal(source) || tunnelPeers.hasAgent(source.node) else {
            return note("\(who), and no agent is there to refuse plain text", &trace)
        }
        trace.verdict = .denied
        note(
            "\(who), and no tunnel leads there: reset at the client's node (plain_refused)", &trace)
    }

    private func note(_ text: String, _ trace: inout PolicyTrace) {
        trace.note = trace.note.isEmpty ? text : "\(trace.note); \(text)"
    }
}

/// One question, asked of addresses.
private struct Tracer {
    let snapshot: Snapshot
    let transport: UInt8
    let isHostAllowed: Bool
    let inForce: (PolicyAsk) -> PolicyInForce?

    func traces(_ source: IPAddress, _ target: SocketAddress) -> [PolicyTrace] {
        switch snapshot.dialled(from: source, to: target, transport: transport) {
        case .itself(let note):
            var only = trace(source, target)
            if only.note.isEmpty { only.note = note }
            return [only]
        case .within(let note):
            return [
                PolicyTrace(
                    source: source, target: target.address, port: target.port, egress: nil,
                    ingress: nil, verdict: .allowed, note: note)
            ]
        case .refused(let note):
            return [
                PolicyTrace(
                    source: source, target: target.address, port: target.port, egress: nil,
                    ingress: nil, verdict: .denied, note: note)
            ]
        case .endpoints(let endpoints, let note):
            return endpoints.map { endpoint in
                var each = trace(source, endpoint.address, seenAs: endpoint.seenAs)
                each.note = each.note.isEmpty ? note : "\(note); \(each.note)"
                return each
            }
        }
    }

    private func trace(
        _ source: IPAddress, _ target: SocketAddress, seenAs: IPAddress? = nil
    ) -> PolicyTrace {
        var trace = PolicyTrace(
            source: source, target: target.address, port: target.port, egress: nil, ingress: nil,
            verdict: .allowed, note: "")
        let from = snapshot.workloadsByAddress[source]
        let to = snapshot.workloadsByAddress[target.address]
        if let from, from == to {
            trace.note = "a pod always reaches itself"
            return trace
        }
        if transport == TransportProtocol.sctp.number {
            trace.verdict = .denied
            trace.note = "SCTP is not supported"
            return trace
        }
        if let from {
            trace.egress = side(from, .egress, own: source, other: target.address, target.port)
        }
        if let to {
            let seen = seenAs ?? source
            if isHostAllowed, snapshot.isLocal(snapshot.mesh.workloads[to]),
                snapshot.policy.kind(of: seen) == .host
            {
                trace.note = "the node always reaches its own pods"
            } else {
                trace.ingress = side(to, .ingress, own: target.address, other: seen, target.port)
            }
        }
        let sides = [trace.egress, trace.ingress].compactMap(\.self)
        if let note = sides.map(\.note).first(where: { !$0.isEmpty }) { trace.note = note }
        if sides.contains(where: { !$0.decision.isAllowed && !$0.decision.isAudited }) {
            trace.verdict = .denied
        } else if sides.contains(where: \.decision.isAudited) {
            trace.verdict = .audited
        }
        return trace
    }

    private func side(
        _ index: Int, _ direction: PolicyDirection, own: IPAddress, other: IPAddress, _ port: UInt16
    ) -> PolicyTrace.Side {
        let policy = snapshot.policy
        let peer = policy.identity(of: other)
        var note = ""
        let nobody = PolicyDecision(
            isAllowed: true, rule: PolicyPlan.defaultRule(direction, isAllowed: true))
        var closed = nobody
        closed.isAllowed = false
        closed.rule = PolicyPlan.defaultRule(direction, isAllowed: false)
        let decision: PolicyDecision
        let ask = PolicyAsk(
            pod: own, direction: direction, peer: other, transport: transport, port: port)
        switch inForce(ask) {
        case .open: decision = nobody
        case .decision(let found): decision = found
        case .closed:
            decision = closed
            note = "its policies did not fit into the map malla_policy: nothing passes"
        case .notReady:
            decision = closed
            note = "not_ready: the pod is not in the kernel's maps: nothing passes"
        case .unattached:
            decision = nobody
            note = "nothing is attached to the pod: none of its policies is in force"
        case nil:
            decision =
                policy.set(ofWorkload: index)?.decision(
                    identity: peer, isIPv4: other.isIPv4, direction: direction,
                    transport: transport, port: port) ?? nobody
        }
        let titles = policy.policies(ofWorkload: index).filter { $0.rules(direction) != nil }
            .map(\.title)
        let rule =
            policy.reference(of: decision.rule)
            ?? RuleReference(
                policy: "", direction: direction,
                part: decision.isAllowed ? .defaultAllow : .defaultDeny)
        return PolicyTrace.Side(
            workload: index, peer: peer, peerAddress: other, port: port, policies: titles,
            decision: decision, rule: rule, note: note)
    }
}

extension CompiledPolicy {
    public func identity(numbered number: UInt32) -> PolicyIdentity? {
        identities.first { $0.number == number }
    }

    func kind(of address: IPAddress) -> PolicyIdentity.Kind? {
        identity(numbered: identity(of: address))?.kind
    }
}
