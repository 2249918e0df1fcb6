// The flow table for people: addresses, names and times instead of the kernel's records.

internal import CMallaABI
public import MeshModel

/// One flow, seen from the end that opened it.
public struct FlowEntry: Sendable, Equatable {
    /// IANA's number.
    public var protocolNumber: UInt8
    public var source: SocketAddress
    public var target: SocketAddress
    /// `captured`, `dialled`, `own`, `translated`, `translated back`.
    public var kind: String
    /// `opening`, `open`, `closing`, `closed`.
    public var state: String
    /// From the end that opened it, and back.
    public var packets: (UInt64, UInt64)
    public var bytes: (UInt64, UInt64)
    public var idle: Duration
    /// Until it is over, if nothing more comes; zero: it waits to be collected.
    public var remaining: Duration
    /// Of a translated flow: the endpoint, or the service.
    public var other: SocketAddress?
    /// The policy rule that admitted it; 0: none.
    public var rule: UInt32
    /// A change of policies has cut it; of a translated flow: its endpoint is gone.
    public var isCut: Bool
    /// Policy denies it, and is only being tried.
    public var isAudited: Bool
    /// It is a tunnel between nodes.
    public var isTunnel = false
    /// A tunnel carries it.
    public var isCarried = false

    public init(
        protocolNumber: UInt8 = 6, source: SocketAddress, target: SocketAddress, kind: String,
        state: String = "open", bytes: (UInt64, UInt64) = (0, 0), isTunnel: Bool = false,
        isCarried: Bool = false
    ) {
        self.protocolNumber = protocolNumber
        self.source = source
        self.target = target
        self.kind = kind
        self.state = state
        self.bytes = bytes
        self.isTunnel = isTunnel
        self.isCarried = isCarried
        packets = (0, 0)
        idle = .zero
        remaining = .zero
        rule = 0
        isCut = false
        isAudited = false
    }

    public static func == (left: Self, right: Self) -> Bool {
        left.protocolNumber == right.protocolNumber && left.source == right.source
            && left.target == right.target && left.kind == right.kind && left.state == right.state
            && left.packets == right.packets && left.bytes == right.bytes
            && left.idle == right.idle && left.remaining == right.remaining
            && left.other == right.other && left.rule == right.rule && left.isCut == right.isCut
            && left.isAudited == right.isAudited && left.isTunnel == right.isTunnel
            && left.isCarried == right.isCarried
    }

    init(_ key: malla_flow_key, _ flow: malla_flow, now: UInt32) {
        let greater = SocketAddress(IPAddress(key.source), UInt16(bigEndian: key.source_port_be))
        let lesser = SocketAddress(IPAddress(key.target), UInt16(bigEndian: key.target_port_be))
        let isSwapped = flow.flags & UInt16(MALLA_FLOW_SWAPPED) != 0
        protocolNumber = key.protocol
        source = isSwapped ? lesser : greater
        target = isSwapped ? greater : lesser
        kind = Self.kindName(malla_flow_kind(flow.kind))
        state = Self.stateName(malla_flow_state(UInt32(flow.state)))
        packets = (flow.packets.0, flow.packets.1)
        bytes = (flow.bytes.0, flow.bytes.1)
        let age = Int64(Int32(bitPattern: now &- flow.seen_ticks))
        let tick = Duration.nanoseconds(Int64(1) << Int64(MALLA_TICK_SHIFT))
        idle = tick * Double(max(0, age))
        remaining = tick * Double(max(0, Int64(flow.timeout_ticks) - age))
        other =
            flow.other.protocol == 0
            ? nil
            : SocketAddress(
                IPAddress(flow.other.address), UInt16(bigEndian: flow.other.port_be))
        rule = flow.rule
        isCut = flow.flags & UInt16(MALLA_FLOW_CUT) != 0
        isAudited = flow.flags & UInt16(MALLA_FLOW_AUDITED) != 0
        isTunnel = flow.flags & UInt16(MALLA_FLOW_TUNNEL) != 0
        isCarried = flow.flags & UInt16(MALLA_FLOW_CARRIED) != 0
    }

    static func kindName(_ kind: malla_flow_kind) -> String {
        kinds[Int(kind.rawValue)] ?? "\(kind.rawValue)"
    }

    static func stateName(_ state: malla_flow_state) -> String {
        states[Int(state.rawValue)] ?? "\(state.rawValue)"
    }

    private static let kinds: [Int: String] = [
        Int(MALLA_FLOW_CAPTURED.rawValue): "captured", Int(MALLA_FLOW_DIALLED.rawValue): "dialled",
        Int(MALLA_FLOW_OWN.rawValue): "own", Int(MALLA_FLOW_TRANSLATED.rawValue): "translated",
        Int(MALLA_FLOW_TRANSLATED_BACK.rawValue): "translated back",
    ]

    private static let states: [Int: String] = [
        Int(MALLA_FLOW_OPENING.rawValue): "opening", Int(MALLA_FLOW_OPEN.rawValue): "open",
        Int(MALLA_FLOW_CLOSING.rawValue): "closing", Int(MALLA_FLOW_CLOSED.rawValue): "closed",
    ]
}

/// What a pod holds of the flow table.
public struct FlowShare: Sendable, Equatable {
    /// Of the pod's addresses.
    public var address: IPAddress
    public var held: UInt64
    public var max: UInt64
    /// Flows of its own that had to make room, since the maps were made.
    public var evicted: UInt64
}

extension IPAddress {
    init(_ address: malla_address) {
        let words = address.words_be
        self.init(
            high: UInt64(UInt32(bigEndian: words.0)) << 32 | UInt64(UInt32(bigEndian: words.1)),
            low: UInt64(UInt32(bigEndian: words.2)) << 32 | UInt64(UInt32(bigEndian: words.3)))
    }
}

extension Datapath {
    /// The flows of which `address` is an end; all of them without one. Unordered.
    ///
    /// - Parameter countMax: no more than these.
    public func flowEntries(of address: IPAddress? = nil, countMax: Int) -> [FlowEntry] {
        let now = FlowClock.now()
        let wanted = address.map { malla_address($0) }
        var entries: [FlowEntry] = []
        flows.forEach { key, flow in
            guard entries.count < countMax,
                wanted.map({ $0 == key.source || $0 == key.target }) ?? true
            else { return }
            entries.append(FlowEntry(key, flow, now: now))
        }
        return entries
    }

    /// Flows to services' addresses that `flowEntries` does not know: from outside to an endpoint
    /// elsewhere, or to a server of the node's own, and of pods that reach themselves. `other` is
    /// the endpoint.
    ///
    /// - Parameter countMax: no more than these.
    public func translatedEntries(countMax: Int) -> [FlowEntry] {
        let now = FlowClock.nanoseconds()
        let isPressed = translations.isPressed
        var entries: [FlowEntry] = []
        translations.forEachFlow { flow in
            guard entries.count < countMax, flow.isAlone else { return }
            entries.append(FlowEntry(flow, isPressed: isPressed, now: now))
        }
        return entries
    }

    /// Has the flows of which `address` is an end, or all, judged anew at their next packet, each
    /// in the direction in which it was opened: that is known from its entry only, which stays.
    /// Flows of UDP to a service's address choose an endpoint anew.
    ///
    /// - Returns: how many those are. Connections that the engine holds are not among them.
    public func flushFlows(of address: IPAddress? = nil) -> Int {
        let wanted = address.map { malla_address($0) }
        func isMeant(_ key: malla_flow_key) -> Bool {
            wanted.map { $0 == key.source || $0 == key.target } ?? true
        }
        var count = 0
        flows.forEach { key, flow in
            let isEngines =
                flow.kind == MALLA_FLOW_CAPTURED.rawValue
                || flow.kind == MALLA_FLOW_DIALLED.rawValue
            if !isEngines, isMeant(key) { count += 1 }
        }
        _ = flows.flush { key, flow in flow.isTranslatedDatagrams(key) && isMeant(key) }
        count += translations.flush(of: wanted)
        judgeAgain()
        return count
    }
}

extension malla_flow {
    /// Datagrams to a service's address, whose next one may go to another endpoint.
    func isTranslatedDatagrams(_ key: malla_flow_key) -> Bool {
        kind == MALLA_FLOW_TRANSLATED.rawValue && key.protocol == TransportProtocol.udp.number
    }

    /// What the opener of such a flow dialled.
    func dialled(_ key: malla_flow_key) -> malla_end {
        let isSwapped = flags & UInt16(MALLA_FLOW_SWAPPED) != 0
        return malla_end(
            address: isSwapped ? key.source : key.target,
            port_be: isSwapped ? key.source_port_be : key.target_port_be, protocol: key.protocol,
            pad: 0)
    }
}
