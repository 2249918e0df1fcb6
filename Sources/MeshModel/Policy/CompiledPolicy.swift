/// The policies in force, compiled for one node: what the datapath's rows are made of, and what
/// `malla policy` shows.
///
/// - Threads: any; never changes after `init`.
public final class CompiledPolicy: Sendable {
    /// In the order of evaluation.
    public var policies: [NetworkPolicy] { plan.policies }
    public var identities: [PolicyIdentity] { plan.identities.identities }
    /// Blocks and single addresses to identities; the longest match counts.
    public var addresses: [IPPrefix: UInt32] { plan.identities.addresses }
    /// Of this node's pods; pods that nothing selects have none.
    public let sets: [PolicySet]
    /// Into `sets`, by workload of the mesh; `nil`: not of this node, or not selected.
    public let setOfWorkload: [Int?]
    let plan: PolicyPlan
    private let numbers: PolicyNumbers<SetKey>

    /// Names a set by content, so that its number means the same in the next generation.
    private struct SetKey: Hashable, Sendable {
        var policies: [String]
        var ports: [NamedPort]
    }

    init(
        _ plan: PolicyPlan, _ mesh: Mesh, node: String, after previous: CompiledPolicy?,
        avoiding: PolicyNumbersInUse
    ) {
        self.plan = plan
        references = Dictionary(
            plan.rules.numbers.map { ($0.value, $0.key) }, uniquingKeysWith: { first, _ in first })
        var numbers =
            previous?.numbers.successor() ?? PolicyNumbers(from: 1, avoiding: avoiding.sets)
        let kept = Dictionary(
            (previous?.sets ?? []).map { ($0.number, $0) }, uniquingKeysWith: { first, _ in first })
        var sets: [PolicySet] = []
        var indices: [UInt32: Int] = [:]
        var ofClass: [Int: Int?] = [:]
        var ofWorkload = [Int?](repeating: nil, count: mesh.workloads.count)
        for (workload, found) in plan.classes.classOfPod.enumerated()
        where mesh.workloads[workload].node == node {
            if let known = ofClass[found] {
                ofWorkload[workload] = known
                continue
            }
            let policies = plan.policiesOfClass[found]
            guard !policies.isEmpty else {
                ofClass[found] = .some(nil)
                continue
            }
            let named = plan.namedPorts(ofClass: found, policies)
            let number = numbers.number(
                for: SetKey(policies: policies.map { plan.policies[$0].title }, ports: named))
            let index: Int
            if let known = indices[number] {
                index = known
            } else {
                index = sets.count
                indices[number] = index
                sets.append(plan.set(policies, named, number: number, kept: kept[number]))
            }
            ofClass[found] = index
            ofWorkload[workload] = index
        }
        self.sets = sets
        setOfWorkload = ofWorkload
        self.numbers = numbers
    }

    /// Who a row's decision comes from; `nil` for a number that no rule of this generation has.
    public func reference(of rule: UInt32) -> RuleReference? {
        PolicyPlan.reference(ofDefault: rule) ?? references[rule]
    }

    /// The rules by number.
    public let references: [UInt32: RuleReference]

    public func identity(of address: IPAddress) -> UInt32 { plan.identities.number(of: address) }

    /// The set of any pod of the mesh, also of one on another node; `nil`: no policy selects it.
    public func set(ofWorkload index: Int) -> PolicySet? {
        if let local = setOfWorkload[index] { return sets[local] }
        let found = plan.classes.classOfPod[index]
        let policies = plan.policiesOfClass[found]
        guard !policies.isEmpty else { return nil }
        return plan.set(
            policies, plan.namedPorts(ofClass: found, policies), number: .max, kept: nil)
    }

    /// Policies that select a pod, in the order of evaluation.
    public func policies(ofWorkload index: Int) -> [NetworkPolicy] {
        plan.policiesOfClass[plan.classes.classOfPod[index]].map { plan.policies[$0] }
    }
}

extension PolicyPlan {
    /// The ports of the class's pods that ingress rules of these policies ask for.
    fileprivate func namedPorts(ofClass index: Int, _ policies: [Int]) -> [NamedPort] {
        let ports = classes.ports.values[classes.classes.values[index].ports]
        guard !ports.isEmpty else { return [] }
        var names: Set<String> = []
        for policy in policies {
            for rule in self.policies[policy].ingress ?? [] {
                for case .named(let name) in (rule.ports ?? []).map(\.number) { names.insert(name) }
            }
        }
        return ports.filter { names.contains($0.name) }
    }

    fileprivate func set(
        _ policies: [Int], _ named: [NamedPort], number: UInt32, kept: PolicySet?
    ) -> PolicySet {
        let inputs = inputs(policies)
        if let kept, kept.matches == inputs,
            kept.everyone.map({ $0 == identities.signature }) ?? true
        {
            // The same rows; only the policies' places may differ.
            return kept.policies == policies
                ? kept
                : PolicySet(
                    number: number, policies: policies, defaults: kept.defaults, rows: kept.rows,
                    matches: inputs, everyone: kept.everyone)
        }
        let made = SetRows(self, policies: policies, named: named, number: number)
        return PolicySet(
            number: number, policies: policies, defaults: made.defaults, rows: made.rows,
            matches: inputs, everyone: made.countsPeers ? identities.signature : nil)
    }

    private func inputs(_ policies: [Int]) -> SetInputs {
        var inputs = SetInputs(
            policies: policies.map { self.policies[$0] }, peers: [], withPorts: [])
        for policy in policies {
            for direction in PolicyDirection.allCases {
                for rule in planned[policy].rules(direction) ?? [] {
                    for peer in rule.peers ?? [] {
                        inputs.peers.append(matches[peer].map { identities.signature[$0] })
                    }
                    if direction == .egress, rule.entry.hasNamedPorts {
                        inputs.withPorts = identities.withPorts.map { identities.signature[$0] }
                    }
                }
            }
        }
        return inputs
    }
}

extension PolicySet {
    /// What the kernel's two look-ups answer.
    ///
    /// - Complexity: linear in the set's rows; for people and tests.
    public func decision(
        identity: UInt32, isIPv4: Bool, direction: PolicyDirection, transport: UInt8, port: UInt16
    ) -> PolicyDecision {
        for wanted in [identity, isIPv4 ? ReservedIdentity.anyIPv4 : ReservedIdentity.anyIPv6] {
            let found = rows.filter { row in
                row.key.identity == wanted && row.key.direction == direction
                    && row.key.holds(transport, port)
            }.max { $0.key.bits < $1.key.bits }
            if let found { return found.decision }
        }
        return defaults[Int(direction.number)]
    }
}

extension PolicyRowKey {
    func holds(_ transport: UInt8, _ port: UInt16) -> Bool {
        if bits == Self.anyProtocolBits { return true }
        guard self.transport == transport else { return false }
        let free = UInt16(Self.exactBits - bits)
        return free >= 16 || port >> free == self.port >> free
    }
}
