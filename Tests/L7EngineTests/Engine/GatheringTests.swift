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

    /// A long chunk of a body.
    private static let chunk = "3e8\r\n" + String(repeating: "x", count: 1000) + "\r\n"

    /// What a test meets: a client, the server's end of a pooled connection that has answered by
    /// HTTP/1.0, and the worker's record of the client.
    private final class Stand {
        let (listener, origin) = Loopback.listen()
        let stepped: SteppedWorker
        let link: Link
        private(set) var client: Int32 = -1
        private(set) var server: Int32 = -1
        /// The server's ends of what was dialled later.
        private var others: [Int32] = []
        private var version: UInt64 = 1

        /// - Parameter change: made to the route before the first request.
        init(
            _ limits: (inout Limits) -> Void = { _ in },
            route change: ((inout HTTPRoute) -> Void)? = nil
        ) throws {
            do {
                let stepped = try SteppedWorker([origin], limits)
                if let change {
                    var mesh = SteppedWorker.mesh([origin], stepped.port, nil)
                    change(&mesh.routes[0])
                    version += 1
                    stepped.adopt(mesh, version: version)
                }
                client = Loopback.connect(stepped.port)
                server = try stepped.pooledServer(
                    of: client, at: listener, answer: "HTTP/1.0 200 X\r\nConnection: keep-alive")
                link = try #require(
                    stepped.worker.timers.all().first { $0.it.role == .downstream })
                self.stepped = stepped
            } catch {
                Stand.end([listener, client, server])
                throw error
            }
        }

        /// Closes what the test has not closed.
        func close() { Stand.end([listener, client, server] + others) }

        func closeClient() {
            Stand.end([client])
            client = -1
        }

        func closeServer() {
            Stand.end([server])
            server = -1
        }

        private static func end(_ descriptors: [Int32]) {
            // The number of one that is closed may be another's by now.
            for descriptor in descriptors where descriptor >= 0 { Glibc.close(descriptor) }
        }

        /// The server's end of the next connection that the worker dials, here or elsewhere.
        func accepted(at other: Int32? = nil) -> Int32 {
            let connection = stepped.accepted(other ?? listener)
            others.append(connection)
            return connection
        }

        /// The same mesh once more, without the change if there was one.
        func adoptAgain() { adopt([origin]) }

        /// The mesh with these endpoints is in force from now on.
        func adopt(_ origins: [UInt16], after before: Snapshot? = nil) {
            version += 1
            let mesh = SteppedWorker.mesh(origins, stepped.port, nil)
            stepped.adopt(mesh, version: version, after: before)
        }

        /// Sends the head and a part of the body, until the worker has it.
        func send(_ head: String, _ part: String) {
            Loopback.send(client, head + "\r\n" + part)
            let count = UInt64(part.utf8.count)
            #expect(stepped.take { link.it.phase == .body && link.it.receivedBytes == count })
        }

        /// Sends more than may be held, behind a part that the worker has, or at once.
        func sendTooMuch(_ head: String, isAtOnce: Bool) {
            if !isAtOnce { send(head, GatheringTests.chunk) }
            let rest = String(repeating: GatheringTests.chunk, count: 5)
            Loopback.send(client, isAtOnce ? head + "\r\n" + rest : rest)
        }

        /// The server's connection ends before the body does, and the worker sees it.
        func loseServer() {
            closeServer()
            #expect(stepped.take { link.it.partner.isNone })
        }

        /// Whether a whole request came with its length; it is answered with this version and
        /// status.
        func isGathered(_ status: String) -> Bool {
            Loopback.send(client, GatheringTests.post + "\r\n5\r\nhello\r\n0\r\n\r\n")
            let request = stepped.message(server)
            answer(server, status)
            #expect(stepped.message(client).hasPrefix("HTTP/1.1 \(status.suffix(3)) "))
            return Loopback.field(request, "transfer-encoding") == nil
        }

        /// The request comes whole, and its answer reaches the client.
        func expectServed(by server: Int32, _ body: String = "hello") {
            let request = stepped.message(server)
            #expect(Loopback.field(request, "content-length") == "\(body.utf8.count)", "\(request)")
            #expect(Loopback.field(request, "transfer-encoding") == nil)
            #expect(Loopback.field(request, "expect") == nil)
            #expect(request.hasSuffix("\r\n\r\n" + body), "\(request)")
            answer(server)
            #expect(stepped.message(client).hasPrefix("HTTP/1.1 200 "))
        }

        private func answer(_ server: Int32, _ status: String = "HTTP/1.0 200") {
            Loopback.send(
                server,
                "\(status) X\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")
        }
    }

    /// how the client asks for its answer, whether the body is longer than may be from the first
    @Test(arguments: [false, true], [false, true])
    func `what is more than may be held is 411, and nothing of it is at the server`(
        isJSON: Bool, isAtOnce: Bool
    ) throws {
        let stand = try Stand { $0.pendingBytesMax = 4096 }
        defer { stand.close() }
        let head = Self.post + (isJSON ? "Accept: application/json\r\n" : "")

        stand.sendTooMuch(head, isAtOnce: isAtOnce)

        let answer = stand.stepped.message(stand.client)
        #expect(answer.hasPrefix("HTTP/1.1 411 Length Required\r\n"), "\(answer)")
        #expect(answer.contains("\r\nConnection: close\r\n"))
        let reason = isJSON ? "\"reason\":\"length_required\"" : "\nreason: length_required\n"
        #expect(answer.contains(reason), "\(answer)")
        #expect(stand.stepped.worker.tally.value(Failure.lengthRequired) == 1)
        #expect(stand.stepped.worker.accessLog.taken().contains("\"flags\":\"DPE\""))
        // Open and silent, or at its end.
        let isSilent = !Loopback.isReadable(stand.server, milliseconds: 0)
        #expect(isSilent || Loopback.receive(stand.server).isEmpty)
    }

    @Test func `who waits for 100 gets ours, and the server is not asked for it`() throws {
        let stand = try Stand()
        defer { stand.close() }
        let head = Self.post + "Expect: 100-continue\r\n"

        stand.send(head, "")
        #expect(stand.stepped.take { Loopback.isReadable(stand.client, milliseconds: 0) })
        let interim = String(decoding: Loopback.receive(stand.client), as: UTF8.self)
        #expect(interim == "HTTP/1.1 100 Continue\r\n\r\n")
        #expect(!stand.link.it.awaitsContinue)
        #expect(!Loopback.isReadable(stand.server, milliseconds: 0))
        Loopback.send(stand.client, "5\r\nhello\r\n0\r\n\r\n")
        stand.expectServed(by: stand.server)

        // Who did not wait is told nothing.
        Loopback.send(stand.client, head + "\r\n5\r\nhello\r\n0\r\n\r\n")
        stand.expectServed(by: stand.server)
    }

    /// What becomes of the server's connection before it was sent anything.
    enum Loss: CaseIterable { case end, reset, speech }

    private func cause(_ loss: Loss, at stand: Stand) {
        switch loss {
        case .end: stand.closeServer()
        case .reset:
            Loopback.willReset(stand.server)
            stand.closeServer()
        case .speech: Loopback.send(stand.server, "HTTP/1.0 408 Request Timeout\r\n\r\n")
        }
    }

    /// what happens, and whether the worker sees it before the body's end
    @Test(arguments: Loss.allCases, [false, true])
    func `a server that ends or speaks too early is dialled anew and gets all of it`(
        loss: Loss, isSeen: Bool
    ) throws {
        let stand = try Stand()
        defer { stand.close() }
        stand.send(Self.post + "Expect: 100-continue\r\n", "5\r\nhello\r\n")
        #expect(stand.stepped.take { Loopback.isReadable(stand.client, milliseconds: 0) })
        #expect(Loopback.receive(stand.client).starts(with: Array("HTTP/1.1 100 ".utf8)))

        cause(loss, at: stand)
        if isSeen {
            #expect(stand.stepped.take { stand.link.it.partner.isNone })
            // There is nothing to send yet.
            #expect(stand.stepped.worker.tally.value(.dials) == 1)
        }
        Loopback.send(stand.client, "0\r\n\r\n")
        if !isSeen {
            #expect(Loopback.isReadable(stand.link.it.descriptor, milliseconds: 5000))
            #expect(Loopback.isReadable(stand.link.it.partner.it.descriptor, milliseconds: 5000))
            stand.stepped.worker.slot.serve(stand.link.it.account)
            // The client's event first.
            stand.stepped.worker.dispatchStream(stand.link, EPOLLIN.rawValue)
        }

        stand.expectServed(by: stand.accepted())
        #expect(stand.stepped.worker.tally.value(.dials) == 2)
    }

    @Test(arguments: [("PUT", true), ("POST", false)])
    func `one that was sent is sent again only if it is safe`(
        method: String, isSentAgain: Bool
    ) throws {
        let stand = try Stand()
        defer { stand.close() }
        stand.send("\(method)\(Self.post.dropFirst(4))", "5\r\nhel")
        Loopback.send(stand.client, "lo\r\n0\r\n\r\n")
        #expect(stand.stepped.message(stand.server).hasSuffix("\r\n\r\nhello"))

        stand.closeServer()

        if isSentAgain {
            stand.expectServed(by: stand.accepted())
        } else {
            #expect(stand.stepped.message(stand.client).hasPrefix("HTTP/1.1 503 "))
            #expect(!Loopback.isReadable(stand.listener, milliseconds: 0))
        }
    }

    /// The configuration that it began with is let go of meanwhile.
    @Test(arguments: [false, true])
    func `a new configuration knows the server, and what has begun goes on`(isLost: Bool) throws {
        let stand = try Stand()
        defer { stand.close() }
        stand.send(Self.post, "5\r\nhello\r\n")

        stand.adoptAgain()
        stand.stepped.worker.letGoIfOld(stand.link)
        #expect(stand.link.it.hasLetGo)
        if isLost { stand.loseServer() }
        Loopback.send(stand.client, "0\r\n\r\n")

        if isLost {
            // Nobody knows any more where else it may go.
            #expect(stand.stepped.message(stand.client).hasPrefix("HTTP/1.1 503 "))
        } else {
            stand.expectServed(by: stand.server)
        }
        Loopback.send(stand.client, Self.post + "\r\n5\r\nhello\r\n0\r\n\r\n")
        stand.expectServed(by: isLost ? stand.accepted() : stand.server)
    }

    /// A request of whose upstream nothing is left is seen by no change of policies or modes.
    @Test func `without its upstream a request goes nowhere by rules that are not in force`() throws
    {
        // An exchange whose answer is edited keeps its configuration.
        let stand = try Stand(route: {
            $0.rules[1].filters = [.responseHeaders(.init(set: [.init(name: "x", value: "y")]))]
        })
        defer { stand.close() }
        stand.send(Self.post, "5\r\nhello\r\n")
        stand.loseServer()

        stand.adoptAgain()
        #expect(!stand.link.it.hasLetGo)
        Loopback.send(stand.client, "0\r\n\r\n")

        #expect(stand.stepped.message(stand.client).hasPrefix("HTTP/1.1 503 "))
        #expect(!Loopback.isReadable(stand.listener, milliseconds: 0))
    }

    @Test func `without its upstream a request goes where its service leads by now`() throws {
        let (other, moved) = Loopback.listen()
        defer { close(other) }
        let stand = try Stand()
        defer { stand.close() }
        stand.send(Self.post, "5\r\nhello\r\n")
        stand.loseServer()

        let worker = stand.stepped.worker
        let before = try #require(worker.configs[worker.current].config?.snapshot)
        stand.adopt([moved], after: before)
        Loopback.send(stand.client, "0\r\n\r\n")

        stand.expectServed(by: stand.accepted(at: other))
        #expect(stand.stepped.configurations == 1)
    }

    /// whether the exchange may be dialled anew
    @Test(arguments: [true, false])
    func `one that takes nothing new is left for another, if there may be one`(mayGo: Bool) throws {
        let stand = try Stand()
        defer { stand.close() }
        stand.send(Self.post, "5\r\nhello\r\n")
        if !mayGo {
            stand.adoptAgain()
            stand.stepped.worker.letGoIfOld(stand.link)
        }

        stand.stepped.worker.reusedSince = .max
        Loopback.send(stand.client, "0\r\n\r\n")

        stand.expectServed(by: mayGo ? stand.accepted() : stand.server)
    }

    @Test(arguments: [502, 503, 504])
    func `nothing is learnt from who answers for a server`(status: Int) throws {
        let stand = try Stand()
        defer { stand.close() }
        #expect(stand.isGathered("HTTP/1.1 \(status)"))
        #expect(stand.isGathered("HTTP/1.1 200"))
        #expect(!stand.isGathered("HTTP/1.0 \(status)"))
        #expect(!stand.isGathered("HTTP/1.0 500"))
        #expect(stand.isGathered("HTTP/1.0 200"))
    }

    /// how much of a body comes, and whether the server's last answer is an old one by then
    @Test(arguments: [false, true], [false, true])
    func `what was learnt long ago is forgotten with a request that is refused for it`(
        isAtOnce: Bool, isLongAgo: Bool
    ) throws {
        let stand = try Stand { $0.pendingBytesMax = 4096 }
        defer { stand.close() }
        let worker = stand.stepped.worker
        if isLongAgo {
            let time = worker.limits.oldServerNanosecondsMax
            let seen = worker.configs[worker.current].oldServerSeen
            worker.configs[worker.current].oldServerSeen = seen.map { $0 > 0 ? $0 &- time : 0 }
        }
        stand.sendTooMuch(Self.post, isAtOnce: isAtOnce)
        #expect(stand.stepped.message(stand.client).hasPrefix("HTTP/1.1 411 "))

        let seen = worker.configs[worker.current].oldServerSeen
        #expect(seen.allSatisfy { $0 == 0 } == isLongAgo)
    }

    @Test(arguments: [false, true])
    func `a client that stands still is cut off, whether the server is there or not`(
        isLost: Bool
    ) throws {
        let stand = try Stand()
        defer { stand.close() }
        stand.send(Self.post, "5\r\nhe")
        if isLost { stand.loseServer() }

        let worker = stand.stepped.worker
        for _ in 0..<2 where stand.link.it.exchange.isActive {
            worker.now += worker.limits.checkNanoseconds
            worker.check(stand.link)
        }

        let answer = Loopback.message(stand.client)
        #expect(answer.hasPrefix("HTTP/1.1 408 ") && answer.contains("reason: body_timeout"))
    }

    @Test func `of a client that goes away the server gets nothing`() throws {
        let stand = try Stand()
        defer { stand.close() }
        stand.send(Self.post, "5\r\nhello\r\n")

        stand.closeClient()

        #expect(stand.stepped.take { stand.stepped.worker.connectionsOpen == 0 })
        #expect(Loopback.rest(stand.server).isEmpty)
    }

    @Test func `where memory is used up it is turned away, and holds none`() throws {
        let stand = try Stand { $0.accountBufferBytesMax = 1 }
        defer { stand.close() }
        stand.send(Self.post, "")

        Loopback.send(stand.client, Self.chunk)

        let answer = stand.stepped.message(stand.client)
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains("reason: overloaded\n"))
        #expect(stand.stepped.worker.tally.sheds(.accountBuffers) == 1)
        #expect(stand.stepped.worker.accounts[stand.link.it.account].bufferBytes == 0)
    }
}
