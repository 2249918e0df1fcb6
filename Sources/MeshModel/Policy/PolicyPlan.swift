// The configuration's policies, indexed: who is selected, who is a peer, which numbers they have.
// PolicyCompiler makes one for each snapshot; the rows of any pod follow from it.

/// One rule with its peers in indices.
struct PlannedRule: Sendable {
    var entry: PolicyEntry
    /// `nil`: any peer. Else into `PolicyPlan.peers`.
    var peers: [Int]?
}

/// One policy in one direction.
struct PlannedPolicy: Sendable {
    var ingress: [PlannedRule]?
    var egress: [PlannedRule]?

    func rules(_ direction: PolicyDirection) -> [PlannedRule]? {
        direction == .ingress ? ingress : egress
    }
}

/// What a rule's peer comes to.
enum PlannedPeer: Hashable, Sendable {
    /// Into the selections.
    case pods(Int)
    case network(IPPrefix, except: [IPPrefix])
}

struct PolicyPlan: Sendable {
    /// In the order of evaluation.
    let policies: [NetworkPolicy]
    private(set) var planned: [PlannedPolicy] = []
    let classes: PodClasses
    /// The policies that select the pods of each class, in order.
    private(set) var policiesOfClass: [[Int]]
    private(set) var identities: IdentityTable
    private(set) var peers = Interner<PlannedPeer>()
    /// For each peer the identities (by index) that it matches.
    private(set) var matches: [[Int]] = []
    private(set) var rules: PolicyNumbers<RuleReference>
    private let subjects: [PodSelection]

    init(_ mesh: Mesh, node: String, after previous: PolicyPlan?, avoiding: PolicyNumbersInUse) {
        policies = mesh.policies.sorted(by: NetworkPolicy.precedes)
        rules = previous?.rules.successor() ?? PolicyNumbers(from: PolicyPlan.firstRule)
        subjects = policies.map(\.subject)
        let words = PolicyWords(policies, mesh)
        var selections = Interner<PodSelection>()
        for subject in subjects { _ = selections.index(of: subject) }
        for selection in words.peerSelections { _ = selections.index(of: selection) }
        classes = PodClasses(mesh, selections: selections.values, portNames: words.portNames)
        let found = classes.find(selections.values)
        policiesOfClass = Array(repeating: [], count: classes.classes.values.count)
        for (index, subject) in subjects.enumerated() {
            guard let selection = selections.known(subject) else { continue }
            for each in found[selection] { policiesOfClass[each].append(index) }
        }
        identities = IdentityTable(
            mesh, node: node, classes, words, after: previous?.identities, avoiding: avoiding)
        plan(mesh, selections)
        matches = peers.values.map { peer in
            switch peer {
            case .pods(let selection): identities.ofClasses(found[selection])
            case .network(let block, let except): identities.inside(block, except: except)
            }
        }
    }

    /// Numbers below are `PolicyDefaults`'.
    static let firstRule: UInt32 = 16

    static func defaultRule(_ direction: PolicyDirection, isAllowed: Bool) -> UInt32 {
        (isAllowed ? 3 : 1) + UInt32(direction.number)
    }

    static func reference(ofDefault number: UInt32) -> RuleReference? {
        switch number {
        case 1: RuleReference(policy: "", direction: .ingress, part: .defaultDeny)
        case 2: RuleReference(policy: "", direction: .egress, part: .defaultDeny)
        case 3: RuleReference(policy: "", direction: .ingress, part: .defaultAllow)
        case 4: RuleReference(policy: "", direction: .egress, part: .defaultAllow)
        default: nil
        }
    }

    // MARK: Rules

    private mutating func plan(_ mesh: Mesh, _ selections: Interner<PodSelection>) {
        planned = []
        planned.reserveCapacity(policies.count)
        for policy in policies {
            var each = PlannedPolicy()
            each.ingress = policy.ingress.map { plan(policy, .ingress, $0, mesh, selections) }
            each.egress = policy.egress.map { plan(policy, .egress, $0, mesh, selections) }
            planned.append(each)
        }
    }

    private mutating func plan(
        _ policy: NetworkPolicy, _ direction: PolicyDirection, _ written: [PolicyRule],
        _ mesh: Mesh, _ selections: Interner<PodSelection>
    ) -> [PlannedRule] {
        let title = policy.title
        return written.enumerated().map { index, rule in
            let number = rules.number(
                for: RuleReference(
                    policy: title, direction: direction,
                    part: .rule(index: index, name: rule.name)))
            var entry = PolicyEntry(
                tier: policy.tier, action: rule.action, isAudited: policy.isAudited, rule: number,
                ports: rule.ports)
            if rule.action != .accept, rule.peers?.contains(.unsupported) ?? false {
                entry.action = .deny
                entry.ports = nil
                return PlannedRule(entry: entry, peers: nil)
            }
            let found = rule.peers.map { given in
                given.flatMap { planned($0, mesh, selections) }.map { peers.index(of: $0) }
            }
            return PlannedRule(entry: entry, peers: found)
        }
    }

    private func planned(
        _ peer: PolicyPeer, _ mesh: Mesh, _ selections: Interner<PodSelection>
    ) -> [PlannedPeer] {
        switch peer {
        case .pods(let selection): selections.known(selection).map { [.pods($0)] } ?? []
        case .network(let block, let except): [.network(block, except: except)]
        case .nodes(let selector):
            mesh.addresses(ofNodes: selector).map { .network(IPPrefix($0), except: []) }
        case .unsupported: []
        }
    }
}

/// Numbers that an agent before this one has left in the kernel, with meanings no longer known.
public struct PolicyNumbersInUse: Sendable {
    /// Identities by address: one that stands for the same addresses keeps its number.
    public var addresses: [IPPrefix: UInt32]
    public var sets: Set<UInt32>

    public init(addresses: [IPPrefix: UInt32] = [:], sets: Set<UInt32> = []) {
        self.addresses = addresses
        self.sets = sets
    }
}

/// All that rules name: selections of peers, ports by name, blocks of addresses.
struct PolicyWords {
    private(set) var peerSelections: [PodSelection] = []
    private(set) var portNames: Set<String> = []
    /// Names that egress rules ask for: they tell destinations apart.
    private(set) var egressPortNames: Set<String> = []
    private(set) var blocks: Set<IPPrefix> = []

    init(_ policies: [NetworkPolicy], _ mesh: Mesh) {
        var seen: Set<PodSelection> = []
        for policy in policies {
            for direction in PolicyDirection.allCases {
                for rule in policy.rules(direction) ?? [] {
                    for peer in rule.peers ?? [] { add(peer, mesh, &seen) }
                    for case .named(let name) in (rule.ports ?? []).map(\.number) {
                        portNames.insert(name)
                        if direction == .egress { egressPortNames.insert(name) }
                    }
                }
            }
        }
    }

    private mutating func add(_ peer: PolicyPeer, _ mesh: Mesh, _ seen: inout Set<PodSelection>) {
        switch peer {
        case .pods(let selection):
            if seen.insert(selection).inserted { peerSelections.append(selection) }
        case .network(let block, let except):
            blocks.insert(block)
            blocks.formUnion(except)
        case .nodes(let selector):
            blocks.formUnion(mesh.addresses(ofNodes: selector).map { IPPrefix($0) })
        case .unsupported: break
        }
    }
}

extension Mesh {
    fileprivate func addresses(ofNodes selector: LabelSelector) -> [IPAddress] {
        nodes.filter { selector.selects($0.labels) }.flatMap(\.addresses)
    }
}
