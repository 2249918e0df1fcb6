// What `malla policy list` and `malla policy trace` show.

/// A network policy. Source: `GET /v1/policies`, kind `PolicyList`.
public struct PolicyItem: Codable, Sendable, Equatable {
    /// `NetworkPolicy` or `ClusterNetworkPolicy`.
    public var kind: String
    /// Empty for a ClusterNetworkPolicy.
    public var namespace: String
    public var name: String
    /// `Admin`, `NetworkPolicy` or `Baseline`.
    public var tier: String
    public var priority: Int
    /// `enforce`, or `audit`: counted, not enforced.
    public var mode: String
    /// What it has a word on: `ingress`, `egress`.
    public var directions: [String]
    public var ingressRules: Int
    public var egressRules: Int
    /// Selectors of namespaces and pods, as kubectl writes them.
    public var namespaces: String
    public var podSelector: String
    /// The pods that it selects, `namespace/name`.
    public var pods: [String]

    public init(
        kind: String, namespace: String, name: String, tier: String, priority: Int, mode: String,
        directions: [String], ingressRules: Int, egressRules: Int, namespaces: String,
        podSelector: String, pods: [String]
    ) {
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.tier = tier
        self.priority = priority
        self.mode = mode
        self.directions = directions
        self.ingressRules = ingressRules
        self.egressRules = egressRules
        self.namespaces = namespaces
        self.podSelector = podSelector
        self.pods = pods
    }
}

/// What policies say of a connection, for one family of addresses. Source: `GET /v1/policy/trace`
/// with `from`, `to` (a pod as `namespace/name`, or an address), `port` and `protocol`; kind
/// `PolicyTraceList`.
public struct PolicyTraceItem: Codable, Sendable, Equatable {
    public var from: String
    public var to: String
    public var source: String
    public var target: String
    public var `protocol`: String
    public var port: Int
    /// `allowed`, `denied`, or `audited`: denied by policies on trial, so it passes.
    public var verdict: String
    /// Why a side was not asked, if so.
    public var note: String
    /// First the egress of a pod that sends, then the ingress of a pod that receives.
    public var sides: [Side]

    public init(
        from: String, to: String, source: String, target: String, protocol: String, port: Int,
        verdict: String, note: String = "", sides: [Side]
    ) {
        self.from = from
        self.to = to
        self.source = source
        self.target = target
        self.protocol = `protocol`
        self.port = port
        self.verdict = verdict
        self.note = note
        self.sides = sides
    }

    /// What the policies of one pod say.
    public struct Side: Codable, Sendable, Equatable {
        /// `egress` or `ingress`.
        public var direction: String
        public var pod: String
        public var node: String
        /// `allowed`, `denied` or `audited`.
        public var verdict: String
        /// `NetworkPolicy shop/web ingress[0]`, `default deny (ingress)`, `no policy (egress)`.
        public var rule: String
        /// Policies that select the pod in this direction, in the order of evaluation.
        public var policies: [String]
        /// Denied by default: the rule that came nearest to allowing it, and what it lacked.
        public var nearest: String
        public var why: String
        /// The other end's identity, and what it stands for.
        public var peerIdentity: Int
        public var peerLabels: [String]

        public init(
            direction: String, pod: String, node: String, verdict: String, rule: String,
            policies: [String], peerIdentity: Int, peerLabels: [String], nearest: String = "",
            why: String = ""
        ) {
            self.nearest = nearest
            self.why = why
            self.direction = direction
            self.pod = pod
            self.node = node
            self.verdict = verdict
            self.rule = rule
            self.policies = policies
            self.peerIdentity = peerIdentity
            self.peerLabels = peerLabels
        }
    }
}
