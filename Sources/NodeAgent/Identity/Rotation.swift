internal import Foundation
internal import L7Engine

/// When a certificate is replaced.
enum Rotation {
    /// A part of its life, so that what was issued together is not replaced together.
    static let earliest = 0.45
    static let latest = 0.55
    /// It is taken away this much before it expires: no turn comes too late.
    static let marginSeconds: Int64 = 3

    /// Seconds since 1970.
    ///
    /// - Parameters:
    ///   - issued: when its life began; not `notBefore`, which lies before that.
    ///   - random: 0..<1.
    static func renewal(issued: Int64, notAfter: Int64, random: Double) -> Int64 {
        let life = Double(max(0, notAfter - issued))
        return issued + Int64(life * (earliest + (latest - earliest) * random))
    }

    enum State: String {
        case fresh = "valid"
        /// Time to replace it; it still serves.
        case due
        /// The clock says that it is of the future.
        case notYetValid = "not-yet-valid"
        case expired
    }

    static func state(_ svid: X509SVID, renewAt: Int64, at now: Int64) -> State {
        if now >= svid.notAfter - marginSeconds { return .expired }
        if now < svid.notBefore { return .notYetValid }
        return now >= renewAt ? .due : .fresh
    }
}

/// A time of both clocks: that of certificates, and the one that nobody sets.
struct Moment {
    /// Seconds since 1970.
    var wall: Int64
    /// Seconds since some moment; goes on while the machine is suspended.
    var steady: Double

    private static let origin = ContinuousClock.now

    static var now: Moment {
        // Read first: it is set by being read, and no moment lies before it.
        let origin = origin
        let (seconds, attoseconds) = (ContinuousClock.now - origin).components
        return Moment(
            wall: Int64(Date().timeIntervalSince1970),
            steady: Double(seconds) + Double(attoseconds) * 1e-18)
    }
}

/// Notices that somebody set the wall clock.
struct ClockWatch {
    /// Less is what clocks do by themselves and what rounding makes.
    static let toleranceSeconds = 5.0
    private var last: Moment?

    /// By how many seconds it jumped since the last time; 0: not at all.
    mutating func note(_ moment: Moment) -> Int64 {
        defer { last = moment }
        guard let last else { return 0 }
        let jump = Double(moment.wall - last.wall) - (moment.steady - last.steady)
        return abs(jump) < Self.toleranceSeconds ? 0 : Int64(jump.rounded())
    }
}
