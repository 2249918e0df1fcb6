import CNghttp2
import Glibc
import Testing

@Suite("A peer that means ill, frame by frame (RFC 9113 section 10.5)")
struct FrameAttackTests {
    private static func update(_ stream: UInt32, _ increment: UInt32) -> [UInt8] {
        RawFrame(8, 0, stream, RawFrame.big(increment)).bytes
    }

    private static func many(_ count: Int, _ frame: [UInt8]) -> [UInt8] {
        [UInt8](repeatElement(frame, count: count).joined())
    }

    private static let setting: [UInt8] = [0, 4, 0, 1, 0, 0]
    private static let endless = RawFrame.connect(5, flags: 0).bytes

    /// what comes behind two streams that are open, how the tunnel ends
    private static let rows: [(String, [UInt8], hbone_end)] = [
        ("pings", many(1_001, RawFrame(6, 0, 0, big8).bytes), HBONE_END_FLOOD),
        ("settings", many(64, RawFrame(4, 0, 0, setting).bytes), HBONE_END_FLOOD),
        ("a few settings", many(8, RawFrame(4, 0, 0, setting).bytes), HBONE_END_NONE),
        (
            "settings with many entries", RawFrame(4, 0, 0, many(64, setting)).bytes,
            HBONE_END_PROTOCOL
        ),
        (
            "a head without end", endless + many(100, RawFrame(9, 0, 5, [0x82]).bytes),
            HBONE_END_FLOOD
        ),
        ("another frame inside a head", endless + RawFrame(0, 0, 1, [1]).bytes, HBONE_END_PROTOCOL),
        ("a window of no bytes", update(0, 0), HBONE_END_PROTOCOL),
        ("a stream's window of no bytes", update(1, 0), HBONE_END_PROTOCOL),
        ("a window beyond 2^31", update(0, 0x7fff_ffff), HBONE_END_PROTOCOL),
        (
            "a frame larger than was said", RawFrame(0, 0, 1, many(70_000, [0])).bytes,
            HBONE_END_PROTOCOL
        ),
        ("a frame of a stream that never was", RawFrame(0, 0, 99, [1]).bytes, HBONE_END_PROTOCOL),
        ("a reset of one", RawFrame.reset(99).bytes, HBONE_END_PROTOCOL),
        ("a stream of the server's own", RawFrame.connect(2).bytes, HBONE_END_PROTOCOL),
        ("a push", RawFrame(5, 4, 1, RawFrame.big(2)).bytes, HBONE_END_PROTOCOL),
        ("a table entry that never was", RawFrame(1, 4, 5, [0xfe]).bytes, HBONE_END_PROTOCOL),
        (
            "a table larger than was said", RawFrame(1, 4, 5, [0x3f, 0xff, 0xff, 3]).bytes,
            HBONE_END_PROTOCOL
        ),
        ("a frame of no known type", RawFrame(0xbe, 0, 1, [1, 2, 3]).bytes, HBONE_END_NONE),
        ("frames without bytes", many(3_000, RawFrame(0, 0, 1).bytes), HBONE_END_NONE),
        ("priorities", many(2_000, RawFrame(2, 0, 1, [0, 0, 0, 3, 9]).bytes), HBONE_END_NONE),
    ]
    private static let big8 = [UInt8](repeating: 7, count: 8)

    /// Two streams of a peer that the test is; the server has accepted both.
    private static func opened(_ limits: hbone_limits = TunnelPair.limits) throws
        -> (pair: TunnelPair, one: TunnelStream, other: TunnelStream)
    {
        let pair = TunnelPair.ofRawClient(limits)
        pair.sendRaw(toServer: RawFrame.connect(1).bytes + RawFrame.connect(3).bytes)
        pair.settle()
        let one = try #require(pair.nextAtServer()).stream
        let other = try #require(pair.nextAtServer()).stream
        one.accept()
        other.accept()
        // From now on what our settings say is in force.
        pair.sendRaw(toServer: RawFrame(4, 1).bytes)
        pair.settle()
        _ = pair.receiveRaw()
        return (pair, one, other)
    }

    @Test func `what breaks a rule for all streams ends the tunnel, and what breaks none does not`()
        throws
    {
        for (what, bytes, end) in Self.rows {
            let (pair, one, other) = try Self.opened()
            pair.sendRaw(toServer: bytes)
            pair.settle()
            #expect(pair.server?.end == end, "\(what)")
            if end == HBONE_END_NONE {
                pair.sendRaw(toServer: RawFrame(0, 0, 3, [7]).bytes)
                pair.settle()
                #expect(other.receive().bytes == [7], "\(what)")
            }
            one.free()
            other.free()
        }
    }

    /// Of one stream: what comes, the code of its reset. FLOW_CONTROL_ERROR: 3.
    private static let mistakes: [(String, [UInt8], UInt32)] = [
        ("a window beyond 2^31", update(1, 0x7fff_ffff), 3),
        ("more than its window", many(5, RawFrame(0, 0, 1, many(16_384, [1])).bytes), 3),
    ]

    @Test func `what breaks a rule for one stream resets it, and the other goes on`() throws {
        for (what, bytes, code) in Self.mistakes {
            let (pair, one, other) = try Self.opened()
            pair.sendRaw(toServer: bytes)
            pair.settle()
            #expect(
                pair.receiveRaw().contains(RawFrame(3, 0, 1, RawFrame.big(code))), "\(what)")
            #expect(one.isMistaken && one.isCut, "\(what)")
            pair.sendRaw(toServer: RawFrame(0, 0, 3, [7]).bytes)
            pair.settle()
            #expect(other.receive().bytes == [7], "\(what)")
            one.free()
            other.free()
        }
    }

    @Test
    func `who opens streams to reset them gets no more, and is a flood when the rest is over`()
        throws
    {
        let (pair, one, other) = try Self.opened()
        for id in 3..<70 {
            let id = UInt32(2 * id + 1)
            pair.sendRaw(toServer: RawFrame.connect(id).bytes + RawFrame.reset(id).bytes)
            pair.settle()
            while let (stream, _) = pair.nextAtServer() { stream.free() }
        }
        #expect(pair.receiveRaw().contains { $0.kind == 7 })
        #expect(pair.server?.isDraining == true && pair.server?.end == HBONE_END_NONE)

        pair.sendRaw(toServer: RawFrame.connect(201).bytes + RawFrame(0, 0, 3, [7]).bytes)
        pair.settle()
        #expect(other.receive().bytes == [7])
        while let (stream, _) = pair.nextAtServer() { #expect(stream == other) }

        one.free()
        other.free()
        pair.settle()
        #expect(pair.server?.end == HBONE_END_FLOOD)
    }

    /// A field of 3 900 bytes, and 60 000 more of them for one byte each.
    @Test func `a few bytes that stand for very many are a head that is too long`() throws {
        let (pair, one, other) = try Self.opened()
        let field =
            [0x40] + RawFrame.text("a") + RawFrame.text(String(repeating: "x", count: 3_900))
        pair.sendRaw(
            toServer: RawFrame(1, 4, 5, field + Self.many(60_000, [0xbe])).bytes)
        pair.settle()
        let (asked, news) = try #require(pair.nextAtServer())
        #expect(asked.isTooLong)
        try #require(news & HBONE_NEWS_OPENED.rawValue != 0)
        asked.refuse(431)
        pair.settle()
        #expect(pair.server?.end == HBONE_END_NONE)
        one.free()
        other.free()
    }
}
