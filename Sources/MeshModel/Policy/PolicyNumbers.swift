/// Small numbers for things that are known by a key: a key keeps its number while it is in use, and
/// a number that has just lost its key rests for one generation, because the kernel may still hold
/// rows of it while the next generation is written.
struct PolicyNumbers<Key: Hashable & Sendable>: Sendable {
    private let first: UInt32
    /// Of this generation.
    private(set) var numbers: [Key: UInt32] = [:]
    private var before: [Key: UInt32] = [:]
    private var taken: Set<UInt32>
    private var next: UInt32

    /// - Parameter avoided: numbers with a meaning that this table does not know.
    init(from first: UInt32, avoiding avoided: Set<UInt32> = []) {
        self.first = first
        next = first
        taken = avoided
    }

    /// The table for the next generation.
    func successor() -> PolicyNumbers {
        var table = PolicyNumbers(from: first, avoiding: Set(numbers.values))
        table.before = numbers
        return table
    }

    /// Gives each key the number that the kernel has it under; keys that are not named keep theirs.
    mutating func renumber(_ known: [UInt32: UInt32]) {
        numbers = numbers.mapValues { known[$0] ?? $0 }
    }

    mutating func number(for key: Key) -> UInt32 {
        if let known = numbers[key] { return known }
        if let kept = before[key] {
            numbers[key] = kept
            return kept
        }
        while taken.contains(next) { next += 1 }
        numbers[key] = next
        next += 1
        return next - 1
    }
}
