// Policies -> rows in which the longest match is the answer. Receives a Mesh; hands on a
// CompiledPolicy with identities, the sets of this node's pods and the rules that rows refer to.
// Never fails: MeshConfig refuses what cannot be compiled.
//
// A pod's set is named by the policies that select it (and by its named ports, where their ingress
// rules ask for some). For each direction, peers are told apart by the rules that match them; what
// they share with any other peer is said once, for identity 0.

public enum PolicyCompiler {
    /// - Parameters:
    ///   - node: whose pods get sets.
    ///   - previous: what keeps its numbers.
    ///   - avoiding: numbers that the kernel holds from before `previous`.
    public static func compile(
        _ mesh: Mesh, node: String, after previous: CompiledPolicy? = nil,
        avoiding: PolicyNumbersInUse = PolicyNumbersInUse()
    ) -> CompiledPolicy {
        let plan = PolicyPlan(mesh, node: node, after: previous?.plan, avoiding: avoiding)
        return CompiledPolicy(plan, mesh, node: node, after: previous, avoiding: avoiding)
    }
}

/// The policies that select a group of pods, as rows.
public final class PolicySet: Sendable {
    public let number: UInt32
    /// Into `CompiledPolicy.policies`.
    public let policies: [Int]
    /// Where no row matches, by direction's number.
    public let defaults: [PolicyDecision]
    public let rows: [PolicyRow]
    let matches: SetInputs

    init(
        number: UInt32, policies: [Int], defaults: [PolicyDecision], rows: [PolicyRow],
        matches: SetInputs
    ) {
        self.number = number
        self.policies = policies
        self.defaults = defaults
        self.rows = rows
        self.matches = matches
    }
}

/// What the rows of a set depend on, besides its number: equal inputs make equal rows.
struct SetInputs: Hashable, Sendable {
    var policies: [NetworkPolicy]
    /// The numbers of the identities that each peer of each rule matches, in order.
    var peers: [[UInt32]]
    /// Numbers of identities with named ports, where an egress rule names one.
    var withPorts: [UInt32]
}

/// Rows of one set.
struct SetRows {
    private let plan: PolicyPlan
    private let policies: [Int]
    private let named: [NamedPort]
    private let number: UInt32
    private(set) var rows: [PolicyRow] = []
    private(set) var defaults: [PolicyDecision] = []

    private struct TemplateKey: Hashable {
        var rules: [Int]
        var ports: [NamedPort]
    }

    init(_ plan: PolicyPlan, policies: [Int], named: [NamedPort], number: UInt32) {
        self.plan = plan
        self.policies = policies
        self.named = named
        self.number = number
        for direction in PolicyDirection.allCases { append(direction) }
    }

    private mutating func append(_ direction: PolicyDirection) {
        let concerned = policies.filter { plan.planned[$0].rules(direction) != nil }
        let selecting = concerned.filter { plan.policies[$0].tier == .namespaced }
        let isolation = PolicyDefaults(
            isIsolated: !selecting.isEmpty,
            isIsolatedByEnforced: selecting.contains { !plan.policies[$0].isAudited },
            allow: PolicyPlan.defaultRule(direction, isAllowed: true),
            deny: PolicyPlan.defaultRule(direction, isAllowed: false))
        defaults.append(PortRules([], named: [], isolation).otherProtocols)
        guard !concerned.isEmpty else { return }
        let rules = concerned.flatMap { plan.planned[$0].rules(direction) ?? [] }
        let entries = rules.map(\.entry)

        var anyPeer: [Int] = []
        var own: [Int: [Int]] = [:]
        for (index, rule) in rules.enumerated() {
            guard let peers = rule.peers else {
                anyPeer.append(index)
                if direction == .egress, rule.entry.hasNamedPorts {
                    for identity in plan.identities.withPorts {
                        own[identity, default: []].append(index)
                    }
                }
                continue
            }
            for identity in matched(peers) { own[identity, default: []].append(index) }
        }

        var templates: [TemplateKey: [PortRow]] = [:]
        func template(_ list: [Int], _ ports: [NamedPort]) -> [PortRow] {
            let asksNames = list.contains { entries[$0].hasNamedPorts }
            let key = TemplateKey(rules: list, ports: asksNames ? ports : [])
            if let known = templates[key] { return known }
            let made = PortRules(list.map { entries[$0] }, named: ports, isolation).rows()
            templates[key] = made
            return made
        }
        let ofIngress = direction == .ingress ? named : nil
        let shared = template(anyPeer, ofIngress ?? [])
        emit(shared, ReservedIdentity.any, direction)
        for (identity, list) in own.sorted(by: { $0.key < $1.key }) {
            let merged = anyPeer.isEmpty ? list : Set(anyPeer + list).sorted()
            let found = template(merged, ofIngress ?? plan.identities.ports(at: identity))
            if found != shared { emit(found, plan.identities.number(at: identity), direction) }
        }
    }

    private func matched(_ peers: [Int]) -> [Int] {
        if peers.count == 1 { return plan.matches[peers[0]] }
        return Array(Set(peers.flatMap { plan.matches[$0] }))
    }

    private mutating func emit(
        _ template: [PortRow], _ identity: UInt32, _ direction: PolicyDirection
    ) {
        for row in template {
            rows.append(
                PolicyRow(
                    key: PolicyRowKey(
                        set: number, identity: identity, direction: direction,
                        transport: row.transport, port: row.port, bits: row.bits),
                    decision: row.decision))
        }
    }
}
