// One event of the kernel's ring, in numbers: who it was and what policies mean by the rule is the
// agent's to say.

internal import CMallaABI
public import MeshModel

/// A flow was refused, or one that was admitted is part of the sample.
public struct FlowEvent: Sendable, Equatable {
    public enum Outcome: String, Sendable, Equatable {
        case allowed, denied
        /// Denied by policies that are only being tried.
        case audited
    }

    /// Unix time.
    public var nanoseconds: Int64
    /// IANA's number.
    public var protocolNumber: UInt8
    /// Of the end that opened the flow, as far as that is known.
    public var source: SocketAddress
    public var target: SocketAddress
    public var sourceIdentity: UInt32
    public var targetIdentity: UInt32
    public var direction: PolicyDirection
    public var outcome: Outcome
    /// The hook's name and the verdict's, as the docs name them.
    public var hook: String
    public var verdict: String
    /// Policies decided, by a rule or by default.
    public var isPolicys: Bool
    /// That decided; 0: none.
    public var rule: UInt32
    /// Packets that were refused since the event before of the same tuple, this one included.
    public var packets: UInt32
    /// The index of the interface of the pod whose socket was refused before it had a source; 0:
    /// none, or nobody knows whose socket.
    public var interface: UInt32

    /// - Parameter monotonicOffset: from CLOCK_MONOTONIC to Unix time.
    init(_ event: malla_event, monotonicOffset: Int64) {
        nanoseconds = Int64(bitPattern: event.time_ns) &+ monotonicOffset
        let tuple = event.tuple
        protocolNumber = tuple.protocol
        source = SocketAddress(IPAddress(tuple.source), UInt16(bigEndian: tuple.source_port_be))
        target = SocketAddress(IPAddress(tuple.target), UInt16(bigEndian: tuple.target_port_be))
        sourceIdentity = event.source_identity
        targetIdentity = event.target_identity
        direction = event.direction == UInt8(MALLA_INGRESS.rawValue) ? .ingress : .egress
        let verdict = malla_verdict(rawValue: UInt32(event.verdict))
        outcome =
            switch verdict {
            case MALLA_VERDICT_AUDITED: .audited
            case MALLA_VERDICT_PASS, MALLA_VERDICT_CAPTURED: .allowed
            default: .denied
            }
        isPolicys =
            [
                MALLA_VERDICT_AUDITED, MALLA_VERDICT_DENIED_EGRESS, MALLA_VERDICT_DENIED_INGRESS,
                MALLA_VERDICT_CUT, MALLA_VERDICT_PASS,
            ].contains(verdict)
        hook = hookName(UInt32(event.hook)) ?? "\(event.hook)"
        self.verdict = verdictName(verdict.rawValue) ?? "\(event.verdict)"
        rule = event.rule
        packets = event.packets
        interface = event.interface
    }

    public init(
        nanoseconds: Int64, protocolNumber: UInt8, source: SocketAddress, target: SocketAddress,
        sourceIdentity: UInt32 = 0, targetIdentity: UInt32 = 0, direction: PolicyDirection,
        outcome: Outcome, hook: String, verdict: String, isPolicys: Bool = true, rule: UInt32 = 0,
        packets: UInt32 = 1, interface: UInt32 = 0
    ) {
        self.nanoseconds = nanoseconds
        self.protocolNumber = protocolNumber
        self.source = source
        self.target = target
        self.sourceIdentity = sourceIdentity
        self.targetIdentity = targetIdentity
        self.direction = direction
        self.outcome = outcome
        self.hook = hook
        self.verdict = verdict
        self.isPolicys = isPolicys
        self.rule = rule
        self.packets = packets
        self.interface = interface
    }
}

/// What became of events, since the maps were made.
public struct FlowEventCounts: Sendable, Equatable {
    public var written: UInt64 = 0
    /// Lost, because the ring was full: nobody read, or too slowly.
    public var ringFull: UInt64 = 0
    /// Lost, because one processor had too many in one second.
    public var rate: UInt64 = 0
    /// Packets of a tuple of which an event had told within ten seconds.
    public var repeated: UInt64 = 0

    public init() {}

    public var lost: UInt64 { ringFull &+ rate }
}
