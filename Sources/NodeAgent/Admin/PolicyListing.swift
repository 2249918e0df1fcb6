internal import AdminAPI
internal import BPFLoader
internal import MeshModel

// The policies in force, and what they say of a connection, as the items of AdminAPI.

extension Agent {
    func policyItems() -> [PolicyItem] {
        guard let snapshot else { return [] }
        var pods: [String: [String]] = [:]
        for (index, workload) in snapshot.mesh.workloads.enumerated() {
            for policy in snapshot.policy.policies(ofWorkload: index) {
                pods[policy.title, default: []].append(workload.name.description)
            }
        }
        return snapshot.policy.policies.map { PolicyItem($0, pods: pods[$0.title] ?? []) }
    }

    /// Of pods that this node's kernel judges; `nil` of all others.
    private func inForce(_ ask: PolicyAsk) -> PolicyInForce? {
        guard let loaded = datapath.datapath, let snapshot,
            let index = snapshot.workloadsByAddress[ask.pod]
        else { return nil }
        let pod = snapshot.mesh.workloads[index]
        guard snapshot.isLocal(pod) else { return nil }
        return loaded.inForce(ask)
    }

    /// `query`: `from=shop/web&to=10.0.0.1&port=80&protocol=TCP`.
    func policyTrace(_ query: String) -> Result<[PolicyTraceItem], PolicyQuestion.Fault> {
        guard let snapshot else { return .failure(.init(text: "no configuration is in force yet")) }
        do throws(PolicyQuestion.Fault) {
            let question = try PolicyQuestion(query)
            do throws(PolicyTraceError) {
                let traces = try snapshot.trace(
                    from: question.from, to: question.to, transport: question.transport,
                    port: question.port, isHostAllowed: options.hostToPod == .allow,
                    hasTunnels: datapath.options.capturesHBONE, inForce: inForce)
                return .success(traces.map { PolicyTraceItem(question, $0, snapshot) })
            } catch {
                throw .init(error)
            }
        } catch {
            return .failure(error)
        }
    }
}

/// What `/v1/policy/trace` is asked.
struct PolicyQuestion {
    struct Fault: Error {
        var text: String

        init(text: String) { self.text = text }

        init(_ error: PolicyTraceError) {
            text =
                switch error {
                case .noSuchPod(let name): "there is no pod \(name); see `malla endpoints`"
                case .noFamily: "the two ends have no family of addresses in common"
                case .otherFamily:
                    "the protocol is the other family's: ICMP is IPv4's, ICMPv6 is IPv6's"
                }
        }
    }

    static let protocols: [String: UInt8] = [
        "TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPV6": 58,
    ]

    let from: PolicyEnd
    let to: PolicyEnd
    let name: String
    let transport: UInt8
    let port: UInt16

    init(_ query: String) throws(Fault) {
        var fields: [String: String] = [:]
        for pair in query.split(separator: "&") {
            let halves = pair.split(separator: "=", maxSplits: 1).map(String.init)
            if halves.count == 2 { fields[halves[0]] = halves[1] }
        }
        from = try Self.end(fields["from"], "from")
        to = try Self.end(fields["to"], "to")
        name = (fields["protocol"] ?? "TCP").uppercased()
        guard let number = Self.protocols[name] else {
            throw Fault(text: "protocol '\(name)' is not one of TCP, UDP, SCTP, ICMP, ICMPv6")
        }
        transport = number
        let text = fields["port"] ?? "0"
        guard let port = UInt16(text) else {
            throw Fault(text: "port '\(text)' is not in 1...65535")
        }
        let hasPorts = number == 6 || number == 17 || number == 132
        guard !hasPorts || port > 0 else { throw Fault(text: "\(name) needs a port in 1...65535") }
        self.port = hasPorts ? port : 0
    }

    private static func end(_ text: String?, _ name: String) throws(Fault) -> PolicyEnd {
        guard let text, !text.isEmpty else { throw Fault(text: "'\(name)' is missing") }
        if let address = IPAddress(text) { return .address(address) }
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, parts.allSatisfy({ !$0.isEmpty }) else {
            throw Fault(text: "'\(text)' is neither NAMESPACE/POD nor an address")
        }
        return .pod(ObjectName(parts[0], parts[1]))
    }
}

extension PolicyItem {
    fileprivate init(_ policy: NetworkPolicy, pods: [String]) {
        let tier =
            switch policy.tier {
            case .admin: "Admin"
            case .namespaced: "NetworkPolicy"
            case .baseline: "Baseline"
            }
        let namespaces =
            switch policy.subject.namespaces {
            case .named(let name): name
            case .selected(let selector): selector.description
            }
        self.init(
            kind: policy.kind, namespace: policy.name.namespace, name: policy.name.name,
            tier: tier, priority: policy.priority, mode: policy.isAudited ? "audit" : "enforce",
            directions: PolicyDirection.allCases.filter { policy.rules($0) != nil }
                .map(\.rawValue),
            ingressRules: policy.ingress?.count ?? 0, egressRules: policy.egress?.count ?? 0,
            namespaces: namespaces, podSelector: policy.subject.pods.description, pods: pods)
    }
}

extension PolicyTraceItem {
    fileprivate init(_ question: PolicyQuestion, _ trace: PolicyTrace, _ snapshot: Snapshot) {
        func title(_ address: IPAddress) -> String {
            let pod = snapshot.workloadsByAddress[address].map { snapshot.mesh.workloads[$0].name }
            return pod.map(\.description) ?? address.description
        }
        let unmanaged = [trace.source, trace.target].filter(snapshot.isUnmanaged).map {
            "\($0) is unmanaged: no Pod is known to have it"
        }
        let notes = (trace.note.isEmpty ? [] : [trace.note]) + unmanaged
        let sides: [(PolicyDirection, PolicyTrace.Side?)] = [
            (.egress, trace.egress), (.ingress, trace.ingress),
        ]
        self.init(
            from: title(trace.source), to: title(trace.target),
            source: trace.source.description, target: trace.target.description,
            protocol: question.name, port: Int(trace.port), verdict: trace.verdict.rawValue,
            note: notes.joined(separator: "; "),
            sides: sides.compactMap { direction, side in
                side.map { side in
                    Side(
                        side, direction, snapshot,
                        nearest: side.nearest(
                            snapshot, direction, peer: side.peerAddress,
                            transport: question.transport, port: side.port))
                }
            })
    }
}

extension PolicyTraceItem.Side {
    fileprivate init(
        _ side: PolicyTrace.Side, _ direction: PolicyDirection, _ snapshot: Snapshot,
        nearest: PolicyNearest?
    ) {
        let pod = snapshot.mesh.workloads[side.workload]
        let identity = snapshot.policy.identity(numbered: side.peer)
        let decision = side.decision
        let isUnmanaged = snapshot.isUnmanaged(side.peerAddress)
        self.init(
            direction: direction.rawValue, pod: pod.name.description, node: pod.node,
            verdict: decision.isAllowed ? "allowed" : decision.isAudited ? "audited" : "denied",
            rule: side.rule.description, policies: side.policies, peerIdentity: Int(side.peer),
            peerLabels: identity.map { isUnmanaged ? Agent.unmanagedWords($0) : $0.words }
                ?? ["unknown"],
            nearest: nearest?.rule.description ?? "", why: nearest?.why ?? "")
    }
}

extension PolicyTrace.Side {
    /// Where it is denied by default, the rule that came nearest.
    fileprivate func nearest(
        _ snapshot: Snapshot, _ direction: PolicyDirection, peer: IPAddress, transport: UInt8,
        port: UInt16
    ) -> PolicyNearest? {
        guard rule.part == .defaultDeny else { return nil }
        return snapshot.nearest(
            workload: workload, direction, peer: peer, transport: transport, port: port,
            isAudited: decision.isAudited)
    }
}
