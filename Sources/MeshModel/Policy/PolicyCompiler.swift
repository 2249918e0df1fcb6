// Policies -> rows in which the longest match is the answer. Receives a Mesh; hands on a
// CompiledPolicy with identities, the sets of this node's pods and the rules that rows refer to.
// Never fails: MeshConfig refuses what cannot be compiled.
//
// A pod's set is named by the policies that select it (and by its named ports, where their ingress
// rules ask for some). For each direction, peers are told apart by the rules that match them; what
// most peers of a family share is said once, for "any other peer" of that family.

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
    /// All identities, where the rows of any other peer are those of a majority of them.
    let everyone: [UInt64]?

    init(
        number: UInt32, policies: [Int], defaults: [PolicyDecision], rows: [PolicyRow],
        matches: SetInputs, everyone: [UInt64]?
    ) {
        self.number = number
        self.policies = policies
        self.defaults = defaults
        self.rows = rows
        self.matches = matches
        self.everyone = everyone
    }
}

/// What the rows of a set depend on, besides its number: equal inputs make equal rows.
struct SetInputs: Hashable, Sendable {
    var policies: [NetworkPolicy]
    /// The signatures of the identities that each peer of each rule matches, in order.
    var peers: [[UInt64]]
    /// Those of identities with named ports, where an egress rule names one.
    var withPorts: [UInt64]
}
