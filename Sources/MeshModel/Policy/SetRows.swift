/// Rows of one set: for each direction every peer's list of rules, for every list its rows.
struct SetRows {
    private let plan: PolicyPlan
    private let policies: [Int]
    private let named: [NamedPort]
    private let number: UInt32
    private(set) var rows: [PolicyRow] = []
    private(set) var defaults: [PolicyDecision] = []
    /// Whether the rows of any other peer depend on how many peers have the same.
    private(set) var countsPeers = false

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
        let lists = PeerLists(plan, rules, direction)
        var templates = Templates(
            entries: rules.map(\.entry), anyPeer: lists.anyPeer, isolation: isolation,
            subject: direction == .ingress ? named : nil)
        let found = lists.ofIdentity.enumerated().map { index, list in
            templates.index(lists.rules(of: list), list, plan.identities.ports(at: index))
        }
        emit(found, unmatched: templates.index([], 0, []), templates, direction)
    }

    /// What most peers of a family share becomes the rows of any other peer.
    private mutating func emit(
        _ found: [Int], unmatched: Int, _ templates: Templates, _ direction: PolicyDirection
    ) {
        var counts = [[Int]](repeating: [0, 0], count: templates.all.count)
        for (index, template) in found.enumerated() {
            let families = plan.identities.families(at: index)
            if families.hasIPv4 { counts[template][0] += 1 }
            if families.hasIPv6 { counts[template][1] += 1 }
        }
        let shared = [0, 1].map { family in
            let world = found[plan.identities.world(isIPv4: family == 0)]
            let most = templates.all.indices.max { counts[$0][family] < counts[$1][family] }
            return most.map { counts[$0][family] > counts[world][family] ? $0 : world } ?? world
        }
        if shared != [unmatched, unmatched] { countsPeers = true }
        emit(templates.all[shared[0]], ReservedIdentity.anyIPv4, direction)
        emit(templates.all[shared[1]], ReservedIdentity.anyIPv6, direction)
        for (index, template) in found.enumerated() {
            let families = plan.identities.families(at: index)
            if families.hasIPv4 && template != shared[0]
                || families.hasIPv6 && template != shared[1]
            {
                emit(templates.all[template], plan.identities.number(at: index), direction)
            }
        }
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

/// For every identity the list of rules that match it, by number: equal lists have equal numbers.
private struct PeerLists {
    /// Rules for any peer, which no list repeats.
    private(set) var anyPeer: [Int] = []
    /// By identity's index; 0: no rule but those for any peer.
    private(set) var ofIdentity: [Int]
    /// Each list is another one and a rule more.
    private var parents: [(list: Int, rule: Int)] = [(0, -1)]

    init(_ plan: PolicyPlan, _ rules: [PlannedRule], _ direction: PolicyDirection) {
        ofIdentity = [Int](repeating: 0, count: plan.identities.identities.count)
        for (index, rule) in rules.enumerated() {
            var longer: [Int: Int] = [:]
            guard let peers = rule.peers else {
                anyPeer.append(index)
                continue
            }
            for peer in peers {
                for identity in plan.matches[peer] { add(index, to: identity, &longer) }
            }
        }
    }

    /// - Parameter longer: what each list becomes with the rule.
    private mutating func add(_ rule: Int, to identity: Int, _ longer: inout [Int: Int]) {
        let list = ofIdentity[identity]
        // Two peers of one rule may match the same identity.
        if parents[list].rule == rule { return }
        if let known = longer[list] {
            ofIdentity[identity] = known
            return
        }
        longer[list] = parents.count
        ofIdentity[identity] = parents.count
        parents.append((list, rule))
    }

    func rules(of list: Int) -> [Int] {
        var rules: [Int] = []
        var list = list
        while list != 0 {
            rules.append(parents[list].rule)
            list = parents[list].list
        }
        return rules.reversed()
    }
}

/// The rows of every list of rules, made once; lists with the same rows share them.
private struct Templates {
    private struct Key: Hashable {
        var list: Int
        var ports: [NamedPort]
    }

    private(set) var all: [[PortRow]] = []
    private var ofRows: [[PortRow]: Int] = [:]
    private var known: [Key: Int] = [:]
    private let entries: [PolicyEntry]
    private let anyPeer: [Int]
    private let isolation: PolicyDefaults
    /// The subject's ports with names, which ingress rules mean; egress rules mean the peer's.
    private let subject: [NamedPort]?
    private let asksNames: Bool

    init(
        entries: [PolicyEntry], anyPeer: [Int], isolation: PolicyDefaults, subject: [NamedPort]?
    ) {
        self.entries = entries
        self.anyPeer = anyPeer
        self.isolation = isolation
        self.subject = subject
        asksNames = entries.contains(where: \.hasNamedPorts)
    }

    mutating func index(
        _ rules: @autoclosure () -> [Int], _ list: Int, _ peer: [NamedPort]
    ) -> Int {
        let key = Key(list: list, ports: asksNames && subject == nil ? peer : [])
        if let found = known[key] { return found }
        let own = rules()
        let merged = anyPeer.isEmpty ? own : (anyPeer + own).sorted()
        let rows = PortRules(merged.map { entries[$0] }, named: subject ?? peer, isolation).rows()
        let index = ofRows[rows] ?? all.count
        if index == all.count { all.append(rows) }
        ofRows[rows] = index
        known[key] = index
        return index
    }
}
