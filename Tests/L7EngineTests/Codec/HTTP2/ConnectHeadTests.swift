import CNghttp2
import Glibc
import Testing

@Suite("A head that no request may have is malformed (RFC 9113, sections 8.2, 8.3 and 8.5)")
struct ConnectHeadTests {
    private typealias Fields = [(String, String)]
    private static let method = (":method", "CONNECT")
    private static let authority = (":authority", "10.0.0.1:80")
    private static let rest = [(":scheme", "https"), (":path", "/")]

    /// section, rule, fields, malformed
    private static let rows: [(String, String, Fields, Bool)] = [
        ("8.5", "CONNECT and its authority", [method, authority], false),
        ("8.5", "CONNECT with a path", [method, authority, (":path", "/")], true),
        ("8.5", "CONNECT with a scheme", [method, authority, (":scheme", "https")], true),
        ("8.5", "CONNECT without authority", [method], true),
        (
            "8441", "an extended CONNECT", [method, authority, (":protocol", "a")] + rest, false
        ),
        ("8441", "an extended CONNECT without path", [method, (":protocol", "a")], true),
        ("8.3.1", "another method", [(":method", "GET"), authority] + rest, false),
        ("8.3.1", "another method without path", [(":method", "GET"), authority], true),
        (
            "8.3.1", "an empty path", [(":method", "GET"), (":scheme", "https"), (":path", "")],
            true
        ),
        ("8.3.1", "no method", [authority] + rest, true),
        ("8.3", "a pseudo-field twice", [method, authority, authority], true),
        ("8.3", "a pseudo-field of an answer", [method, authority, (":status", "200")], true),
        ("8.3", "a pseudo-field behind others", [method, ("a", "b"), authority], true),
        ("8.2.1", "a name in capitals", fields("Baggage", "a"), true),
        ("8.2.1", "a name with a space", fields("a b", "a"), true),
        ("8.2.1", "a name that is none", fields("", "a"), true),
        ("8.2.1", "a name beyond ASCII", fields("ä", "a"), true),
        ("8.2.1", "a name with a delimiter", fields("a(b", "a"), true),
        ("8.2.1", "a value of nothing", fields("a", ""), false),
        ("8.2.1", "a value with spaces inside", fields("a", "b \t c"), false),
        ("8.2.1", "a value beyond ASCII", fields("a", "ä"), false),
        ("8.2.1", "a value with NUL", fields("a", "b\0c"), true),
        ("8.2.1", "a value with LF", fields("a", "b\nc"), true),
        ("8.2.1", "a value with CR", fields("a", "b\rc"), true),
        ("8.2.1", "a value that begins with a space", fields("a", " b"), true),
        ("8.2.1", "a value that ends with a tab", fields("a", "b\t"), true),
        ("8.2.1", "an authority with NUL", [method, (":authority", "10.0.0.1:80\0")], true),
        ("8.2.2", "connection", fields("connection", "close"), true),
        ("8.2.2", "proxy-connection", fields("proxy-connection", "a"), true),
        ("8.2.2", "keep-alive", fields("keep-alive", "timeout=5"), true),
        ("8.2.2", "transfer-encoding", fields("transfer-encoding", "chunked"), true),
        ("8.2.2", "upgrade", fields("upgrade", "h2c"), true),
        ("8.2.2", "te", fields("te", "gzip"), true),
        ("8.2.2", "te: trailers", fields("te", "trailers"), false),
        ("8.2.2", "te: trailers and more", fields("te", "trailers, gzip"), true),
    ]

    private static func fields(_ name: String, _ value: String) -> Fields {
        [method, authority, (name, value)]
    }

    @Test func `each rule of a head is kept, and what breaks one is told so`() throws {
        for (section, rule, fields, isMalformed) in Self.rows {
            let pair = TunnelPair.ofRawClient()
            pair.sendRaw(toServer: RawFrame.head(fields).bytes)
            pair.settle()
            let asked = try #require(pair.nextAtServer(), "\(section), \(rule)")
            #expect(asked.news & HBONE_NEWS_OPENED.rawValue != 0, "\(section), \(rule)")
            #expect(asked.stream.isMalformed == isMalformed, "\(section), \(rule)")
            asked.stream.refuse(400)
            pair.settle()
            #expect(pair.server?.end == HBONE_END_NONE, "\(section), \(rule)")
        }
    }

    /// Whether they end the stream, whether the pod was connected before.
    private static let trailers = [(true, true), (false, true), (true, false), (false, false)]

    @Test(arguments: trailers) func `trailers are a reset of their stream, and of no other`(
        _ isEnd: Bool, _ isAccepted: Bool
    ) throws {
        let pair = TunnelPair.ofRawClient()
        pair.sendRaw(toServer: RawFrame.connect(1).bytes + RawFrame.connect(3).bytes)
        pair.settle()
        let one = try #require(pair.nextAtServer()).stream
        let other = try #require(pair.nextAtServer()).stream
        if isAccepted { one.accept() }
        other.accept()
        pair.settle()
        _ = pair.receiveRaw()

        let end: UInt8 = isEnd ? 5 : 4
        pair.sendRaw(
            toServer: RawFrame(0, 0, 1, [1, 2]).bytes
                + RawFrame.head([("a", "b")], 1, flags: end).bytes
                + RawFrame(0, 0, 3, [7]).bytes)
        pair.settle()

        // PROTOCOL_ERROR.
        #expect(pair.receiveRaw().contains(RawFrame(3, 0, 1, RawFrame.big(1))))
        #expect(one.isMistaken && one.isCut)
        #expect(one.receive().bytes == [1, 2])
        #expect(one.receive().result == -Int(ECONNRESET))
        #expect(other.receive().bytes == [7])
        #expect(!other.isMistaken && pair.server?.end == HBONE_END_NONE)
        one.free()
        other.free()
    }

    @Test(arguments: [4, 5] as [UInt8])
    func `trailers of a server are a reset, too`(_ flags: UInt8) throws {
        let pair = TunnelPair.ofRawServer()
        let near = try #require(pair.open("10.0.0.1:80"))
        pair.settle()
        pair.sendRaw(
            toClient: RawFrame.settings + RawFrame.head([(":status", "200")]).bytes
                + RawFrame.head([("a", "b")], 1, flags: flags).bytes)
        pair.settle()

        #expect(pair.receiveRaw().contains(RawFrame(3, 0, 1, RawFrame.big(1))))
        #expect(near.isMistaken && near.isCut)
        near.free()
    }

    @Test func `a refusal may have trailers`() throws {
        let pair = TunnelPair.ofRawServer()
        let near = try #require(pair.open("10.0.0.1:80"))
        pair.settle()
        pair.sendRaw(
            toClient: RawFrame.settings + RawFrame.head([(":status", "503")]).bytes
                + RawFrame.head([("a", "b")], 1, flags: 5).bytes)
        pair.settle()

        #expect(near.status == 503 && !near.isMistaken)
        near.free()
    }
}
