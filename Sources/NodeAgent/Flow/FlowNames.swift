internal import AdminAPI
internal import BPFLoader
internal import Foundation
internal import MeshModel

/// One generation of the configuration as far as events need it: who has an address, what an
/// identity stands for, which rule has a number.
///
/// - Threads: any; never changes after `init`.
final class FlowNames: Sendable {
    let snapshot: Snapshot
    private let identities: [UInt32: PolicyIdentity]
    private let services: [IPAddress: ObjectName]

    /// - Parameter previous: where nothing but endpoints has changed since, its names are ours too.
    init(_ snapshot: Snapshot, after previous: FlowNames? = nil) {
        self.snapshot = snapshot
        if let previous, previous.snapshot.shape === snapshot.shape {
            identities = previous.identities
            services = previous.services
            return
        }
        identities = Dictionary(
            snapshot.policy.identities.map { ($0.number, $0) },
            uniquingKeysWith: { first, _ in first })
        var services: [IPAddress: ObjectName] = [:]
        for service in snapshot.mesh.services {
            for address in service.addresses + service.externalAddresses {
                services[address] = service.name
            }
        }
        self.services = services
    }

    /// - Parameters:
    ///   - before: the policies before these, some of whose rules may have decided.
    ///   - pods: of this node, by the index of their interface.
    func item(
        _ event: FlowEvent, before: CompiledPolicy?, pods: [UInt32: String] = [:]
    ) -> FlowEventItem {
        var item = FlowEventItem(
            time: Self.text(event.nanoseconds), node: snapshot.node,
            verdict: event.outcome.rawValue, reason: event.verdict, hook: event.hook,
            direction: event.direction.rawValue,
            protocol: Agent.protocolName(event.protocolNumber),
            source: "\(event.source.address)", sourcePort: Int(event.source.port),
            sourcePod: pod(event.source.address), sourceIdentity: Int(event.sourceIdentity),
            sourceLabels: labels(event.sourceIdentity, event.source.address),
            target: "\(event.target.address)",
            targetPort: Int(event.target.port), targetPod: pod(event.target.address),
            targetService: services[event.target.address]?.description ?? "",
            targetIdentity: Int(event.targetIdentity),
            targetLabels: labels(event.targetIdentity, event.target.address),
            ruleNumber: Int(event.rule), packets: Int(event.packets))
        if event.interface != 0, let pod = pods[event.interface] { item.sourcePod = pod }
        if event.isPolicys { decide(event, &item, before) }
        if event.verdict == "plain_refused" { insist(event, &item) }
        return item
    }

    private func pod(_ address: IPAddress) -> String {
        snapshot.workloadsByAddress[address].map { "\(snapshot.mesh.workloads[$0].name)" } ?? ""
    }

    private func labels(_ number: UInt32, _ address: IPAddress) -> [String] {
        let isUnmanaged = snapshot.isUnmanaged(address)
        guard let identity = identities[number] else {
            let isWorld = [0, 2, 9, 10].contains(number)
            if isUnmanaged, isWorld { return [Agent.unmanagedName] }
            return Agent.reservedName(number).map { ["reserved:" + $0] } ?? []
        }
        // What was a pod's when it happened stays the pod's.
        guard isUnmanaged, identity.kind == .world else { return identity.words }
        return Agent.unmanagedWords(identity)
    }

    // MARK: Who decided

    private func decide(
        _ event: FlowEvent, _ item: inout FlowEventItem, _ before: CompiledPolicy?
    ) {
        let isEgress = event.direction == .egress
        let own = isEgress ? event.source.address : event.target.address
        let workload = snapshot.workloadsByAddress[own]
        if let workload {
            item.policies = snapshot.policyTitles(ofWorkload: workload, event.direction)
        }
        let reference =
            snapshot.policy.reference(of: event.rule)
            ?? before?.reference(of: event.rule)
        switch (reference, event.outcome) {
        case (let reference?, _) where reference.part != .defaultDeny:
            item.rule = reference.description
            item.policy = reference.policy
        case (_, .allowed):
            let none = RuleReference(policy: "", direction: event.direction, part: .defaultAllow)
            if item.policies.isEmpty { item.rule = none.description }
        case (nil, _) where event.rule != 0: item.rule = "rule \(event.rule), which is gone"
        default:
            let deny = RuleReference(policy: "", direction: event.direction, part: .defaultDeny)
            item.rule = deny.description
            guard let workload else { return }
            explain(event, workload, isEgress ? event.target.address : event.source.address, &item)
        }
    }

    private func insist(_ event: FlowEvent, _ item: inout FlowEventItem) {
        guard let index = snapshot.workloadsByAddress[event.target.address] else { return }
        item.rule = snapshot.peerModes.origin(
            of: snapshot.mesh.workloads[index], port: event.target.port)
        item.why = "plain text, and the pod insists on mutual TLS"
    }

    private func explain(
        _ event: FlowEvent, _ workload: Int, _ peer: IPAddress, _ item: inout FlowEventItem
    ) {
        let hasPorts = [6, 17, 132].contains(event.protocolNumber)
        let nearest = snapshot.nearest(
            workload: workload, event.direction, peer: peer, transport: event.protocolNumber,
            port: hasPorts ? event.target.port : 0, isAudited: event.outcome == .audited)
        item.nearest = nearest?.rule.description ?? ""
        item.why = nearest?.why ?? "none of its policies allows anything"
    }

    /// RFC 3339 in UTC with microseconds.
    static func text(_ unixNanoseconds: Int64) -> String {
        let seconds = unixNanoseconds / 1_000_000_000
        let micros = String(1_000_000 + unixNanoseconds % 1_000_000_000 / 1_000).dropFirst()
        let date = Date(timeIntervalSince1970: Double(seconds)).ISO8601Format()
        return date.dropLast() + ".\(micros)Z"
    }
}
