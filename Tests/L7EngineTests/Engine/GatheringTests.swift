// What may happen to a request in chunks while its body is gathered: to its client, its server, the
// configuration that it began with.

import CLinux
import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("While a request is gathered for a server of HTTP/1.0", .serialized)
struct GatheringTests {
    private static let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"

    /// What a test meets: a client, the server's end of a pooled connection that has answered by
    /// HTTP/1.0, and the worker's record of the client.
    private struct Ends {
        let client: Int32
        let server: Int32
        let link: Link
    }

    private func begin(_ stepped: SteppedWorker, _ listener: Int32) throws -> Ends {
        let client = Loopback.connect(stepped.port)
        Loopback.send(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        let server = stepped.accepted(listener)
        #expect(stepped.message(server).hasPrefix("GET / "))
        answer(server)
        #expect(stepped.message(client).hasSuffix("ok"))
        try #require(stepped.take { stepped.pooled.count == 1 })
        let link = try #require(stepped.worker.timers.all().first { $0.it.role == .downstream })
        return Ends(client: client, server: server, link: link)
    }

    private func answer(_ server: Int32, _ status: String = "HTTP/1.0 200") {
        Loopback.send(
            server,
            "\(status) X\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")
    }

    /// Whether a whole request came with its length; it is answered with this version and status.
    private func isGathered(_ stepped: SteppedWorker, _ ends: Ends, _ status: String) -> Bool {
        Loopback.send(ends.client, Self.post + "\r\n5\r\nhello\r\n0\r\n\r\n")
        let request = stepped.message(ends.server)
        answer(ends.server, status)
        #expect(stepped.message(ends.client).hasPrefix("HTTP/1.1 \(status.suffix(3)) "))
        return Loopback.field(request, "transfer-encoding") == nil
    }

    /// Sends the head and a part of the body, until the worker has it.
    private func send(_ stepped: SteppedWorker, _ ends: Ends, _ head: String, _ part: String) {
        Loopback.send(ends.client, head + "\r\n" + part)
        let count = UInt64(part.utf8.count)
        #expect(stepped.take { ends.link.it.phase == .body && ends.link.it.receivedBytes == count })
    }

    /// The request comes whole, and its answer reaches the client.
    private func expectServed(
        _ stepped: SteppedWorker, _ ends: Ends, by server: Int32, _ body: String = "hello"
    ) {
        let request = stepped.message(server)
        #expect(Loopback.field(request, "content-length") == "\(body.utf8.count)", "\(request)")
        #expect(Loopback.field(request, "transfer-encoding") == nil)
        #expect(Loopback.field(request, "expect") == nil)
        #expect(request.hasSuffix("\r\n\r\n" + body), "\(request)")
        answer(server)
        #expect(stepped.message(ends.client).hasPrefix("HTTP/1.1 200 "))
    }

    /// how the client asks for its answer, whether the body is longer than may be from the first
    @Test(arguments: [false, true], [false, true])
    func `what is more than may be held is 411, and nothing of it is at the server`(
        isJSON: Bool, isAtOnce: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port]) { $0.pendingBytesMax = 4096 }
        let ends = try begin(stepped, listener)
        defer { for end in [ends.client, ends.server] { close(end) } }
        let head = Self.post + (isJSON ? "Accept: application/json\r\n" : "")
        let chunk = "3e8\r\n" + String(repeating: "x", count: 1000) + "\r\n"
        if !isAtOnce { send(stepped, ends, head, chunk) }

        let rest = String(repeating: chunk, count: 5)
        Loopback.send(ends.client, isAtOnce ? head + "\r\n" + rest : rest)

        let answer = stepped.message(ends.client)
        #expect(answer.hasPrefix("HTTP/1.1 411 Length Required\r\n"), "\(answer)")
        #expect(answer.contains("\r\nConnection: close\r\n"))
        let reason = isJSON ? "\"reason\":\"length_required\"" : "\nreason: length_required\n"
        #expect(answer.contains(reason), "\(answer)")
        #expect(stepped.worker.tally.value(Failure.lengthRequired) == 1)
        #expect(stepped.worker.accessLog.taken().contains("\"flags\":\"DPE\""))
        // Open and silent, or at its end.
        let isSilent = !Loopback.isReadable(ends.server, milliseconds: 0)
        #expect(isSilent || Loopback.receive(ends.server).isEmpty)
    }

    @Test func `who waits for 100 gets ours, and the server is not asked for it`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { for end in [ends.client, ends.server] { close(end) } }
        let head = Self.post + "Expect: 100-continue\r\n"

        send(stepped, ends, head, "")
        #expect(stepped.take { Loopback.isReadable(ends.client, milliseconds: 0) })
        let interim = String(decoding: Loopback.receive(ends.client), as: UTF8.self)
        #expect(interim == "HTTP/1.1 100 Continue\r\n\r\n")
        #expect(!ends.link.it.awaitsContinue)
        #expect(!Loopback.isReadable(ends.server, milliseconds: 0))
        Loopback.send(ends.client, "5\r\nhello\r\n0\r\n\r\n")
        expectServed(stepped, ends, by: ends.server)

        // Who did not wait is told nothing.
        Loopback.send(ends.client, head + "\r\n5\r\nhello\r\n0\r\n\r\n")
        expectServed(stepped, ends, by: ends.server)
    }

    /// What becomes of the server's connection before it was sent anything.
    enum Loss: CaseIterable { case end, reset, speech }

    private func lose(_ server: Int32, by loss: Loss) {
        switch loss {
        case .end: close(server)
        case .reset:
            Loopback.willReset(server)
            close(server)
        case .speech: Loopback.send(server, "HTTP/1.0 408 Request Timeout\r\n\r\n")
        }
    }

    /// what happens, and whether the worker sees it before the body's end
    @Test(arguments: Loss.allCases, [false, true])
    func `a server that ends or speaks too early is dialled anew and gets all of it`(
        loss: Loss, isSeen: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { close(ends.client) }
        send(stepped, ends, Self.post + "Expect: 100-continue\r\n", "5\r\nhello\r\n")
        #expect(stepped.take { Loopback.isReadable(ends.client, milliseconds: 0) })
        #expect(Loopback.receive(ends.client).starts(with: Array("HTTP/1.1 100 ".utf8)))

        lose(ends.server, by: loss)
        defer { if loss == .speech { close(ends.server) } }
        if isSeen {
            #expect(stepped.take { ends.link.it.partner.isNone })
            // There is nothing to send yet.
            #expect(stepped.worker.tally.value(.dials) == 1)
        }
        Loopback.send(ends.client, "0\r\n\r\n")
        if !isSeen {
            #expect(Loopback.isReadable(ends.link.it.descriptor, milliseconds: 5000))
            #expect(Loopback.isReadable(ends.link.it.partner.it.descriptor, milliseconds: 5000))
            stepped.worker.slot.serve(ends.link.it.account)
            // The client's event first.
            stepped.worker.dispatchStream(ends.link, EPOLLIN.rawValue)
        }
        let second = stepped.accepted(listener)
        defer { close(second) }

        expectServed(stepped, ends, by: second)
        #expect(stepped.worker.tally.value(.dials) == 2)
    }

    @Test(arguments: [("PUT", true), ("POST", false)])
    func `one that was sent is sent again only if it is safe`(
        method: String, isSentAgain: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { close(ends.client) }
        send(stepped, ends, "\(method)\(Self.post.dropFirst(4))", "5\r\nhel")
        Loopback.send(ends.client, "lo\r\n0\r\n\r\n")
        #expect(stepped.message(ends.server).hasSuffix("\r\n\r\nhello"))

        close(ends.server)

        if isSentAgain {
            let second = stepped.accepted(listener)
            defer { close(second) }
            expectServed(stepped, ends, by: second)
        } else {
            #expect(stepped.message(ends.client).hasPrefix("HTTP/1.1 503 "))
            #expect(!Loopback.isReadable(listener, milliseconds: 0))
        }
    }

    /// The configuration that it began with is let go of meanwhile.
    @Test(arguments: [false, true])
    func `a new configuration knows the server, and what has begun goes on`(isLost: Bool) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { close(ends.client) }
        send(stepped, ends, Self.post, "5\r\nhello\r\n")

        stepped.adopt(SteppedWorker.mesh([port], stepped.port, nil), version: 2)
        stepped.worker.letGoIfOld(ends.link)
        #expect(ends.link.it.hasLetGo)
        if isLost {
            close(ends.server)
            #expect(stepped.take { ends.link.it.partner.isNone })
        }
        Loopback.send(ends.client, "0\r\n\r\n")

        var server = ends.server
        if isLost {
            // Nobody knows any more where else it may go.
            #expect(stepped.message(ends.client).hasPrefix("HTTP/1.1 503 "))
        } else {
            expectServed(stepped, ends, by: server)
        }
        Loopback.send(ends.client, Self.post + "\r\n5\r\nhello\r\n0\r\n\r\n")
        if isLost { server = stepped.accepted(listener) }
        defer { close(server) }
        expectServed(stepped, ends, by: server)
    }

    /// A request of whose upstream nothing is left is seen by no change of policies or modes.
    @Test func `without its upstream a request goes nowhere by rules that are not in force`() throws
    {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        var mesh = SteppedWorker.mesh([port], stepped.port, nil)
        // An exchange whose answer is edited keeps its configuration.
        mesh.routes[0].rules[1].filters = [
            .responseHeaders(.init(set: [.init(name: "x", value: "y")]))
        ]
        stepped.adopt(mesh, version: 2)
        let ends = try begin(stepped, listener)
        defer { close(ends.client) }
        send(stepped, ends, Self.post, "5\r\nhello\r\n")
        close(ends.server)
        #expect(stepped.take { ends.link.it.partner.isNone })

        stepped.adopt(SteppedWorker.mesh([port], stepped.port, nil), version: 3)
        #expect(!ends.link.it.hasLetGo)
        Loopback.send(ends.client, "0\r\n\r\n")

        #expect(stepped.message(ends.client).hasPrefix("HTTP/1.1 503 "))
        #expect(!Loopback.isReadable(listener, milliseconds: 0))
    }

    @Test func `without its upstream a request goes where its service leads by now`() throws {
        let ((listener, port), (other, moved)) = (Loopback.listen(), Loopback.listen())
        defer { for end in [listener, other] { close(end) } }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { close(ends.client) }
        send(stepped, ends, Self.post, "5\r\nhello\r\n")
        close(ends.server)
        #expect(stepped.take { ends.link.it.partner.isNone })

        let worker = stepped.worker
        let before = try #require(worker.configs[worker.current].config?.snapshot)
        stepped.adopt(SteppedWorker.mesh([moved], stepped.port, nil), version: 2, after: before)
        Loopback.send(ends.client, "0\r\n\r\n")

        let second = stepped.accepted(other)
        defer { close(second) }
        expectServed(stepped, ends, by: second)
        #expect(stepped.configurations == 1)
    }

    /// whether the exchange may be dialled anew
    @Test(arguments: [true, false])
    func `one that takes nothing new is left for another, if there may be one`(mayGo: Bool) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { for end in [ends.client, ends.server] { close(end) } }
        send(stepped, ends, Self.post, "5\r\nhello\r\n")
        if !mayGo {
            stepped.adopt(SteppedWorker.mesh([port], stepped.port, nil), version: 2)
            stepped.worker.letGoIfOld(ends.link)
        }

        stepped.worker.reusedSince = .max
        Loopback.send(ends.client, "0\r\n\r\n")

        let server = mayGo ? stepped.accepted(listener) : ends.server
        defer { if mayGo { close(server) } }
        expectServed(stepped, ends, by: server)
    }

    @Test(arguments: [502, 503, 504])
    func `nothing is learnt from who answers for a server`(status: Int) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { for end in [ends.client, ends.server] { close(end) } }
        #expect(isGathered(stepped, ends, "HTTP/1.1 \(status)"))
        #expect(isGathered(stepped, ends, "HTTP/1.1 200"))
        #expect(!isGathered(stepped, ends, "HTTP/1.0 \(status)"))
        #expect(!isGathered(stepped, ends, "HTTP/1.0 500"))
        #expect(isGathered(stepped, ends, "HTTP/1.0 200"))
    }

    /// how much of a body comes, and whether the server's last answer is an old one by then
    @Test(arguments: [false, true], [false, true])
    func `what was learnt long ago is forgotten with a request that is refused for it`(
        isAtOnce: Bool, isLongAgo: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port]) { $0.pendingBytesMax = 4096 }
        let ends = try begin(stepped, listener)
        defer { for end in [ends.client, ends.server] { close(end) } }
        let worker = stepped.worker
        if isLongAgo {
            let time = worker.limits.oldServerNanosecondsMax
            let seen = worker.configs[worker.current].oldServerSeen
            worker.configs[worker.current].oldServerSeen = seen.map { $0 > 0 ? $0 &- time : 0 }
        }
        let chunk = "3e8\r\n" + String(repeating: "x", count: 1000) + "\r\n"
        if !isAtOnce { send(stepped, ends, Self.post, chunk) }
        let rest = String(repeating: chunk, count: 5)
        Loopback.send(ends.client, isAtOnce ? Self.post + "\r\n" + rest : rest)
        #expect(stepped.message(ends.client).hasPrefix("HTTP/1.1 411 "))

        let seen = worker.configs[worker.current].oldServerSeen
        #expect(seen.allSatisfy { $0 == 0 } == isLongAgo)
    }

    @Test(arguments: [false, true])
    func `a client that stands still is cut off, whether the server is there or not`(
        isLost: Bool
    ) throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { close(ends.client) }
        send(stepped, ends, Self.post, "5\r\nhe")
        defer { if !isLost { close(ends.server) } }
        if isLost {
            close(ends.server)
            #expect(stepped.take { ends.link.it.partner.isNone })
        }

        let worker = stepped.worker
        for _ in 0..<2 where ends.link.it.exchange.isActive {
            worker.now += worker.limits.checkNanoseconds
            worker.check(ends.link)
        }

        let answer = Loopback.message(ends.client)
        #expect(answer.hasPrefix("HTTP/1.1 408 ") && answer.contains("reason: body_timeout"))
    }

    @Test func `of a client that goes away the server gets nothing`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port])
        let ends = try begin(stepped, listener)
        defer { close(ends.server) }
        send(stepped, ends, Self.post, "5\r\nhello\r\n")

        close(ends.client)

        #expect(stepped.take { stepped.worker.connectionsOpen == 0 })
        #expect(Loopback.rest(ends.server).isEmpty)
    }

    @Test func `where memory is used up it is turned away, and holds none`() throws {
        let (listener, port) = Loopback.listen()
        defer { close(listener) }
        let stepped = try SteppedWorker([port]) { $0.accountBufferBytesMax = 1 }
        let ends = try begin(stepped, listener)
        defer { for end in [ends.client, ends.server] { close(end) } }
        send(stepped, ends, Self.post, "")

        Loopback.send(ends.client, "3e8\r\n" + String(repeating: "x", count: 1000) + "\r\n")

        let answer = stepped.message(ends.client)
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains("reason: overloaded\n"))
        #expect(stepped.worker.tally.sheds(.accountBuffers) == 1)
        #expect(stepped.worker.accounts[ends.link.it.account].bufferBytes == 0)
    }
}
