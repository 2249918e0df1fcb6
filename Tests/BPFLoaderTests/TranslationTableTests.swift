internal import CMallaABI
internal import Testing

@testable internal import BPFLoader

@Suite("When a flow that was translated from outside is over")
struct TranslationTableTests {
    private static let second: UInt64 = 1_000_000_000
    private static let answered: UInt32 = 1
    private static let finished: UInt32 = 2
    private static let reset: UInt32 = 4

    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let transport: UInt8
        /// Of both directions.
        let states: (UInt32, UInt32)
        let isPressed: Bool
        /// Seconds of silence that it outlives, and that it does not.
        let lives: UInt64
        let over: UInt64

        init(
            _ rule: String, _ transport: UInt8, _ states: (UInt32, UInt32), isPressed: Bool = false,
            lives: UInt64, over: UInt64
        ) {
            testDescription = rule
            self.transport = transport
            self.states = states
            self.isPressed = isPressed
            self.lives = lives
            self.over = over
        }
    }

    static let rows = [
        Row("TCP, a SYN that nobody answered", 6, (0, 0), lives: 60, over: 61),
        Row("TCP, a SYN-ACK that nobody answered", 6, (0, answered), lives: 60, over: 61),
        Row("the same in a table that fills", 6, (0, answered), isPressed: true, lives: 5, over: 6),
        Row("TCP, open", 6, (answered, answered), isPressed: true, lives: 7999, over: 8001),
        Row("TCP, one end has said its last", 6, (3, 1), lives: 599, over: 601),
        Row("TCP, both ends have", 6, (3, 3), lives: 10, over: 11),
        Row("TCP, reset", 6, (1 | reset, 1), lives: 2, over: 3),
        Row("UDP", 17, (0, 0), lives: 180, over: 181),
        Row("UDP in a table that fills", 17, (0, 0), isPressed: true, lives: 30, over: 31),
    ]

    @Test(arguments: rows) func `is told by silence in both directions`(_ row: Row) {
        let start: UInt64 = 1_000_000 * Self.second
        func isOver(after seconds: UInt64) -> Bool {
            var (one, other) = (malla_snat(), malla_snat())
            one.state = row.states.0
            other.state = row.states.1
            // One direction was silent from the beginning.
            one.seen_ns = start - 9_000 * Self.second
            other.seen_ns = start
            return TranslationTable.isOver(
                row.transport, one, other, isPressed: row.isPressed,
                at: start + seconds * Self.second)
        }
        #expect(!isOver(after: row.lives))
        #expect(isOver(after: row.over))
    }

    @Test func `a packet of this moment, seen by another processor, is no silence`() {
        var row = malla_snat()
        row.seen_ns = 2_000 * Self.second
        #expect(
            !TranslationTable.isOver(6, row, nil, isPressed: true, at: 1_999 * Self.second))
    }
}
