import CNghttp2
import Glibc
import Testing

@Suite("CONNECT streams are connections (RFC 9113, section 8.5)")
struct TunnelTests {
    @Test func `a stream carries bytes both ways once the server has accepted it`() throws {
        let pair = TunnelPair()
        let near = try #require(pair.open("10.0.0.1:80", forwarded: "for=10.0.0.9"))
        #expect(near.handshake == 0)

        pair.settle()
        let (far, news) = try #require(pair.nextAtServer())
        #expect(news & HBONE_NEWS_OPENED.rawValue != 0)
        #expect(far.authority == "10.0.0.1:80")
        #expect(far.forwarded == "for=10.0.0.9")
        far.accept()
        #expect(far.authority.isEmpty, "what was asked takes no memory any more")
        pair.settle()
        let answer = try #require(pair.nextAtClient())
        #expect(answer.news & HBONE_NEWS_ANSWERED.rawValue != 0)
        #expect(near.handshake == 1)

        #expect(near.send(Array("hello".utf8)) == 5)
        pair.settle()
        #expect(far.receive().bytes == Array("hello".utf8))
        #expect(far.receive().result == -Int(EAGAIN))
        #expect(far.send(Array("and back".utf8)) == 8)
        pair.settle()
        #expect(near.receive().bytes == Array("and back".utf8))
        near.free()
        far.free()
    }

    /// what of a stream's second message had left when its tunnel was lost
    @Test(arguments: ["nothing", "a part", "all"])
    func `whether anything had left of what a lost tunnel was given is known`(_ left: String) throws
    {
        let pair = TunnelPair()
        let (near, far) = try pair.joined()
        #expect(near.send([0]) == 1)
        pair.settle()
        near.mark()
        #expect(near.isUnsent)

        #expect(near.send([1, 2, 3]) == 3)
        #expect(!near.isUnsent)
        if left != "nothing" { pair.settle() }
        if left == "a part" { #expect(near.send([4]) == 1) }
        pair.muteClient()
        // Something of another's, so that the tunnel is lost in any case.
        pair.client?.ping()
        pair.settle()

        #expect(near.send([5]) == -Int(EPIPE))
        #expect(near.isUnsent == (left == "nothing"))
        #expect(far.receive().bytes == (left == "nothing" ? [0] : [0, 1, 2, 3]))
        near.free()
        far.free()
    }

    @Test(arguments: [403, 404, 503]) func `a refusal is its status`(_ status: Int32) throws {
        let pair = TunnelPair()
        let near = try #require(pair.open("10.0.0.1:80"))
        pair.settle()

        try #require(pair.nextAtServer()).stream.refuse(status)
        pair.settle()

        #expect(near.handshake == -1)
        #expect(near.status == status)
        near.free()
    }

    @Test func `one direction ends while the other goes on`() throws {
        let pair = TunnelPair()
        let (near, far) = try pair.joined()

        #expect(near.send(Array("last".utf8)) == 4)
        near.end()
        pair.settle()
        #expect(far.receive().bytes == Array("last".utf8))
        #expect(far.receive().result == 0)
        #expect(far.send(Array("still here".utf8)) == 10)
        pair.settle()
        #expect(near.receive().bytes == Array("still here".utf8))
        far.end()
        pair.settle()

        #expect(near.receive().result == 0)
        near.free()
        far.free()
        pair.settle()
        #expect(pair.client?.streams == 0)
        #expect(pair.server?.streams == 0)
    }

    @Test func `what came before the end is read, though the sender is gone`() throws {
        let pair = TunnelPair()
        let (near, far) = try pair.joined()

        #expect(near.send([1, 2, 3]) == 3)
        near.end()
        near.free()
        pair.settle()

        #expect(far.receive(2).bytes == [1, 2])
        #expect(far.receive().bytes == [3])
        #expect(far.receive().result == 0)
        #expect(far.send([0]) == -Int(EPIPE))
        far.free()
    }

    @Test(arguments: [false, true])
    func `who has said all may leave, and the other end takes it for a reset only if it is one`(
        _ isReset: Bool
    ) throws {
        let pair = TunnelPair()
        let (near, far) = try pair.joined()

        #expect(far.send([1, 2, 3]) == 3)
        far.end()
        pair.settle()
        if isReset { far.breakOff() }
        far.free()
        pair.settle()

        #expect(near.receive().bytes == [1, 2, 3])
        #expect(near.isCut == isReset)
        near.free()
    }

    @Test func `a stream that is given up is reset at the other end`() throws {
        let pair = TunnelPair()
        let (near, far) = try pair.joined()

        near.free()
        pair.settle()

        let (stream, news) = try #require(pair.nextAtServer())
        #expect(stream == far && news & HBONE_NEWS_RESET.rawValue != 0)
        #expect(far.receive().result == -Int(ECONNRESET))
        far.free()
    }

    @Test func `a reader that does not read stops the writer at the window, and starts it again`()
        throws
    {
        let pair = TunnelPair()
        let (near, far) = try pair.joined()
        let block = [UInt8](repeating: 7, count: 50_000)

        #expect(pair.fill(near) == 65_535)
        var received = far.receive().bytes.count
        pair.settle()
        let news = try #require(pair.nextAtClient())
        #expect(news.news & HBONE_NEWS_WRITABLE.rawValue != 0)

        #expect(near.send(block) > 0)
        pair.settle()
        received += far.receive().bytes.count
        #expect(received > 65_535)
        near.free()
        far.free()
    }

    @Test func `bytes that nobody reads any more do not use up the connection's window`() throws {
        let pair = TunnelPair()
        let block = [UInt8](repeating: 1, count: 60_000)

        // 20 × 60 000 bytes are more than the connection's window of 131 072.
        for _ in 0..<20 {
            let (near, far) = try pair.joined()
            #expect(near.send(block) == block.count)
            pair.settle()
            far.free()
            pair.settle()
            near.free()
            pair.settle()
            while pair.nextAtClient() != nil {}
        }
    }

    @Test func `random pieces arrive whole and in order, on all streams at once`() throws {
        let pair = TunnelPair()
        var random = SystemRandomNumberGenerator()
        var ends: [(near: TunnelStream, far: TunnelStream, sent: [UInt8], got: [UInt8])] = []
        for index in 0..<4 {
            let (near, far) = try pair.joined()
            let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ index) }
            ends.append((near, far, bytes, []))
        }
        var offsets = [0, 0, 0, 0]

        for _ in 0..<100_000 where ends.contains(where: { $0.got.count < $0.sent.count }) {
            for index in ends.indices {
                let rest = ends[index].sent[offsets[index]...].prefix(
                    Int.random(in: 1...40_000, using: &random))
                if !rest.isEmpty {
                    offsets[index] += max(0, ends[index].near.send(Array(rest)))
                }
                let room = Int.random(in: 1...70_000, using: &random)
                ends[index].got += ends[index].far.receive(room).bytes
            }
            pair.settle()
        }

        for end in ends {
            #expect(end.got == end.sent)
            end.near.free()
            end.far.free()
        }
    }

    @Test func `the peer's limit of streams is kept`() throws {
        let pair = TunnelPair()
        pair.settle()
        let streams = (0..<4).compactMap { _ in pair.open("10.0.0.1:80") }
        #expect(streams.count == 4)

        #expect(pair.open("10.0.0.1:80") == nil)
        #expect(pair.client?.room == 0)
        streams.forEach { $0.free() }
    }

    @Test func `a server that drains takes no new streams and ends none`() throws {
        let pair = TunnelPair()
        let (near, far) = try pair.joined()

        pair.server?.drain()
        pair.settle()
        #expect(pair.client?.isDraining == true)
        #expect(pair.open("10.0.0.1:80") == nil)
        #expect(far.send([5]) == 1)
        pair.settle()
        #expect(near.receive().bytes == [5])

        near.free()
        far.free()
        pair.settle()
        #expect(pair.client?.end == HBONE_END_CLOSED)
    }

    @Test func `a stream that a draining server did not take may be tried elsewhere`() throws {
        let pair = TunnelPair()
        pair.settle()
        pair.server?.drain()
        let near = try #require(pair.open("10.0.0.1:80"))
        pair.settle()

        #expect(near.handshake == -1)
        #expect(near.isUntouched)
        near.free()
    }

    @Test func `a lost connection is news to each of its streams`() throws {
        let pair = TunnelPair()
        let (near, far) = try pair.joined()
        pair.dropClient()
        pair.settle()

        let (stream, news) = try #require(pair.nextAtServer())
        #expect(stream == far && news & HBONE_NEWS_RESET.rawValue != 0)
        #expect(far.receive().result == -Int(ECONNRESET))
        #expect(pair.server?.end == HBONE_END_BROKEN)
        #expect(near.send([1]) == -Int(EPIPE))
        near.free()
        far.free()
    }

    @Test func `what is not HTTP/2 ends the connection as such`() {
        let pair = TunnelPair()
        pair.dropClientKeepingSocket()
        pair.sendRaw(toServer: Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
        pair.settle()
        #expect(pair.server?.end == HBONE_END_PROTOCOL)
    }

    @Test func `a CONNECT with too many header bytes is told so, and the rest goes on`() throws {
        let pair = TunnelPair()
        let (near, far) = try pair.joined()
        let huge = try #require(
            pair.open("10.0.0.1:80", forwarded: String(repeating: "x", count: 5000)))
        pair.settle()

        let asked = try #require(pair.nextAtServer()).stream
        #expect(asked.isTooLong)
        asked.refuse(431)
        pair.settle()
        #expect(huge.handshake == -1)
        #expect(huge.status == 431)
        #expect(near.send([9]) == 1)
        pair.settle()
        #expect(far.receive().bytes == [9])
        huge.free()
        near.free()
        far.free()
    }

    @Test func `a flood of streams that are reset at once ends the connection`() throws {
        let pair = TunnelPair()
        for _ in 0..<400 {
            guard let stream = pair.open("10.0.0.1:80") else { break }
            pair.settle()
            stream.free()
            pair.settle()
            while let (stream, _) = pair.nextAtServer() { stream.free() }
        }
        #expect(pair.server?.end != HBONE_END_NONE)
    }

    @Test func `who reads no answers is not read any more, until it does`() {
        let pair = TunnelPair()
        pair.settle()
        // PING, a frame of 17 bytes; each is answered by one as long.
        let ping: [UInt8] = [0, 0, 8, 6, 0, 0, 0, 0, 0] + [UInt8](repeating: 7, count: 8)
        let many = [UInt8](repeatElement(ping, count: 400).joined())
        for _ in 0..<400 where pair.server?.isFull == false {
            pair.sendRaw(toServer: many)
            pair.serve()
        }
        #expect(pair.server?.isFull == true)
        #expect(pair.server?.end == HBONE_END_NONE)
        pair.settle()
        #expect(pair.server?.isFull == false)
        #expect(pair.server?.end == HBONE_END_NONE)
    }

    @Test(arguments: [true, false]) func `refusals of what nobody should ask for are a flood`(
        _ isWaste: Bool
    ) throws {
        let pair = TunnelPair()
        for _ in 0..<60 {
            guard let near = pair.open("10.0.0.1:80") else { break }
            pair.settle()
            pair.nextAtServer()?.stream.refuse(403, isWaste: isWaste)
            pair.settle()
            near.free()
            pair.settle()
            while pair.nextAtClient() != nil {}
        }
        #expect(pair.server?.end == (isWaste ? HBONE_END_FLOOD : HBONE_END_NONE))
    }

    @Test func `a sign of life is answered`() {
        let pair = TunnelPair()
        pair.client?.ping()
        pair.settle()
        #expect(pair.client?.pings == 1)
    }
}
