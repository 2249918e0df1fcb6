import Glibc
import MeshModel
import Testing

@testable import L7Engine

@Suite("Heads that never end cost their sender and no other (docs/operations.md)", .serialized)
struct PartialHeadTests {
    private static let culprit: UInt32 = 0x7f00_0002
    private static let neighbour: UInt32 = 0x7f00_0003
    private static let block: UInt64 = 36 * 1024

    private static func account(_ address: UInt32) -> Int32 {
        AccountNumbers.outside(IPAddress(v4: address))
    }

    /// Opens connections, each with a head of 21 000 bytes that does not end, until the worker has
    /// read all of them.
    private func flood(_ stepped: SteppedWorker, _ count: Int) -> [Int32] {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "a", count: 21_000)
        let clients = (0..<count).map { _ in Loopback.connect(stepped.port, from: Self.culprit) }
        for client in clients {
            Loopback.send(client, head)
            stepped.turn()
        }
        let account = Self.account(Self.culprit)
        stepped.take {
            let held = stepped.worker.accounts[account].bufferBytes / Self.block
            return held + stepped.worker.accounts[account].shed >= UInt64(count)
        }
        return clients
    }

    /// The status of a request in two pieces, the first longer than the smallest block.
    private func ask(_ stepped: SteppedWorker) -> String {
        let client = Loopback.connect(stepped.port, from: Self.neighbour)
        defer { close(client) }
        Loopback.send(
            client, "GET /none HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "b", count: 3000))
        stepped.take {
            stepped.worker.accounts[Self.account(Self.neighbour)].bufferBytes >= 4096
        }
        Loopback.send(client, "\r\n\r\n")
        return String(stepped.message(client).prefix(12))
    }

    /// A connection that has had one answer and on which the next head has begun; its record.
    private func kept(
        _ stepped: SteppedWorker, begun head: String
    ) throws -> (client: Int32, link: Link) {
        let client = Loopback.connect(stepped.port)
        Loopback.send(client, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(stepped.message(client).hasPrefix("HTTP/1.1 500"))
        Loopback.send(client, head)
        let link = try #require(stepped.worker.timers.all().first { $0.it.role == .downstream })
        #expect(stepped.take { link.it.needsMore })
        return (client, link)
    }

    @Test
    func `a next request that begins late has all of a head's time, not what is left of quiet`()
        throws
    {
        let stepped = try SteppedWorker([]) { $0.checkNanoseconds = 1_000_000_000 }
        let worker = stepped.worker
        let (client, link) = try kept(stepped, begun: "GET /none HTTP/1.1\r\nHo")
        defer { close(client) }
        #expect(link.it.deadline > worker.now + worker.limits.headNanosecondsMax / 2)
    }

    @Test func `a next request's head has one time, in however many lines it comes`() throws {
        let stepped = try SteppedWorker([])
        let worker = stepped.worker
        let (client, link) = try kept(stepped, begun: "GET /none HTTP/1.1\r\n")
        defer { close(client) }
        let deadline = link.it.deadline

        for line in 1...3 {
            let held = link.it.input.count
            Loopback.send(client, "X: \(line)\r\n")
            #expect(stepped.take { link.it.input.count > held && link.it.needsMore })
            #expect(link.it.deadline == deadline)
        }

        worker.headExpired(link)
        #expect(stepped.message(client).contains("reason: head_timeout"))
    }

    @Test func `a head whose end is here but not looked at is served when its time is over`()
        throws
    {
        let stepped = try SteppedWorker([]) {
            $0.quantumMicroseconds = 0
            $0.turnMicroseconds = 0
        }
        let worker = stepped.worker
        let (client, link) = try kept(stepped, begun: "GET /none HTTP/1.1\r\nHost: a\r\n")
        defer { close(client) }

        Loopback.send(client, "\r\n")
        try #require(stepped.take { !link.it.needsMore && link.it.phase == .head })
        try #require(!link.it.input.isEmpty)
        worker.headExpired(link)

        #expect(stepped.message(client).hasPrefix("HTTP/1.1 500"))
    }

    @Test(arguments: [
        // (of one account, of the worker, why it is shed)
        (256 << 10, 1 << 20, Shed.accountBuffers), (1 << 20, 256 << 10, .buffers),
    ])
    func `forty silent connections with half a head do not make the worker answer 503 to all`(
        accountMax: Int, workerMax: Int, reason: Shed
    ) throws {
        let stepped = try SteppedWorker([]) {
            $0.accountBufferBytesMax = accountMax
            $0.bufferBytesMax = workerMax
        }
        // The neighbour is known, so that there are shares.
        #expect(ask(stepped) == "HTTP/1.1 500")
        let clients = flood(stepped, 40)
        defer { for client in clients { close(client) } }

        let (culprit, neighbour) = (Self.account(Self.culprit), Self.account(Self.neighbour))
        #expect(culprit != neighbour)
        let held = stepped.worker.accounts[culprit].bufferBytes
        #expect(held > 256 << 10 && held <= 256 << 10 + Self.block, "\(held)")
        let shed = stepped.worker.accounts[culprit].shed
        #expect(shed == 40 - held / Self.block)
        #expect(stepped.worker.tally.sheds(reason) == shed)
        for _ in 0..<5 { #expect(ask(stepped) == "HTTP/1.1 500") }
        #expect(stepped.worker.accounts[neighbour].shed == 0)
        // Who was turned away was told why, and holds nothing.
        let refused = clients.filter { Loopback.isReadable($0, milliseconds: 0) }
        #expect(UInt64(refused.count) == shed)
        #expect(refused.first.map { Loopback.message($0).prefix(12) } == "HTTP/1.1 503")
    }

    @Test func `a head that is nearly too long takes a block of its size`() throws {
        let stepped = try SteppedWorker([])
        let clients = flood(stepped, 1)
        defer { for client in clients { close(client) } }
        #expect(stepped.worker.accounts[Self.account(Self.culprit)].bufferBytes == Self.block)
        Loopback.send(clients[0], "\r\n\r\n")
        #expect(stepped.message(clients[0]).hasPrefix("HTTP/1.1 503"))
    }
}
