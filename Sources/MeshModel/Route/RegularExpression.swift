/// A regular expression over bytes, compiled to the positions in it at which a match may stand
/// (Glushkov's automaton): matching takes one step a byte whatever the expression, never tries
/// again, and allocates nothing for small expressions. Only rules that ask for one pay.
///
/// - Threads: any; immutable.
/// - Limits: `positionsMax`; what expands to more is refused.
/// - Source: RE2's syntax (github.com/google/re2/wiki/Syntax) without Unicode classes, `\b`, `\Q`
///   and flags other than a leading `(?i)`; it must match the whole text, as in Gateway API's
///   RegularExpression and Envoy's safe_regex. V. Glushkov, "The abstract theory of automata".
final class RegularExpression: Sendable {
    /// Characters and classes, counted as often as repeats stand for them. 1024 cost 130 KiB.
    static let positionsMax = 1024

    /// Words of a set of positions.
    let words: Int
    let isNullable: Bool
    /// Sets of positions: at which a match may begin, end, and go on from each; and that take a
    /// byte, for each byte.
    let first: [UInt64]
    let last: [UInt64]
    let follow: [UInt64]
    let taking: [UInt64]

    /// - Throws: why it is none, and where.
    init(_ text: String) throws(RegularExpressionError) {
        var parser = RegularExpressionParser(text)
        var automaton = Automaton(try parser.parse(), foldsCase: parser.foldsCase)
        let whole = try automaton.build()
        words = automaton.words
        isNullable = whole.isNullable
        first = whole.first.padded(to: words)
        last = whole.last.padded(to: words)
        follow = automaton.follow.flatMap { $0.padded(to: automaton.words) }
        taking = automaton.taking()
    }

    /// Whether the whole range matches.
    ///
    /// - Complexity: bytes × positions that a match may stand at.
    func matches(_ bytes: Bytes, _ range: ByteRange) -> Bool {
        if range.count == 0 { return isNullable }
        // Safe: the buffer does not leave the closure and is initialised before it is read.
        return unsafe withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 2 * words) {
            unsafe $0.initialize(repeating: 0)
            return unsafe run(bytes, range, $0)
        }
    }

    private func run(
        _ bytes: Bytes, _ range: ByteRange, _ sets: UnsafeMutableBufferPointer<UInt64>
    ) -> Bool {
        var (now, next) = (0, words)
        for word in 0..<words { unsafe sets[now + word] = first[word] }
        for index in range.lower..<range.upper {
            let takes = Int(bytes[index]) * words
            var any: UInt64 = 0
            for word in 0..<words {
                unsafe sets[now + word] &= taking[takes + word]
                any |= unsafe sets[now + word]
            }
            if any == 0 { return false }
            if index == range.upper - 1 { break }
            for word in 0..<words { unsafe sets[next + word] = 0 }
            for word in 0..<words {
                var rest = unsafe sets[now + word]
                while rest != 0 {
                    let row = (word * 64 + rest.trailingZeroBitCount) * words
                    rest &= rest - 1
                    for other in 0..<words { unsafe sets[next + other] |= follow[row + other] }
                }
            }
            swap(&now, &next)
        }
        return (0..<words).contains { unsafe sets[now + $0] & last[$0] != 0 }
    }
}

/// Why a text is no regular expression of ours.
public struct RegularExpressionError: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String
    /// Bytes before the place.
    public let offset: Int
}

/// What an expression is made of.
indirect enum RegularExpressionNode {
    case nothing
    /// `^` and `$`: nothing, where they stand at an end.
    case begin(offset: Int)
    case end(offset: Int)
    case one(ByteSet)
    case sequence([RegularExpressionNode])
    case choice([RegularExpressionNode])
    /// `most` nil: as often as it likes.
    case repeated(RegularExpressionNode, least: Int, most: Int?)
}

/// Bytes that a position takes.
struct ByteSet: Equatable {
    var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

    init() {}
    init(_ bytes: some Sequence<UInt8>) { for byte in bytes { insert(byte) } }

    mutating func insert(_ byte: UInt8) {
        let bit = UInt64(1) << UInt64(byte & 63)
        switch byte >> 6 {
        case 0: words.0 |= bit
        case 1: words.1 |= bit
        case 2: words.2 |= bit
        default: words.3 |= bit
        }
    }

    func contains(_ byte: UInt8) -> Bool {
        let word = byte < 64 ? words.0 : byte < 128 ? words.1 : byte < 192 ? words.2 : words.3
        return word >> UInt64(byte & 63) & 1 == 1
    }

    mutating func formUnion(_ other: ByteSet) {
        words.0 |= other.words.0
        words.1 |= other.words.1
        words.2 |= other.words.2
        words.3 |= other.words.3
    }

    var inverted: ByteSet {
        var set = ByteSet()
        set.words = (~words.0, ~words.1, ~words.2, ~words.3)
        return set
    }

    /// With the other case of each letter.
    var folded: ByteSet {
        var set = self
        for byte in UInt8(0x41)...0x5a where contains(byte) { set.insert(byte | 0x20) }
        for byte in UInt8(0x61)...0x7a where contains(byte) { set.insert(byte & 0xdf) }
        return set
    }

    static func == (one: ByteSet, other: ByteSet) -> Bool { one.words == other.words }
}

/// Nodes -> sets of positions. A repeat is written out, so that a count costs what it stands for.
private struct Automaton {
    /// What a part of the expression is, seen from outside.
    struct Part {
        var isNullable: Bool
        var first: PositionSet
        var last: PositionSet
        static var nothing: Part {
            Part(isNullable: true, first: PositionSet(), last: PositionSet())
        }
    }

    private let root: RegularExpressionNode
    private let foldsCase: Bool
    private var bytes: [ByteSet] = []
    /// Parts made, those without a position too.
    private var made = 0
    private(set) var follow: [PositionSet] = []

    init(_ root: RegularExpressionNode, foldsCase: Bool) {
        self.root = root
        self.foldsCase = foldsCase
    }

    var words: Int { max(1, (bytes.count + 63) / 64) }

    mutating func build() throws(RegularExpressionError) -> Part { try part(root) }

    private var tooLarge: RegularExpressionError {
        RegularExpressionError(
            description: "it stands for more than \(RegularExpression.positionsMax) characters "
                + "when its repeats are written out",
            offset: 0)
    }

    /// By byte, the positions that take it.
    func taking() -> [UInt64] {
        var sets = [UInt64](repeating: 0, count: 256 * words)
        for (position, set) in bytes.enumerated() {
            for byte in UInt8.min...UInt8.max where set.contains(byte) {
                sets[Int(byte) * words + position / 64] |= 1 << UInt64(position % 64)
            }
        }
        return sets
    }

    private mutating func part(
        _ node: RegularExpressionNode
    ) throws(RegularExpressionError) -> Part {
        made += 1
        guard made <= 16 * RegularExpression.positionsMax else { throw tooLarge }
        switch node {
        case .nothing, .begin, .end: return .nothing
        case .one(let set): return try position(set)
        case .sequence(let nodes):
            var whole = Part.nothing
            for node in nodes { whole = join(whole, try part(node)) }
            return whole
        case .choice(let nodes):
            var whole = Part(isNullable: false, first: PositionSet(), last: PositionSet())
            for node in nodes {
                let one = try part(node)
                whole.isNullable = whole.isNullable || one.isNullable
                whole.first.formUnion(one.first)
                whole.last.formUnion(one.last)
            }
            return whole
        case .repeated(let node, let least, let most): return try repeated(node, least, most)
        }
    }

    private mutating func position(_ set: ByteSet) throws(RegularExpressionError) -> Part {
        guard bytes.count < RegularExpression.positionsMax else { throw tooLarge }
        var only = PositionSet()
        only.insert(bytes.count)
        bytes.append(foldsCase ? set.folded : set)
        follow.append(PositionSet())
        return Part(isNullable: false, first: only, last: only)
    }

    private mutating func join(_ one: Part, _ other: Part) -> Part {
        for position in one.last { follow[position].formUnion(other.first) }
        var whole = Part(
            isNullable: one.isNullable && other.isNullable, first: one.first, last: other.last)
        if one.isNullable { whole.first.formUnion(other.first) }
        if other.isNullable { whole.last.formUnion(one.last) }
        return whole
    }

    private mutating func repeated(
        _ node: RegularExpressionNode, _ least: Int, _ most: Int?
    ) throws(RegularExpressionError) -> Part {
        var whole = Part.nothing
        // The last of those that must be there may be all that follow as well.
        for _ in 0..<(most == nil ? max(0, least - 1) : least) {
            whole = join(whole, try part(node))
        }
        guard let most else {
            var loop = try part(node)
            for position in loop.last { follow[position].formUnion(loop.first) }
            if least == 0 { loop.isNullable = true }
            return join(whole, loop)
        }
        // Each of the rest may be there if the one before it is; as all are alike, it is enough
        // that each may be left out.
        for _ in least..<max(least, most) {
            var maybe = try part(node)
            maybe.isNullable = true
            whole = join(whole, maybe)
        }
        return whole
    }
}

/// A set of positions while an automaton is made.
private struct PositionSet: Sequence {
    private var words: [UInt64] = []

    mutating func insert(_ position: Int) {
        while words.count <= position / 64 { words.append(0) }
        words[position / 64] |= 1 << UInt64(position % 64)
    }

    mutating func formUnion(_ other: PositionSet) {
        while words.count < other.words.count { words.append(0) }
        for index in other.words.indices { words[index] |= other.words[index] }
    }

    func padded(to count: Int) -> [UInt64] {
        words + [UInt64](repeating: 0, count: count - words.count)
    }

    func makeIterator() -> AnyIterator<Int> {
        var (index, rest) = (0, words.first ?? 0)
        return AnyIterator {
            while rest == 0 {
                index += 1
                guard index < words.count else { return nil }
                rest = words[index]
            }
            defer { rest &= rest - 1 }
            return index * 64 + rest.trailingZeroBitCount
        }
    }
}
