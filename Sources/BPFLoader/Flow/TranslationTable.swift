// The table of flows that are balanced packet by packet from outside, and of pods that reach
// themselves (bpf/lib/nat.h), as the agent sees it: what is over is taken out a part at a time,
// both directions of a flow together, and for people it is listed and flushed.

internal import CMallaABI

/// - Owns: a descriptor of the map.
/// - Threads: one at a time.
struct TranslationTable: ~Copyable {
    private static let rowsPerBatch = 4096

    private let map: BPFMap<malla_flow_key, malla_snat>
    private var position = BatchPosition()
    private var rowsOfPass: UInt64 = 0
    /// More than half of the table was in use when it was last seen whole.
    private(set) var isPressed = false
    /// Flows that were over and are gone since this agent started, but those of which malla_flow
    /// has an entry too.
    private(set) var collected: UInt64 = 0

    init(_ object: borrowing BPFObject) throws(BPFError) {
        map = try BPFMap(adopting: object.map("malla_snat"), name: "malla_snat")
    }

    /// Takes out flows that are over, as far as one turn goes; the next goes on from there.
    mutating func collect() {
        let now = FlowClock.nanoseconds()
        var silent: [malla_flow_key] = []
        var rows = 0
        while rows < FlowTable.rowsPerTurnMax {
            let isPressed = isPressed
            rows += map.forEachInBatch(Self.rowsPerBatch, at: &position) { key, row in
                let least = Self.leastSilence(key.protocol, isPressed: isPressed)
                if now &- row.seen_ns > least { silent.append(key) }
            }
            guard position.isAtEnd else { continue }
            self.isPressed = rowsOfPass + UInt64(rows) > UInt64(map.entriesMax) / 2
            rowsOfPass = 0
            position = BatchPosition()
            return take(silent, at: now)
        }
        rowsOfPass += UInt64(rows)
        take(silent, at: now)
    }

    /// Every flow, those that are over included.
    func forEachFlow(_ body: (TranslatedFlow) -> Void) {
        map.walk { key, row in
            guard TranslatedFlow.isForth(row) else { return }
            let other = map.value(of: row.becomes.reversed, placeholder: malla_snat())
            body(TranslatedFlow(key: key, forth: row, back: other))
        }
    }

    /// Forgets the flows of which `address` is an end, or all, as far as they can be
    /// (`TranslatedFlow.isForgettable`).
    ///
    /// - Returns: how many are meant, but those of which malla_flow has an entry too.
    func flush(of address: malla_address?) -> Int {
        var count = 0
        var forgotten: [TranslatedFlow] = []
        forEachFlow { flow in
            guard address.map(flow.concerns) ?? true else { return }
            if flow.isAlone { count += 1 }
            if flow.isForgettable { forgotten.append(flow) }
        }
        for flow in forgotten {
            _ = map.take(flow.key)
            if flow.back != nil { _ = map.take(flow.forth.becomes.reversed) }
        }
        return count
    }

    private mutating func take(_ silent: [malla_flow_key], at now: UInt64) {
        for key in silent {
            guard let row = map.value(of: key, placeholder: malla_snat()) else { continue }
            let answer = row.becomes.reversed
            let other = map.value(of: answer, placeholder: malla_snat())
            guard Self.isOver(key.protocol, row, other, isPressed: isPressed, at: now) else {
                continue
            }
            _ = map.take(key)
            if other != nil { _ = map.take(answer) }
            let isForth = TranslatedFlow.isForth(row)
            let flow =
                isForth
                ? TranslatedFlow(key: key, forth: row, back: other)
                : other.map { TranslatedFlow(key: answer, forth: $0, back: row) }
            if flow?.isAlone ?? false { collected += 1 }
        }
    }

    /// No flow is over before.
    private static func leastSilence(_ transport: UInt8, isPressed: Bool) -> UInt64 {
        guard transport == tcp else { return seconds(isPressed ? 30 : 180) }
        return seconds(TCP.reset)
    }

    /// Seconds of silence in both directions after which a flow of TCP is over.
    private enum TCP {
        static let reset: UInt64 = 2
        static let closed: UInt64 = 10
        static let halfClosed: UInt64 = 600
        static let open: UInt64 = 8000
        static let opening: UInt64 = 60
        static let openingWhenPressed: UInt64 = 5
    }

    /// IANA's number.
    static let tcp: UInt8 = 6

    // malla_snat.state, as in bpf/lib/nat.h.
    static let answered: UInt32 = 1
    static let finished: UInt32 = 2
    static let reset: UInt32 = 4
    /// The endpoint is gone.
    static let cut: UInt32 = 8
    /// The row of the answers.
    static let ofAnswers: UInt32 = 16

    private static func seconds(_ number: UInt64) -> UInt64 { number * 1_000_000_000 }

    /// Whether the flow of these two directions is over; `nil`: there is no other.
    static func isOver(
        _ transport: UInt8, _ row: malla_snat, _ other: malla_snat?, isPressed: Bool, at now: UInt64
    ) -> Bool {
        silence(row, other, at: now) > lifetime(transport, row, other, isPressed: isPressed)
    }

    /// Nanoseconds since the last packet of either direction.
    static func silence(_ row: malla_snat, _ other: malla_snat?, at now: UInt64) -> UInt64 {
        // Signed: another processor may have seen it just now.
        let last = max(row.seen_ns, other?.seen_ns ?? 0)
        return UInt64(max(0, Int64(bitPattern: now &- last)))
    }

    /// How many nanoseconds of silence the flow outlives.
    static func lifetime(
        _ transport: UInt8, _ row: malla_snat, _ other: malla_snat?, isPressed: Bool
    ) -> UInt64 {
        guard transport == tcp else { return seconds(isPressed ? 30 : 180) }
        let either = row.state | (other?.state ?? 0)
        let both = row.state & (other?.state ?? 0)
        let most =
            if either & reset != 0 {
                TCP.reset
            } else if both & finished != 0 {
                TCP.closed
            } else if either & (finished | cut) != 0 {
                TCP.halfClosed
            } else if both & answered != 0 {
                TCP.open
            } else {
                isPressed ? TCP.openingWhenPressed : TCP.opening
            }
        return seconds(most)
    }
}

extension malla_flow_key {
    /// The tuple of the answers.
    fileprivate var reversed: malla_flow_key {
        malla_flow_key(
            source: target, target: source, source_port_be: target_port_be,
            target_port_be: source_port_be, protocol: self.protocol, pad: (0, 0, 0))
    }
}
