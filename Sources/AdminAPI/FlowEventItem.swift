// What `malla observe` shows: what became of flows, as it happened.

/// A flow that was refused or would have been, or one of the sample of those that were admitted.
/// Source: `GET /v1/flows`, kind `FlowEventList`; with `follow=1` one of these a line.
public struct FlowEventItem: Codable, Sendable, Equatable {
    /// RFC 3339, UTC, microseconds.
    public var time: String
    /// Where it happened.
    public var node: String
    /// `denied`, `audited` (policies on trial would deny it), `allowed`; `lost`: `packets` events
    /// are missing here, `reason` says where.
    public var verdict: String
    /// The datapath's verdict, as docs/verdicts.md lists them; where events were lost: `ring_full`,
    /// `rate`, `follower`.
    public var reason: String
    /// Where in the kernel.
    public var hook: String
    /// `egress` or `ingress`, seen from the pod whose policies decided.
    public var direction: String
    /// `TCP`, `UDP`, `ICMP`, `ICMPv6`, or IANA's number.
    public var `protocol`: String
    /// Who opened the flow. An echo has its identifier as port.
    public var source: String
    public var sourcePort: Int
    /// `namespace/name`; empty: no pod that is known.
    public var sourcePod: String
    public var sourceIdentity: Int
    /// What the identity stands for.
    public var sourceLabels: [String]
    public var target: String
    public var targetPort: Int
    public var targetPod: String
    /// `namespace/name` of the Service whose address was dialled; empty: none.
    public var targetService: String
    public var targetIdentity: Int
    public var targetLabels: [String]
    /// `NetworkPolicy shop/web ingress[0]`, `default deny (ingress)`, `no policy (egress)`; empty:
    /// policies had no say.
    public var rule: String
    /// `NetworkPolicy shop/web`; empty where no policy decided by a rule.
    public var policy: String
    /// The number of that rule in the rows of `malla bpf policy`; 0: none.
    public var ruleNumber: Int
    /// Policies that select the pod in this direction, in the order of evaluation.
    public var policies: [String]
    /// Denied by default: the rule that came nearest to allowing it, and what it lacked.
    public var nearest: String
    public var why: String
    /// Packets of this flow that were refused since the event before of it, this one included.
    public var packets: Int

    public init(
        time: String, node: String, verdict: String, reason: String, hook: String = "",
        direction: String = "", protocol: String = "", source: String = "", sourcePort: Int = 0,
        sourcePod: String = "", sourceIdentity: Int = 0, sourceLabels: [String] = [],
        target: String = "", targetPort: Int = 0, targetPod: String = "",
        targetService: String = "", targetIdentity: Int = 0, targetLabels: [String] = [],
        rule: String = "", policy: String = "", ruleNumber: Int = 0, policies: [String] = [],
        nearest: String = "", why: String = "", packets: Int = 1
    ) {
        self.time = time
        self.node = node
        self.verdict = verdict
        self.reason = reason
        self.hook = hook
        self.direction = direction
        self.protocol = `protocol`
        self.source = source
        self.sourcePort = sourcePort
        self.sourcePod = sourcePod
        self.sourceIdentity = sourceIdentity
        self.sourceLabels = sourceLabels
        self.target = target
        self.targetPort = targetPort
        self.targetPod = targetPod
        self.targetService = targetService
        self.targetIdentity = targetIdentity
        self.targetLabels = targetLabels
        self.rule = rule
        self.policy = policy
        self.ruleNumber = ruleNumber
        self.policies = policies
        self.nearest = nearest
        self.why = why
        self.packets = packets
    }
}
