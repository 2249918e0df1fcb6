// Open connections of TCP on which nobody has sent for so long that the table would soon forget
// them: their ends are asked whether they live (bpf/hooks/nudge.h). What answers stays in the
// table, where a change of modes or policies finds it; what does not runs out.

internal import CMallaABI

/// Which rows of a pass through the table are due to be asked about.
///
/// A connection is asked about as its silence passes `leadTicks` before it runs out, and each
/// `intervalTicks` from there on. No row says when that was: it is due in the first pass that
/// begins after such a moment.
///
/// - Limits: `askedPerTurnMax` connections in a turn of the table; the others in the next.
struct SilentFlows {
    /// It leaves the 2 h 4 min that RFC 5382 demands (6927 ticks of 1.07 s) in peace.
    static let leadTicks: UInt32 = 1050
    static let intervalTicks: UInt32 = 300
    static let askedPerTurnMax = DeniedFlows.judgedPerTurnMax

    /// When the pass before this one has begun, and when this one has.
    private var last: UInt32 = 0
    private var this: UInt32 = 0
    private var hasBegun = false

    /// The first makes up for one interval: there may have been no agent.
    mutating func beginPass(at now: UInt32) {
        last = hasBegun ? this : now &- Self.intervalTicks
        this = now
        hasBegun = true
    }

    func areDue(_ key: malla_flow_key, _ flow: malla_flow) -> Bool {
        guard key.protocol == 6, flow.state == UInt8(MALLA_FLOW_OPEN.rawValue),
            flow.timeout_ticks > Self.leadTicks
        else { return false }
        return Self.moments(flow, at: this) > Self.moments(flow, at: last)
    }

    /// How many times its ends should have been asked until then.
    private static func moments(_ flow: malla_flow, at now: UInt32) -> UInt32 {
        // Signed: a packet may have come since.
        let silence = Int64(Int32(bitPattern: now &- flow.seen_ticks))
        let first = Int64(flow.timeout_ticks - leadTicks)
        return silence < first ? 0 : 1 + UInt32(silence - first) / intervalTicks
    }
}
