// Connections that were open when modes or policies changed, and on which nobody sends. The
// programs judge a connection at its next packet; here each is judged once though there is none,
// and those that may not go on are ended by a packet that the kernel makes (bpf/hooks/nudge.h).

internal import CMallaABI

/// How far the walk through the table has come, and what it is still owed.
///
/// - Limits: `rowsPerTurnMax` rows are looked at in a turn, `judgedPerTurnMax` connections judged,
///   some ten milliseconds each. A table of 262 144 rows takes four turns, or more where most of
///   them are open connections.
struct DeniedFlows {
    /// As `FlowTable.rowsPerTurnMax`.
    static let rowsPerTurnMax = 65536
    static let judgedPerTurnMax = 8192
    private static let rowsPerBatch = 4096
    /// Passes through the table for one change. The first finds what is to end, and most of it
    /// ends at once; the others meet ends that were busy, or to which the numbers meant something.
    static let passesMax = 8

    private var position = BatchPosition()
    private var passesLeft = 0
    /// Something has changed behind the walk.
    private var isBehind = false
    /// Ends that were asked in this pass.
    private var asked = 0
    private var sequence: UInt32 = 0
    private(set) var isIdle = true

    /// Modes, policies or pods have changed: one whole pass is owed, at least.
    mutating func begin() {
        isBehind = true
        isIdle = false
        passesLeft = Self.passesMax
    }

    /// One turn; does nothing when all is done.
    ///
    /// - Parameter nudge: judges a connection, and answers how many of its ends were asked.
    mutating func turn(
        _ flows: borrowing BPFMap<malla_flow_key, malla_flow>, generation: UInt32,
        _ nudge: (malla_flow_key, UInt32) -> Int
    ) {
        guard !isIdle else { return }
        if position.isAtStart { beginPass() }
        let now = FlowClock.now()
        var (rows, judged) = (0, 0)
        while rows < Self.rowsPerTurnMax, judged < Self.judgedPerTurnMax, !position.isAtEnd {
            var found: [malla_flow_key] = []
            rows += flows.forEachInBatch(Self.rowsPerBatch, at: &position) { key, flow in
                if Self.mayHaveToEnd(key, flow, generation: generation, at: now) {
                    found.append(key)
                }
            }
            for key in found { asked += nudge(key, sequence) }
            judged += found.count
        }
        if position.isAtEnd { endPass() }
    }

    /// Whether an open connection has not been judged since, or is cut and not closed yet.
    static func mayHaveToEnd(
        _ key: malla_flow_key, _ flow: malla_flow, generation: UInt32, at now: UInt32
    ) -> Bool {
        let isOpen =
            flow.state == UInt8(MALLA_FLOW_OPEN.rawValue)
            || flow.state == UInt8(MALLA_FLOW_CLOSING.rawValue)
        guard key.protocol == 6, isOpen, !FlowTable.isOver(flow, at: now) else { return false }
        if flow.flags & UInt16(MALLA_FLOW_CUT) != 0 { return true }
        // A tunnel is never judged, nor what goes to a service: its endpoint's flow is.
        return flow.generation != generation && flow.kind != MALLA_FLOW_TRANSLATED.rawValue
            && flow.flags & UInt16(MALLA_FLOW_TUNNEL) == 0
    }

    private mutating func beginPass() {
        isBehind = false
        asked = 0
        // If one number means something to an end, that beyond half of all does not: no window is
        // as wide.
        sequence =
            passesLeft % 2 == 0
            ? UInt32.random(in: 0...UInt32.max) : sequence &+ 0x8000_0000
    }

    private mutating func endPass() {
        position = BatchPosition()
        passesLeft -= 1
        isIdle = !isBehind && (asked == 0 || passesLeft == 0)
    }
}

extension Datapath {
    /// Ends what may not go on of connections on which nobody sends, as far as one turn goes.
    func endDenied() {
        denied.turn(flows.flows, generation: setting.generation) { key, sequence in
            object.nudge(key, sequence: sequence)
        }
    }
}
