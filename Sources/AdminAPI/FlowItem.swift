// What `malla bpf ct`, `ipcache`, `policy` and `identities` show: rows of the kernel's maps.

/// One flow, seen from the end that opened it. Source: `GET /v1/bpf/ct`, kind `FlowList`.
public struct FlowItem: Codable, Sendable, Equatable {
    /// `TCP`, `UDP`, `ICMP`, `ICMPv6`, or IANA's number.
    public var `protocol`: String
    /// `10.1.0.2:40000`; an echo has its identifier in place of a port.
    public var source: String
    public var target: String
    /// The pods at its ends, `namespace/name`; `reserved:unmanaged`: an address of the Nodes'
    /// podCIDRs that no Pod is known to have; empty: no pod. Of a flow from outside to a service
    /// whose endpoint is elsewhere, and of a pod to itself by a service: the endpoint's pod.
    public var sourcePod: String
    public var targetPod: String
    /// `captured`, `dialled`, `own`, `translated`, `translated back`.
    public var kind: String
    /// `opening`, `open`, `closing`, `closed`.
    public var state: String
    public var packetsSent: UInt64
    public var packetsReceived: UInt64
    public var bytesSent: UInt64
    public var bytesReceived: UInt64
    public var idleSeconds: Int
    /// Until it is over if nothing more comes.
    public var remainingSeconds: Int
    /// Of a translated flow: the endpoint, or the service; else empty.
    public var other: String
    /// The policy rule that admitted it; 0: none.
    public var rule: UInt32
    /// A change of policies has cut it.
    public var cut: Bool
    /// Policy denies it, and is only being tried.
    public var audited: Bool

    public init(
        protocol: String, source: String, target: String, sourcePod: String = "",
        targetPod: String = "", kind: String, state: String, packetsSent: UInt64 = 0,
        packetsReceived: UInt64 = 0, bytesSent: UInt64 = 0, bytesReceived: UInt64 = 0,
        idleSeconds: Int = 0, remainingSeconds: Int = 0, other: String = "", rule: UInt32 = 0,
        cut: Bool = false, audited: Bool = false
    ) {
        self.protocol = `protocol`
        self.source = source
        self.target = target
        self.sourcePod = sourcePod
        self.targetPod = targetPod
        self.kind = kind
        self.state = state
        self.packetsSent = packetsSent
        self.packetsReceived = packetsReceived
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.idleSeconds = idleSeconds
        self.remainingSeconds = remainingSeconds
        self.other = other
        self.rule = rule
        self.cut = cut
        self.audited = audited
    }
}

/// What a flush did. Source: `POST /v1/bpf/ct/flush/…`, kind `FlowFlushList`, one item.
public struct FlowFlushItem: Codable, Sendable, Equatable {
    /// Flows that were forgotten.
    public var flows: Int

    public init(flows: Int) { self.flows = flows }
}

/// Who is at an address. Source: `GET /v1/bpf/ipcache`, kind `IPCacheList`.
public struct IPCacheItem: Codable, Sendable, Equatable {
    /// `10.1.0.0/16`.
    public var prefix: String
    public var identity: UInt32
    /// `reserved:host` and the like, a pod's name, or empty.
    public var name: String
    /// What the identity stands for: `pod`, `host`, `world` or `unmanaged`, then the labels and
    /// the block by which policies tell it from the others.
    public var labels: [String]

    public init(prefix: String, identity: UInt32, name: String = "", labels: [String] = []) {
        self.prefix = prefix
        self.identity = identity
        self.name = name
        self.labels = labels
    }
}

/// A row of policy. Source: `GET /v1/bpf/policy`, kind `PolicyRowList`.
public struct PolicyRowItem: Codable, Sendable, Equatable {
    public var set: UInt32
    /// The local pods that the set selects, `namespace/name`.
    public var pods: [String]
    /// `ingress` or `egress`.
    public var direction: String
    /// Of the peer; 0: any that has no rows of its own.
    public var identity: UInt32
    /// `TCP` and the like; `any`.
    public var `protocol`: String
    /// `80`, `8080-8095`, `any`.
    public var ports: String
    /// `allow` or `deny`.
    public var verdict: String
    public var audited: Bool
    public var rule: UInt32
    /// What the set says where no row matches.
    public var byDefault: Bool

    public init(
        set: UInt32, pods: [String] = [], direction: String, identity: UInt32, protocol: String,
        ports: String, verdict: String, audited: Bool = false, rule: UInt32 = 0,
        byDefault: Bool = false
    ) {
        self.set = set
        self.pods = pods
        self.direction = direction
        self.identity = identity
        self.protocol = `protocol`
        self.ports = ports
        self.verdict = verdict
        self.audited = audited
        self.rule = rule
        self.byDefault = byDefault
    }
}
