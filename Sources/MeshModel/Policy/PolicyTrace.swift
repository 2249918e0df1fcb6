// What the policies would say of a connection, before any packet is sent: the same rows, looked up
// in the same order as the kernel does.

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
        /// Titles of the policies that select the pod in this direction, in order.
        public var policies: [String]
        public var decision: PolicyDecision
        public var rule: RuleReference
    }

    public enum Verdict: String, Sendable {
        case allowed, denied
        /// Denied by policies that are only being tried.
        case audited
    }

    public var source: IPAddress
    public var target: IPAddress
    /// `nil`: that end is no pod.
    public var egress: Side?
    public var ingress: Side?
    public var verdict: Verdict
    /// Where no policy is asked, why.
    public var note: String
}

public enum PolicyTraceError: Error, Equatable {
    case noSuchPod(ObjectName)
    /// The ends have no family of addresses in common.
    case noFamily
}

extension Snapshot {
    /// One answer a family that both ends have.
    ///
    /// - Parameters:
    ///   - transport: the protocol's number.
    ///   - port: of the pod that would receive; 0 where the protocol has none.
    ///   - isHostAllowed: whether the node reaches its pods whatever their policies say.
    ///   - hasTunnels: whether nodes carry connections of pods that have an identity.
    public func trace(
        from: PolicyEnd, to: PolicyEnd, transport: UInt8, port: UInt16, isHostAllowed: Bool,
        hasTunnels: Bool = false
    ) throws(PolicyTraceError) -> [PolicyTrace] {
        let sources = try addresses(of: from)
        let targets = try addresses(of: to)
        var traces: [PolicyTrace] = []
        for source in sources {
            guard let target = targets.first(where: { $0.isIPv4 == source.isIPv4 }) else {
                continue
            }
            var trace = trace(source, target, transport, port, isHostAllowed)
            if trace.verdict != .denied, transport == TransportProtocol.tcp.number {
                insist(port, hasTunnels, &trace)
            }
            traces.append(trace)
        }
        if traces.isEmpty { throw .noFamily }
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

    private func trace(
        _ source: IPAddress, _ target: IPAddress, _ transport: UInt8, _ port: UInt16,
        _ isHostAllowed: Bool
    ) -> PolicyTrace {
        var trace = PolicyTrace(
            source: source, target: target, egress: nil, ingress: nil, verdict: .allowed, note: "")
        let from = workloadsByAddress[source]
        let to = workloadsByAddress[target]
        if let from, from == to {
            trace.note = "a pod always reaches itself"
            return trace
        }
        if transport == TransportProtocol.sctp.number {
            trace.verdict = .denied
            trace.note = "SCTP is not supported"
            return trace
        }
        if let from { trace.egress = side(from, .egress, target, transport, port) }
        if let to {
            if isHostAllowed, policy.kind(of: source) == .host {
                trace.note = "the node always reaches its own pods"
            } else {
                trace.ingress = side(to, .ingress, source, transport, port)
            }
        }
        if let service = service(at: target) {
            trace.note =
                "\(target) is an address of Service \(service): policies are judged at the pod "
                + "behind it, name that one"
        }
        let decisions = [trace.egress, trace.ingress].compactMap { $0?.decision }
        if decisions.contains(where: { !$0.isAllowed && !$0.isAudited }) {
            trace.verdict = .denied
        } else if decisions.contains(where: \.isAudited) {
            trace.verdict = .audited
        }
        return trace
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
        trace.verdict = .denied
        note("\(who): plain text is reset (plain_refused)", &trace)
    }

    private func note(_ text: String, _ trace: inout PolicyTrace) {
        trace.note = trace.note.isEmpty ? text : "\(trace.note); \(text)"
    }

    private func service(at address: IPAddress) -> ObjectName? {
        mesh.services.first {
            $0.addresses.contains(address) || $0.externalAddresses.contains(address)
        }?.name
    }

    private func side(
        _ index: Int, _ direction: PolicyDirection, _ other: IPAddress, _ transport: UInt8,
        _ port: UInt16
    ) -> PolicyTrace.Side {
        let peer = policy.identity(of: other)
        let nobody = PolicyDecision(
            isAllowed: true, rule: PolicyPlan.defaultRule(direction, isAllowed: true))
        let decision =
            policy.set(ofWorkload: index)?.decision(
                identity: peer, isIPv4: other.isIPv4, direction: direction, transport: transport,
                port: port) ?? nobody
        let titles = policy.policies(ofWorkload: index).filter { $0.rules(direction) != nil }
            .map(\.title)
        let rule =
            policy.reference(of: decision.rule)
            ?? RuleReference(policy: "", direction: direction, part: .defaultAllow)
        return PolicyTrace.Side(
            workload: index, peer: peer, policies: titles, decision: decision, rule: rule)
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
