// A flow of malla_snat as people read it: two rows, each of which counts its own direction.

internal import CMallaABI
internal import MeshModel

/// What was dialled at a service's address, and the row that its answers meet.
struct TranslatedFlow {
    /// As the one that opened it sends.
    var key: malla_flow_key
    var forth: malla_snat
    /// `nil`: it is gone, and what is left waits to be collected.
    var back: malla_snat?

    /// Whether the row is the first of a flow's two.
    static func isForth(_ row: malla_snat) -> Bool {
        switch row.kind {
        case MALLA_NAT_FROM_FABRIC.rawValue: true
        case MALLA_NAT_HOME.rawValue: row.state & TranslationTable.ofAnswers == 0
        default: false
        }
    }

    /// Whether malla_flow has no entry of it. Of what goes to a pod of this node it has one, which
    /// is as the pod sees it.
    var isAlone: Bool {
        if forth.kind == MALLA_NAT_HOME.rawValue { return true }
        guard let back else { return key.source != forth.becomes.source }
        return back.kind != MALLA_NAT_OUT_OF_POD.rawValue
    }

    /// Whether the address is an end of it: the service's, or the endpoint's.
    func concerns(_ address: malla_address) -> Bool {
        address == key.source || address == key.target || address == forth.becomes.source
            || address == forth.becomes.target
    }

    /// A packet came back.
    private var isAnswered: Bool { (back?.packets ?? 0) > 0 }

    var state: malla_flow_state {
        let (one, other) = (forth.state, back?.state ?? 0)
        guard key.protocol == TranslationTable.tcp else {
            return isAnswered ? MALLA_FLOW_OPEN : MALLA_FLOW_OPENING
        }
        if (one | other) & TranslationTable.reset != 0 { return MALLA_FLOW_CLOSED }
        if one & other & TranslationTable.finished != 0 { return MALLA_FLOW_CLOSED }
        if (one | other) & TranslationTable.finished != 0 { return MALLA_FLOW_CLOSING }
        return one & other & TranslationTable.answered != 0 ? MALLA_FLOW_OPEN : MALLA_FLOW_OPENING
    }

    /// Whether a flush forgets it, so that the next packet chooses an endpoint anew. An open
    /// connection keeps its own: nobody else knows of it.
    var isForgettable: Bool {
        guard key.protocol == TranslationTable.tcp else { return true }
        return state == MALLA_FLOW_CLOSED || (state == MALLA_FLOW_OPENING && !isAnswered)
    }
}

extension FlowEntry {
    /// - Parameter now: CLOCK_MONOTONIC, nanoseconds.
    init(_ flow: TranslatedFlow, isPressed: Bool, now: UInt64) {
        let (key, becomes) = (flow.key, flow.forth.becomes)
        self.init(
            protocolNumber: key.protocol,
            source: SocketAddress(
                IPAddress(key.source), UInt16(bigEndian: key.source_port_be)),
            target: SocketAddress(
                IPAddress(key.target), UInt16(bigEndian: key.target_port_be)),
            kind: Self.kindName(MALLA_FLOW_TRANSLATED), state: Self.stateName(flow.state),
            bytes: (flow.forth.bytes, flow.back?.bytes ?? 0))
        packets = (flow.forth.packets, flow.back?.packets ?? 0)
        let silence = TranslationTable.silence(flow.forth, flow.back, at: now)
        let lifetime = TranslationTable.lifetime(
            key.protocol, flow.forth, flow.back, isPressed: isPressed)
        idle = .nanoseconds(Int64(silence))
        remaining = .nanoseconds(Int64(lifetime - min(lifetime, silence)))
        other = SocketAddress(
            IPAddress(becomes.target), UInt16(bigEndian: becomes.target_port_be))
        isCut = flow.forth.state & TranslationTable.cut != 0
    }
}
