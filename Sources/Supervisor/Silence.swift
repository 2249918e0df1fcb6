/// For how long one thread of a child has given no sign of life, as a value: told at each look what
/// the thread did, answers the time.
///
/// A thread that waits for a processor is not silent, and what it waits for in the kernel (a disk)
/// or in a debugger's hand does not count either. A worker that computes without end is: its own
/// computing counts.
///
/// - Units: milliseconds of the monotonic clock, nanoseconds of computing.
struct Silence: Equatable {
    /// What the kernel says that the thread does, a letter of proc(5).
    enum State: Equatable {
        /// `R`: computes, or waits until it may.
        case runs
        /// `S`: waits for something that another does.
        case waits
        /// `T`: SIGSTOP.
        case isStopped
        /// Anything else.
        case isHeld

        init(_ letter: Character) {
            self =
                switch letter {
                case "R": .runs
                case "S": .waits
                case "T": .isStopped
                default: .isHeld
                }
        }
    }

    struct Sight: Equatable {
        var state: State
        var ranNanoseconds: UInt64
    }

    /// A look that comes later counts as this much: then nobody had the processor, not even we.
    static let lookMax: Int64 = 1_500

    /// It may compute for as long as it likes: the agent's own thread, over a large configuration.
    var mayCompute = false
    private(set) var milliseconds: Int64 = 0
    private var pulse: UInt64?
    private var ran: UInt64?

    init(mayCompute: Bool = false) { self.mayCompute = mayCompute }

    /// - Parameters:
    ///   - beat: goes up with each sign of life.
    ///   - elapsed: since the last look.
    ///   - sight: asked only where there was no sign of life; `nil`: the kernel does not tell.
    mutating func look(
        _ beat: UInt64, after elapsed: Int64, _ sight: () -> Sight?
    ) -> Int64 {
        guard beat == pulse, let now = sight() else {
            pulse = beat
            ran = nil
            milliseconds = 0
            return 0
        }
        defer { ran = now.ranNanoseconds }
        let passed = max(0, min(elapsed, Self.lookMax))
        let computed = ran.map { Int64((now.ranNanoseconds &- $0) / 1_000_000) } ?? 0
        if mayCompute, now.state == .runs || computed > 0 {
            milliseconds = 0
            return 0
        }
        switch now.state {
        case .waits, .isStopped: milliseconds += passed
        case .runs: milliseconds += max(0, min(computed, passed))
        case .isHeld: break
        }
        return milliseconds
    }
}
