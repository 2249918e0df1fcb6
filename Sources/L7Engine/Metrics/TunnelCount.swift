// What is counted of tunnels (HBONE), and how a scrape shows it.

/// Why a worker has reset a stream of a tunnel: the label of a metric.
enum StreamReset: Int, CaseIterable {
    /// Its peer does not keep to RFC 9113.
    case protocolError
    /// It held most of what nobody has read, and its account has used up its memory.
    case overload

    var label: StaticString {
        switch self {
        case .protocolError: "protocol"
        case .overload: "overload"
        }
    }
}

/// - Units: tunnels, except `refused`, `streams` and `reset`, which are CONNECTs, and bytes.
enum TunnelCount {
    /// A gauge.
    case open(HandshakeSide)
    case opened(HandshakeSide)
    case ended(HandshakeSide, TunnelEnd)
    case refused(TunnelRefusal)
    /// CONNECTs that were asked for, or that came.
    case streams(HandshakeSide)
    case reset(HandshakeSide, StreamReset)
    /// Times that one was not read for what its streams held.
    case paused(HandshakeSide)
    /// Bytes within TLS, frames and all.
    case received(HandshakeSide)
    case sent(HandshakeSide)

    private static let ends = TunnelEnd.allCases.count

    /// How many different ones there are.
    static let places = firstOfBytes + 4
    private static let firstOfBytes =
        2 * (4 + ends + StreamReset.allCases.count) + TunnelRefusal.allCases.count

    var place: Int {
        switch self {
        case .open(let side): side.rawValue
        case .opened(let side): 2 + side.rawValue
        case .streams(let side): 4 + side.rawValue
        case .paused(let side): 6 + side.rawValue
        case .received(let side): Self.firstOfBytes + side.rawValue
        case .sent(let side): Self.firstOfBytes + 2 + side.rawValue
        case .ended(let side, let end): 8 + side.rawValue * Self.ends + Int(end.rawValue)
        case .refused(let refusal):
            8 + 2 * Self.ends + (TunnelRefusal.allCases.firstIndex(of: refusal) ?? 0)
        case .reset(let side, let why):
            8 + 2 * Self.ends + TunnelRefusal.allCases.count + 2 * why.rawValue + side.rawValue
        }
    }
}

extension Exposition {
    /// `upstream`: dialled by this node; `downstream`: accepted.
    static func tunnels(_ tallies: [Tally], _ out: inout String) {
        func sum(_ count: TunnelCount) -> UInt64 { tallies.reduce(0) { $0 &+ $1.value(count) } }
        func head(_ name: String, _ type: String, _ help: String) {
            out += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
        }
        func bySide(_ name: String, _ count: (HandshakeSide) -> TunnelCount) {
            for side in HandshakeSide.allCases {
                out += "\(name){side=\"\(side.label)\"} \(sum(count(side)))\n"
            }
        }
        head("malla_tunnels", "gauge", "HBONE connections that are open, by who dialled.")
        bySide("malla_tunnels") { .open($0) }
        head("malla_tunnels_opened_total", "counter", "HBONE connections whose handshake was good.")
        bySide("malla_tunnels_opened_total") { .opened($0) }
        head("malla_tunnels_ended_total", "counter", "HBONE connections that ended, by reason.")
        for side in HandshakeSide.allCases {
            for end in TunnelEnd.allCases where end != .none {
                out += "malla_tunnels_ended_total{side=\"\(side.label)\",reason=\"\(end.label)\"}"
                out += " \(sum(.ended(side, end)))\n"
            }
        }
        head("malla_tunnel_streams_total", "counter", "Connections carried, or asked to be.")
        bySide("malla_tunnel_streams_total") { .streams($0) }
        head("malla_tunnel_received_bytes_total", "counter", "Bytes that came by HBONE.")
        bySide("malla_tunnel_received_bytes_total") { .received($0) }
        head("malla_tunnel_sent_bytes_total", "counter", "Bytes that left by HBONE.")
        bySide("malla_tunnel_sent_bytes_total") { .sent($0) }
        head(
            "malla_tunnels_paused_total", "counter", "Times that a tunnel was not read for a while."
        )
        bySide("malla_tunnels_paused_total") { .paused($0) }
        head("malla_tunnel_streams_reset_total", "counter", "Connections cut off, by reason.")
        for why in StreamReset.allCases {
            for side in HandshakeSide.allCases {
                out += "malla_tunnel_streams_reset_total{side=\"\(side.label)\","
                out += "reason=\"\(why.label)\"} \(sum(.reset(side, why)))\n"
            }
        }
        head("malla_tunnel_refused_total", "counter", "CONNECTs refused, by status.")
        for refusal in TunnelRefusal.allCases {
            out += "malla_tunnel_refused_total{status=\"\(refusal.rawValue)\"}"
            out += " \(sum(.refused(refusal)))\n"
        }
    }
}
